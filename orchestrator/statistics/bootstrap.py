"""Bootstrap confidence intervals of a mean over seeds, over examples, and over both at once.

What is resampled is what the interval speaks about. Over seeds: what other seeds would have given on these
examples. Over examples: what other examples would have given for these circuits; all seeds and methods are
measured on the same examples, so one resample serves them all. Over both: the pigeonhole bootstrap (Owen
2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1), which resamples seeds and examples
independently of each other and weights a cell by the product of the two; it is somewhat too wide.

All are percentile intervals (Efron & Tibshirani 1993, chapter 13), as trainers/evaluation/intervals.py
has them for one circuit. Resamples of up to ENUMERATED seeds are not drawn but enumerated, each with its
probability, so nothing there is random; the others come from a generator with a fixed seed.

A percentile interval over few seeds is too narrow, and cannot reach beyond the seeds' extremes: it holds
the true mean of a normal distribution 50 % of the time with 2 seeds (where it is their range), 75 % with 3,
83 % with 5, 90 % with 10 (tests/test_statistics_bootstrap.py measures it). Reports give none of fewer than
FEWEST_SEEDS.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations_with_replacement
from math import factorial, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainers.evaluation.intervals import resampled_counts

LEVEL = 0.95
RESAMPLES = 2000
SEED = 0
ENUMERATED = 7  # seeds: 1,716 different resamples of them
FEWEST_SEEDS = 3
PAIRS = 200_000  # of resamples of two samples: so many are enumerated
BLOCK_BYTES = 2**26  # of example counts held at once as float64; as bytes all are held

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Ends of a confidence interval; NaN where what is resampled is not finite."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        return self.low > value or self.high < value


@dataclass(frozen=True)
class Draws:
    """Resamples of n seeds: how often each is drawn, [resamples, n], and their probabilities."""

    counts: Floats
    weights: Floats


@cache
def draws(seeds: int, stream: int = 0) -> Draws:
    """All resamples of up to ENUMERATED seeds, or RESAMPLES drawn ones; another `stream` draws others.

    A resample with counts c has the multinomial probability n! / Π c! / n^n. Raises ValueError without
    seeds.
    """
    if seeds < 1:
        raise ValueError("no seeds to resample")
    if seeds > ENUMERATED:
        generator = np.random.default_rng((SEED, stream))
        drawn = resampled_counts(generator, RESAMPLES, seeds)
        return Draws(drawn, np.full(RESAMPLES, 1 / RESAMPLES))
    chosen = np.array(list(combinations_with_replacement(range(seeds), seeds)))
    counts = (chosen[:, :, None] == np.arange(seeds)).sum(axis=1)
    ways = [factorial(seeds) / prod(map(factorial, row)) for row in counts.tolist()]
    return Draws(counts.astype(np.float64), np.array(ways) / float(seeds) ** seeds)


def percentile_interval(values: ArrayLike, weights: ArrayLike, level: float = LEVEL) -> Interval:
    """The interval that leaves at most (1 - level) / 2 of the weight on either side of it; infinities
    have their place. NaN if any value is."""
    values, weights = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if np.isnan(values).any():
        return Interval(np.nan, np.nan)
    order = np.argsort(values, kind="stable")
    tail = (1 - level) / 2 * weights.sum() * (1 + 1e-9)
    below, above = np.cumsum(weights[order]), np.cumsum(weights[order[::-1]])
    low = values[order[np.searchsorted(below, tail, side="right")]]
    high = values[order[::-1][np.searchsorted(above, tail, side="right")]]
    return Interval(float(low), float(high))


def over_seeds(sample: ArrayLike, other: ArrayLike | None = None, level: float = LEVEL) -> Interval:
    """Of the mean of `sample` [seeds], or of the difference of its mean and the mean of `other` [seeds],
    whose seeds are resampled on their own. NaN unless one of the two has more than one seed."""
    first, second = _means(sample, 0), None if other is None else _means(other, 1)
    if len(first[0]) == 1 and (second is None or len(second[0]) == 1):
        return Interval(np.nan, np.nan)
    if second is None:
        return percentile_interval(*first, level)
    if len(first[0]) * len(second[0]) <= PAIRS:
        difference = np.subtract.outer(first[0], second[0]).ravel()
        return percentile_interval(difference, np.outer(first[1], second[1]).ravel(), level)
    one, two = (_drawn(*means, stream) for stream, means in enumerate((first, second)))
    return percentile_interval(one - two, np.ones(RESAMPLES), level)


def median_over_seeds(values: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Ends of the interval of the median over seeds of `values` [seeds, columns], each [columns]; infinities
    have their place. A seed that has NaN in a column is left out there; NaN where fewer than FEWEST_SEEDS
    are left."""
    given = np.sort(np.asarray(values, dtype=np.float64), axis=0)  # NaN last
    low, high = np.full((2, given.shape[1]), np.nan)
    for column, number in enumerate((~np.isnan(given)).sum(axis=0).tolist()):
        if number >= FEWEST_SEEDS:
            middles, weights = _middles(number)
            medians = given[middles, column].mean(axis=1)
            ends = percentile_interval(medians, weights, level)
            low[column], high[column] = ends.low, ends.high
    return low, high


@cache
def _middles(seeds: int) -> tuple[NDArray[np.int64], Floats]:
    """Which two of so many sorted values are the middle ones of a resample, [pairs, 2] (one and the same for
    an odd number), and the probability of each pair, [pairs]."""
    resamples = draws(seeds)
    within = resamples.counts.cumsum(axis=1)
    places = [(within > middle).argmax(axis=1) for middle in ((seeds - 1) // 2, seeds // 2)]
    pairs, of = np.unique(np.column_stack(places), axis=0, return_inverse=True)
    weights = np.zeros(len(pairs))
    np.add.at(weights, of.ravel(), resamples.weights)
    return pairs.astype(np.int64), weights


def over_examples(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Of the mean of `values` [examples]; the same resamples for every array with as many examples."""
    means = resampled_means(np.asarray(values, dtype=np.float64)[:, None])[:, 0]
    return percentile_interval(means, np.ones(RESAMPLES), level)


def over_both(values: ArrayLike, other: ArrayLike | None = None, level: float = LEVEL) -> Interval:
    """Of the mean of `values` [seeds, examples], or of the difference of its mean and that of `other`
    [seeds, examples]: the same examples, other seeds. Seeds and examples are resampled independently."""
    groups = [np.asarray(one, dtype=np.float64) for one in (values, other) if one is not None]
    of_seeds = np.split(resampled_means(np.concatenate(groups).T), [len(groups[0])], axis=1)
    means = [drawn_seeds(group, stream) for stream, group in enumerate(of_seeds) if group.size]
    return percentile_interval(
        means[0] if len(means) == 1 else means[0] - means[1], np.ones(RESAMPLES), level
    )


def resampled_means(values: Floats) -> Floats:
    """Means of each column of `values` [examples, columns] over RESAMPLES resamples of the examples:
    [RESAMPLES, columns]. A column that is not finite has NaN means."""
    examples, columns = values.shape
    sound = np.isfinite(values).all(axis=0)
    usable = np.where(sound, values, 0.0)
    counts = _example_counts(examples)
    means = np.empty((RESAMPLES, columns))
    block = max(1, BLOCK_BYTES // (8 * examples))
    for start in range(0, RESAMPLES, block):
        some = slice(start, start + block)
        means[some] = counts[some].astype(np.float64) @ usable / examples
    means[:, ~sound] = np.nan
    return means


def median_over_examples(values: ArrayLike, chosen: ArrayLike) -> tuple[Floats, Floats]:
    """Ends of the interval over examples of a median over seeds, each [columns].

    `values` [circuits, examples], of the same examples; `chosen` [seeds, columns] says which circuit a seed
    has in a column, -1 for none. A resample of the examples is the same for all circuits: it moves their
    means, and the median over seeds of these is taken anew. NaN in a column where no seed has a circuit or
    the values of a chosen one are not finite.
    """
    means = resampled_means(np.asarray(values, dtype=np.float64).T)
    rows = np.asarray(chosen, dtype=np.int64)
    low, high = np.full((2, rows.shape[1]), np.nan)
    for column, own in enumerate(rows.T):
        if (own >= 0).any():
            ends = percentile_interval(np.median(means[:, own[own >= 0]], axis=1), np.ones(RESAMPLES))
            low[column], high[column] = ends.low, ends.high
    return low, high


def drawn_seeds(values: Floats, stream: int = 0) -> Floats:
    """Means over seeds of `values` [RESAMPLES, seeds], each row under a resample of the seeds of its own."""
    seeds = values.shape[1]
    counts = resampled_counts(np.random.default_rng((SEED, 2, stream)), RESAMPLES, seeds)
    return (values * counts).sum(axis=1) / seeds


@lru_cache(maxsize=1)  # all curves of a scene have the same examples
def _example_counts(examples: int) -> NDArray[np.uint8]:
    """How often each example is drawn, [RESAMPLES, examples]; no count comes near 256."""
    if examples < 1:
        raise ValueError("no examples to resample")
    generator = np.random.default_rng((SEED, 4))
    counts = np.empty((RESAMPLES, examples), dtype=np.uint8)
    block = max(1, BLOCK_BYTES // (8 * examples))
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        counts[start : start + rows] = resampled_counts(generator, rows, examples)
    return counts


def _means(sample: ArrayLike, stream: int) -> tuple[Floats, Floats]:
    """Means under every resample, with their probabilities."""
    values = np.asarray(sample, dtype=np.float64)
    resamples = draws(len(values), stream)
    if not np.isfinite(values).all():
        return np.full(len(resamples.weights), np.nan), resamples.weights
    return resamples.counts @ values / len(values), resamples.weights


def _drawn(means: Floats, weights: Floats, stream: int) -> Floats:
    """RESAMPLES of the means: as they are if they were drawn, else drawn by their probabilities."""
    if len(means) == RESAMPLES:
        return means
    generator = np.random.default_rng((SEED, 3, stream))
    return means[generator.choice(len(means), RESAMPLES, p=weights)]
