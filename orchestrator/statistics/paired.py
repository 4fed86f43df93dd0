"""Two methods on one scene: the mean difference of their curves, how sure it is, and whether seeds tell.

At an edge budget a seed has its best circuit by validation with at most that many edges, and that
circuit's test divergence counts, as in every band (pareto.py). Curves are compared from the smallest
budget at which every seed of both has a circuit to the largest size that both were evaluated at; their
mean over that range is taken over the logarithm of the budget, exactly, since curves are steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.statistics.bootstrap import FEWEST_SEEDS, Interval, over_both, over_examples, over_seeds
from orchestrator.statistics.pareto import Floats, Ints, edge_budgets
from orchestrator.statistics.permutation import Significance, sign_flip_test, split_test


@dataclass(frozen=True)
class Sample:
    """One method at common budgets: test divergence [seeds, budgets] of each seed's circuits, and where
    it is known their mean over the budgets for each example, [seeds, examples]. `fixed`: the method does
    not depend on the seed and has one row."""

    seeds: Ints
    divergence: Floats
    examples: Floats | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Comparison:
    """The first method's divergence minus the second's: below 0 the first is better.

    mean: over seeds and budgets. at_budgets [budgets]: mean over seeds. by_seed: the differences of means
    over budgets of paired seeds, or of each seed from a method without seeds, else empty; `differing` of
    them are not 0 beyond rounding. better, worse: shares of the (logarithmic) budget range in which the
    first is better, worse. Intervals as in bootstrap.py; None where there is nothing to resample, or where
    a method that depends on the seed has fewer than FEWEST_SEEDS. significance: None where neither method
    depends on the seed.
    """

    paired: bool
    num_seeds: tuple[int, int]
    mean: float
    at_budgets: Floats
    by_seed: Floats
    differing: int
    better: float
    worse: float
    seeds: Interval | None
    examples: Interval | None
    both: Interval | None
    significance: Significance | None


def common_budgets(num_edges_total: int, sizes: Sequence[Ints], seeds: Sequence[Ints]) -> Ints:
    """Budgets of `edge_budgets` in the range where methods can be compared: from the smallest at which every
    seed of each has a circuit to the largest size that all were evaluated at; empty when there is none.

    `sizes` and `seeds`: number of edges and seed of each circuit, of each method.
    """
    smallest = [
        edges[own == seed].min() for edges, own in zip(sizes, seeds, strict=True) for seed in np.unique(own)
    ]
    low, high = max(*smallest, 1), min(edges.max() for edges in sizes)
    budgets = edge_budgets(num_edges_total, np.append(np.concatenate(sizes), [low, max(high, 1)]))
    return budgets[(budgets >= low) & (budgets <= high)]


def log_weights(budgets: Ints) -> Floats:
    """Each budget's share of the logarithmic range: what lies from it to the next. The last has none,
    unless it is the only one."""
    if len(budgets) == 1:
        return np.ones(1)
    widths = np.append(np.diff(np.log(budgets)), 0.0)
    return widths / widths.sum()


def weighted_mean(values: ArrayLike, weights: Floats) -> float:
    """The mean of `values` [budgets]. Weights that sum to 1 in all digits do not in double precision, so that
    a plain sum of shares can be 1.0000000000000002; of exactly rounded sums (Shewchuk 1997, math.fsum), each
    of parts of the other's, none exceeds the other: the mean of shares is a share."""
    return math.fsum(np.asarray(values, dtype=np.float64) * weights) / math.fsum(weights)


def compare(one: Sample, other: Sample, weights: Floats, rounding: float = 0.0) -> Comparison:
    """`weights` [budgets] sum to 1; a difference of at most `rounding` counts as none in the test and in
    the shares. Divergences are finite.

    Seeds are paired when both methods have the same ones and depend on them. Intervals over examples need
    per-example values of both, of the same examples.
    """
    paired = are_paired(one, other)
    means = [sample.divergence @ weights for sample in (one, other)]
    at_budgets = one.divergence.mean(axis=0) - other.divergence.mean(axis=0)
    by_seed = means[0] - means[1] if paired or one.fixed != other.fixed else np.empty(0)
    mean = float(means[0].mean() - means[1].mean())
    examples = both = None
    some = have_enough(one, other)
    if one.examples is not None and other.examples is not None:
        examples = over_examples(one.examples.mean(axis=0) - other.examples.mean(axis=0))
        if some:
            both = over_both(*_resampled(paired, one.examples, other.examples))
    seeds = over_seeds(*_resampled(paired, *means)) if some else None
    return Comparison(
        paired=paired,
        num_seeds=(len(one.seeds), len(other.seeds)),
        mean=mean,
        at_budgets=at_budgets,
        by_seed=by_seed,
        differing=int((np.abs(by_seed) > rounding).sum()),
        better=weighted_mean(at_budgets < -rounding, weights),
        worse=weighted_mean(at_budgets > rounding, weights),
        seeds=seeds,
        examples=examples,
        both=both,
        significance=None if one.fixed and other.fixed else _significance(by_seed, means, rounding),
    )


def same_everywhere(one: Sample, other: Sample, rounding: float = 0.0) -> bool:
    """Whether no seed of either is, at any budget, further than `rounding` from what it is compared with:
    its pair's divergence, or those of all seeds of the other."""
    across = are_paired(one, other)
    left = one.divergence if across else one.divergence[:, None]
    return bool((np.abs(left - other.divergence) <= rounding).all())


def difference_at(one: Sample, other: Sample, place: int) -> tuple[float, Interval | None]:
    """At a single budget: the mean difference, and its interval over seeds where there are enough."""
    left, right = one.divergence[:, place], other.divergence[:, place]
    mean = float(left.mean() - right.mean())
    if not have_enough(one, other):
        return mean, None
    return mean, over_seeds(*_resampled(are_paired(one, other), left, right))


def _resampled(paired: bool, one: Floats, other: Floats) -> tuple[Floats, Floats | None]:
    """What is resampled by seed: the differences of paired seeds, or each method's own."""
    return (one - other, None) if paired else (one, other)


def are_paired(one: Sample, other: Sample) -> bool:
    """Whether both have the same seeds and depend on them."""
    return not (one.fixed or other.fixed) and np.array_equal(one.seeds, other.seeds)


def have_enough(one: Sample, other: Sample) -> bool:
    """Whether there are seeds to resample, and each method that depends on them has FEWEST_SEEDS."""
    numbers = [len(sample.seeds) for sample in (one, other) if not sample.fixed]
    return min(numbers, default=0) >= FEWEST_SEEDS


def _significance(by_seed: Floats, means: list[Floats], rounding: float) -> Significance:
    """Signs are flipped where seeds have a partner: that of the other method, or the one value of a method
    without seeds, from which each seed is as likely to lie on either side under the null hypothesis."""
    if by_seed.size:
        return sign_flip_test(np.where(np.abs(by_seed) <= rounding, 0.0, by_seed))
    result = split_test(*means)
    if abs(means[0].mean() - means[1].mean()) <= rounding:
        return Significance(1.0, result.smallest, result.exact)
    return result
