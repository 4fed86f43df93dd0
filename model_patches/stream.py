"""WriterStream: the residual stream taken apart, in difference form.

Every reader's input is (Edge Pruning, eq. 3)

    corrupted residual + Σ_writers gate · (clean write − corrupted write)

where "clean" is the write of the run at hand. The differences of all writers lie in one buffer
[blocks, writers, tokens, width], so the inputs of all readers of a layer are ONE batched product of
their gates with the first rows of every block. Its gradient (gradients.py) has the same rows: a
reader's backward adds to those of the writers it sees, a writer's backward takes its own.

Row 0 of a block is the corrupted residual of the group that reads, with a gate of 1; the writers follow.

Under bf16 weights every product accumulates in float32 and is rounded once to bf16, and so is each
corrupted residual; the differences and their gradients are kept in bf16. Gates are float32: they are
rounded to bf16 for a product, and their gradient arrives as float32.

Autograd does not see writes into a buffer, so an order is imposed on it: the model's own residual
tensor is replaced by a `thread` of zeros that runs through every write and every read. A writer's
backward then runs after the backward of all its readers, which autograd guarantees along the thread.

Where some tokens' logits are wanted and no others, whatever only the output reads is computed at these
alone: the last layer's heads' outputs, its MLP, and the output (`Layout.scored`). Elsewhere the rows of the
last layer's writers hold nothing that counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model_patches.gradients import WriterGradients
from model_patches.graph import EdgeGraph
from model_patches.layout import Kept, Layout

if TYPE_CHECKING:
    from model_patches.reads import LayerReads


@dataclass(frozen=True)
class WriterStates:
    """What every writer wrote in a corrupted run, and the sums that readers start from.

    writers: [writers, batch, seq, width], in any order of memory. residuals: [groups, batch, seq, width],
    in the order of `EdgeGraph.groups()`: the sum of the writers visible to the group. Where batch or
    seq is 1, as in the mean over a reference set, one value serves all examples or positions of a pass.
    """

    writers: Float[Tensor, "writers batch seq width"]
    residuals: Float[Tensor, "groups batch seq width"]

    @classmethod
    def of(
        cls, graph: EdgeGraph, writers: Float[Tensor, "writers batch seq width"], memory: Kept | None = None
    ) -> "WriterStates":
        """Sums in float32 at least, and rounds each residual once; into `memory`, if there is some."""
        wide = torch.promote_types(writers.dtype, torch.float32)
        groups, total, done = list(graph.groups()), torch.zeros_like(writers[0], dtype=wide), 0
        residuals = (memory or Kept()).take((len(groups), *writers.shape[1:]), writers)
        for group, residual in zip(groups, residuals, strict=True):
            total += writers[done : group.visible].sum(0, dtype=wide)
            done = group.visible
            residual.copy_(total)
        return cls(writers, residuals)

    @property
    def num_bytes(self) -> int:
        return self.writers.nbytes + self.residuals.nbytes

    def __getitem__(self, examples: slice | Tensor) -> "WriterStates":
        """The states of some examples of the batch."""
        if self.writers.shape[1] == 1:
            return self  # one value for all examples is one for some of them
        return WriterStates(self.writers[:, examples], self.residuals[:, examples])


class WriterStream:
    """One pass at a time through a patched model: `record` collects a corrupted run's writes,
    `mask` mixes. The buffers are kept from pass to pass, so the backward of a pass must come
    before the next masked pass (asserted)."""

    def __init__(self, graph: EdgeGraph) -> None:
        self.graph = graph
        self.layout = Layout(1, 0, 0, 0)  # of the pass that runs, or ran last
        self.held = self.layout  # of what the buffers hold: the last masked pass
        # Of a recorded pass: what is written, and a head's share of its layer's output bias [width], by
        # the layer's first writer.
        self.recorded: Float[Tensor, "blocks writers tokens width"] | None = None
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
        self.last = slice(graph.first_head(graph.shape.layers - 1), None)  # writers of the last layer
        self.number = 0  # of masked passes so far
        self.backward = False  # whether one may follow this pass
        self.differences, self.gradients = torch.empty(0), WriterGradients(graph)
        self._differences, self._reads = Kept(), Kept()
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
        return self.keep is not None or self.recorded is not None

    def scored(self, first: int) -> Int[Tensor, " scored"] | None:
        """The tokens at which the outputs of a layer's heads, or of its MLP, are wanted in this pass; None is
        all of them. `first` is the layer's first head."""
        return self.layout.scored if first == self.last.start else None

    def plain(self, layout: Layout) -> None:
        """Starts a pass that is neither recorded nor masked."""
        self.layout = layout

    def record(self, layout: Layout, like: Tensor, lent: bool = False) -> None:
        """Starts a pass whose writes are kept; `like` gives their dtype and device. Those that are lent are
        good until the next that are."""
        self.layout, self.bias_shares, self.lending = layout, {}, lent
        memory = self._lent[0] if lent else Kept()
        self.recorded = memory.take(layout.shape(len(self.graph.writers)), like)
        if layout.scored is not None:
            self.recorded[:, self.last].zero_()

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
        self.layout = self.held = layout
        # May run out of memory: nothing has started.
        self.differences = self._differences.take(layout.shape(1 + len(self.graph.writers)), like)
        self.keep, self.corrupted = keep, corrupted
        self.backward = keep.requires_grad and torch.is_grad_enabled()
        self.recompute = recompute
        self.number += 1

    @contextmanager
    def repeated(self, keep: Tensor, corrupted: WriterStates | None) -> Iterator[None]:
        """In a masked pass's backward: meanwhile a block of it is computed again, with the same gates."""
        self.layout, self.keep, self.corrupted, self.again = self.held, keep, corrupted, True
        try:
            yield
        finally:
            self.again = False
            self.stop()

    def stop(self) -> None:
        """Ends the pass, also after an error."""
        self.recorded = self.keep = self.corrupted = self.reads = self.token = self.heads = None
        self.layout, self.bias_shares, self.spread = Layout(1, 0, 0, 0), {}, None

    def states(self) -> WriterStates:
        """What the recorded pass wrote."""
        assert self.recorded is not None, "states() follows record()"
        memory = self._lent[1] if self.lending else None
        return WriterStates.of(self.graph, self.layout.by_row(self.recorded).squeeze(1), memory)

    def read_buffer(self, layer: int) -> Float[Tensor, "blocks readers tokens width"]:
        """Where a layer's readers read in this pass. A pass that a backward follows keeps every layer's."""
        shape, every = self.layout.shape(self.graph.readers_per_layer), self.backward and not self.recompute
        layers = self.graph.shape.layers if every else 1
        return self._reads.take((layers, *shape), self.differences)[layer if every else 0]

    def rows(self, first: int, count: int) -> Float[Tensor, "blocks count tokens width"]:
        """Where the writes from `first` on go in this pass."""
        if self.recorded is not None:
            return self.recorded[:, first : first + count]
        return self.differences[:, 1 + first : 1 + first + count]

    def write(
        self,
        first: int,
        values: Float[Tensor, "some ... width"],
        scored: Int[Tensor, " scored"] | None = None,
    ) -> None:
        """Puts writes into the rows from `first` on; of the scored tokens alone, where these are given."""
        if self.again:
            return
        if scored is not None:
            writes = values.flatten(1, -2).transpose(0, 1)
            if self.masking and self.corrupted is not None:
                corrupted = self.corrupted.writers[first : first + len(values)]
                writes = writes - self.layout.of_run(corrupted, scored)
            self.layout.put(self.rows(first, len(values)), scored, writes)
            return
        target = self.layout.by_row(self.rows(first, len(values)))
        # Positions' embeddings are one for the batch; some families' MLPs see batch and seq as one.
        given = values.reshape(len(values), -1, *target.shape[-2:])
        target.copy_(given.view(target.shape) if given.shape[1] > 1 else given.unsqueeze(1))
        self.written(first, len(values))

    def write_product(
        self,
        first: int,
        left: Float[Tensor, "some batch_seq inner"],
        right: Float[Tensor, "some inner width"],
        bias: Float[Tensor, " width"] | None,
    ) -> None:
        """Puts left · right + bias into the rows from `first` on, less what was written there in the
        corrupted run: summed by the product itself, which passes over the rows once and rounds once."""
        if self.again:
            return
        rows = self.rows(first, len(left))
        start = self.layout.by_row(rows)
        if self.masking and self.corrupted is not None:
            corrupted = self.corrupted.writers[first : first + len(left)].unsqueeze(1).expand(start.shape)
            torch.sub(left.new_zeros(()) if bias is None else bias, corrupted, out=start)
        elif bias is not None:
            start.copy_(bias)
        else:
            self.layout.write_product(rows, left, right)
            return
        self.layout.add_product(rows, left, right)

    def written(self, first: int, count: int) -> None:
        """Turns the writes of a masked pass into differences."""
        if self.masking and self.corrupted is not None:
            target = self.layout.by_row(self.rows(first, count))
            target.sub_(self.corrupted.writers[first : first + count].unsqueeze(1))

    def replace_differences(self, differences: Float[Tensor, "writers batch seq width"]) -> None:
        """Between a masked pass and its backward: what the gates' gradients are taken with."""
        assert not self.recompute, "blocks that are computed again read the differences once more"
        self.held.by_row(self.differences[:, 1:]).copy_(differences.unsqueeze(1))

    def gates(self, readers: slice, writers: slice) -> Float[Tensor, "samples readers writers"]:
        assert self.keep is not None, "reads are for masked passes"
        return self.keep[:, writers, readers].mT.to(self.differences.dtype)

    def read_output(self, thread: Float[Tensor, "batch seq width"]) -> Float[Tensor, "batch seq width"]:
        """The input of the last reader."""
        group = self.graph.output
        return _MixOutput.apply(self.gates(group.readers, slice(group.visible)), thread, self)  # type: ignore[no-any-return]

    def mix(
        self,
        gates: Float[Tensor, "samples readers visible"],
        base: Float[Tensor, "batch seq width"] | None,
        based: int,
        out: Float[Tensor, "blocks readers tokens width"],
    ) -> None:
        """out = base + gates · differences of the first writers, block by block. The base, if there is
        one, is added for the first `based` readers."""
        visible, first = gates.shape[2], 1
        if base is not None:
            first = 0
            self.layout.by_row(self.differences[:, :1])[0].copy_(base)
            gates = torch.nn.functional.pad(gates, (1, 0), value=1.0)
            gates[:, based:, 0] = 0
        differences = self.differences[:, first : 1 + visible].flatten(2)
        torch.bmm(self.layout.by_block(gates), differences, out=out.flatten(2))

    def base(self, index: int) -> Float[Tensor, "batch seq width"] | None:
        """What the readers of a group start from: its corrupted residual. `index` is the group's place in
        `graph.groups()`."""
        return None if self.corrupted is None else self.corrupted.residuals[index]

    def take_gradient(
        self,
        gates: Float[Tensor, "samples readers writers"],
        by_reader: Float[Tensor, "blocks readers tokens width"],
        first: int,
        of_gates: bool,
    ) -> Float[Tensor, "samples readers writers"] | None:
        """In the backward of a masked pass: adds what readers' gradients are to the writers from `first`
        on, and gives the gates' own gradient, if it is wanted."""
        samples, _, writers = gates.shape
        if writers == len(self.graph.writers):  # the output; a pass without a backward needs no memory for it
            self.gradients.begin(self.held, self.differences)
        self.gradients.add(gates, by_reader, first)
        if not of_gates:
            return None
        differences = self.differences[:, 1 + first : 1 + first + writers]
        products = torch.bmm(by_reader.flatten(2), differences.flatten(2).mT)
        return _sum_by_sample(products, samples).to(gates.dtype)

    def take_scored_gradient(
        self,
        gates: Float[Tensor, "samples 1 writers"],
        by_reader: Float[Tensor, "scored 1 width"],
        first: int,
        of_gates: bool,
    ) -> Float[Tensor, "samples 1 writers"] | None:
        """take_gradient for one reader whose gradient is 0 but at the scored tokens."""
        samples, _, writers = gates.shape
        if writers == len(self.graph.writers):
            self.gradients.begin(self.held, self.differences)
        self.gradients.add_scored(gates, by_reader, first)
        if not of_gates:
            return None
        assert self.held.scored is not None, "some tokens are scored"
        differences = self.held.take(self.differences[:, 1 + first : 1 + first + writers], self.held.scored)
        return _sum_by_sample(torch.bmm(by_reader, differences.mT), samples).to(gates.dtype)


def _sum_by_sample(
    products: Float[Tensor, "blocks readers writers"], samples: int
) -> Float[Tensor, "samples readers writers"]:
    wide = torch.promote_types(products.dtype, torch.float32)
    return products.unflatten(0, (samples, -1)).sum(1, dtype=wide)


def write_through(
    values: Float[Tensor, "some ... width"],
    stream: WriterStream,
    first: int,
    scored: Int[Tensor, " scored"] | None = None,
) -> Tensor:
    """A differentiable write, of the scored tokens alone where these are given; returns the thread to hand on
    as the model's residual."""
    shape = values.shape[1:] if scored is None else stream.spread
    return _Write.apply(values, stream, first, scored, shape)  # type: ignore[no-any-return]


class _MixOutput(Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, thread: Tensor, stream: WriterStream) -> Tensor:
        ctx.stream, ctx.number = stream, stream.number
        ctx.save_for_backward(gates)
        layout, base = stream.layout, stream.base(-1)
        if layout.scored is None:
            mixed = thread.new_empty(layout.shape(1))
            stream.mix(gates, base, 1, mixed)
            return mixed.view(thread.shape)
        differences = layout.take(stream.differences[:, 1:], layout.scored)
        read = torch.bmm(layout.by_token(gates, layout.scored), differences)
        if base is not None:
            read += layout.of_run(base.unsqueeze(0), layout.scored)
        mixed = torch.zeros_like(thread).flatten(0, -2)
        mixed[layout.scored] = read.squeeze(1)
        return mixed.view(thread.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (gates,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        of_gates, scored = ctx.needs_input_grad[0], stream.held.scored
        if scored is None:
            by_gate = stream.take_gradient(gates, gradient.reshape(stream.held.shape(1)), 0, of_gates)
        else:
            by_reader = gradient.flatten(0, -2)[scored].unsqueeze(1)
            by_gate = stream.take_scored_gradient(gates, by_reader, 0, of_gates)
        return by_gate, gradient.new_zeros(()).expand(gradient.shape), None


class _Write(Function):
    """Puts writes into the buffer and gives out the thread."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, stream: WriterStream, first: int, scored: Tensor | None, shape: torch.Size
    ) -> Tensor:
        ctx.stream, ctx.number, ctx.shape, ctx.scored = stream, stream.number, values.shape, scored
        ctx.rows = slice(first, first + values.shape[0])
        stream.write(first, values, scored)
        return values.new_zeros(()).expand(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        del gradient  # zeros; a write's gradient is what its readers added up in the buffer
        assert ctx.number == ctx.stream.number, "the backward of a pass comes before the next masked pass"
        by_row = ctx.stream.gradients.of(ctx.rows, ctx.scored)
        return by_row.reshape(ctx.shape), None, None, None, None
