"""WriterStream: the residual stream taken apart, in difference form.

Every reader's input is (Edge Pruning, eq. 3)

    corrupted residual + Σ_writers gate · (clean write − corrupted write)

where "clean" is the write of the run at hand. The differences of all writers lie in one buffer
[blocks, writers, tokens, width], so the inputs of all readers of a layer are ONE batched product of
their gates with the first rows of every block. Its gradient lies in a second buffer of the same
shape: a reader's backward adds to the rows of the writers it sees, a writer's backward takes its row.

A block is one token: all writers' rows of a token fit a core's cache, and rows that lie megabytes apart do
not (benchmarks/LOG.md). Where the residual stream is narrow such products are too small to pay, and a
block is a whole sample.

Under bf16 weights every product accumulates in float32 and is rounded once to bf16, and so is each
corrupted residual; the differences and their gradients are kept in bf16. Gates are float32: they are
rounded to bf16 for a product, and their gradient arrives as float32.

Autograd does not see writes into a buffer, so an order is imposed on it: the model's own residual
tensor is replaced by a `thread` of zeros that runs through every write and every read. A writer's
backward then runs after the backward of all its readers, which autograd guarantees along the thread.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model_patches.graph import EdgeGraph, ReaderGroup

NARROW = 128  # below this width a block is a whole sample


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
    def of(cls, graph: EdgeGraph, writers: Float[Tensor, "writers batch seq width"]) -> "WriterStates":
        """Sums in float32 at least, and rounds each residual once."""
        wide = torch.promote_types(writers.dtype, torch.float32)
        total, done, residuals = torch.zeros_like(writers[0], dtype=wide), 0, []
        for group in graph.groups():
            total = total + writers[done : group.visible].sum(0, dtype=wide)
            done = group.visible
            residuals.append(total.to(writers.dtype))
        return cls(writers, torch.stack(residuals))

    @property
    def num_bytes(self) -> int:
        return self.writers.nbytes + self.residuals.nbytes

    def __getitem__(self, examples: slice | Tensor) -> "WriterStates":
        """The states of some examples of the batch."""
        if self.writers.shape[1] == 1:
            return self  # one value for all examples is one for some of them
        return WriterStates(self.writers[:, examples], self.residuals[:, examples])


@dataclass(frozen=True)
class Layout:
    """How the tokens of a pass lie in a buffer [blocks, rows, tokens, width]: the samples of gates, each
    with all examples, one after another."""

    samples: int
    batch: int
    seq: int
    width: int

    @property
    def tokens(self) -> int:
        """Of a block."""
        return self.batch * self.seq if self.width < NARROW else 1

    @property
    def blocks(self) -> int:
        return self.samples * self.batch * self.seq // self.tokens

    @property
    def flat(self) -> bool:
        """Whether a row's tokens are one dimension without a copy."""
        return self.tokens == 1 or self.samples == 1

    def buffer(self, rows: int, like: Tensor) -> Float[Tensor, "blocks rows tokens width"]:
        return like.new_empty(self.blocks, rows, self.tokens, self.width)

    def by_row(
        self, buffer: Float[Tensor, "blocks rows tokens width"]
    ) -> Float[Tensor, "rows samples batch seq width"]:
        """A view of the buffer."""
        if self.tokens == 1:
            by_token = buffer.view(self.samples, self.batch, self.seq, -1, self.width)
            return by_token.permute(3, 0, 1, 2, 4)
        return buffer.view(self.samples, -1, self.batch, self.seq, self.width).transpose(0, 1)

    def read(
        self, buffer: Float[Tensor, "blocks rows tokens width"]
    ) -> Float[Tensor, "rows batch_seq width"]:
        """The rows with all their tokens; a copy where there is no such view."""
        return self.by_row(buffer).flatten(1, 3)

    def write_product(
        self,
        buffer: Float[Tensor, "blocks rows tokens width"],
        left: Float[Tensor, "rows batch_seq inner"],
        right: Float[Tensor, "rows inner width"],
    ) -> None:
        """Puts left · right, row by row, into the buffer."""
        target = self.by_row(buffer)
        if self.flat:
            torch.bmm(left, right, out=target.flatten(1, 3))
        else:
            target.copy_(torch.bmm(left, right).view(target.shape))

    def over_samples(
        self, values: Float[Tensor, "batch seq width"]
    ) -> Float[Tensor, "blocks 1 tokens_width"]:
        """One value of every example, or of all of them, for every sample."""
        every = values.expand(self.samples, self.batch, self.seq, self.width)
        return every.reshape(self.blocks, 1, self.tokens * self.width)

    def by_block(
        self, gates: Float[Tensor, "samples readers writers"]
    ) -> Float[Tensor, "blocks readers writers"]:
        """Each block's gates: one matrix for all blocks where there is one sample."""
        share = self.blocks // self.samples
        return gates.unsqueeze(1).expand(-1, share, -1, -1).reshape(self.blocks, *gates.shape[1:])


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
        # The normed reads of the attention that is running, projection by projection, [blocks, readers,
        # tokens, width] each, and its thread.
        self.normed: tuple[Tensor, ...] | None = None
        self.thread: Tensor | None = None
        # The heads' outputs [heads, batch, seq, width] on their way to the norm after the attention.
        self.heads: Tensor | None = None
        self.number = 0  # of masked passes so far
        self.differences = torch.empty(0)
        self.gradients = torch.empty(0)

    @property
    def masking(self) -> bool:
        return self.keep is not None

    @property
    def running(self) -> bool:
        """Whether what writers write is wanted."""
        return self.keep is not None or self.recorded is not None

    def record(self, layout: Layout, like: Tensor) -> None:
        """Starts a pass whose writes are kept; `like` gives their dtype and device."""
        self.layout, self.bias_shares = layout, {}
        self.recorded = layout.buffer(len(self.graph.writers), like)

    def mask(
        self,
        keep: Float[Tensor, "samples writers readers"],
        corrupted: WriterStates | None,
        layout: Layout,
        like: Tensor,
    ) -> None:
        """Starts a masked pass over a batch of samples × examples: the examples once per sample of
        gates. `corrupted` holds the examples once, or one value for all of them; None is zero
        ablation: a cut edge carries zeros.
        """
        self.layout = self.held = layout
        self.differences = self._fitting(self.differences, like)  # may run out of memory: nothing has started
        self.keep, self.corrupted = keep, corrupted
        self.number += 1

    def stop(self) -> None:
        """Ends the pass, also after an error."""
        self.recorded = self.keep = self.corrupted = self.normed = self.thread = self.heads = None
        self.bias_shares = {}

    def states(self) -> WriterStates:
        """What the recorded pass wrote."""
        assert self.recorded is not None, "states() follows record()"
        return WriterStates.of(self.graph, self.layout.by_row(self.recorded).squeeze(1))

    def gradients_of(self, rows: slice) -> Float[Tensor, "rows batch_seq width"]:
        """In the backward of a masked pass: the gradients of some writes."""
        return self.held.read(self.gradients[:, rows])

    def gradient_buffer(self) -> Tensor:
        """Made to fit at the first backward: a pass without one does without it."""
        self.gradients = self._fitting(self.gradients, self.differences)
        return self.gradients

    def _fitting(self, old: Tensor, like: Tensor) -> Tensor:
        writers, layout = len(self.graph.writers), self.held
        shape = (layout.blocks, writers, layout.tokens, layout.width)
        fits = (old.shape, old.dtype, old.device) == (shape, like.dtype, like.device)
        return old if fits else layout.buffer(writers, like)

    def rows(self, first: int, count: int) -> Float[Tensor, "blocks count tokens width"]:
        """Where the writes from `first` on go in this pass."""
        buffer = self.differences if self.recorded is None else self.recorded
        return buffer[:, first : first + count]

    def write(self, first: int, values: Float[Tensor, "some ... width"]) -> None:
        """Puts writes that need no gradient (the embeddings') into the rows from `first` on."""
        target = self.layout.by_row(self.rows(first, len(values)))
        # Positions' embeddings are one for the batch; some families' MLPs see batch and seq as one.
        given = values.reshape(len(values), -1, *target.shape[-2:])
        target.copy_(given.view(target.shape) if given.shape[1] > 1 else given.unsqueeze(1))
        self.written(first, len(values))

    def written(self, first: int, count: int) -> None:
        """Turns the writes of a masked pass into differences."""
        if self.masking and self.corrupted is not None:
            target = self.layout.by_row(self.rows(first, count))
            target.sub_(self.corrupted.writers[first : first + count].unsqueeze(1))

    def replace_differences(self, differences: Float[Tensor, "writers batch seq width"]) -> None:
        """Between a masked pass and its backward: what the gates' gradients are taken with."""
        self.held.by_row(self.differences).copy_(differences.unsqueeze(1))

    def read(
        self, group: ReaderGroup, index: int, thread: Float[Tensor, "batch seq width"]
    ) -> Float[Tensor, "blocks some tokens width"]:
        """The inputs of a group of readers; `index` is the group's place in `graph.groups()`."""
        assert self.keep is not None, "read() is for masked passes"
        gates = self.keep[:, : group.visible, group.readers].mT.to(thread.dtype)
        base = None if self.corrupted is None else self.corrupted.residuals[index]
        return _Mix.apply(gates, thread, self, base)  # type: ignore[no-any-return]

    def read_one(
        self, group: ReaderGroup, index: int, thread: Float[Tensor, "batch seq width"]
    ) -> Float[Tensor, "batch seq width"]:
        """The input of a group's only reader."""
        return self.read(group, index, thread).view(thread.shape)


def write_through(values: Float[Tensor, "some ... width"], stream: WriterStream, first: int) -> Tensor:
    """A differentiable write; returns the thread to hand on as the model's residual."""
    return _Write.apply(values, stream, first)  # type: ignore[no-any-return]


class _Mix(Function):
    """[blocks, readers, tokens, width] = base + gates · differences, block by block."""

    @staticmethod
    def forward(
        ctx: Any,
        gates: Float[Tensor, "samples readers visible"],
        thread: Tensor,
        stream: WriterStream,
        base: Tensor | None,
    ) -> Tensor:
        ctx.stream, ctx.number, ctx.thread = stream, stream.number, thread.shape
        ctx.save_for_backward(gates)
        layout, by_block = stream.layout, stream.layout.by_block(gates)
        differences = stream.differences[:, : gates.shape[2]].flatten(2)
        if base is None:
            mixed = torch.bmm(by_block, differences)
        else:
            mixed = torch.baddbmm(layout.over_samples(base), by_block, differences)
        return mixed.view(layout.blocks, -1, layout.tokens, layout.width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        (gates,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        samples, readers, visible = gates.shape
        by_block, by_reader = stream.held.by_block(gates).mT, gradient.flatten(2)
        # The output reads every writer and its backward is the first: it overwrites, so that the
        # buffer needs no zeroing.
        first = visible == len(stream.graph.writers)
        sums = stream.gradient_buffer()[:, :visible].flatten(2)
        torch.bmm(by_block, by_reader, out=sums) if first else sums.baddbmm_(by_block, by_reader)
        by_gate = None
        if ctx.needs_input_grad[0]:
            products = torch.bmm(by_reader, stream.differences[:, :visible].flatten(2).mT)
            wide = torch.promote_types(products.dtype, torch.float32)
            by_gate = products.view(samples, -1, readers, visible).sum(1, dtype=wide).to(gates.dtype)
        return by_gate, gradient.new_zeros(()).expand(ctx.thread), None, None


class _Write(Function):
    """Puts writes into the buffer and gives out the thread."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, stream: WriterStream, first: int) -> Tensor:
        ctx.stream, ctx.number, ctx.shape = stream, stream.number, values.shape
        ctx.rows = slice(first, first + values.shape[0])
        stream.write(first, values)
        return values.new_zeros(()).expand(values.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        del gradient  # zeros; a write's gradient is what its readers added up in the buffer
        assert ctx.number == ctx.stream.number, "the backward of a pass comes before the next masked pass"
        return ctx.stream.gradients_of(ctx.rows).view(ctx.shape), None, None
