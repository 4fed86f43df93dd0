"""LayerReads: what the readers of one layer read, and the projections of its heads.

Readers that read at the same tokens read the writers before them in one product, into memory [blocks,
readers, tokens, width]: the queries, keys and values, and last the MLP, which adds its own layer's heads once
these have written. The backward needs the heads' reads once more, for the norm's share, and turns them into
their own gradient where they lie, so a pass has one backward. The MLP's gradient waits there for the heads'.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model_patches.architectures import NormKind
from model_patches.buffer import WriterBuffer
from model_patches.norms import FoldedNorm
from model_patches.stream import WriterStream


@dataclass
class Reads:
    """Readers of a layer that read at the same tokens: some heads' queries, keys or values, a range among the
    layer's, and perhaps its MLP."""

    buffer: WriterBuffer
    heads: range
    mlp: bool
    values: Float[Tensor, "blocks readers tokens width"]
    scored: Int[Tensor, " scored"] | None  # the tokens, where it is not all of them
    mean: Float[Tensor, "blocks readers tokens 1"] | None = None
    scale: Float[Tensor, "blocks readers tokens 1"] | None = None
    turned: int = field(default=0, init=False)  # readers whose values are gradients by now

    def gates(
        self, of_layer: Float[Tensor, "samples readers writers"]
    ) -> Float[Tensor, "samples some writers"]:
        heads = of_layer[:, self.heads.start : self.heads.stop]
        return torch.cat([heads, of_layer[:, -1:]], 1) if self.mlp else heads

    def own(self, readers: slice) -> tuple[slice, slice]:
        """Those of a layer's readers that are here: their places here, and among `readers`."""
        start, stop = max(readers.start, self.heads.start), min(readers.stop, self.heads.stop)
        stop = max(start, stop)
        here = slice(start - self.heads.start, stop - self.heads.start)
        return here, slice(start - readers.start, stop - readers.start)

    def project(
        self, readers: slice, weights: Float[Tensor, "heads width inner"], tokens: int
    ) -> Float[Tensor, "heads batch_seq inner"]:
        """norm(reads) · W but for the norm's shift, from the folded weights of the heads; 0 elsewhere."""
        layout = self.buffer.layout
        projected = torch.bmm(layout.read(self.values[:, readers]), weights)
        if self.scale is not None:
            projected.mul_(layout.read(self.scale[:, readers]))
        if self.scored is None:
            return projected
        spread = projected.new_zeros(len(projected), tokens, projected.shape[2])
        spread[:, self.scored] = projected
        return spread

    def turn(
        self,
        readers: slice,
        weights: Float[Tensor, "heads width inner"],
        projected: Float[Tensor, "heads batch_seq inner"],
        gradient: Float[Tensor, "heads batch_seq inner"],
    ) -> None:
        """Puts the gradient of some reads into their place, from that of what `project` gave with the same
        weights."""
        if self.scored is not None:
            projected, gradient = projected[:, self.scored], gradient[:, self.scored]
        layout, values = self.buffer.layout, self.values[:, readers]
        self.turned += len(gradient)
        assert self.turned <= self.values.shape[1], "a pass has one backward"
        if self.scale is None:
            layout.write_product(values, gradient, weights.transpose(1, 2))
            return
        scale = self.scale[:, readers]
        # The derivative of x · scale(x) is the scale, and, as the scale depends on x, a part along x − mean.
        along = (gradient * projected).sum(-1, keepdim=True, dtype=scale.dtype)
        along = _by_block(along, self.buffer) * scale.square() / -values.shape[-1]
        if self.mean is None:
            values *= along
        else:
            torch.addcmul(-along * self.mean[:, readers], values, along, out=values)
        scaled = gradient * layout.read(scale)
        layout.add_product(values, scaled.to(values.dtype), weights.transpose(1, 2))


class LayerReads:
    """The reads of one layer in one pass: of all readers, or first of those that read at the scored tokens
    alone, then of the others. Autograd sees a token of zeros instead of the memory: each projection and the
    MLP's read depend on it, so that the backward of the mixing runs after theirs."""

    def __init__(self, stream: WriterStream, layer: int, mlp_everywhere: bool) -> None:
        self.tokens = len(stream.masked[0].values) * stream.masked[0].layout.tokens
        self.norm: FoldedNorm | None = None
        graph, (everywhere, at_scored) = stream.graph, stream.masked
        heads, queries = graph.readers_per_layer - 1, graph.shape.query_heads
        scored, few = stream.scored(graph.first_head(layer)), stream.layout.scored is not None
        of_all = stream.read_memory(layer, heads - queries + mlp_everywhere if few else heads + 1)
        if scored is None:
            self.parts = [Reads(everywhere, range(heads), True, of_all, None)]
            return
        shape = at_scored.layout.shape(queries + (not mlp_everywhere))
        of_scored = at_scored.reads.take(shape, of_all)
        self.parts = [
            Reads(at_scored, range(queries), not mlp_everywhere, of_scored, scored),
            Reads(everywhere, range(queries, heads), mlp_everywhere, of_all, None),
        ]

    @property
    def of_mlp(self) -> Reads:
        return next(part for part in self.parts if part.mlp)

    def fold(self, norm: Any, kind: NormKind) -> None:
        """Call it in the norm's forward."""
        self.norm = FoldedNorm.of(norm, kind)
        if self.norm is not None:
            for part in self.parts:
                part.mean, part.scale = self.norm.moments(part.values)

    def project(
        self, readers: slice, weights: Float[Tensor, "heads width inner"]
    ) -> Float[Tensor, "heads batch_seq inner"]:
        found = []
        for part in self.parts:
            here, among = part.own(readers)
            if here.start < here.stop:
                found.append(part.project(here, weights[among], self.tokens))
        return found[0] if len(found) == 1 else torch.cat(found)

    def turn(
        self,
        readers: slice,
        weights: Float[Tensor, "heads width inner"],
        projected: Float[Tensor, "heads batch_seq inner"],
        gradient: Float[Tensor, "heads batch_seq inner"],
    ) -> None:
        for part in self.parts:
            here, among = part.own(readers)
            if here.start < here.stop:
                part.turn(here, weights[among], projected[among], gradient[among])


def _by_block(
    values: Float[Tensor, "heads batch_seq 1"], buffer: WriterBuffer
) -> Float[Tensor, "blocks heads tokens 1"]:
    layout = buffer.layout
    if layout.tokens == 1:
        return values.transpose(0, 1).unsqueeze(2)
    return values.view(len(values), layout.samples, -1, 1).transpose(0, 1)


def read_layer(
    stream: WriterStream, layer: int, thread: Float[Tensor, "batch seq width"], mlp_everywhere: bool
) -> None:
    """Mixes what a layer's readers read of the writers before it."""
    heads, mlp = stream.graph.attention(layer), stream.graph.mlp(layer)
    gates = stream.gates(slice(heads.readers.start, mlp.readers.stop), slice(heads.visible))
    stream.reads = LayerReads(stream, layer, mlp_everywhere)
    for part in stream.reads.parts:
        thread = _Mix.apply(part.gates(gates), thread, stream, 2 * layer, part)
    stream.token = thread


def read_mlp(
    stream: WriterStream, layer: int, thread: Float[Tensor, "batch seq width"]
) -> Float[Tensor, "batch seq width"]:
    """The input of a layer's MLP: what it has read, its corrupted residual, and its own layer's heads."""
    first, mlp = stream.graph.attention(layer).visible, stream.graph.mlp(layer)
    gates = stream.gates(mlp.readers, slice(first, mlp.visible))
    assert stream.reads is not None, "a layer's heads read before its MLP"
    return _MixMlp.apply(gates, thread, stream.token, stream, stream.reads.of_mlp, layer)  # type: ignore[no-any-return]


def project_heads(
    stream: WriterStream, readers: slice, weights: Callable[[FoldedNorm | None], Tensor]
) -> Float[Tensor, "heads batch_seq inner"]:
    """What the readers of one projection module make of their normed reads, but for the norm's shift and
    the projection's bias. `weights` gives the module's [heads, width, inner], with the norm folded in."""
    return _Project.apply(stream.token, stream.reads, readers, weights)  # type: ignore[no-any-return]


class _Mix(Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, thread: Tensor, stream: WriterStream, group: int, reads: Reads
    ) -> Tensor:
        ctx.stream, ctx.number, ctx.reads = stream, stream.number, reads
        ctx.save_for_backward(gates)
        if reads.scored is not None:
            earlier = stream.masked[0]
            reads.buffer.rows(0, gates.shape[2]).copy_(earlier.layout.take(earlier.rows(0, gates.shape[2])))
        reads.buffer.mix(gates, stream.base(group, reads.buffer), len(reads.heads), reads.values)
        return thread.new_zeros(()).expand(thread.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        (gates,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        reads: Reads = ctx.reads
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        assert reads.turned == gates.shape[1], f"{reads.turned} of {gates.shape[1]} reads have a gradient"
        by_gate = reads.buffer.take_gradient(gates, reads.values, 0, ctx.needs_input_grad[0])
        if reads.scored is not None:
            stream.masked[0].gradients.add_scored(reads.buffer.gradients)
        return by_gate, gradient, None, None, None


class _MixMlp(Function):
    @staticmethod
    def forward(
        ctx: Any,
        gates: Float[Tensor, "samples 1 heads"],
        thread: Tensor,
        token: Tensor,
        stream: WriterStream,
        reads: Reads,
        layer: int,
    ) -> Tensor:
        ctx.token, ctx.thread = token.shape, thread.shape  # the token is for the order of the backward alone
        ctx.stream, ctx.number, ctx.reads = stream, stream.number, reads
        ctx.first = stream.graph.attention(layer).visible
        ctx.save_for_backward(gates)
        buffer, base = reads.buffer, stream.base(2 * layer + 1, reads.buffer)
        mixed = reads.values[:, -1:].clone()
        if base is not None:
            buffer.layout.by_row(mixed)[0].add_(base)
        own = buffer.rows(ctx.first, gates.shape[2]).flatten(2)
        mixed.flatten(2).baddbmm_(buffer.layout.by_block(gates), own)
        if reads.scored is None:
            return mixed.view(thread.shape)
        return mixed.view(*[1] * (thread.ndim - 2), len(reads.scored), -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (gates,) = ctx.saved_tensors
        reads: Reads = ctx.reads
        assert ctx.number == ctx.stream.number, "the backward of a pass comes before the next masked pass"
        by_reader = gradient.reshape(reads.buffer.layout.shape(1))
        by_gate = reads.buffer.take_gradient(gates, by_reader, ctx.first, ctx.needs_input_grad[0])
        reads.values[:, -1:].copy_(by_reader)
        reads.turned += 1
        zero = gradient.new_zeros(())
        return by_gate, zero.expand(ctx.thread), zero.expand(ctx.token), None, None, None


class _Project(Function):
    """The weights are frozen, and touched inside their module's forward and backward alone (ZeRO-3)."""

    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        reads: LayerReads,
        readers: slice,
        weights: Callable[[FoldedNorm | None], Tensor],
    ) -> Tensor:
        projected = reads.project(readers, weights(reads.norm))
        ctx.reads, ctx.readers, ctx.weights, ctx.shape = reads, readers, weights, token.shape
        ctx.save_for_backward(projected)
        return projected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (projected,) = ctx.saved_tensors
        ctx.reads.turn(ctx.readers, ctx.weights(ctx.reads.norm), projected, gradient)
        return gradient.new_zeros(()).expand(ctx.shape), None, None, None
