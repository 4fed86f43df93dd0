"""References of training examples: what a batch is compared with, and a cache of it by example.

The last bits of a run depend on what else is in the batch, and batches change from epoch to epoch. So with a
cache each example's references are made alone, whether they are kept or not: having them changes nothing.
The price is one small run an example where they are missing, instead of one run a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.states import WriterStates
from trainers.data import Batch


@dataclass(frozen=True)
class References:
    """What a batch is compared with: the full model's readout, and what cut edges carry: the corrupted
    run's writes, or means that serve every batch, or None for zeros."""

    full: Float[Tensor, "batch scored vocab"]
    corrupted: WriterStates | None

    @property
    def num_bytes(self) -> int:
        return self.full.nbytes + (0 if self.corrupted is None else self.corrupted.num_bytes)

    def kept(self, device: torch.device) -> "References":
        """A copy of its own."""

        def copy(tensor: Tensor) -> Tensor:
            return tensor.detach().to(device, copy=True)

        states = self.corrupted
        if states is not None:
            states = WriterStates(copy(states.writers), copy(states.residuals))
        return References(copy(self.full), states)


@dataclass
class ReferenceCache:
    """By training example, first come, first kept, within `budget` bytes of `device`. Nothing is thrown out:
    an epoch asks for every example once, so the oldest is wanted as soon as any other. Closed once something
    did not fit."""

    budget: int
    device: torch.device = torch.device("cpu")
    closed: bool = False
    _kept: dict[int, References] = field(default_factory=dict, repr=False)
    _bytes: int = 0
    _asked: int = 0
    _hits: int = 0

    def __contains__(self, example: int) -> bool:
        return example in self._kept

    def __getitem__(self, example: int) -> References:
        return self._kept[example]

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, example: int, references: References) -> None:
        self.closed = self.closed or self._bytes + references.num_bytes > self.budget
        if not self.closed:
            self._kept[example] = references.kept(self.device)
            self._bytes += references.num_bytes

    def told(self, asked: int, hits: int) -> None:
        self._asked, self._hits = self._asked + asked, self._hits + hits

    @property
    def hit_rate(self) -> float:
        """Of this rank, in this attempt."""
        return self._hits / max(1, self._asked)


def joined(
    each: Sequence[References], batch: Batch, device: torch.device
) -> tuple[Float[Tensor, "batch scored vocab"], WriterStates | None]:
    """Of a padded batch, from those of its examples alone. Zeros where an example has no token: attention is
    causal, so nothing that is scored sees them. Logits of positions that do not count repeat the last."""
    scored = batch.positions.shape[1]
    places = [torch.arange(scored).clamp(max=one.full.shape[1] - 1).to(one.full.device) for one in each]
    full = torch.cat([one.full[:, at].to(device) for one, at in zip(each, places, strict=True)])
    states = [one.corrupted for one in each if one.corrupted is not None]
    if not states:
        return full, None
    writers = _padded([one.writers for one in states], batch.clean.shape[1], device)
    return full, WriterStates(
        writers, _padded([one.residuals for one in states], batch.clean.shape[1], device)
    )


def _padded(
    each: Sequence[Float[Tensor, "rows 1 seq width"]], seq: int, device: torch.device
) -> Float[Tensor, "rows batch seq width"]:
    rows, _, _, width = each[0].shape
    out = torch.zeros(rows, len(each), seq, width, dtype=each[0].dtype, device=device)
    for number, one in enumerate(each):
        out[:, number, : one.shape[2]] = one[:, 0].to(device)
    return out
