"""WriterStream: the residual stream taken apart, in difference form.

Every reader's input is (Edge Pruning, eq. 3)

    corrupted residual + Σ_writers gate · (clean write − corrupted write)

where "clean" is the write of the run at hand. The differences of all writers lie in one buffer
(buffer.py), so the inputs of all readers of a layer are one batched product.

Where some tokens' logits are wanted and no others, what only these need is computed at them alone: the last
layer's queries, its heads' outputs, its MLP, and the output. They have a buffer of their own for the scored
tokens (`Layout.scored`), which holds the earlier writers' rows once more; the last layer's writers have no
rows elsewhere. The last layer's keys and values are read everywhere.

Under bf16 weights every product accumulates in float32 and is rounded once to bf16, and so is each
corrupted residual; the differences and their gradients are kept in bf16. Gates are float32: they are
rounded to bf16 for a product, and their gradient arrives as float32.

Autograd does not see writes into a buffer, so an order is imposed on it: the model's own residual
tensor is replaced by a `thread` of zeros that runs through every write and every read. A writer's
backward then runs after the backward of all its readers, which autograd guarantees along the thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model_patches.buffer import WriterBuffer
from model_patches.graph import EdgeGraph
from model_patches.layout import Kept, Layout
from model_patches.states import WriterStates

if TYPE_CHECKING:
    from model_patches.reads import LayerReads


class WriterStream:
    """One pass at a time through a patched model: `record` collects a corrupted run's writes,
    `mask` mixes. The buffers are kept from pass to pass, so the backward of a pass must come
    before the next masked pass (asserted)."""

    def __init__(self, graph: EdgeGraph) -> None:
        self.graph = graph
        self.layout = Layout(1, 0, 0, 0)  # of the pass that runs
        # Of a masked pass, and of a recorded one, which may come between a masked one and its backward: for
        # all tokens, and for the scored ones.
        self.masked = WriterBuffer(graph), WriterBuffer(graph)
        self.recorded = WriterBuffer(graph), WriterBuffer(graph)
        self.recording = False
        # A head's share of its layer's output bias [width], by the layer's first writer.
        self.bias_shares: dict[int, Tensor] = {}
        self.keep: Tensor | None = None
        self.corrupted: WriterStates | None = None
        # What the readers of the layer that is running read, and what autograd sees of it.
        self.reads: LayerReads | None = None
        self.token: Tensor | None = None
        # The heads' outputs [heads, batch, seq, width] on their way to the norm after the attention.
        self.heads: Tensor | None = None
        # The residual's shape while the last MLP sees the scored tokens alone.
        self.spread: torch.Size | None = None
        self.last = graph.first_head(graph.shape.layers - 1)  # the last layer's first writer
        self.number = 0  # of masked passes so far
        self.backward = False  # whether one may follow this pass
        self.recompute = self.again = False  # whether blocks do (recompute.py); whether one does so now
        self._lent = Kept(), Kept()  # for writers and residuals of recorded states
        self.lending = False
        self.folded = Kept()  # for a projection's weight with a norm in it

    @property
    def masking(self) -> bool:
        return self.keep is not None

    @property
    def running(self) -> bool:
        """Whether what writers write is wanted."""
        return self.masking or self.recording

    def scored(self, first: int) -> Int[Tensor, " scored"] | None:
        """The tokens at which what the writers from `first` on write is wanted in this pass; None is all."""
        return self.layout.scored if first >= self.last else None

    def home(self, first: int) -> WriterBuffer:
        """Where the writers from `first` on write in this pass."""
        everywhere, at_scored = self.masked if self.masking else self.recorded
        return everywhere if self.scored(first) is None else at_scored

    def plain(self, layout: Layout) -> None:
        """Starts a pass that is neither recorded nor masked."""
        self.layout = layout

    def record(self, layout: Layout, like: Tensor, lent: bool = False) -> None:
        """Starts a pass whose writes are kept; `like` gives their dtype and device. Those that are lent are
        good until the next that are."""
        self.layout, self.bias_shares, self.lending, self.recording = layout, {}, lent, True
        everywhere, at_scored = self.recorded
        writers = len(self.graph.writers)
        everywhere.begin(layout, range(writers), like, self._lent[0] if lent else Kept())
        if layout.scored is not None:
            at_scored.begin(layout.of_scored, range(self.last, writers), like)

    def states(self) -> WriterStates:
        """What the recorded pass wrote; 0 where that was not wanted."""
        assert self.recording, "states() follows record()"
        everywhere, at_scored = self.recorded
        if self.layout.scored is not None:
            rows = everywhere.values[:, self.last :].zero_()
            self.layout.put(rows, at_scored.values)
        memory = self._lent[1] if self.lending else None
        return WriterStates.of(self.graph, self.layout.by_row(everywhere.values).squeeze(1), memory)

    def mask(
        self,
        keep: Float[Tensor, "samples writers readers"],
        corrupted: WriterStates | None,
        layout: Layout,
        like: Tensor,
        recompute: bool = False,
    ) -> None:
        """Starts a masked pass over a batch of samples × examples: the examples once per sample of
        gates. `corrupted` holds the examples once, or one value for all of them; None is zero
        ablation: a cut edge carries zeros. `recompute`: see recompute.py.
        """
        everywhere, at_scored = self.masked
        writers = len(self.graph.writers)
        # May run out of memory: nothing has started.
        everywhere.begin(layout, range(-1, writers if layout.scored is None else self.last), like)
        if layout.scored is not None:
            at_scored.begin(layout.of_scored, range(-1, writers), like)
        self.layout, self.keep, self.corrupted = layout, keep, corrupted
        self.backward = keep.requires_grad and torch.is_grad_enabled()
        self.recompute = recompute
        self.number += 1

    @contextmanager
    def repeated(self, keep: Tensor, corrupted: WriterStates | None) -> Iterator[None]:
        """In a masked pass's backward: meanwhile a block of it is computed again, with the same gates."""
        self.layout, self.keep, self.corrupted, self.again = self.masked[0].layout, keep, corrupted, True
        try:
            yield
        finally:
            self.again = False
            self.stop()

    def stop(self) -> None:
        """Ends the pass, also after an error."""
        self.keep = self.corrupted = self.reads = self.token = self.heads = self.spread = None
        self.layout, self.bias_shares, self.recording = Layout(1, 0, 0, 0), {}, False

    def read_memory(self, layer: int, last: int) -> Float[Tensor, "blocks readers tokens width"]:
        """Where those of a layer's readers read that read at all tokens: every reader, but for the last
        layer's, which are `last`. A pass that a backward follows keeps every layer's."""
        buffer, every, layers = self.masked[0], self.backward and not self.recompute, self.graph.shape.layers
        of_layer, of_last = (buffer.layout.shape(n) for n in (self.graph.readers_per_layer, last))
        size, shape = torch.Size(of_layer).numel(), of_last if layer == layers - 1 else of_layer
        start = layer * size if every else 0
        total = (layers - 1) * size + torch.Size(of_last).numel() if every else size
        flat = buffer.reads.take((total,), buffer.values)
        return flat[start : start + torch.Size(shape).numel()].view(shape)

    def write(self, first: int, values: Float[Tensor, "some ... width"]) -> None:
        """Puts writes into the rows from `first` on: of all tokens, or of those that are wanted."""
        if not self.again:
            self.home(first).write(first, values, self._corrupted(first, len(values)))

    def write_product(
        self,
        first: int,
        left: Float[Tensor, "some batch_seq inner"],
        right: Float[Tensor, "some inner width"],
        bias: Float[Tensor, " width"] | None,
    ) -> None:
        """Writes left · right + bias: see WriterBuffer."""
        if not self.again:
            self.home(first).write_product(first, left, right, bias, self._corrupted(first, len(left)))

    def wanted(self, first: int, values: Float[Tensor, "some batch seq width"]) -> Tensor:
        """Of what writers from `first` on write at all tokens, what is wanted."""
        scored = self.scored(first)
        return values if scored is None else values.flatten(1, -2)[:, scored]

    def replace_differences(self, differences: Float[Tensor, "writers batch seq width"]) -> None:
        """Between a masked pass and its backward: what the gates' gradients are taken with."""
        assert not self.recompute, "blocks that are computed again read the differences once more"
        everywhere, at_scored = self.masked
        layout, rows = everywhere.layout, everywhere.values[:, 1:]
        layout.by_row(rows).copy_(differences[: rows.shape[1]].unsqueeze(1))
        if layout.scored is not None:
            layout.of_scored.by_row(at_scored.values[:, 1:]).copy_(layout.of_run(differences).unsqueeze(1))

    def gates(self, readers: slice, writers: slice) -> Float[Tensor, "samples readers writers"]:
        assert self.keep is not None, "reads are for masked passes"
        return self.keep[:, writers, readers].mT.to(self.masked[0].values.dtype)

    def base(self, group: int, buffer: WriterBuffer) -> Float[Tensor, "batch seq width"] | None:
        """What the readers of a group start from at a buffer's tokens: its corrupted residual. `group` is its
        place in `graph.groups()`."""
        if self.corrupted is None:
            return None
        residual = self.corrupted.residuals[group]
        return residual if buffer is self.masked[0] else self.layout.of_run(residual.unsqueeze(0))[0]

    def read_output(self, thread: Float[Tensor, "batch seq width"]) -> Float[Tensor, "batch seq width"]:
        """The input of the last reader; 0 at tokens whose logits are not wanted."""
        group = self.graph.output
        return _MixOutput.apply(self.gates(group.readers, slice(group.visible)), thread, self)  # type: ignore[no-any-return]

    def _corrupted(self, first: int, count: int) -> Float[Tensor, "count batch seq width"] | None:
        if not self.masking or self.corrupted is None:
            return None
        writes = self.corrupted.writers[first : first + count]
        return writes if self.scored(first) is None else self.layout.of_run(writes)


def write_through(values: Float[Tensor, "some ... width"], stream: WriterStream, first: int) -> Tensor:
    """A differentiable write, of all tokens or of those that are wanted; returns the thread to hand on as the
    model's residual."""
    given = values if stream.spread is not None else stream.wanted(first, values)
    return _Write.apply(given, stream, first, stream.spread or values.shape[1:])  # type: ignore[no-any-return]


class _MixOutput(Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, thread: Tensor, stream: WriterStream) -> Tensor:
        ctx.stream, ctx.number = stream, stream.number
        ctx.scored, ctx.buffer = stream.scored(stream.last), stream.home(stream.last)
        ctx.save_for_backward(gates)
        mixed = thread.new_empty(ctx.buffer.layout.shape(1))
        ctx.buffer.mix(gates, stream.base(-1, ctx.buffer), 1, mixed)
        if ctx.scored is None:
            return mixed.view(thread.shape)
        spread = thread.new_zeros(thread.shape)
        spread.flatten(0, -2)[ctx.scored] = mixed.view(len(ctx.scored), -1)
        return spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (gates,) = ctx.saved_tensors
        buffer: WriterBuffer = ctx.buffer
        assert ctx.number == ctx.stream.number, "the backward of a pass comes before the next masked pass"
        by_reader = gradient if ctx.scored is None else gradient.flatten(0, -2)[ctx.scored]
        by_reader = by_reader.reshape(buffer.layout.shape(1))
        by_gate = buffer.take_gradient(gates, by_reader, 0, ctx.needs_input_grad[0])
        return by_gate, gradient.new_zeros(()).expand(gradient.shape), None


class _Write(Function):
    """Puts writes into the buffer and gives out the thread."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, stream: WriterStream, first: int, shape: torch.Size) -> Tensor:
        ctx.stream, ctx.number, ctx.shape, ctx.buffer = (
            stream,
            stream.number,
            values.shape,
            stream.home(first),
        )
        ctx.rows = slice(first, first + values.shape[0])
        stream.write(first, values)
        return values.new_zeros(()).expand(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        del gradient  # zeros; a write's gradient is what its readers added up in the buffer
        assert ctx.number == ctx.stream.number, "the backward of a pass comes before the next masked pass"
        return ctx.buffer.gradients.of(ctx.rows).reshape(ctx.shape), None, None, None
