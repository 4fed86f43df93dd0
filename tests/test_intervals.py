"""Bootstrap intervals: against scipy's, their coverage, and what resampling promises."""

import numpy as np
import pytest
from scipy import stats

from trainers.evaluation.intervals import intervals, percentiles, resampled_means


def skewed(examples: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=(examples, columns))


def test_the_intervals_are_scipys() -> None:
    values = skewed(60, 4, 1)
    low, high = intervals(values, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    error = values.std(0) / 60**0.5
    assert (np.abs(low - theirs.low) < 0.1 * error).all(), "resampling noise: 0.03 standard errors"
    assert (np.abs(high - theirs.high) < 0.1 * error).all()
    narrow, _ = intervals(values, level=0.5)
    assert (narrow > low).all(), "a lower level is a narrower interval"


@pytest.mark.parametrize(
    "name, mean", [("normal", 0.0), ("exponential", 1.0), ("coin", 0.3)], ids=lambda value: str(value)
)
def test_the_mean_lies_in_about_95_of_100_intervals(name: str, mean: float) -> None:
    draw, shape = np.random.default_rng(2), (200, 1500)
    values = {
        "normal": draw.normal(size=shape),
        "exponential": draw.exponential(size=shape),
        "coin": (draw.random(shape) < 0.3).astype(float),
    }[name]
    low, high = intervals(values)
    covered = ((low <= mean) & (mean <= high)).mean()
    assert 0.925 < covered < 0.965


def test_a_resample_is_multinomial() -> None:
    """Means of unit vectors are the counts themselves."""
    counts = resampled_means(np.eye(12), resamples=8000) * 12
    assert np.allclose(counts.sum(1), 12) and np.allclose(counts, counts.round())
    assert counts.mean(0) == pytest.approx(np.ones(12), abs=0.05)
    assert counts.var(0) == pytest.approx(np.full(12, 11 / 12), abs=0.08)
    assert np.cov(counts.T)[0, 1:] == pytest.approx(np.full(11, -1 / 12), abs=0.05)


def test_columns_are_resampled_in_pairs() -> None:
    """A constant difference has no spread, though each column has."""
    values = skewed(40, 1, 3)
    means = resampled_means(np.concatenate([values, values - 3], axis=1))
    low, high = percentiles(means[:, 0] - means[:, 1])
    assert low == pytest.approx(3) and high == pytest.approx(3)
    assert means[:, 0].std() > 0.05


def test_what_does_not_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = skewed(30, 6, 4)
    low, high = intervals(values)
    shaped = intervals(values.reshape(30, 2, 3))
    assert np.array_equal(shaped[0], low.reshape(2, 3)) and np.array_equal(shaped[1], high.reshape(2, 3))
    monkeypatch.setattr("trainers.evaluation.intervals.BLOCK_BYTES", 8 * 30 * 7)
    assert np.allclose(intervals(values), (low, high), rtol=1e-14), "seven resamples at a time"
    assert not np.allclose(intervals(values, seed=1)[0], low)


def test_edges() -> None:
    assert intervals(np.array([[2.5]])) == (2.5, 2.5), "one example has no spread"
    values = np.array([[1.0, np.nan, np.inf], [2.0, 1.0, 1.0], [4.0, 1.0, 1.0]])
    low, high = intervals(values)
    assert 1 <= low[0] < high[0] <= 4
    assert np.isnan([low[1:], high[1:]]).all(), "what is not finite has no interval"
    with pytest.raises(ValueError, match="no examples"):
        intervals(np.empty((0, 3)))
