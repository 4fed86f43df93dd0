"""WriterGradients: what the backwards of readers add up for the writers that they read.

The rows of some layers each lie in a part of their own: the library's batched product wants a contiguous
result, and one product per token instead keeps a second thread waiting (benchmarks/LOG.md).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from model_patches.graph import EdgeGraph
from model_patches.layout import Kept, Layout

PART_ROWS = 36  # at least: products of fewer rows are slow


class WriterGradients:
    """One backward at a time; the memory is kept."""

    def __init__(self, graph: EdgeGraph) -> None:
        layers = graph.shape.layers
        together = -(-PART_ROWS // (graph.shape.query_heads + 1))
        starts = [0, *(graph.first_head(layer) for layer in range(together, layers, together))]
        self.bounds = list(pairwise([*starts, len(graph.writers)]))
        self.layout, self.like = Layout(1, 0, 0, 0), torch.empty(0)
        self.parts: list[Float[Tensor, "blocks rows tokens width"]] = []
        self.begun: list[bool] = []  # of a part: whether something was added to it
        self._memory = [Kept() for _ in self.bounds]

    def restart(self, layout: Layout, like: Tensor) -> None:
        """Before a pass. Memory is taken in its backward, if there is one."""
        self.layout, self.like, self.parts = layout, like, []

    def add(
        self,
        gates: Float[Tensor, "samples readers writers"],
        by_reader: Float[Tensor, "blocks readers tokens width"],
        first: int,
    ) -> None:
        """Adds what the readers' gradients are to the writers from `first` on. The first to add read
        every writer whose gradient is wanted here."""
        if not self.parts:
            shapes = [self.layout.shape(stop - start) for start, stop in self.bounds]
            self.parts = [
                kept.take(shape, self.like) for kept, shape in zip(self._memory, shapes, strict=True)
            ]
            self.begun = [False] * len(self.parts)
        layout, end = self.layout, first + gates.shape[2]
        for number, (start, stop) in enumerate(self.bounds):
            low, high = max(first, start), min(end, stop)
            if low >= high:
                continue
            part, begun = self.parts[number], self.begun[number]
            inside = gates[..., low - first : high - first]
            if begun and gates.shape[1] == 1:
                rows = part[:, low - start : high - start]
                rows.addcmul_(layout.by_block(inside).mT.unsqueeze(-1), by_reader)
                continue
            # Later layers' rows take nothing; they have been read by now.
            whole = layout.by_block(F.pad(inside, (low - start, stop - high)))
            part.flatten(2).baddbmm_(whole.mT, by_reader.flatten(2), beta=int(begun))
            self.begun[number] = True

    def add_scored(self, scored: "WriterGradients") -> None:
        """Adds what has been added up for the scored tokens. The last layer's keys and values come before:
        they begin every part that is read (`read_layer` mixes them last, so autograd takes them first)."""
        for part, begun, values in zip(self.parts, self.begun, scored.parts, strict=True):
            if begun:
                self.layout.put(part, self.layout.take(part) + values)

    def of(self, rows: slice) -> Float[Tensor, "rows batch_seq width"]:
        """The gradients of some writes of one layer."""
        for part, (start, stop) in zip(self.parts, self.bounds, strict=True):
            if start <= rows.start < stop:
                assert rows.stop <= stop, "a layer's writers lie in one part"
                return self.layout.read(part[:, rows.start - start : rows.stop - start])
        raise AssertionError(f"no writers {rows}")
