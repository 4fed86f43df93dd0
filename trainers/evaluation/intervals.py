"""Bootstrap confidence intervals over examples (Efron & Tibshirani 1993, percentile method).

A resample draws as many examples as there are, with replacement: the counts of the examples are
multinomial, and the means of all circuits and metrics under it are one matrix product. The same
counts serve every column, so differences and ratios of columns are resampled in pairs.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0  # of the resampling: it knows nothing of trials, so equal numbers of examples share their counts
BLOCK_BYTES = 2**26  # of counts held at once

Floats = NDArray[np.float64]


def resampled_means(values: ArrayLike, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Means of each column of `values` [examples, ...] under each resample: [resamples, ...].

    A column that holds a NaN or an infinity has NaN means. Memory: 64 MiB of counts at most, beside
    values and result in float64.
    """
    sample = np.asarray(values, dtype=np.float64)
    examples = sample.shape[0]
    if examples == 0:
        raise ValueError("no examples to resample")
    columns = sample.reshape(examples, -1)
    sound = np.isfinite(columns).all(0)
    columns = np.where(sound, columns, 0.0)
    draw = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    block = max(1, BLOCK_BYTES // (8 * examples))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        means[start : start + rows] = resampled_counts(draw, rows, examples) @ columns / examples
    means[:, ~sound] = np.nan
    return means.reshape(resamples, *sample.shape[1:])


def percentiles(means: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """The interval's two ends from resampled values [resamples, ...]; NaN where any of them is NaN."""
    rest = (1 - level) / 2
    low, high = np.quantile(np.asarray(means, dtype=np.float64), (rest, 1 - rest), axis=0)
    return low, high


def intervals(
    values: ArrayLike, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> tuple[Floats, Floats]:
    """The ends [...] of the confidence intervals of the means of `values` [examples, ...]."""
    return percentiles(resampled_means(values, resamples, seed), level)


def resampled_counts(draw: np.random.Generator, rows: int, examples: int) -> Floats:
    """How often each example is drawn: [rows, examples], each row multinomial and summing to `examples`."""
    drawn = draw.integers(0, examples, size=(rows, examples))
    drawn += np.arange(rows)[:, None] * examples
    return np.bincount(drawn.ravel(), minlength=rows * examples).reshape(rows, examples).astype(np.float64)
