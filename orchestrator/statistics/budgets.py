"""From how many edges on is a curve faithful?

A curve is faithful from a budget on when its normalised faithfulness f (MIB, Mueller et al. 2025: 0 is the
empty circuit, 1 the full model) is within a tolerance of 1 there and at all larger evaluated budgets.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from trainers.evaluation.faithfulness import ROUNDING

TOLERANCES = (0.10, 0.05, 0.01)


@dataclass(frozen=True)
class FaithfulFrom:
    """`edges` is the smallest such budget, None unless `state` is reached or everywhere.

    reached: there is one, and the budget evaluated before it is not within. everywhere: all evaluated
    budgets are within, so the true answer is at most `edges`, the smallest. never: the largest evaluated
    budget is not within. not evaluated: no budget was, or f is defined at none.
    """

    state: Literal["reached", "everywhere", "never", "not evaluated"]
    edges: int | None = None


def faithful_from(budgets: ArrayLike, f: ArrayLike, tolerance: float) -> FaithfulFrom:
    """Of one curve: `budgets` [n] in edges and upwards, `f` [n] at each.

    An f beyond the tolerance by no more than float32 rounding is within it. An f that is not finite is not,
    unless none is finite: then it is undefined (full model and empty circuit agree) or was not measured.
    """
    sizes, values = np.asarray(budgets, dtype=np.int64), np.asarray(f, dtype=np.float64)
    if not np.isfinite(values).any():
        return FaithfulFrom("not evaluated")
    within = np.isfinite(values) & (np.abs(1 - values) <= tolerance + ROUNDING)
    outside = np.flatnonzero(~within)
    if not outside.size:
        return FaithfulFrom("everywhere", int(sizes[0]))
    if outside[-1] == len(sizes) - 1:
        return FaithfulFrom("never")
    return FaithfulFrom("reached", int(sizes[outside[-1] + 1]))
