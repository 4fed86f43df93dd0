"""WriterStream: the residual stream taken apart, in difference form.

Every reader's input is (Edge Pruning, eq. 3)

    corrupted residual + Σ_writers gate · (clean write − corrupted write)

where "clean" is the write of the run at hand. The differences of all writers lie in one buffer
[writers, batch·seq, width], so the inputs of all readers of a layer are ONE matrix product of
their gates with the first rows of that buffer. Its gradient lies in a second buffer of the same
shape: a reader's backward adds to the rows of the writers it sees, a writer's backward takes its row.

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


@dataclass(frozen=True)
class WriterStates:
    """What every writer wrote in a corrupted run, and the sums that readers start from.

    writers: [writers, batch, seq, width]. residuals: [groups, batch, seq, width], in the order of
    `EdgeGraph.groups()`: the sum of the writers visible to the group. Where batch or seq is 1, as in
    the mean over a reference set, one value serves all examples or positions of a pass.
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


class WriterStream:
    """One pass at a time through a patched model: `record` collects a corrupted run's writes,
    `mask` mixes. The buffers are kept from pass to pass, so the backward of a pass must come
    before the next masked pass (asserted)."""

    def __init__(self, graph: EdgeGraph) -> None:
        self.graph = graph
        self.recorded: list[Tensor] | None = None
        # Of a recorded pass: a head's share of its layer's output bias [width], by the layer's first writer.
        self.bias_shares: dict[int, Tensor] = {}
        self.keep: Tensor | None = None
        self.corrupted: WriterStates | None = None
        # The normed reads [readers, batch, seq, width] of the attention that is running, and its thread.
        self.normed: Tensor | None = None
        self.thread: Tensor | None = None
        # The heads' outputs [heads, batch, seq, width] on their way to the norm after the attention.
        self.heads: Tensor | None = None
        self.examples = (0, 0)  # batch and seq of the masked pass, each example once
        self.number = 0  # of masked passes so far
        self.differences = torch.empty(0)
        self.gradients = torch.empty(0)

    @property
    def masking(self) -> bool:
        return self.keep is not None

    def record(self) -> None:
        self.recorded, self.bias_shares = [], {}

    def mask(
        self,
        keep: Float[Tensor, "samples writers readers"],
        corrupted: WriterStates | None,
        examples: tuple[int, int],
    ) -> None:
        """Starts a masked pass over a batch of samples × examples: the examples (batch, seq) once per
        sample of gates. `corrupted` holds the examples once, or one value for all of them; None is
        zero ablation: a cut edge carries zeros.
        """
        self.keep, self.corrupted, self.examples = keep, corrupted, examples
        self.number += 1

    @property
    def samples(self) -> int:
        return 1 if self.keep is None else self.keep.shape[0]

    def stop(self) -> None:
        """Ends the pass, also after an error."""
        self.recorded = self.keep = self.corrupted = self.normed = self.thread = self.heads = None
        self.bias_shares = {}

    def states(self) -> WriterStates:
        """What the recorded pass wrote."""
        assert self.recorded is not None, "states() follows record()"
        _, batch, seq, width = self.recorded[0].shape  # the token embeddings'
        # Positions' embeddings are one for the batch; some families' MLPs see batch and seq as one.
        rows = [write.view(len(write), -1, seq, width) for write in self.recorded]
        return WriterStates.of(self.graph, torch.cat([row.expand(-1, batch, -1, -1) for row in rows]))

    def fit(self, tokens: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        """Makes both buffers fit a pass over so many tokens (batch · seq)."""
        shape = torch.Size((len(self.graph.writers), tokens, width))
        for name in ("differences", "gradients"):
            old = getattr(self, name)
            if (old.shape, old.dtype, old.device) != (shape, dtype, device):
                setattr(self, name, torch.empty(shape, dtype=dtype, device=device))

    def write(self, first: int, values: Float[Tensor, "some ... width"]) -> None:
        """Puts writes that need no gradient (the embeddings') into the rows from `first` on."""
        rows = slice(first, first + values.shape[0])
        target = self.differences[rows].view(values.shape[0], -1, *values.shape[-2:])
        target.copy_(values)  # positions' embeddings are one for the batch
        self.subtract_corrupted(rows)

    def subtract_corrupted(self, rows: slice) -> None:
        """Turns writes in the buffer into differences."""
        if self.corrupted is not None:
            written = self.differences[rows]
            by_example = written.view(len(written), self.samples, *self.examples, -1)
            by_example.sub_(self.corrupted.writers[rows].unsqueeze(1))

    def read(
        self, group: ReaderGroup, index: int, thread: Float[Tensor, "batch seq width"]
    ) -> Float[Tensor, "some batch seq width"]:
        """The inputs of a group of readers; `index` is the group's place in `graph.groups()`."""
        assert self.keep is not None, "read() is for masked passes"
        gates = self.keep[:, : group.visible, group.readers].mT.to(thread.dtype)
        base = None if self.corrupted is None else self.corrupted.residuals[index]
        return _Mix.apply(gates, thread, self, base).view(gates.shape[1], *thread.shape)  # type: ignore[no-any-return]


def write_through(values: Float[Tensor, "some ... width"], stream: WriterStream, first: int) -> Tensor:
    """A differentiable write; returns the thread to hand on as the model's residual."""
    return _Write.apply(values, stream, first)  # type: ignore[no-any-return]


class _Mix(Function):
    """[readers, batch·seq·width] = base + gates · differences, sample by sample."""

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
        samples, readers, visible = gates.shape
        differences = stream.differences[:visible].view(visible, samples, -1)
        if samples > 1:
            mixed = torch.bmm(gates, differences.transpose(0, 1))
        elif base is None or base.numel() < differences[0].numel():
            mixed = gates[0] @ differences[:, 0]
        else:
            return torch.addmm(base.reshape(1, -1), gates[0], differences[:, 0])
        if base is not None:
            mixed.view(samples, readers, *stream.examples, -1).add_(base)
        return mixed.view(samples, readers, -1).transpose(0, 1).reshape(readers, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        (gates,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        samples, readers, visible = gates.shape
        by_sample = gradient.reshape(readers, samples, -1).transpose(0, 1)
        sums = stream.gradients[:visible].view(visible, samples, -1).transpose(0, 1)
        if visible == len(stream.graph.writers):
            # The output reads every writer and its backward is the first: it overwrites, so that
            # the buffer needs no zeroing.
            sums.zero_() if samples > 1 else torch.mm(gates[0].t(), by_sample[0], out=sums[0])
        if samples > 1 or visible < len(stream.graph.writers):
            sums.baddbmm_(gates.mT, by_sample)
        by_gate = None
        if ctx.needs_input_grad[0]:
            differences = stream.differences[:visible].view(visible, samples, -1)
            by_gate = torch.bmm(by_sample, differences.permute(1, 2, 0))
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
        return ctx.stream.gradients[ctx.rows].view(ctx.shape), None, None
