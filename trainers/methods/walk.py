"""Walk: path mode's schedule. One run holds each target in turn, from dense to sparse."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainers.methods.schedules import target_at

WINDOW = 10


class Walk:
    def __init__(self, targets: Sequence[float], start: float, steps: int, ramp: float, settle: float, warm: int) -> None:
        self.targets, self.start, self.steps, self.ramp, self.settle, self.warm = targets, start, steps, ramp, settle, warm
        self.rung, self.entered = 0, 0
        self.seen: list[tuple[float, float]] = []

    @property
    def over(self) -> bool:
        return self.rung == len(self.targets)

    def length(self) -> int:
        """Steps that the rung may take at most."""
        return -(-(self.steps - self.entered) // (len(self.targets) - self.rung))

    def target(self, step: int) -> float:
        before = self.targets[self.rung - 1] if self.rung else self.start
        return target_at(step - self.entered, before, self.targets[self.rung], round(self.ramp * self.length()), "logarithmic")

    def rate(self, step: int) -> float:
        return min(1.0, step / self.warm) if self.warm else 1.0

    def observe(self, step: int, divergence: float, sparsity: float) -> bool:
        self.seen.append((divergence, sparsity))
        held = step + 1 - self.entered
        if held < self.length() and not self._settled(held):
            return False
        self.rung, self.entered, self.seen = self.rung + 1, step + 1, []
        return True

    def _settled(self, held: int) -> bool:
        ramp = round(self.ramp * self.length())
        if self.settle <= 0 or held < ramp + 2 * WINDOW:
            return False
        last = torch.tensor(self.seen[-WINDOW:], dtype=torch.float64).mean(0)
        before = torch.tensor(self.seen[-2 * WINDOW : -WINDOW], dtype=torch.float64).mean(0)
        reached = last[1] >= self.targets[self.rung] - 0.1 * (1 - self.targets[self.rung])
        return bool(reached and last[0] >= (1 - self.settle) * before[0])

    def state(self) -> dict[str, Tensor]:
        return {"walk": torch.tensor([self.rung, self.entered]), "walk.seen": torch.tensor(self.seen, dtype=torch.float64).view(-1, 2)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if "walk" in state:
            self.rung, self.entered = state["walk"].tolist()
            self.seen = [tuple(row) for row in state["walk.seen"].tolist()]
