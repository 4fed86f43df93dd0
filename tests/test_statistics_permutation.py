"""Permutation tests and Holm's correction: brute force, scipy, closed forms."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.statistics.permutation import ALPHA, holm, seeds_needed, sign_flip_test, split_test

# Sixteenths: sums of them are exact, so that ties are ties.
NUMBERS = st.integers(-40, 40).map(lambda value: value / 16)


@given(st.lists(NUMBERS, min_size=1, max_size=9))
@settings(deadline=None)
def test_sign_flips_against_all_signs(differences: list[float]) -> None:
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    right = np.mean(np.array(sums) >= abs(sum(differences)))
    assert sign_flip_test(differences).p == pytest.approx(right)


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.lists(NUMBERS, min_size=1, max_size=5))
@settings(deadline=None)
def test_splits_against_all_splits(one: list[float], other: list[float]) -> None:
    pool, far = np.array(one + other), abs(np.mean(one) - np.mean(other))
    distances = []
    for members in combinations(range(len(pool)), len(one)):
        inside = np.isin(np.arange(len(pool)), members)
        distances.append(abs(pool[inside].mean() - pool[~inside].mean()))
    assert split_test(one, other).p == pytest.approx(np.mean(np.array(distances) >= far - 1e-9))


def test_against_scipy() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0.4, 1, 11)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=10_000
    ).pvalue
    assert sign_flip_test(differences).p == pytest.approx(theirs)
    one, other = generator.normal(size=5), generator.normal(0.8, 1, 7)

    def distance(left: np.ndarray, right: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(left.mean(axis=axis) - right.mean(axis=axis))

    theirs = stats.permutation_test(
        (one, other), distance, vectorized=True, alternative="greater", n_resamples=10_000
    ).pvalue
    assert split_test(one, other).p == pytest.approx(theirs)


@pytest.mark.parametrize("seeds", range(1, 13))
def test_the_smallest_p_of_n_seeds(seeds: int) -> None:
    result = sign_flip_test(np.arange(1, seeds + 1) / 3)
    assert result.p == result.smallest == 2.0 ** (1 - seeds) and result.exact
    assert result.can_tell == (seeds >= 6), "five seeds cannot go below 0.0625"


def test_a_seed_without_a_difference_does_not_count() -> None:
    result = sign_flip_test([0.5, 0, 0.25, 0, 1, 0, 0])
    assert (result.p, result.smallest, result.can_tell) == (0.25, 0.25, False)
    nothing = sign_flip_test([0.0, 0.0])
    assert (nothing.p, nothing.smallest, nothing.can_tell) == (1.0, 1.0, False)


def test_the_smallest_p_of_two_samples() -> None:
    result = split_test([1, 2, 3], [7, 8, 9])
    assert result.p == result.smallest == 2 / 20
    result = split_test([-9.0], [1, 2, 3])
    assert result.p == result.smallest == 1 / 4
    assert split_test([1, 2, 3, 4], [11, 12, 13, 14]).can_tell
    assert split_test([2.0, 1.0], [1.0, 2.0]).p == 1


def test_the_order_of_the_seeds_does_not_matter() -> None:
    values = np.random.default_rng(2).normal(0.3, 1, 14)
    shuffled = np.random.default_rng(3).permutation(values)
    assert sign_flip_test(values).p == sign_flip_test(shuffled).p == sign_flip_test(-values).p
    assert split_test(values[:6], values[6:]).p == split_test(values[6:], values[5::-1]).p


def test_ties_are_ties_in_spite_of_rounding() -> None:
    """0.1 + 0.2 is not 0.3 in floating point; every sign change of equal sizes is as far or farther."""
    assert sign_flip_test([0.1, 0.2, -0.3]).p == 1
    assert sign_flip_test([0.1] * 7 + [-0.1]).p == pytest.approx(2 * (1 + 8) / 2**8)


def test_thirty_seeds_are_still_exact() -> None:
    """All of one size: the sign test, whose p is binomial."""
    result = sign_flip_test([0.3] * 21 + [-0.3] * 9)
    assert result.exact and result.p == pytest.approx(stats.binomtest(21, 30).pvalue)


def test_many_seeds_are_drawn() -> None:
    result = sign_flip_test([1.0] * 31 + [-1.0] * 17)
    right = stats.binomtest(31, 48).pvalue
    assert not result.exact and result.p == pytest.approx(right, abs=0.005)
    generator = np.random.default_rng(4)
    one, other = generator.normal(size=20), generator.normal(0.7, 1, 20)
    result = split_test(one, other)
    assert not result.exact and result.p == pytest.approx(stats.ttest_ind(one, other)[1], abs=0.01)
    assert result == split_test(one, other), "drawn alike"
    assert split_test(np.zeros(20) + 9, one).p == pytest.approx(1e-5, rel=0.1), "never 0: the observed counts"


@pytest.mark.parametrize("test", ["paired", "unpaired"])
def test_no_more_than_alpha_false_alarms(test: str) -> None:
    generator = np.random.default_rng(5)
    found = [
        sign_flip_test(generator.normal(size=7)).p
        if test == "paired"
        else split_test(generator.normal(size=4), generator.normal(size=5)).p
        for _ in range(1500)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.065


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([0.02]) == pytest.approx([0.02]) and len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.5))
def test_holm_rejects_what_its_steps_reject(values: list[float], alpha: float) -> None:
    """The procedure as published: from the smallest on, until one is above alpha / (m - k + 1)."""
    rejected = []
    for place, index in enumerate(np.argsort(values, kind="stable")):
        if values[index] * (len(values) - place) > alpha:
            break
        rejected.append(index)
    assert sorted(rejected) == np.flatnonzero(holm(values) <= alpha).tolist()


@pytest.mark.parametrize(
    ("tests", "flipped", "needed"), [(1, True, 6), (2, True, 7), (1, False, 4), (10, False, 6)]
)
def test_how_many_seeds_are_needed(tests: int, flipped: bool, needed: int) -> None:
    def least(seeds: int) -> float:
        values = np.arange(1.0, seeds + 1)
        test = sign_flip_test(values) if flipped else split_test(values, values + 100)
        return tests * test.p

    assert seeds_needed(tests, flipped) == needed
    assert least(needed) <= ALPHA < least(needed - 1)
