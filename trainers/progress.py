"""Progress: what a running trial tells the outside world."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self


@dataclass(frozen=True)
class Progress:
    """One line of progress.jsonl, one report to Ray Tune, one MLflow batch.

    `values`: kl (or the task's divergence), sparsity, target_sparsity, multipliers, learning
    rates, step_seconds ...; floats only.
    """

    step: int
    total: int
    values: dict[str, float] = field(default_factory=dict)
    phase: str = "train"  # load, train, evaluate, done
    warnings: Sequence[str] = ()  # for whoever watches; the result holds them too

    def timed(self, step_seconds: float) -> Self:
        """With the time per step since the last report."""
        return replace(self, values=self.values | {"step_seconds": step_seconds})
