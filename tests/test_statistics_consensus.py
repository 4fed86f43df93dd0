"""Consensus and overlap of circuits against brute force over sets."""

from itertools import combinations

import numpy as np
import pytest

from orchestrator.statistics.consensus import (
    agreement,
    iou_by_chance,
    iou_matrix,
    mean_iou,
    times_kept,
)

Circuits = list[set[int]]


@pytest.fixture(params=range(5))
def circuits(request: pytest.FixtureRequest) -> Circuits:
    generator = np.random.default_rng(request.param)
    sizes = generator.integers(0, 20, size=7)
    return [set(generator.choice(24, size=size, replace=False).tolist()) for size in sizes]


def membership(circuits: Circuits, edges: int = 24) -> np.ndarray:
    kept = np.zeros((len(circuits), edges), dtype=bool)
    for row, circuit in enumerate(circuits):
        kept[row, sorted(circuit)] = True
    return kept


def iou(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


def test_times_kept_and_agreement_count_the_circuits(circuits: Circuits) -> None:
    times = [sum(edge in circuit for circuit in circuits) for edge in range(24)]
    assert times_kept(membership(circuits)).tolist() == times
    assert agreement(membership(circuits)).tolist() == [times.count(k) for k in range(1, 8)]


def test_iou_is_that_of_sets(circuits: Circuits) -> None:
    expected = [[iou(one, other) for other in circuits] for one in circuits]
    np.testing.assert_allclose(iou_matrix(membership(circuits)), expected, rtol=0, atol=1e-15)


def test_empty_circuits_agree_with_each_other_alone() -> None:
    kept = np.array([[False, False], [False, False], [True, False]])
    assert iou_matrix(kept).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert iou_matrix(np.zeros((0, 3), dtype=bool)).shape == (0, 0)
    assert agreement(np.zeros((2, 0), dtype=bool)).tolist() == [0, 0]


def test_mean_iou_is_over_pairs_of_different_circuits(circuits: Circuits) -> None:
    groups = np.array([0, 0, 1, 1, 1, 2, 0])
    means = mean_iou(iou_matrix(membership(circuits)), groups, 4)
    for first in range(4):
        for second in range(4):
            pairs = [
                iou(circuits[a], circuits[b])
                for a in np.flatnonzero(groups == first)
                for b in np.flatnonzero(groups == second)
                if a != b
            ]
            if pairs:
                assert means[first, second] == pytest.approx(np.mean(pairs), abs=1e-12)
            else:
                assert np.isnan(means[first, second])


@pytest.mark.parametrize(
    ("first", "second", "total"), [(2, 3, 6), (0, 2, 5), (5, 5, 5), (4, 3, 5), (0, 0, 4), (1, 1, 1)]
)
def test_iou_by_chance_is_the_mean_over_all_circuits(first: int, second: int, total: int) -> None:
    found = [
        iou(set(one), set(other))
        for one in combinations(range(total), first)
        for other in combinations(range(total), second)
    ]
    assert iou_by_chance(first, second, total) == pytest.approx(np.mean(found), abs=1e-12)


def test_iou_by_chance_of_large_circuits_nears_the_ratio_of_expectations() -> None:
    first, second, total = 5_000, 7_000, 70_651
    shared = first * second / total
    assert iou_by_chance(first, second, total) == pytest.approx(shared / (first + second - shared), rel=1e-3)
    assert iou_by_chance(total, total, total) == 1.0
    with pytest.raises(ValueError, match="6 and 2 edges in a graph of 5"):
        iou_by_chance(6, 2, 5)
