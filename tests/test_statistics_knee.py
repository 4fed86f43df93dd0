"""The knee of a front, and many hypervolumes at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.statistics.knee import knee
from orchestrator.statistics.pareto import dominated_shares


def test_the_knee_of_a_hyperbola() -> None:
    """y = 1 / x on [1/a, a]: farthest below its chord, which has slope -1, at x = 1."""
    x = np.geomspace(1 / 8, 8, 301)
    found = knee(x, 1 / x)
    assert found is not None and x[found.index] == pytest.approx(1, rel=0.02)
    assert found.distance == pytest.approx(1 - 2 * (1 - 1 / 8) / (8 - 1 / 8), abs=1e-3)


def test_the_knee_by_hand() -> None:
    found = knee([0, 1, 2, 4], [8, 3, 2, 0])
    assert found is not None and found.index == 1
    assert found.distance == pytest.approx(1 - 1 / 4 - 3 / 8)


@pytest.mark.parametrize(
    "x, y",
    [([], []), ([1], [1]), ([0, 1], [1, 0]), ([0, 1, 2], [2, 1, 0]), ([0, 1, 2], [2, 1.9, 0])],
    ids=["nothing", "one", "two", "straight", "bulging"],
)
def test_fronts_without_a_knee(x: list[float], y: list[float]) -> None:
    assert knee(x, y) is None


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(-5, 5))
def test_the_scale_of_the_axes_does_not_move_it(across: float, down: float, shift: float) -> None:
    x, y = np.array([0.0, 0.7, 1.0, 2.0, 3.0]), np.array([5.0, 2.0, 1.6, 1.0, 0.5])
    here, there = knee(x, y), knee(across * x + shift, down * y - shift)
    assert here is not None and there is not None
    assert here.index == there.index and here.distance == pytest.approx(there.distance)


COSTS = st.lists(st.tuples(st.floats(-3, 0), st.floats(-0.5, 2)), min_size=1, max_size=12)


@given(st.lists(COSTS, min_size=1, max_size=4), st.floats(0.1, 1.5))
def test_many_hypervolumes_at_once_are_the_single_ones(many: list[list], top: float) -> None:
    x = np.sort(np.array([cost[0] for cost in many[0]]))
    rows = [np.resize([cost[1] for cost in costs], len(x)) for costs in many]
    found = dominated_shares(x, np.array(rows), -2.5, 0.0, np.full(len(rows), top))
    right = [counted(x, row, top) for row in rows]
    assert found == pytest.approx(right, abs=1e-12)


def counted(x: np.ndarray, y: np.ndarray, top: float) -> float:
    """Step by step, in the box [-2.5, 0] x [0, top]."""
    area, ends = 0.0, [*x[1:].tolist(), 0.0]
    for start, end, value in zip(x.tolist(), ends, y.tolist(), strict=True):
        area += (max(end, -2.5) - max(start, -2.5)) * max(0.0, top - max(value, 0.0))
    return area / (2.5 * top)


def test_what_is_not_finite_dominates_nothing() -> None:
    x, y = np.array([-2.0, -1.0]), np.array([[np.nan, 0.5], [np.inf, 0.5], [0.5, np.nan]])
    shares = dominated_shares(x, y, -2.0, 0.0, np.ones(3))
    assert shares == pytest.approx([0.25, 0.25, 0.5])
    assert np.isnan(dominated_shares(x, y, -2.0, 0.0, np.array([np.nan, np.inf, 0.0]))).all()
