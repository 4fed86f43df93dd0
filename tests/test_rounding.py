"""What float32 rounding can make of two equal divergences decides nothing: fronts, knees, bands, tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.pareto_table import pareto_table
from orchestrator.report.scenes import Curve
from orchestrator.statistics.budgets import faithful_from
from orchestrator.statistics.knee import knee
from orchestrator.statistics.pareto import best_within, front, leaders
from tests.run_folders import Runs, point, trial
from trainers.evaluation.faithfulness import ROUNDING

NOISE = 5e-10
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=12)


def curve_of(path: Path, *seeds: Sequence[tuple[int, float]]) -> Curve:
    """One method's curve: of each seed circuits of (edges, divergence)."""
    runs = Runs(path)
    for seed, circuits in enumerate(seeds):
        points = [point(number, edges, value) for number, (edges, value) in enumerate(circuits)]
        runs.trial(trial(f"t{seed}", seed, points))
    (group,) = Findings.of(Results.load(runs.folder)).scenes.values()
    return group[0]


def test_leaders_by_hand() -> None:
    """Each is compared with the last leader, so that many small steps are a large one."""
    assert leaders(np.array([1.0, 0.95, 0.91, 0.85, 0.86, 0.7]), 0.1).tolist() == [0, 3, 5]
    assert leaders(np.array([np.inf, np.nan, 2.0, 2.0, 1.0])).tolist() == [2, 4]
    assert leaders(np.array([])).tolist() == []


@given(STEPS, st.sampled_from([0.0, 1.0, 2.5]))
def test_whoever_is_passed_over_is_better_by_rounding_at_most(
    circuits: list[tuple[int, int]], rounding: float
) -> None:
    costs = np.array(circuits, dtype=float).reshape(-1, 2)
    chosen = costs[front(costs, rounding)]
    assert (np.diff(chosen[:, 1]) < -rounding).all(), "neighbours differ by more"
    for edges, value in circuits:
        assert any(x <= edges and y <= value + rounding for x, y in chosen)


@given(STEPS, st.randoms(use_true_random=False), st.sampled_from([0.0, 1.0, 2.5]))
def test_the_order_of_the_rows_does_not_matter(circuits: list, random, rounding: float) -> None:
    mixed = list(circuits)
    random.shuffle(mixed)
    one, other = (np.array(rows, dtype=float).reshape(-1, 2) for rows in (circuits, mixed))
    assert one[front(one, rounding)].tolist() == other[front(other, rounding)].tolist()


@given(STEPS, st.sampled_from([0.0, 1.0]))
def test_the_best_within_all_budgets_are_the_front(circuits: list, rounding: float) -> None:
    costs = np.array(circuits, dtype=float).reshape(-1, 2)
    best = best_within(costs[:, 0].astype(int), costs[:, 1], np.arange(6), rounding)
    assert list(dict.fromkeys(best[best >= 0].tolist())) == front(costs, rounding).tolist()


def test_a_front_knows_no_noise_and_every_real_difference(tmp_path: Path) -> None:
    noisy = curve_of(tmp_path / "noisy", [(3, 0.4), (5, 3 * NOISE), (9, NOISE), (20, 0.0)])
    assert noisy.rounding == pytest.approx(ROUNDING * 2)
    assert noisy.num_edges[noisy.front].tolist() == [3, 5]
    assert noisy.num_edges[noisy.seed_front(0)].tolist() == [3, 5]
    assert noisy.num_edges[noisy.choices(np.array([94]))[0]].tolist() == [5]
    assert noisy.best_of_seed(0, 94) == 1 and noisy.knee is None and noisy.seed_knees == []
    real = curve_of(tmp_path / "real", [(3, 0.4), (5, 3e-5), (9, 1e-5), (20, 0.0)])
    assert real.num_edges[real.front].tolist() == [3, 5, 9, 20]
    assert real.num_edges[real.choices(np.array([94]))[0]].tolist() == [20]
    assert real.knee is not None and real.num_edges[real.knee] == 5


def test_noise_neither_makes_a_knee_nor_moves_it() -> None:
    straight = [2.0, 1.0 - 1e-7, 0.0]
    assert knee([0, 1, 2], straight) is not None and knee([0, 1, 2], straight, 1e-6) is None
    twins = [10.0, 4.0, 2.0 - 1e-7, 0.0]
    exact, found = knee([0, 4, 6, 10], twins), knee([0, 4, 6, 10], twins, 1e-6)
    assert exact is not None and exact.index == 2
    assert found is not None and found.index == 1, "of equal distances the first"


def test_the_table_has_a_line_per_real_improvement(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(2):
        points = [point(0, 3, 0.4), point(1, 5, 0.1, 2 * NOISE), point(2, 9, 0.05, NOISE), point(3, 20, 0.0)]
        runs.trial(trial(f"t{seed}", seed, points))
    lines = pareto_table(Results.load(runs.folder)).splitlines()
    assert [line.split("%")[0].split()[-2] for line in lines if "%" in line] == ["3", "5"]


def test_faithfulness_beyond_the_tolerance_by_rounding_is_within() -> None:
    assert faithful_from([1, 2], [0.9 - ROUNDING / 2, 1.0], 0.1).edges == 1
    assert faithful_from([1, 2], [0.9 - 2 * ROUNDING, 1.0], 0.1).edges == 2
