"""LayerReads: what the readers of one layer read, and the projections of its heads.

All readers of a layer read the writers before it in one product, into a buffer [blocks, readers, tokens,
width]: the queries, keys and values, and last the MLP, which adds its own layer's heads once these have
written. The backward needs the heads' reads once more, for the norm's share, and turns the buffer into its
own gradient where it lies, so a pass has one backward. The MLP's gradient waits there for the heads'.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model_patches.architectures import NormKind
from model_patches.norms import FoldedNorm
from model_patches.stream import WriterStream


class LayerReads:
    """The reads of one layer in one pass. Autograd sees a token of zeros instead of the buffer: each
    projection and the MLP's read depend on it, so that the backward of the mixing runs after theirs."""

    def __init__(self, stream: WriterStream, layer: int) -> None:
        self.layout = stream.layout
        self.values = stream.read_buffer(layer)
        self.norm: FoldedNorm | None = None
        self.mean: Float[Tensor, "blocks readers tokens 1"] | None = None
        self.scale: Float[Tensor, "blocks readers tokens 1"] | None = None
        self.turned = 0  # readers whose values are gradients by now

    def fold(self, norm: Any, kind: NormKind) -> None:
        """Call it in the norm's forward."""
        self.norm = FoldedNorm.of(norm, kind)
        if self.norm is not None:
            self.mean, self.scale = self.norm.moments(self.values)

    def project(
        self, readers: slice, weights: Float[Tensor, "heads width inner"]
    ) -> Float[Tensor, "heads batch_seq inner"]:
        """norm(reads) · W but for the norm's shift, from the folded weights of the heads."""
        projected = torch.bmm(self.layout.read(self.values[:, readers]), weights)
        return projected if self.scale is None else projected.mul_(self.layout.read(self.scale[:, readers]))

    def turn(
        self,
        readers: slice,
        weights: Float[Tensor, "heads width inner"],
        projected: Float[Tensor, "heads batch_seq inner"],
        gradient: Float[Tensor, "heads batch_seq inner"],
    ) -> None:
        """Puts the gradient of some reads into their place, from that of what `project` gave with the same
        weights."""
        values = self.values[:, readers]
        self.turned += len(gradient)
        assert self.turned <= self.values.shape[1], "a pass has one backward"
        if self.scale is None:
            self.layout.write_product(values, gradient, weights.transpose(1, 2))
            return
        scale = self.scale[:, readers]
        # x · scale by x: what the scale takes part in goes along x − mean.
        along = (gradient * projected).sum(-1, keepdim=True, dtype=scale.dtype)
        along = self._by_block(along) * scale.square() / -values.shape[-1]
        if self.mean is None:
            values *= along
        else:
            torch.addcmul(-along * self.mean[:, readers], values, along, out=values)
        scaled = gradient * self.layout.read(scale)
        self.layout.add_product(values, scaled.to(values.dtype), weights.transpose(1, 2))

    def _by_block(self, values: Float[Tensor, "heads batch_seq 1"]) -> Float[Tensor, "blocks heads tokens 1"]:
        layout = self.layout
        if layout.tokens == 1:
            return values.transpose(0, 1).unsqueeze(2)
        return values.view(len(values), layout.samples, -1, 1).transpose(0, 1)


def read_layer(stream: WriterStream, layer: int, thread: Float[Tensor, "batch seq width"]) -> None:
    """Mixes what a layer's readers read of the writers before it."""
    heads, mlp = stream.graph.attention(layer), stream.graph.mlp(layer)
    gates = stream.gates(slice(heads.readers.start, mlp.readers.stop), slice(heads.visible))
    stream.reads = LayerReads(stream, layer)
    stream.token = _MixLayer.apply(gates, thread, stream, 2 * layer, stream.reads)


def read_mlp(
    stream: WriterStream,
    layer: int,
    thread: Float[Tensor, "batch seq width"],
    scored: Int[Tensor, " scored"] | None,
) -> Float[Tensor, "batch seq width"]:
    """The input of a layer's MLP: what it has read, its corrupted residual, and its own layer's heads; of the
    scored tokens alone, where these are given."""
    first, mlp = stream.graph.attention(layer).visible, stream.graph.mlp(layer)
    gates = stream.gates(mlp.readers, slice(first, mlp.visible))
    base = stream.base(2 * layer + 1)
    return _MixMlp.apply(gates, thread, stream.token, stream, stream.reads, first, base, scored)  # type: ignore[no-any-return]


def project_heads(
    stream: WriterStream, readers: slice, weights: Callable[[FoldedNorm | None], Tensor]
) -> Float[Tensor, "heads batch_seq inner"]:
    """What the readers of one projection module make of their normed reads, but for the norm's shift and
    the projection's bias. `weights` gives the module's [heads, width, inner], with the norm folded in."""
    return _Project.apply(stream.token, stream.reads, readers, weights)  # type: ignore[no-any-return]


class _MixLayer(Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, thread: Tensor, stream: WriterStream, index: int, reads: LayerReads
    ) -> Tensor:
        ctx.stream, ctx.number, ctx.reads = stream, stream.number, reads
        ctx.save_for_backward(gates)
        stream.mix(gates, stream.base(index), gates.shape[1] - 1, reads.values)
        return thread.new_zeros(()).expand(thread.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        (gates,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        reads: LayerReads = ctx.reads
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        assert reads.turned == gates.shape[1], f"{reads.turned} of {gates.shape[1]} reads have a gradient"
        by_gate = stream.take_gradient(gates, reads.values, 0, ctx.needs_input_grad[0])
        return by_gate, gradient, None, None, None


class _MixMlp(Function):
    @staticmethod
    def forward(
        ctx: Any,
        gates: Float[Tensor, "samples 1 heads"],
        thread: Tensor,
        token: Tensor,
        stream: WriterStream,
        reads: LayerReads,
        first: int,
        base: Tensor | None,
        scored: Tensor | None,
    ) -> Tensor:
        ctx.token, ctx.thread = token.shape, thread.shape  # the token is for the order of the backward alone
        ctx.stream, ctx.number, ctx.reads, ctx.first, ctx.scored = stream, stream.number, reads, first, scored
        ctx.save_for_backward(gates)
        layout, own = stream.layout, stream.rows(first, gates.shape[2])
        if scored is None:
            mixed = reads.values[:, -1:].clone()
            if base is not None:
                layout.by_row(mixed)[0].add_(base)
            return mixed.flatten(2).baddbmm_(layout.by_block(gates), own.flatten(2)).view(thread.shape)
        mixed = layout.take(reads.values[:, -1:], scored)
        if base is not None:
            mixed += layout.of_run(base.unsqueeze(0), scored)
        mixed.baddbmm_(layout.by_token(gates, scored), layout.take(own, scored))
        return mixed.view(*[1] * (thread.ndim - 2), len(scored), -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (gates,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        read, of_gates = ctx.reads.values[:, -1:], ctx.needs_input_grad[0]
        if ctx.scored is None:
            by_reader = gradient.reshape(stream.held.shape(1))
            by_gate = stream.take_gradient(gates, by_reader, ctx.first, of_gates)
            read.copy_(by_reader)
        else:
            by_reader = gradient.reshape(len(ctx.scored), 1, -1)
            by_gate = stream.take_scored_gradient(gates, by_reader, ctx.first, of_gates)
            read.zero_()
            stream.held.put(read, ctx.scored, by_reader)
        ctx.reads.turned += 1
        zero = gradient.new_zeros(())
        return by_gate, zero.expand(ctx.thread), zero.expand(ctx.token), *[None] * 5


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
