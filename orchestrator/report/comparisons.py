"""Which methods of a scene are compared with which, and what the comparisons show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.report.certainty import ByExample, by_example
from orchestrator.report.declared import is_fixed
from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve
from orchestrator.statistics.paired import (
    Comparison,
    Sample,
    common_budgets,
    compare,
    log_weights,
    same_everywhere,
)
from orchestrator.statistics.pareto import Floats, Ints, dominated_shares, log_kept
from orchestrator.statistics.permutation import ALPHA, holm, seeds_needed
from trainers.evaluation.faithfulness import ROUNDING

# Up to so many methods of a scene are all compared with each other (10 pairs); of more, each is compared
# with the best one.
ALL_PAIRS = 5
# Seeds that each method which depends on them must have before one is called better: a sign-flip test of
# fewer cannot go below 0.05.
TELLING_SEEDS = 6


@dataclass(frozen=True)
class Pair:
    """Two curves of one scene. `comparison` is None where `why` says that they cannot be compared; `p` is
    corrected over the scene's comparisons (Holm), None where there is no test. `no_examples` says why there
    is no interval over examples."""

    one: Curve
    other: Curve
    budgets: Ints
    comparison: Comparison | None
    samples: tuple[Sample, ...] = ()
    why: str = ""
    no_examples: str = ""
    p: float | None = None
    tests: int = 0  # how many tests `p` is corrected for

    @property
    def best(self) -> Curve | None:
        """The curve with the lower mean divergence; None where neither has it beyond rounding."""
        if self.comparison is None or abs(self.comparison.mean) <= self.one.rounding:
            return None
        return self.one if self.comparison.mean < 0 else self.other

    @property
    def alike(self) -> bool:
        """Whether the two have the same divergences at every budget, beyond rounding."""
        return len(self.samples) == 2 and same_everywhere(*self.samples, self.one.rounding)

    @property
    def seeds_needed(self) -> int:
        """The fewest seeds with which one could be called better, over as many tests as the scene has."""
        flipped = self.comparison is not None and self.comparison.by_seed.size > 0
        return max(TELLING_SEEDS, seeds_needed(self.tests, flipped))

    @property
    def winner(self) -> Curve | None:
        """The better curve where that is sure: enough seeds, a corrected p of at most ALPHA, and an interval
        (over seeds and examples; over seeds, where examples are not known) that excludes 0."""
        if self.comparison is None or self.p is None or self.p > ALPHA:
            return None
        seeds = [len(sample.seeds) for sample in self.samples if not sample.fixed]
        ends = self.comparison.both or self.comparison.seeds
        if min(seeds) < TELLING_SEEDS or ends is None or not ends.excludes(0.0):
            return None
        return self.best


def pairs(group: Sequence[Curve]) -> list[tuple[Curve, Curve]]:
    """All pairs of up to ALL_PAIRS curves; of more, the best one with each other. The best has the
    largest hypervolume on the validation examples, so that the test examples do not choose; of those that
    differ by rounding alone the first."""
    if len(group) <= ALL_PAIRS:
        return [(one, other) for place, one in enumerate(group) for other in group[place + 1 :]]
    volumes = [_validation_hypervolume(curve) for curve in group]
    best = group[next(place for place, own in enumerate(volumes) if own >= max(volumes) - ROUNDING)]
    return [(best, other) for other in group if other is not best]


def comparisons(findings: Findings, group: Sequence[Curve]) -> list[Pair]:
    """The pairs of one scene's curves, compared."""
    return findings.once(("comparisons", group[0].scene), lambda: _comparisons(findings, group))


def _comparisons(findings: Findings, group: Sequence[Curve]) -> list[Pair]:
    found = [_pair(findings, one, other) for one, other in pairs(group)]
    tested = [
        pair.comparison.significance.p
        for pair in found
        if pair.comparison is not None and pair.comparison.significance is not None
    ]
    corrected = iter(holm(tested).tolist())
    return [
        replace(pair, p=next(corrected), tests=len(tested))
        if pair.comparison is not None and pair.comparison.significance is not None
        else pair
        for pair in found
    ]


def _validation_hypervolume(curve: Curve) -> float:
    total = curve.scene.num_edges_total
    x = log_kept(curve.num_edges, total)[curve.front]
    share = dominated_shares(x, curve.validation[curve.front], float(np.log10(1 / total)), 0.0, curve.empty)
    return float(np.nan_to_num(share, nan=-1.0))


def _pair(findings: Findings, one: Curve, other: Curve) -> Pair:
    usable = [np.flatnonzero(np.isfinite(curve.validation)) for curve in (one, other)]
    none = np.empty(0, dtype=np.int64)
    lacking = [curve for curve, rows in zip((one, other), usable, strict=True) if not rows.size]
    if lacking:
        why = f"{lacking[0].method} has no circuit with a finite validation divergence"
        return Pair(one, other, none, None, why=why)
    sizes = one.num_edges[usable[0]], other.num_edges[usable[1]]
    seeds = one.seeds[usable[0]], other.seeds[usable[1]]
    budgets = common_budgets(one.scene.num_edges_total, sizes, seeds)
    if not budgets.size:
        why = "no edge budget at which every seed of both has a circuit"
        return Pair(one, other, budgets, None, why=why)
    weights = log_weights(budgets)
    samples, files = [], []
    for curve in (one, other):
        rows = curve.choices(budgets)
        some = (rows >= 0).any(axis=1)
        names, rows = np.array(curve.all_seeds)[some], rows[some]
        if not np.isfinite(curve.test[rows]).all():
            why = f"a circuit of {curve.method} that counts has no finite test divergence"
            return Pair(one, other, budgets, None, why=why)
        alike = bool((np.abs(curve.test[rows] - curve.test[rows[:1]]) <= curve.rounding).all())
        if fixed := alike and is_fixed(findings, curve):
            names, rows = names[:1], rows[:1]
        samples.append(Sample(names, curve.test[rows], fixed=fixed))
        files.append(_means_by_example(findings, curve, rows, weights))
    told = _no_examples(files)
    if not told:
        samples = [replace(s, examples=file[1]) for s, file in zip(samples, files, strict=True)]
    compared = compare(samples[0], samples[1], weights, one.rounding)
    return Pair(one, other, budgets, compared, tuple(samples), no_examples=told)


def _means_by_example(
    findings: Findings, curve: Curve, rows: Ints, weights: Floats
) -> tuple[ByExample, Floats] | str:
    """Each example's mean over the budgets, [seeds, examples], of the circuits `rows` [seeds, budgets]."""
    used = np.unique(rows[:, weights > 0])
    known = by_example(findings, curve, used.tolist())
    if isinstance(known, str):
        return known
    shares = np.zeros((len(rows), len(used)))
    for seed, own in enumerate(rows):
        counted = weights > 0
        np.add.at(shares[seed], np.searchsorted(used, own[counted]), weights[counted])
    return known, shares @ known.values


def _no_examples(files: Sequence[tuple[ByExample, Floats] | str]) -> str:
    reasons = dict.fromkeys(file for file in files if isinstance(file, str))
    if reasons:
        return "; ".join(reasons)
    digests = {file[0].digest for file in files if not isinstance(file, str)}
    return "" if len(digests) == 1 else "the two methods were measured on different examples"
