"""Bootstrap intervals over seeds, examples and both: brute force, closed forms, scipy."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.statistics.bootstrap import (
    ENUMERATED,
    RESAMPLES,
    Interval,
    draws,
    median_over_examples,
    median_over_seeds,
    over_both,
    over_examples,
    over_seeds,
    percentile_interval,
    resampled_means,
)

NUMBERS = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 3))


def brute(values: list[float], level: float = 0.95) -> Interval:
    """From all n^n resamples, one by one."""
    means = np.sort([np.mean(drawn) for drawn in product(values, repeat=len(values))])
    place = int(np.floor((1 - level) / 2 * len(means) + 1e-9))
    return Interval(means[place], means[len(means) - 1 - place])


@given(st.lists(NUMBERS, min_size=2, max_size=5))
@settings(deadline=None, max_examples=40)
def test_few_seeds_are_enumerated(values: list[float]) -> None:
    found, right = over_seeds(values), brute(values)
    assert (found.low, found.high) == pytest.approx((right.low, right.high))


@pytest.mark.parametrize("seeds", range(1, ENUMERATED + 1))
def test_a_resample_has_its_multinomial_probability(seeds: int) -> None:
    found = draws(seeds)
    assert (found.counts.sum(axis=1) == seeds).all()
    right = stats.multinomial(seeds, np.full(seeds, 1 / seeds)).pmf(found.counts)
    assert found.weights == pytest.approx(right) and found.weights.sum() == pytest.approx(1)
    assert len(np.unique(found.counts, axis=0)) == len(found.counts)


def test_with_two_or_three_seeds_the_interval_is_their_range() -> None:
    assert over_seeds([1, 5]) == Interval(1, 5)
    assert over_seeds([4, 1, 2.5]) == Interval(1, 4)


def test_one_seed_says_nothing() -> None:
    assert np.isnan(over_seeds([3.0]).low) and np.isnan(over_seeds([3.0], [4.0]).high)
    with pytest.raises(ValueError, match="no seeds"):
        draws(0)


@pytest.mark.parametrize("seeds, covered", [(2, 0.50), (3, 0.75), (5, 0.83), (10, 0.90)])
def test_how_often_the_mean_of_a_normal_is_in_it(seeds: int, covered: float) -> None:
    """What bootstrap.py says about few seeds."""
    sample = np.random.default_rng(3).normal(size=(2000, seeds))
    ends = [over_seeds(one) for one in sample]
    assert np.mean([one.low <= 0 <= one.high for one in ends]) == pytest.approx(covered, abs=0.03)


def test_many_seeds_against_scipy() -> None:
    sample = np.random.default_rng(4).exponential(size=30)
    found = over_seeds(sample)
    right = stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    error = sample.std() / 30**0.5
    assert (found.low, found.high) == pytest.approx((right.low, right.high), abs=0.12 * error)


@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_the_median_over_seeds_against_all_resamples(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(size=(seeds, 2))
    values[0, 1] = np.inf
    low, high = median_over_seeds(values)
    for column in range(2):
        medians = [np.median(drawn) for drawn in product(values[:, column], repeat=seeds)]
        right = percentile_interval(medians, np.ones(len(medians)))
        assert (low[column], high[column]) == pytest.approx((right.low, right.high))


def test_the_median_over_many_seeds_against_scipy() -> None:
    values = np.random.default_rng(0).normal(size=100)
    drawn = stats.bootstrap((values,), np.median, method="percentile", rng=np.random.default_rng(5))
    theirs = drawn.confidence_interval
    (low,), (high,) = median_over_seeds(values[:, None])
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_no_interval_of_the_median_below_three_seeds() -> None:
    low, high = median_over_seeds([[1.0, 1.0], [2.0, 2.0], [np.nan, 3.0]])
    assert np.isnan(low[0]) and np.isnan(high[0]) and (low[1], high[1]) == (1.0, 3.0)


def test_two_samples_against_brute_force() -> None:
    one, other = [0.3, 1.1, 2.0], [0.4, -0.6]
    found = over_seeds(one, other)
    means = [
        np.mean(left) - np.mean(right)
        for left in product(one, repeat=3)
        for right in product(other, repeat=2)
    ]
    ordered = np.sort(means)
    place = int(0.025 * len(ordered))
    assert (found.low, found.high) == pytest.approx((ordered[place], ordered[len(ordered) - 1 - place]))


@pytest.mark.parametrize("sizes", [(12, 20), (6, 25), (1, 9), (7, 7)])
def test_two_samples_against_scipy(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(6)
    one, other = generator.exponential(size=sizes[0]), generator.normal(size=sizes[1])
    found = over_seeds(one, other)
    means = [
        sample[generator.integers(0, len(sample), (40_000, len(sample)))].mean(axis=1)
        for sample in (one, other)
    ]
    low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
    error = (one.var() / sizes[0] + other.var() / sizes[1]) ** 0.5
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * error)


def test_the_samples_of_two_methods_are_resampled_independently() -> None:
    """If both had the same draws, the difference of a sample with itself would have no spread."""
    sample = np.random.default_rng(7).normal(size=15)
    found = over_seeds(sample, sample)
    assert found.high - found.low == pytest.approx(2 * 1.96 * (2 * sample.var() / 15) ** 0.5, rel=0.1)


def test_over_examples_against_scipy() -> None:
    values = np.random.default_rng(8).exponential(size=80)
    found = over_examples(values)
    right = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(
        (right.low, right.high), abs=0.12 * values.std() / 80**0.5
    )


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_both_at_once_is_either_one_where_only_that_varies() -> None:
    generator = np.random.default_rng(9)
    seeds, examples = generator.normal(size=12), generator.normal(size=50)
    only_seeds = np.repeat(seeds[:, None], 50, axis=1)
    only_examples = np.repeat(examples[None], 12, axis=0)
    assert width(over_both(only_seeds)) == pytest.approx(width(over_seeds(seeds)), rel=0.1)
    assert width(over_both(only_examples)) == pytest.approx(width(over_examples(examples)), rel=0.1)


def test_the_variances_of_seeds_and_examples_add_up() -> None:
    """Additive effects: the variance of the mean is var(seeds) / n + var(examples) / m."""
    generator = np.random.default_rng(10)
    seeds, examples = generator.normal(size=20), 3 * generator.normal(size=60)
    found = over_both(seeds[:, None] + examples)
    right = 2 * 1.96 * (seeds.var() / 20 + examples.var() / 60) ** 0.5
    assert width(found) == pytest.approx(right, rel=0.1)


def test_both_against_a_plain_loop() -> None:
    generator = np.random.default_rng(11)
    values = generator.exponential(size=(5, 30))
    means = []
    for _ in range(6000):
        seeds, examples = generator.integers(0, 5, 5), generator.integers(0, 30, 30)
        means.append(values[np.ix_(seeds, examples)].mean())
    low, high = np.quantile(means, (0.025, 0.975))
    found = over_both(values)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_examples_are_shared_by_the_two_methods() -> None:
    """What all seeds of both have in common cancels: hard examples do not widen a difference."""
    generator = np.random.default_rng(12)
    hard = 100 * generator.normal(size=40)
    one, other = hard + generator.normal(size=(6, 40)), hard + generator.normal(size=(4, 40))
    assert width(over_both(one, other)) < 3
    assert width(over_both(one)) > 30


def test_blocks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(13).normal(size=(4, 25))
    whole = over_both(values)
    over_examples(np.zeros(3))  # other examples: the counts of 25 are drawn anew
    monkeypatch.setattr("orchestrator.statistics.bootstrap.BLOCK_BYTES", 8 * 25 * 7)
    blocked = over_both(values)
    assert (blocked.low, blocked.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_no_examples_and_no_resamples() -> None:
    with pytest.raises(ValueError, match="no examples"):
        over_examples([])


def test_the_same_numbers_give_the_same_interval() -> None:
    values = np.random.default_rng(14).normal(size=(9, 25))
    assert over_both(values) == over_both(values.copy())
    assert over_seeds(values[:, 0]) == over_seeds(values[:, 0].copy())
    assert over_seeds(values[:, 0], values[:8, 1]) == over_seeds(values[:, 0], values[:8, 1])
    assert over_examples(values[0]) == over_examples(values[0].copy())


def test_what_is_not_finite_has_no_interval() -> None:
    for bad in (np.nan, np.inf):
        assert np.isnan(over_seeds([1.0, bad, 2.0]).low)
        assert np.isnan(over_seeds([1.0, 2.0], [bad, 0.0]).high)
        assert np.isnan(over_examples([1.0, bad]).low)
        assert np.isnan(over_both([[1.0, bad], [0.0, 1.0]]).low)


def test_weighted_percentiles() -> None:
    equal = np.ones(RESAMPLES)
    values = np.random.default_rng(15).permutation(RESAMPLES).astype(float)
    assert percentile_interval(values, equal) == Interval(50, RESAMPLES - 51)
    assert percentile_interval([3, 1, 2], [0.5, 0.024, 0.476]) == Interval(2, 3)
    assert percentile_interval([3, 1, 2], [0.5, 0.026, 0.474]) == Interval(1, 3)
    assert percentile_interval([1, np.inf], [0.5, 0.5]) == Interval(1, np.inf)


def test_a_median_over_seeds_on_other_examples_by_brute_force() -> None:
    """Each resample of the examples anew, with one loop; it is not the median of the seeds' intervals."""
    values = np.random.default_rng(6).exponential(size=(4, 25))
    chosen = np.array([[0, 0, -1], [1, 3, -1], [2, -1, -1]])
    counts = resampled_means(np.eye(25)) * 25
    low, high = median_over_examples(values, chosen)
    for column, rows in enumerate(([0, 1, 2], [0, 3])):
        medians = []
        for drawn in counts.round().astype(int):
            means = [np.repeat(values[row], drawn).mean() for row in rows]
            medians.append(float(np.median(means)))
        medians.sort()
        assert (low[column], high[column]) == pytest.approx((medians[50], medians[-51]), rel=1e-9)
    assert np.isnan([low[2], high[2]]).all(), "no seed has a circuit there"
    ends = [over_examples(values[row]) for row in range(3)]
    assert low[0] > np.median([one.low for one in ends]) and high[0] < np.median([one.high for one in ends])


def test_a_median_of_values_that_are_not_finite_has_no_interval() -> None:
    low, high = median_over_examples([[1.0, 2.0], [np.nan, 1.0]], [[0, 0], [0, 1]])
    assert np.isfinite([low[0], high[0]]).all() and np.isnan([low[1], high[1]]).all()
