"""Schedules of edge pruning: how the target sparsity rises, by how much it is missed, and how the learning
rates move."""

import math
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Number = TypeVar("Number", float, "Tensor")


def target_at(
    step: int, start: float, target: float, warmup_steps: int, kind: Literal["linear", "logarithmic"]
) -> float:
    """The target sparsity at a step. Logarithmic: the kept fraction falls by equal ratios."""
    if step >= warmup_steps:
        return target
    done = step / warmup_steps
    if kind == "linear":
        return start + (target - start) * done
    kept = (1 - done) * math.log(1 - start) + done * math.log(1 - target)
    return 1 - math.exp(kept)


def rate_at(step: int, steps: int, warmup_steps: int, kind: Literal["linear", "constant"]) -> float:
    """The share of the learning rate at a step: a linear rise over the warm-up, then a linear
    fall to 0 at `steps` (as published), or none."""
    if step < warmup_steps:
        return step / warmup_steps
    if kind == "constant":
        return 1.0
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))


def relative_error(sparsity: Number, target: float) -> Number:
    """e: 0 at the target, -1 where twice as many edges are kept."""
    return (sparsity - target) / (1 - target)
