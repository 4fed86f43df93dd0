"""WriterStates: a corrupted run, as masked passes need it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.graph import EdgeGraph
from model_patches.layout import Kept


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
