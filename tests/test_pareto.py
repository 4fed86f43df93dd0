"""Fronts, hypervolume and seed bands against brute force, closed forms and cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.statistics.pareto import (
    bands,
    best_within,
    edge_budgets,
    front,
    hypervolume,
    log_kept,
    seed_choices,
    sparsest_within,
)

NAN = float("nan")
# Few different values, so that ties and duplicates are common.
GRID = st.integers(-1, 6).map(float)
COSTS = st.lists(st.tuples(GRID, GRID), max_size=12).map(lambda rows: np.array(rows).reshape(-1, 2))


def dominated(costs: np.ndarray, row: int) -> bool:
    """By the definition; of equal rows the later ones count as dominated."""
    here = costs[row]
    for other, there in enumerate(costs):
        if (there <= here).all() and ((there < here).any() or other < row):
            return True
    return False


@given(COSTS)
def test_front_is_what_nothing_dominates(costs: np.ndarray) -> None:
    expected = {row for row in range(len(costs)) if not dominated(costs, row)}
    found = front(costs)
    assert set(found.tolist()) == expected
    assert len(found) == len(expected)
    assert (np.diff(costs[found, 0]) > 0).all() and (np.diff(costs[found, 1]) < 0).all()


def test_front_of_nothing_and_of_what_is_not_a_number() -> None:
    assert front(np.empty((0, 2))).tolist() == []
    assert front(np.array([[NAN, 0], [0, NAN], [1, np.inf], [2, 2]])).tolist() == [3]


def volume(costs: np.ndarray, low: tuple[float, float], high: tuple[float, float]) -> float:
    """Of the rows' own front."""
    return hypervolume(costs[front(costs)], low, high)


@given(COSTS)
def test_hypervolume_counts_the_dominated_cells_of_the_box(costs: np.ndarray) -> None:
    cells = [(x + 0.5, y + 0.5) for x in range(4) for y in range(5)]
    hit = [any(x <= cx and y <= cy and x < 4 and y < 5 for x, y in costs) for cx, cy in cells]
    assert volume(costs, (0, 0), (4, 5)) == pytest.approx(sum(hit) / len(cells))


@given(COSTS, GRID, GRID)
def test_hypervolume_never_shrinks_with_another_circuit(costs: np.ndarray, x: float, y: float) -> None:
    more = np.concatenate((costs, [[x, y]]))
    assert volume(more, (0, 0), (4, 5)) >= volume(costs, (0, 0), (4, 5)) - 1e-12


def test_hypervolume_in_closed_form() -> None:
    assert hypervolume(np.array([[0.0, 0.0]]), (0, 0), (2, 3)) == 1
    assert hypervolume(np.array([[-9.0, -9.0]]), (0, 0), (2, 3)) == 1, "below the box counts as its edge"
    assert hypervolume(np.array([[0.0, 3.0], [2.5, 0.0]]), (0, 0), (2, 3)) == 0, "beyond the box is nothing"
    assert hypervolume(np.array([[0.0, 2.0], [1.0, 1.0]]), (0, 0), (2, 4)) == pytest.approx(5 / 8)
    assert hypervolume(np.empty((0, 2)), (0, 0), (2, 3)) == 0
    assert np.isnan(hypervolume(np.array([[0.0, 0.0]]), (0, 0), (2, 0))), "a box without area"
    assert np.isnan(hypervolume(np.array([[0.0, 0.0]]), (0, 0), (2, NAN)))


def test_what_validation_chose_counts_even_where_an_earlier_circuit_tests_better() -> None:
    """From x = 1 on validation chose the second: 1 · 3 + 1 · 1 of 8. Nothing known of one: the one before."""
    assert hypervolume(np.array([[0.0, 1.0], [1.0, 3.0]]), (0, 0), (2, 4)) == pytest.approx(4 / 8)
    assert hypervolume(np.array([[0.0, 1.0], [1.0, 9.0]]), (0, 0), (2, 4)) == pytest.approx(3 / 8)
    assert hypervolume(np.array([[0.0, 1.0], [1.0, NAN]]), (0, 0), (2, 4)) == pytest.approx(6 / 8)
    assert hypervolume(np.array([[0.0, NAN], [1.0, 1.0]]), (0, 0), (2, 4)) == pytest.approx(3 / 8)


def test_hypervolume_of_a_staircase_approaches_its_integral() -> None:
    x = np.linspace(0, 1, 2001)
    area = hypervolume(np.column_stack((x, (1 - x) ** 2)), (0, 0), (1, 1))
    assert area == pytest.approx(2 / 3, abs=1e-3)


def test_the_empty_circuit_is_put_at_one_edge_and_adds_no_hypervolume() -> None:
    assert log_kept([0, 1, 10, 100], 100).tolist() == [-2, -2, -1, 0]
    costs = np.column_stack((log_kept([0], 100), [2.0]))
    assert hypervolume(costs, (-2, 0), (0, 2.0)) == 0


def test_best_within_prefers_validation_then_fewer_edges_then_the_first() -> None:
    num_edges = np.array([50, 5, 10, 10, 20, 20, 1])
    validation = np.array([0.1, 0.9, 0.4, 0.3, 0.3, 0.05, NAN])
    budgets = np.array([1, 4, 5, 9, 10, 19, 20, 100])
    assert best_within(num_edges, validation, budgets).tolist() == [-1, -1, 1, 1, 3, 3, 5, 5]
    twins = best_within(np.array([4, 4]), np.array([0.2, 0.2]), np.array([4]))
    assert twins.tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 8), GRID), min_size=1, max_size=10))
def test_best_within_against_brute_force(circuits: list[tuple[int, float]]) -> None:
    num_edges = np.array([edges for edges, _ in circuits])
    validation = np.array([value for _, value in circuits])
    for budget in range(10):
        fits = [(v, e, i) for i, (e, v) in enumerate(circuits) if e <= budget]
        expected = min(fits)[2] if fits else -1
        assert best_within(num_edges, validation, np.array([budget])).tolist() == [expected]


def test_bands_by_hand() -> None:
    """Two circuits of seed 0, one of seeds 1 and 2; the test value of the circuit chosen on validation
    is told even where another circuit tests better."""
    num_edges = np.array([10, 20, 10, 40])
    validation = np.array([0.5, 0.4, 0.3, 0.1])
    test = np.array([0.6, 0.8, 0.2, 0.0])
    seeds = np.array([0, 0, 1, 2])
    budgets = np.array([5, 10, 20, 40])
    found = bands(test, seed_choices(num_edges, validation, seeds, budgets), budgets)
    assert found.budgets.tolist() == [10, 20, 40], "no seed has a circuit of 5 edges"
    assert found.num_seeds.tolist() == [2, 2, 3]
    assert found.median == pytest.approx([0.4, 0.5, 0.2])
    assert found.minimum == pytest.approx([0.2, 0.2, 0.0])
    assert found.maximum == pytest.approx([0.6, 0.8, 0.8])
    assert found.quartile_1 == pytest.approx([0.3, 0.35, 0.1])
    assert found.quartile_3 == pytest.approx([0.5, 0.65, 0.5])


def test_bands_do_not_hide_a_circuit_that_has_no_finite_test_divergence() -> None:
    ten, seeds = np.array([10, 10]), np.array([0, 1])
    choices = seed_choices(ten, np.array([0.1, 0.1]), seeds, ten[:1])
    found = bands(np.array([NAN, 1.0]), choices, ten[:1])
    assert found.num_seeds.tolist() == [2]
    assert found.minimum.tolist() == [1.0]
    assert found.maximum.tolist() == [np.inf] and found.median.tolist() == [np.inf]


def test_bands_of_nothing() -> None:
    none, no_value = np.array([], dtype=np.int64), np.array([], dtype=np.float64)
    two, three = np.array([1, 2]), np.array([1, 2, 3])
    nothing = seed_choices(none, no_value, none, two)
    assert bands(no_value, nothing, two).budgets.tolist() == []
    unsure = seed_choices(np.array([3]), np.array([NAN]), np.array([0]), three)
    unknown = bands(np.array([0.5]), unsure, three)
    assert unknown.budgets.tolist() == []


def test_edge_budgets_hold_the_ends_and_every_achieved_count() -> None:
    budgets = edge_budgets(1000, [0, 7, 123, 999])
    assert {1, 7, 123, 999, 1000} <= set(budgets.tolist())
    assert (np.diff(budgets) > 0).all() and budgets[0] == 1 and budgets[-1] == 1000
    assert 25 <= len(budgets) <= 40
    assert edge_budgets(1, [1]).tolist() == [1]


def test_sparsest_within_epsilon() -> None:
    num_edges = np.array([9, 7, 7, 5, 3])
    validation = np.array([0.0, 1e-4, 1e-5, 0.2, NAN])
    assert sparsest_within(num_edges, validation, 1e-3) == 2, "of 7 edges the more faithful one"
    assert sparsest_within(num_edges, validation, 0.5) == 3
    assert sparsest_within(num_edges, validation, -1.0) is None
    assert sparsest_within(num_edges[:1], np.array([1e-3]), 1e-3) == 0, "epsilon itself is within"
