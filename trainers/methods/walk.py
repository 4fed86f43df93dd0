"""Walk: the target sparsities that one training run visits, and how long it stays at each.

Most runs have one target. In path mode a run walks from dense to sparse, as along a regularisation path
(Friedman, Hastie & Tibshirani 2010, section 2.5): every target starts from the gates of the last, and its
hold ends in a circuit of its own. The steps that are left are shared equally among the targets that are
left, so what a hold does not need goes to the later, sparser ones.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainers.methods.schedules import rate_at, target_at

if TYPE_CHECKING:
    from trainers.methods.gate_training import GateTraining

# Two sparsities are alike when they differ by less than this part of the share that the target keeps.
ALIKE = 0.1


class Walk:
    """A run's holds so far: `entered` has the step at which each began. A penalty is one hold without a
    target. Every rank walks alike: what it is told is the same on all of them."""

    def __init__(self, method: "GateTraining") -> None:
        self.method = method
        self.entered = [0]
        self.over = False
        self._seen: list[tuple[float, float]] = []  # (divergence, sparsity) of the hold's last steps

    def wants(self, step: int) -> bool:
        """True at `path_points` equally spaced steps; the last step is the final circuit's."""
        points, steps = self.method.path_points, self.method.steps
        return step < steps - 1 and (step + 1) * points // steps > step * points // steps

    def target(self, step: int) -> float | None:
        """The target sparsity at a step that was made or comes next; it rises at the start of each hold."""
        method, hold = self.method, self._hold(step)
        if not method.targets:
            return None
        before = method.targets[hold - 1] if hold else method.start_sparsity
        since = step - self.entered[hold]
        return target_at(since, before, method.targets[hold], self._rise(hold), method.warmup)

    def rate(self, step: int) -> float:
        """The share of the learning rates: a rise at the start of the run; a fall over each hold."""
        method, hold = self.method, self._hold(step)
        warmup = method.lr_warmup_length if hold == 0 else 0
        return rate_at(step - self.entered[hold], self._length(hold), warmup, method.lr_decay)

    def ends(self, step: int, divergence: float, sparsity: float) -> bool:
        """Whether a hold ends with this step; `over` says whether the run does."""
        held = step + 1 - self.entered[-1]
        if self.method.settle_steps is not None:
            self._seen = [*self._seen, (divergence, sparsity)][-2 * self.method.settle_steps :]
        if held < self._length(len(self.entered) - 1) and not self._settled():
            return False
        self.over = len(self.entered) >= len(self.method.targets)
        if not self.over:
            self.entered.append(step + 1)
        self._seen = []
        return True

    def held(self, step: int) -> float | None:
        """The target of the hold that ended with this step, of those that are over."""
        return self.method.targets[self.entered.index(step + 1) - 1] if step + 1 in self.entered[1:] else None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the walk."""
        seen = torch.tensor(self._seen, dtype=torch.float64).view(-1, 2)
        over = torch.tensor(self.over)
        return {"walk.entered": torch.tensor(self.entered), "walk.seen": seen, "walk.over": over}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if "walk.entered" in state:
            self.entered = state["walk.entered"].tolist()
            self._seen = [(float(kl), float(sparsity)) for kl, sparsity in state["walk.seen"]]
            self.over = bool(state["walk.over"])

    def _hold(self, step: int) -> int:
        return max(hold for hold, first in enumerate(self.entered) if first <= step)

    def _length(self, hold: int) -> int:
        """Steps that a hold takes at most."""
        return -(-(self.method.steps - self.entered[hold]) // max(1, len(self.method.targets) - hold))

    def _rise(self, hold: int) -> int:
        """Steps over which a hold's target rises."""
        return round(self.method.warmup_length * self._length(hold) / self.method.steps)

    def _settled(self) -> bool:
        """The target is reached or passed, and over the last `settle_steps` the divergence was not below that
        over as many steps before, at the same sparsity. While sparsity rises, divergences of two
        steps cannot be compared; where it overshoots, it need not come back: multipliers unwind slowly."""
        window = self.method.settle_steps
        if window is None or len(self._seen) < 2 * window:
            return False
        target = self.method.targets[len(self.entered) - 1]
        alike = ALIKE * (1 - target)
        (before, sparsity_before), (last, sparsity) = (
            torch.tensor(part, dtype=torch.float64).mean(0).tolist()
            for part in (self._seen[:window], self._seen[window:])
        )
        reached = min(sparsity, sparsity_before) >= target - alike
        return reached and abs(sparsity - sparsity_before) <= alike and last >= before
