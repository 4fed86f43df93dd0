"""CPR and CMD: areas of the faithfulness curve over edge budgets (MIB, Mueller et al. 2025, section 3).

f(k) is the normalised faithfulness of the circuit of the ⌊k · edges⌋ highest-scoring edges, k in the
grid below. CPR is the area under f, CMD the area between f and 1, both by trapezoids between the grid's
points, as MIB's evaluation computes them: nothing is added below k = 0.001, and k enters as it is asked
for, not as rounded to whole edges. The log variants take ln k for k. The areas are not divided by the
grid's width: f = 1 throughout has CPR 0.999 and log CPR ln 1000 = 6.91, and CMD 0 on both.

MIB also cuts edges on no path from input to output before it evaluates. Under interchange ablation
this changes no output; under other ablations it can, and our circuits are evaluated as they are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIB_GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
AREAS = ("cpr", "cmd", "cpr_log", "cmd_log")

Measured = TypeVar("Measured")


def mib_budgets(num_edges_total: int) -> list[int]:
    """Edges kept at each k of the grid, rounded down as MIB does: 0 where a small graph has no such
    share, which stands for the empty circuit."""
    return [int(share * num_edges_total) for share in MIB_GRID]


def on_grid(
    by_budget: Mapping[int, Measured], num_edges_total: int, empty: Measured, full: Measured
) -> list[Measured] | None:
    """What was measured at each k of the grid, by number of edges; None when a budget is missing.

    The empty circuit stands for a budget of 0, and for all edges the full model, unless they were
    measured themselves.
    """
    known = {0: empty, num_edges_total: full} | dict(by_budget)
    budgets = mib_budgets(num_edges_total)
    return [known[budget] for budget in budgets] if all(budget in known for budget in budgets) else None


def areas(curve: ArrayLike, grid: Sequence[float] = MIB_GRID) -> dict[str, NDArray[np.float64]]:
    """CPR, CMD and their log variants of faithfulness values [..., grid]: each [...], by name in AREAS."""
    f = np.asarray(curve, dtype=np.float64)
    if f.shape[-1] != len(grid):
        raise ValueError(f"{f.shape[-1]} values for a grid of {len(grid)}")
    linear, logarithmic = np.asarray(grid), np.asarray([math.log(share) for share in grid])
    gap = np.abs(1 - f)
    return {
        "cpr": _trapezoids(linear, f),
        "cmd": _trapezoids(linear, gap),
        "cpr_log": _trapezoids(logarithmic, f),
        "cmd_log": _trapezoids(logarithmic, gap),
    }


def _trapezoids(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2).sum(-1)
