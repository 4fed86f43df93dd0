"""WriterBuffer: a row per writer, for the tokens of a pass or for some of them.

In a masked pass the rows are differences, and row 0 of a block is the corrupted residual of the group that
reads, with a gate of 1. So the inputs of all readers of a group are ONE batched product of their gates with
the first rows of every block. Its gradient (gradients.py) has the same rows: a reader's backward adds to
those of the writers that it sees, a writer's backward takes its own.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.gradients import WriterGradients
from model_patches.graph import EdgeGraph
from model_patches.layout import Kept, Layout


class WriterBuffer:
    """One pass at a time; its memory is kept from pass to pass. Corrupted values are [some, batch, seq,
    width] at the same tokens, where batch and seq may be 1; None is zeros."""

    def __init__(self, graph: EdgeGraph) -> None:
        self.layout = Layout(1, 0, 0, 0)
        self.values: Float[Tensor, "blocks rows tokens width"] = torch.empty(0)
        self.writer = 0  # whose row is the first: -1 in a masked pass
        self.gradients = WriterGradients(graph)
        self.memory, self.reads = Kept(), Kept()

    def begin(self, layout: Layout, writers: range, like: Tensor, memory: Kept | None = None) -> None:
        """A new pass, for these writers (-1: the residual that readers start from)."""
        self.layout, self.writer = layout, writers.start
        self.values = (memory or self.memory).take(layout.shape(len(writers)), like)
        self.gradients.restart(layout, self.values)

    def rows(self, first: int, count: int) -> Float[Tensor, "blocks count tokens width"]:
        """Of the writers from `first` on."""
        return self.values[:, first - self.writer : first - self.writer + count]

    def write(
        self, first: int, values: Float[Tensor, "some ... width"], corrupted: Tensor | None = None
    ) -> None:
        """Puts writes, less the corrupted ones, into the rows from `first` on."""
        target = self.layout.by_row(self.rows(first, len(values)))
        # Positions' embeddings are one for the batch; some families' MLPs see batch and seq as one.
        given = values.reshape(len(values), -1, *target.shape[-2:])
        given = given.view(target.shape) if given.shape[1] > 1 else given.unsqueeze(1)
        if corrupted is None:
            target.copy_(given)
        else:
            torch.sub(given.expand(target.shape), corrupted.unsqueeze(1), out=target)

    def write_product(
        self,
        first: int,
        left: Float[Tensor, "some batch_seq inner"],
        right: Float[Tensor, "some inner width"],
        bias: Float[Tensor, " width"] | None,
        corrupted: Tensor | None = None,
    ) -> None:
        """Puts left · right + bias into the rows from `first` on, less the corrupted writes: summed by the
        product itself, which passes over the rows once and rounds once."""
        rows = self.rows(first, len(left))
        start = self.layout.by_row(rows)
        if corrupted is not None:
            of_samples = corrupted.unsqueeze(1).expand(start.shape)
            torch.sub(left.new_zeros(()) if bias is None else bias, of_samples, out=start)
        elif bias is not None:
            start.copy_(bias)
        else:
            self.layout.write_product(rows, left, right)
            return
        self.layout.add_product(rows, left, right)

    def sum(self, first: int, count: int) -> Float[Tensor, "batch_seq width"]:
        """Of the rows of some writers: added up in float32 at least, rounded once."""
        rows = self.layout.by_row(self.rows(first, count)).flatten(1, 3)
        wide = torch.promote_types(rows.dtype, torch.float32)
        return rows.sum(0, dtype=wide).to(rows.dtype)

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
            self.layout.by_row(self.values[:, :1])[0].copy_(base)
            gates = torch.nn.functional.pad(gates, (1, 0), value=1.0)
            gates[:, based:, 0] = 0
        rows = self.values[:, first : 1 + visible].flatten(2)
        torch.bmm(self.layout.by_block(gates), rows, out=out.flatten(2))

    def take_gradient(
        self,
        gates: Float[Tensor, "samples readers writers"],
        by_reader: Float[Tensor, "blocks readers tokens width"],
        first: int,
        of_gates: bool,
    ) -> Float[Tensor, "samples readers writers"] | None:
        """In the backward of a masked pass: adds what readers' gradients are to the writers from `first`
        on, and gives the gates' own gradient, if it is wanted; float32 sums at least."""
        self.gradients.add(gates, by_reader, first)
        if not of_gates:
            return None
        rows = self.rows(first, gates.shape[2])
        products = torch.bmm(by_reader.flatten(2), rows.flatten(2).mT)
        wide = torch.promote_types(products.dtype, torch.float32)
        return products.unflatten(0, (gates.shape[0], -1)).sum(1, dtype=wide).to(gates.dtype)
