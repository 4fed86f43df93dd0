"""Exact permutation tests of a difference of means between seeds, and Holm's correction.

Fisher 1935, "The Design of Experiments", chapter 3; Ernst 2004, "Permutation methods: a basis for exact
inference", Statistical Science 19. All p-values are two-sided: the share of arrangements of the seeds, the
observed one included, whose mean difference is at least as far from 0 as the observed one.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALPHA = 0.05
EXACT_PAIRS = 40  # seeds: 2 x 2^20 partial sums
EXACT_SPLITS = 200_000
RANDOM_SPLITS = 100_000
SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Significance:
    """`p`, the smallest p that so many seeds can give at all, and whether every arrangement was counted;
    else arrangements were drawn (Phipson & Smyth 2010: the observed one counts as one of them)."""

    p: float
    smallest: float
    exact: bool = True

    @property
    def can_tell(self) -> bool:
        """False with too few seeds: whatever they had shown, p could not have been below ALPHA."""
        return self.smallest <= ALPHA


def sign_flip_test(differences: ArrayLike) -> Significance:
    """Of paired differences [seeds]: under the null hypothesis each is as likely to have the other sign.

    A seed whose difference is 0 looks the same either way, so n is the number of the others, and the
    smallest p is 2^(1 - n): 6 seeds for p <= 0.05. 1 when all differences are 0.
    """
    given = np.asarray(differences, dtype=np.float64)
    sizes = np.abs(given[given != 0])
    smallest = 2.0 ** (1 - len(sizes)) if len(sizes) else 1.0
    far = abs(given.sum()) - _rounding(sizes)
    if far <= 0:
        return Significance(1.0, smallest, True)
    if len(sizes) > EXACT_PAIRS:
        generator = np.random.default_rng(SEED)
        signs = generator.integers(0, 2, (RANDOM_SPLITS, len(sizes)), dtype=np.int8)
        sums = (2.0 * signs - 1.0) @ sizes
        return Significance(_counted(np.abs(sums) >= far), smallest, False)
    left, right = (_signed_sums(half) for half in np.array_split(sizes, 2))
    right = np.sort(right)
    above = len(right) - np.searchsorted(right, far - left, side="left")
    below = np.searchsorted(right, -far - left, side="right")
    return Significance(float((above.sum() + below.sum()) / 2.0 ** len(sizes)), smallest, True)


def split_test(one: ArrayLike, other: ArrayLike) -> Significance:
    """Of two unpaired samples [seeds]: under the null hypothesis every split of all seeds into groups of
    these sizes is as likely.

    The smallest p is 1 / C(n + m, n), and twice that for groups of one size, where exchanging the groups
    gives the same distance.
    """
    first, second = (np.asarray(sample, dtype=np.float64) for sample in (one, other))
    n, m = len(first), len(second)
    splits = comb(n + m, n)
    smallest = (2 if n == m else 1) / splits
    pool = np.concatenate((first, second))
    pool = pool - pool.mean()  # the statistic is the same, its rounding smaller
    far = abs(first.mean() - second.mean()) - _rounding(pool)
    if far <= 0:
        return Significance(1.0, smallest, True)
    # The mean difference from the first group's sum, once the pool sums to 0.
    scale = 1 / n + 1 / m
    if splits <= EXACT_SPLITS:
        members = np.fromiter(
            (place for chosen in combinations(range(n + m), n) for place in chosen), np.int64, splits * n
        )
        sums = pool[members.reshape(splits, n)].sum(axis=1)
        return Significance(float((np.abs(sums) * scale >= far).mean()), smallest, True)
    generator = np.random.default_rng(SEED)
    shuffled = generator.permuted(np.tile(pool, (RANDOM_SPLITS, 1)), axis=1)
    sums = shuffled[:, :n].sum(axis=1)
    return Significance(_counted(np.abs(sums) * scale >= far), smallest, False)


def holm(p_values: ArrayLike) -> Floats:
    """P-values corrected for as many comparisons as there are (Holm 1979, Scandinavian Journal of
    Statistics 6): the k-th smallest of m times m - k + 1, never below a smaller one's, at most 1."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)), 1.0)
    return corrected


def seeds_needed(tests: int, flipped: bool) -> int:
    """The fewest seeds, of each of two methods, with which a p corrected for so many `tests` can be at most
    ALPHA: in a sign-flip test (`flipped`), else in a test of splits."""
    seeds = 1
    while max(1, tests) * (2.0 ** (1 - seeds) if flipped else 2 / comb(2 * seeds, seeds)) > ALPHA:
        seeds += 1
    return seeds


def _signed_sums(sizes: Floats) -> Floats:
    """Sums of `sizes` under all 2^n signs."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate((sums - size, sums + size))
    return sums


def _rounding(values: Floats) -> float:
    """What counts as a tie: sums of the same numbers in another order may differ by this much."""
    return 1e-12 * float(np.abs(values).sum())


def _counted(as_far: NDArray[np.bool_]) -> float:
    return float((1 + as_far.sum()) / (1 + len(as_far)))
