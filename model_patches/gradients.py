"""WriterGradients: what the backwards of readers add up for the writers that they read.

The rows of some layers each lie in a part of their own: the library's batched product wants a contiguous
result, and one product per token instead keeps a second thread waiting (benchmarks/LOG.md).
"""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float, Int
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
        self.last = slice(graph.first_head(layers - 1), len(graph.writers))
        self.layout = Layout(1, 0, 0, 0)
        self.parts: list[Float[Tensor, "blocks rows tokens width"]] = []
        self.begun: list[bool] = []  # of a part: whether more than the scored tokens' rows hold something
        self._memory = [Kept() for _ in self.bounds]

    def begin(self, layout: Layout, like: Tensor) -> None:
        """A new backward. The first to add is the output; its gradient is of the scored tokens alone, or
        reaches every writer, so nothing needs zeroing but what the last layer wrote elsewhere."""
        self.layout = layout
        sizes = [stop - start for start, stop in self.bounds]
        self.parts = [
            kept.take(layout.shape(size), like) for kept, size in zip(self._memory, sizes, strict=True)
        ]
        self.begun = [False] * len(self.parts)
        if layout.scored is not None:
            self._rows(self.last).zero_()

    def add(
        self,
        gates: Float[Tensor, "samples readers writers"],
        by_reader: Float[Tensor, "blocks readers tokens width"],
        first: int,
    ) -> None:
        """Adds what the readers' gradients are to the writers from `first` on."""
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
            scored = None if begun or layout.scored is None else layout.take(part, layout.scored)
            # Later layers' rows take nothing; they have been read by now.
            whole = layout.by_block(F.pad(inside, (low - start, stop - high)))
            part.flatten(2).baddbmm_(whole.mT, by_reader.flatten(2), beta=int(begun))
            if scored is not None and layout.scored is not None:
                layout.put(part, layout.scored, layout.take(part, layout.scored) + scored)
            self.begun[number] = True

    def add_scored(
        self,
        gates: Float[Tensor, "samples 1 writers"],
        by_reader: Float[Tensor, "scored 1 width"],
        first: int,
    ) -> None:
        """The same for one reader whose gradient is 0 but at the scored tokens."""
        layout, end = self.layout, first + gates.shape[2]
        assert layout.scored is not None, "some tokens are scored"
        by_writer = layout.by_token(gates, layout.scored).mT * by_reader
        for start, stop in self.bounds:
            low, high = max(first, start), min(end, stop)
            if low >= high:
                continue
            rows, values = self._rows(slice(low, high)), by_writer[:, low - first : high - first]
            # The output reads all writers, and nothing has come to any of them before it.
            before = 0 if end - first == self.bounds[-1][1] else layout.take(rows, layout.scored)
            layout.put(rows, layout.scored, values + before)

    def of(
        self, rows: slice, scored: Int[Tensor, " scored"] | None = None
    ) -> Float[Tensor, "rows tokens width"]:
        """The gradients of some writes of one layer; of the scored tokens alone, where these are given."""
        if scored is not None:
            return self.layout.take(self._rows(rows), scored).transpose(0, 1)
        return self.layout.read(self._rows(rows))

    def _rows(self, rows: slice) -> Float[Tensor, "blocks rows tokens width"]:
        for part, (start, stop) in zip(self.parts, self.bounds, strict=True):
            if start <= rows.start < stop:
                assert rows.stop <= stop, "a layer's writers lie in one part"
                return part[:, rows.start - start : rows.stop - start]
        raise AssertionError(f"no writers {rows}")
