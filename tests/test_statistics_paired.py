"""Two methods on one scene: common budgets, the area between curves, pairing, intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.statistics.bootstrap import Interval, over_both, over_examples, over_seeds
from orchestrator.statistics.paired import (
    Sample,
    common_budgets,
    compare,
    difference_at,
    log_weights,
    same_everywhere,
    weighted_mean,
)
from orchestrator.statistics.pareto import best_within, dominated_shares, seed_choices
from orchestrator.statistics.permutation import sign_flip_test, split_test


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def sample(curves: list[list[float]], first_seed: int = 0, fixed: bool = False) -> Sample:
    values = np.array(curves, dtype=float)
    return Sample(np.arange(len(values)) + first_seed, values, fixed=fixed)


def test_budgets_begin_where_every_seed_has_a_circuit_and_end_with_the_shorter_curve() -> None:
    sizes = ints(5, 50, 9, 60), ints(7, 30, 200)
    seeds = ints(0, 0, 1, 1), ints(0, 0, 0)
    budgets = common_budgets(1000, sizes, seeds)
    assert budgets[0] == 9, "seed 1 of the first has nothing smaller"
    assert budgets[-1] == 60 and (np.diff(budgets) > 0).all()
    assert {9, 30, 50, 60} <= set(budgets.tolist()), "every achieved size is there"
    assert len(budgets) > 8, "and the logarithmic grid"


def test_methods_that_never_meet_have_no_common_budget() -> None:
    assert common_budgets(1000, (ints(5, 6), ints(100, 200)), (ints(0, 0), ints(0, 0))).size == 0
    one_size = common_budgets(94, (ints(12, 13), ints(13)), (ints(0, 1), ints(0)))
    assert one_size.tolist() == [13], "a size each is a budget"
    assert common_budgets(94, (ints(0), ints(0, 3)), (ints(0), ints(0, 0))).size == 0


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from([0.0, 0.1, 0.5, 1.0, np.nan]), st.integers(0, 2)),
        min_size=1,
        max_size=20,
    )
)
@settings(deadline=None)
def test_each_seed_has_its_best_circuit_within_a_budget(circuits: list[tuple[int, float, int]]) -> None:
    edges, validation, seeds = (np.array(column) for column in zip(*circuits, strict=True))
    budgets = np.arange(1, 31)
    rows = seed_choices(edges, validation, seeds, budgets)
    for seed, row in zip(np.unique(seeds), rows, strict=True):
        own = np.flatnonzero(seeds == seed)
        for budget, index in zip(budgets, row, strict=True):
            fits = [i for i in own if edges[i] <= budget and np.isfinite(validation[i])]
            right = min(fits, key=lambda i: (validation[i], edges[i], i), default=-1)
            assert index == right
    assert (best_within(edges, validation, budgets) >= -1).all()


def test_the_mean_over_budgets_is_the_area_between_the_curves() -> None:
    """Steps of 1 on [10, 100) and of 3 on [100, 1000]: their mean over the logarithm is 2, however dense
    the budgets are."""
    for budgets in (ints(10, 100, 1000), ints(10, 20, 50, 100, 300, 1000)):
        values = np.where(budgets < 100, 1.0, 3.0)
        result = compare(
            sample([values.tolist()]), sample([np.zeros(len(budgets)).tolist()]), log_weights(budgets)
        )
        assert result.mean == pytest.approx(2)
    assert log_weights(ints(7)).tolist() == [1]
    fine = np.unique(np.rint(np.geomspace(10, 100_000, 4000)).astype(int))
    assert np.log(fine) @ log_weights(fine) == pytest.approx((np.log(10) + np.log(100_000)) / 2, rel=1e-3)


def test_paired_seeds_cancel_what_they_share() -> None:
    """A difficulty common to both methods' seeds leaves the difference exact."""
    shared = np.array([0.0, 5.0, 1.0, 9.0, 2.0, 7.0])[:, None]
    one, other = shared + [[1.0, 2.0]], shared + [[1.5, 3.5]]
    weights = np.array([0.5, 0.5])
    result = compare(sample(one.tolist()), sample(other.tolist()), weights)
    assert result.paired and result.num_seeds == (6, 6) and result.differing == 6
    assert result.mean == pytest.approx(-1) and result.by_seed == pytest.approx(-np.ones(6))
    assert result.at_budgets == pytest.approx([-0.5, -1.5])
    assert (result.better, result.worse) == (1, 0)
    assert result.seeds is not None and result.seeds.low == pytest.approx(-1) == result.seeds.high
    assert result.significance is not None and result.significance.p == 2.0**-5
    apart = compare(sample(one.tolist()), sample(other.tolist(), first_seed=1), weights)
    assert not apart.paired and apart.by_seed.size == 0 and apart.mean == pytest.approx(-1)
    assert apart.significance == split_test(one @ weights, other @ weights)
    assert apart.seeds == over_seeds(one @ weights, other @ weights)
    assert apart.seeds is not None and apart.seeds.high > 0


def test_seeds_flip_around_a_method_without_seeds() -> None:
    weights = np.ones(1)
    fixed, seeded = sample([[1.0]], fixed=True), sample([[5.0], [6.0], [7.0]])
    result = compare(fixed, seeded, weights)
    assert not result.paired and result.num_seeds == (1, 3) and result.mean == pytest.approx(-5)
    assert result.significance == sign_flip_test([4.0, 5.0, 6.0]), "not one of n + 1 samples"
    np.testing.assert_allclose(result.by_seed, [-4.0, -5.0, -6.0])
    seven = compare(sample([[5.0 + seed] for seed in range(7)]), fixed, weights)
    assert seven.significance is not None and seven.significance.p == 2.0**-6
    assert result.seeds == over_seeds([1.0], [5.0, 6.0, 7.0])
    nothing = compare(fixed, sample([[2.0]], fixed=True), weights)
    assert nothing.significance is None and nothing.seeds is None, "no seeds to test or to resample"
    alone = compare(sample([[1.0]]), sample([[2.0]]), weights)
    assert alone.paired and alone.seeds is None
    assert alone.significance is not None and alone.significance.smallest == 1


def test_what_is_the_same_everywhere() -> None:
    one = sample([[1.0, 2.0], [3.0, 4.0]])
    assert same_everywhere(one, sample([[1.0, 2.0], [3.0, 4.0 + 1e-9]]), 1e-6)
    assert not same_everywhere(one, sample([[3.0, 4.0], [1.0, 2.0]])), "equal means, but not seed by seed"
    assert not same_everywhere(one, sample([[1.0, 2.0], [3.0, 4.0]], first_seed=5)), "no pairs to compare"
    fixed = sample([[1.0, 2.0]], fixed=True)
    assert same_everywhere(fixed, sample([[1.0, 2.0], [1.0, 2.0]])) and not same_everywhere(fixed, one)


def test_rounding_is_no_difference() -> None:
    one = sample([[1e-9], [2e-9], [1e-9], [3e-9], [1e-9], [2e-9]])
    other = sample([[0.0]] * 6)
    exact, rounded = (compare(one, other, np.ones(1), rounding) for rounding in (0.0, 1e-6))
    assert exact.significance is not None and exact.significance.p == 2.0**-5
    assert rounded.significance is not None and rounded.significance.p == 1
    assert (exact.worse, exact.differing) == (1, 6)
    assert (rounded.worse, rounded.better, rounded.differing) == (0, 0, 0)
    unpaired = compare(one, sample([[0.0]] * 6, first_seed=3), np.ones(1), 1e-6)
    assert unpaired.significance is not None and unpaired.significance.p == 1


def test_intervals_over_examples_and_both() -> None:
    generator = np.random.default_rng(1)
    hard = 10 * generator.normal(size=30)
    values = [hard + generator.normal(mean, 0.5, (4, 30)) for mean in (0, 1)]
    one, other = (Sample(np.arange(4), v.mean(axis=1, keepdims=True), v) for v in values)
    result = compare(one, other, np.ones(1))
    assert result.examples == over_examples(values[0].mean(axis=0) - values[1].mean(axis=0))
    assert result.both == over_both(values[0] - values[1])
    assert result.examples is not None and -1.5 < result.examples.low < result.examples.high < -0.5
    shifted = Sample(other.seeds + 1, other.divergence, other.examples)
    assert compare(one, shifted, np.ones(1)).both == over_both(values[0], values[1])
    lacking = Sample(other.seeds, other.divergence)
    assert compare(one, lacking, np.ones(1)).examples is None
    fixed = Sample(one.seeds[:1], one.divergence[:1], values[0][:1], fixed=True)
    both_fixed = compare(fixed, Sample(ints(0), other.divergence[:1], values[1][:1], True), np.ones(1))
    assert both_fixed.examples is not None and both_fixed.both is None


def test_at_a_single_budget() -> None:
    curves = [[0.0, 5.0], [1.0, 1.0], [1.0, 0.0]]
    one, other = sample([[1.0, 4.0], [2.0, 6.0], [1.0, 2.0]]), sample(curves)
    mean, ends = difference_at(one, other, 1)
    assert mean == pytest.approx(2) and ends == over_seeds([-1.0, 5.0, 2.0])
    mean, ends = difference_at(sample([[1.0, 4.0]]), sample([[0.0, 5.0]]), 0)
    assert (mean, ends) == (1.0, None)
    _, ends = difference_at(one, sample(curves, first_seed=5), 0)
    assert ends == over_seeds([1.0, 2.0, 1.0], [0.0, 1.0, 1.0])


def test_two_seeds_have_no_interval() -> None:
    """It would be their range, and hold the truth every other time."""
    pair, several = sample([[1.0], [2.0]]), sample([[5.0], [6.0], [7.0]])
    fixed = sample([[1.0]], fixed=True)
    for one, other in ((pair, pair), (pair, several), (fixed, pair), (sample([[1.0]]), several)):
        assert compare(one, other, np.ones(1)).seeds is None
        assert difference_at(one, other, 0)[1] is None
    assert compare(fixed, several, np.ones(1)).seeds is not None, "only the seeds of one are drawn"
    assert Interval(0.1, 0.2).excludes(0) and Interval(-0.2, -0.1).excludes(0)
    assert not Interval(-0.1, 0.2).excludes(0) and not Interval(0.0, 0.2).excludes(0)


def test_the_test_is_of_the_means_over_budgets() -> None:
    generator = np.random.default_rng(2)
    one, other = generator.normal(size=(7, 3)), generator.normal(0.5, 1, (7, 3))
    weights = np.array([0.2, 0.5, 0.3])
    result = compare(sample(one.tolist()), sample(other.tolist()), weights)
    assert result.significance == sign_flip_test((one - other) @ weights)


BUDGETS = st.lists(st.integers(1, 70_651), min_size=1, max_size=60, unique=True).map(
    lambda one: ints(*sorted(one))
)


@given(BUDGETS)
@settings(deadline=None)
def test_a_share_of_the_budgets_is_at_most_all_of_them(budgets: np.ndarray) -> None:
    weights = log_weights(budgets)
    flat = np.zeros((1, len(budgets)))
    result = compare(sample(flat.tolist()), sample((flat + 1).tolist()), weights)
    assert (result.better, result.worse) == (1.0, 0.0)
    shares = np.linspace(0, 1, len(budgets))
    assert 0 <= weighted_mean(shares, weights) <= 1
    assert weighted_mean(shares, weights) == pytest.approx(shares @ weights)
    volume = dominated_shares(np.log10(budgets / 70_651), flat, float(np.log10(1 / 70_651)), 0.0, np.ones(1))
    assert volume <= 1.0


def test_plain_sums_would_not_do() -> None:
    """The budgets of a real report, on which the sum of all weights is more than 1."""
    found = (log_weights(np.arange(1, n)) for n in range(3, 200))
    assert any(weights.sum() > 1 for weights in found)
