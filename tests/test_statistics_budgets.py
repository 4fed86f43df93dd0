"""From how many edges on a curve is faithful."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.statistics.budgets import TOLERANCES, FaithfulFrom, faithful_from

NAN = float("nan")


@pytest.mark.parametrize(
    "f, right",
    [
        ([0.2, 0.93, 0.97, 1.0], FaithfulFrom("reached", 20)),
        ([0.2, 0.93, 0.5, 1.0], FaithfulFrom("reached", 80)),
        ([0.95, 0.93, 1.08, 1.0], FaithfulFrom("everywhere", 10)),
        ([0.95, 0.93, 1.2, 1.0], FaithfulFrom("reached", 80)),
        ([0.95, 0.99, 1.0, 0.8], FaithfulFrom("never")),
        ([0.1, 0.9, 0.95, 1.1], FaithfulFrom("reached", 20)),
        ([NAN, NAN, NAN, NAN], FaithfulFrom("not evaluated")),
        ([0.95, NAN, 0.95, 1.0], FaithfulFrom("reached", 40)),
        ([0.95, 0.95, 0.95, NAN], FaithfulFrom("never")),
        ([0.95, 0.95, np.inf, 1.0], FaithfulFrom("reached", 80)),
    ],
    ids=str,
)
def test_by_hand(f: list[float], right: FaithfulFrom) -> None:
    assert faithful_from([10, 20, 40, 80], f, 0.10) == right


def test_nothing_evaluated() -> None:
    assert faithful_from([], [], 0.05) == FaithfulFrom("not evaluated")


VALUES = st.lists(
    st.sampled_from([0.0, 0.89, 0.9, 0.95, 0.991, 1.0, 1.05, 1.11, NAN]), min_size=1, max_size=9
)


@given(VALUES, st.sampled_from(TOLERANCES))
def test_against_the_definition(f: list[float], tolerance: float) -> None:
    """The smallest budget such that it and all larger ones are within the tolerance."""
    budgets = [2 * (place + 1) for place in range(len(f))]
    found = faithful_from(budgets, f, tolerance)
    within = [value == value and abs(1 - value) <= tolerance + 1e-9 for value in f]
    starts = [budget for place, budget in enumerate(budgets) if all(within[place:])]
    if all(value != value for value in f):
        assert found.state == "not evaluated"
    elif not starts:
        assert found == FaithfulFrom("never")
    else:
        assert found.edges == min(starts)
        assert (found.state == "everywhere") == all(within)


@given(VALUES)
def test_a_stricter_tolerance_takes_at_least_as_many_edges(f: list[float]) -> None:
    edges = [faithful_from(range(1, len(f) + 1), f, tolerance).edges or 100 for tolerance in TOLERANCES]
    assert edges == sorted(edges)
