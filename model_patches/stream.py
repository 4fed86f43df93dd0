"""WriterStream: the residual stream taken apart, in difference form.

Every reader's input is (Edge Pruning, eq. 3)

    corrupted residual + Σ_writers gate · (clean write − corrupted write)

where "clean" is the write of the run at hand. The differences of all writers lie in one buffer
[writers, batch·seq, width], so the inputs of all readers of a layer are ONE matrix product of
their gates with the first rows of that buffer. Its gradient lies in a second buffer of the same
shape: a reader's backward adds to the rows of the writers it sees, a writer's backward takes its row.

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
    `EdgeGraph.groups()`: the sum of the writers visible to the group.
    """

    writers: Float[Tensor, "writers batch seq width"]
    residuals: Float[Tensor, "groups batch seq width"]

    @classmethod
    def of(cls, graph: EdgeGraph, writers: Float[Tensor, "writers batch seq width"]) -> "WriterStates":
        total, done, residuals = torch.zeros_like(writers[0]), 0, []
        for group in graph.groups():
            total = total + writers[done : group.visible].sum(0)
            done = group.visible
            residuals.append(total)
        return cls(writers, torch.stack(residuals))

    @property
    def num_bytes(self) -> int:
        return self.writers.nbytes + self.residuals.nbytes

    def __getitem__(self, examples: slice | Tensor) -> "WriterStates":
        """The states of some examples of the batch."""
        return WriterStates(self.writers[:, examples], self.residuals[:, examples])


class WriterStream:
    """One pass at a time through a patched model: `record` collects a corrupted run's writes,
    `mask` mixes. The buffers are kept from pass to pass, so the backward of a pass must come
    before the next masked pass (asserted)."""

    def __init__(self, graph: EdgeGraph) -> None:
        self.graph = graph
        self.recorded: list[Tensor] | None = None
        self.keep: Tensor | None = None
        self.corrupted: WriterStates | None = None
        self.number = 0  # of masked passes so far
        self.differences = torch.empty(0)
        self.gradients = torch.empty(0)

    @property
    def recording(self) -> bool:
        return self.recorded is not None

    @property
    def masking(self) -> bool:
        return self.keep is not None

    def record(self) -> None:
        self.recorded = []

    def mask(self, keep: Float[Tensor, "writers readers"], corrupted: WriterStates | None) -> None:
        """Starts a masked pass. `corrupted=None` is zero ablation: a cut edge carries zeros."""
        self.keep, self.corrupted = keep, corrupted
        self.number += 1

    def stop(self) -> None:
        """Ends the pass, also after an error."""
        self.recorded = self.keep = self.corrupted = None

    def states(self) -> WriterStates:
        """What the recorded pass wrote."""
        assert self.recorded is not None, "states() follows record()"
        batch = max(write.shape[1] for write in self.recorded)
        return WriterStates.of(self.graph, torch.cat([w.expand(-1, batch, -1, -1) for w in self.recorded]))

    def fit(self, tokens: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        """Makes both buffers fit a pass over so many tokens (batch · seq)."""
        shape = torch.Size((len(self.graph.writers), tokens, width))
        for name in ("differences", "gradients"):
            old = getattr(self, name)
            if (old.shape, old.dtype, old.device) != (shape, dtype, device):
                setattr(self, name, torch.empty(shape, dtype=dtype, device=device))

    def write(self, first: int, values: Float[Tensor, "some batch seq width"]) -> None:
        """Puts writes that need no gradient (the embeddings') into the rows from `first` on."""
        rows = slice(first, first + values.shape[0])
        if self.corrupted is not None:
            values = values - self.corrupted.writers[rows]
        tokens = self.differences.shape[1]
        batch = tokens // values.shape[2]
        self.differences[rows] = values.expand(-1, batch, -1, -1).reshape(-1, tokens, values.shape[3])

    def read(
        self, group: ReaderGroup, index: int, thread: Float[Tensor, "batch seq width"]
    ) -> Float[Tensor, "some batch seq width"]:
        """The inputs of a group of readers; `index` is the group's place in `graph.groups()`."""
        assert self.keep is not None, "read() is for masked passes"
        gates = self.keep[: group.visible, group.readers].t().to(thread.dtype)
        base = None if self.corrupted is None else self.corrupted.residuals[index]
        return _Mix.apply(gates, thread, self, base).view(gates.shape[0], *thread.shape)  # type: ignore[no-any-return]


def write_through(values: Float[Tensor, "some batch seq width"], stream: WriterStream, first: int) -> Tensor:
    """A differentiable write; returns the thread to hand on as the model's residual."""
    return _Write.apply(values, stream, first)  # type: ignore[no-any-return]


class _Mix(Function):
    """[readers, batch·seq·width] = base + gates · differences."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, thread: Tensor, stream: WriterStream, base: Tensor | None) -> Tensor:
        ctx.stream, ctx.number, ctx.thread = stream, stream.number, thread.shape
        ctx.save_for_backward(gates)
        differences = stream.differences[: gates.shape[1]].flatten(1)
        return gates @ differences if base is None else torch.addmm(base.reshape(1, -1), gates, differences)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        (gates,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        visible, gradient = gates.shape[1], gradient.contiguous()
        sums = stream.gradients[:visible].flatten(1)
        if visible == len(stream.graph.writers):
            # The output reads every writer and its backward is the first: it overwrites, so that
            # the buffer needs no zeroing.
            torch.mm(gates.t(), gradient, out=sums)
        else:
            sums.addmm_(gates.t(), gradient)
        by_gate = None
        if ctx.needs_input_grad[0]:
            by_gate = gradient @ stream.differences[:visible].flatten(1).t()
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
