"""Layout: how the tokens of a pass lie in a buffer."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

NARROW = 128  # below this width a block is a whole sample


@dataclass(frozen=True)
class Layout:
    """How the tokens of a pass lie in a buffer [blocks, rows, tokens, width]: the samples of gates, each
    with all examples, one after another.

    A block is one token: all rows of a token fit a core's cache, and rows that lie megabytes apart do
    not (benchmarks/LOG.md). Where the residual stream is narrow, products by token are too small to pay,
    and a block is a whole sample.
    """

    samples: int
    batch: int
    seq: int
    width: int
    # The tokens whose logits are wanted, ascending, among samples × batch × seq, where they are few; None is
    # all of them. See `WriterStream` for what is computed at these alone.
    scored: Int[Tensor, " scored"] | None = None

    @classmethod
    def of(
        cls, samples: int, tokens: Int[Tensor, "batch seq"], positions: Tensor | None, width: int
    ) -> "Layout":
        """Of a pass over `tokens` once per sample of gates; positions [batch, scored] are those wanted."""
        batch, seq = tokens.shape
        assert positions is None or positions.numel(), "logits are wanted at one position at least"
        scored = None
        if positions is not None and 2 * positions.shape[1] <= seq:  # memory of their own pays for few
            rows = torch.arange(samples * batch, device=positions.device).unsqueeze(1)
            scored = (rows * seq + positions.repeat(samples, 1)).unique()
        return cls(samples, batch, seq, width, scored)

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

    def shape(self, rows: int) -> tuple[int, int, int, int]:
        return self.blocks, rows, self.tokens, self.width

    def by_row(
        self, buffer: Float[Tensor, "blocks rows tokens size"]
    ) -> Float[Tensor, "rows samples batch seq size"]:
        """A view of the buffer."""
        size = buffer.shape[-1]
        if self.tokens == 1:
            return buffer.view(self.samples, self.batch, self.seq, -1, size).permute(3, 0, 1, 2, 4)
        return buffer.view(self.samples, -1, self.batch, self.seq, size).transpose(0, 1)

    def read(self, buffer: Float[Tensor, "blocks rows tokens size"]) -> Float[Tensor, "rows batch_seq size"]:
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

    def add_product(
        self,
        buffer: Float[Tensor, "blocks rows tokens width"],
        left: Float[Tensor, "rows batch_seq inner"],
        right: Float[Tensor, "rows inner width"],
    ) -> None:
        """Adds left · right, row by row, to the buffer."""
        target = self.by_row(buffer)
        if self.flat:
            target.flatten(1, 3).baddbmm_(left, right)
        else:
            target += torch.bmm(left, right).view(target.shape)

    @property
    def of_scored(self) -> "Layout":
        """The scored tokens as a pass of their own: every token an example. All samples have as many."""
        assert self.scored is not None, "some tokens are scored"
        return Layout(self.samples, len(self.scored) // self.samples, 1, self.width)

    def take(
        self, buffer: Float[Tensor, "blocks rows tokens size"]
    ) -> Float[Tensor, "scored_blocks rows scored_tokens size"]:
        """A copy of the scored tokens' rows, as `of_scored` lays them out."""
        taken, to = buffer.transpose(1, 2)[self._places], self.of_scored
        return taken.view(to.blocks, to.tokens, *taken.shape[1:]).transpose(1, 2)

    def put(
        self,
        buffer: Float[Tensor, "blocks rows tokens size"],
        values: Float[Tensor, "scored_blocks rows scored_tokens size"],
    ) -> None:
        """Overwrites the scored tokens' rows."""
        buffer.transpose(1, 2)[self._places] = values.transpose(1, 2).flatten(0, 1)

    def of_run(
        self, values: Float[Tensor, "rows batch seq width"]
    ) -> Float[Tensor, "rows scored_of_a_sample 1 width"]:
        """A run's states at the scored tokens; their batch and seq may be 1."""
        assert self.scored is not None, "some tokens are scored"
        batch, seq = values.shape[1:3]
        tokens = self.scored[: self.of_scored.batch]
        return values[:, tokens // self.seq * (batch > 1), tokens % self.seq * (seq > 1)].unsqueeze(2)

    @property
    def _places(self) -> tuple[Tensor, Tensor]:
        """Of the scored tokens: their blocks, and where in these they are."""
        assert self.scored is not None, "some tokens are scored"
        return self.scored // self.tokens, self.scored % self.tokens

    def by_block(
        self, gates: Float[Tensor, "samples readers writers"]
    ) -> Float[Tensor, "blocks readers writers"]:
        """Each block's gates: one matrix for all blocks where there is one sample."""
        share = self.blocks // self.samples
        return gates.unsqueeze(1).expand(-1, share, -1, -1).reshape(self.blocks, *gates.shape[1:])


class Kept:
    """Memory that is kept from pass to pass, and grows: new memory has to be cleared by the system first."""

    def __init__(self) -> None:
        self._flat = torch.empty(0)

    def take(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor with `like`'s dtype and device and any values, in the memory of the one before."""
        size, same = torch.Size(shape).numel(), (self._flat.dtype, self._flat.device)
        if self._flat.numel() < size or same != (like.dtype, like.device):
            self._flat = torch.empty(0)  # let go of the old first
            self._flat = like.new_empty(size)
        return self._flat[:size].view(shape)
