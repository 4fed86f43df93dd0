"""Examples and batches: clean and corrupted prompts, where they are scored, and what is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from model_patches.lazy import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Example:
    """One pair of prompts of equal length, as token ids.

    positions: where logits are scored. answers: per position, the right token id; the right number
    for a model with one output; or, where a task's readout is ordered candidates, the index that
    right answers exceed (greater-than). distractors: per position, a wrong token id, or empty.
    """

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    positions: tuple[int, ...]
    answers: tuple[int, ...] | tuple[float, ...]
    distractors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.clean) == len(self.corrupted), "clean and corrupted prompts have one length"
        assert len(self.positions) == len(self.answers) > 0, "one answer per scored position"


@dataclass(frozen=True)
class Batch:
    """Padded on the right. `real` is False where there is padding; `scored` is False where an example
    has fewer positions than others; `weight` is 0 for an example that only fills a rank's share and
    counts for nothing."""

    clean: Int[Tensor, "batch seq"]
    corrupted: Int[Tensor, "batch seq"]
    real: Bool[Tensor, "batch seq"]
    positions: Int[Tensor, "batch scored"]
    scored: Bool[Tensor, "batch scored"]
    answers: Tensor  # int64 or float64 [batch, scored]
    distractors: Int[Tensor, "batch scored"] | None
    weight: Float[Tensor, " batch"]

    @classmethod
    def of(cls, examples: Sequence[Example], weight: Sequence[float], device: torch.device) -> Self:
        seq = max(len(example.clean) for example in examples)
        scored = max(len(example.positions) for example in examples)
        count = [len(example.positions) for example in examples]
        length = torch.tensor([len(example.clean) for example in examples])
        distracted = all(example.distractors for example in examples)
        batch = cls(
            torch.tensor([_pad(example.clean, seq) for example in examples]),
            torch.tensor([_pad(example.corrupted, seq) for example in examples]),
            torch.arange(seq) < length[:, None],
            torch.tensor([_pad(example.positions, scored) for example in examples]),
            torch.arange(scored) < torch.tensor(count)[:, None],
            torch.tensor([_pad(example.answers, scored) for example in examples]),
            torch.tensor([_pad(e.distractors, scored) for e in examples]) if distracted else None,
            torch.tensor(weight),
        )
        return batch.to(device)

    def to(self, device: torch.device) -> Self:
        return self._map(lambda tensor: tensor.to(device))

    def repeat(self, samples: int) -> Self:
        """The batch once per sample of gates, samples outermost."""
        if samples == 1:
            return self
        return self._map(lambda tensor: tensor.repeat(samples, *[1] * (tensor.ndim - 1)))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: v if v is None else change(v) for name, v in values.items()}
        return type(self)(**changed)

    def __len__(self) -> int:
        return self.clean.shape[0]


def _pad(values: Sequence[int | float], length: int) -> list[int | float]:
    """Repeats the last value: a real token id, never scored."""
    return [*values, *[values[-1]] * (length - len(values))]


def batch_order(count: int, size: int | None, seed: int, step: int) -> list[int]:
    """The examples of a training step: every example once per epoch, in an order keyed by
    (seed, epoch). A function of its arguments alone, so a resumed trial sees the same batches.

    `size=None`, or a size of at least `count`, is the whole set, in its own order. The last,
    incomplete batch of an epoch is filled from its beginning.
    """
    if size is None or size >= count:
        return list(range(count))
    per_epoch = -(-count // size)
    epoch, place = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (2**63 - 1))
    order = torch.randperm(count, generator=generator).tolist()
    return (order + order[:size])[place * size : (place + 1) * size]
