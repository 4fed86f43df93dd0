"""How sure a curve's numbers are: its test values example by example, its hypervolume, its knee."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.records.per_example import FIRST, PerExample, Unreadable, read_per_example
from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve
from orchestrator.statistics.bootstrap import (
    FEWEST_SEEDS,
    RESAMPLES,
    Interval,
    drawn_seeds,
    median_over_examples,
    median_over_seeds,
    over_seeds,
    percentile_interval,
    resampled_means,
)
from orchestrator.statistics.paired import common_budgets, log_weights, weighted_mean
from orchestrator.statistics.pareto import Floats, Ints, dominated_shares, log_kept

# A file's mean and the mean in result.json may differ by the rounding of float32.
AGREE = 1e-3


@dataclass(frozen=True)
class ByExample:
    """Test values of a curve's circuits: `values` [circuits, examples], `empty` [examples]; `digest`
    tells whether two curves have the same examples."""

    digest: str
    values: Floats
    empty: Floats


def by_example(
    findings: Findings, curve: Curve, rows: Sequence[int], metric: str | None = None
) -> ByExample | str:
    """A metric, or the curve's divergence, for every test example of the circuits `rows`, or why there is
    none."""
    metric, read = metric or curve.scene.divergence, {}
    for trial_id in dict.fromkeys(str(curve.rows[row]["trial_id"]) for row in rows):
        one = _of_trial(findings, trial_id, metric)
        if isinstance(one, str):
            return one
        read[trial_id] = one
    if len({one.digest for one in read.values()}) != 1:
        return f"the trials of {curve.method} were measured on different examples"
    values = []
    for row in (curve.rows[row] for row in rows):
        stored = read[row["trial_id"]].values
        place = FIRST + row["point"]
        if place >= len(stored) or not _agree(stored[place], row[f"test_{metric}"]):
            return f"the per-example values of trial {row['trial_id']} are not those of its result"
        values.append(stored[place])
    first = next(iter(read.values()))
    return ByExample(first.digest, np.array(values, dtype=np.float64), first.values[1].astype(np.float64))


def _of_trial(findings: Findings, trial_id: str, metric: str) -> PerExample | str:
    name = findings.trials[trial_id]["test_values"]
    if name is None:
        return "the trials were run before per-example values were stored"
    try:
        found = read_per_example(findings.results.folders[trial_id], name, metric)
    except Unreadable as error:
        return f"trial {trial_id}: {error}"
    return found or f"trial {trial_id} has no per-example {metric}"


def _agree(values: np.ndarray, mean: float) -> bool:
    own = float(values.mean(dtype=np.float64))
    return own == mean or (own != own and mean != mean) or abs(own - mean) <= AGREE * abs(mean) + 1e-6


def mean_of_known(values: Floats) -> float:
    """The mean of those that are not NaN; NaN where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class HypervolumeCertainty:
    """The mean of the seeds' own hypervolumes, of those that are known, with 95 % intervals: over seeds, over
    the examples, over both. None where there is nothing to resample, or fewer than FEWEST_SEEDS of it; `why`
    says why there are no examples."""

    mean: float
    seeds: Interval | None
    examples: Interval | None
    both: Interval | None
    why: str = ""


def hypervolume_certainty(findings: Findings, curve: Curve) -> HypervolumeCertainty:
    """Seeds are not pooled here: the front of several seeds is the best of them, and resampling can only
    lose some of it, so a bootstrap of it lies below what was measured (Efron & Tibshirani 1993, section 7.4).
    """
    return findings.once(
        ("hypervolume", curve.scene, curve.method), lambda: _hypervolume_certainty(findings, curve)
    )


def _hypervolume_certainty(findings: Findings, curve: Curve) -> HypervolumeCertainty:
    sure = ~np.isnan(curve.hypervolumes)
    single, mean = curve.hypervolumes[sure], mean_of_known(curve.hypervolumes)
    enough = len(single) >= FEWEST_SEEDS
    seeds = over_seeds(single) if enough else None
    fronts = [rows for rows, one in zip(curve.seed_fronts, sure, strict=True) if one]
    if not fronts:
        return HypervolumeCertainty(mean, None, None, None, "no seed's test divergence is known")
    known = by_example(findings, curve, np.concatenate(fronts).tolist())
    if isinstance(known, str):
        return HypervolumeCertainty(mean, seeds, None, None, known)
    means = resampled_means(np.vstack((known.empty, known.values)).T)
    shares, start = np.empty((RESAMPLES, len(single))), 1
    for place, rows in enumerate(fronts):
        shares[:, place] = _shares(curve, rows, means[:, start : start + len(rows)], means[:, 0])
        start += len(rows)
    equal = np.ones(RESAMPLES)
    both = percentile_interval(drawn_seeds(shares), equal) if enough else None
    examples = percentile_interval(shares.mean(axis=1), equal)
    return HypervolumeCertainty(mean, seeds, examples, both)


def _shares(curve: Curve, rows: Ints, divergence: Floats, empty: Floats) -> Floats:
    total = curve.scene.num_edges_total
    x = log_kept(curve.num_edges[rows], total)
    return dominated_shares(x, divergence, float(np.log10(1 / total)), 0.0, empty)


@dataclass(frozen=True)
class KneeCertainty:
    """The knees of the seeds' own fronts: of `seeds` that have one, the median of their edges and of their
    test divergences. 95 % intervals: over seeds, of these medians, where at least FEWEST_SEEDS have one; over
    examples, of the median divergence of these same circuits on the examples drawn anew. Which circuits are
    at a knee is settled on validation, so other test examples do not move it. `why` there is no interval
    over examples.
    """

    seeds: int
    num_edges: float
    num_edges_seeds: Interval | None
    divergence_test: float
    divergence_test_seeds: Interval | None
    divergence_test_examples: Interval | None
    why: str = ""


def knee_certainty(findings: Findings, curve: Curve) -> KneeCertainty | None:
    """None when no seed's front has a knee."""
    return findings.once(("knee", curve.scene, curve.method), lambda: _knee_certainty(findings, curve))


def _knee_certainty(findings: Findings, curve: Curve) -> KneeCertainty | None:
    rows = curve.seed_knees
    if not rows:
        return None
    edges, test = curve.num_edges[rows].astype(np.float64), curve.test[rows]
    columns = np.column_stack((edges, np.where(np.isnan(test), np.inf, test)))
    over = [
        Interval(*ends) for ends in zip(*(end.tolist() for end in median_over_seeds(columns)), strict=True)
    ]
    known = by_example(findings, curve, rows)
    ends, why = None, known if isinstance(known, str) else ""
    if not isinstance(known, str):
        low, high = median_over_examples(known.values, np.arange(len(rows))[:, None])
        ends = Interval(float(low[0]), float(high[0]))
    enough = len(rows) >= FEWEST_SEEDS
    return KneeCertainty(
        len(rows),
        float(np.median(edges)),
        over[0] if enough else None,
        float(np.median(test)),
        over[1] if enough else None,
        ends,
        why,
    )


def examples_band(
    findings: Findings, curve: Curve, metric: str, budgets: Ints
) -> tuple[Floats, Floats] | None:
    """At each budget the ends of the 95 % bootstrap interval over the test examples of the median over seeds
    of their best circuits by validation, each [budgets]; None without per-example values of all of these."""
    rows = curve.choices(budgets)
    used = np.unique(rows[rows >= 0])
    known = by_example(findings, curve, used.tolist(), metric) if used.size else ""
    if isinstance(known, str):
        return None
    return median_over_examples(known.values, np.where(rows >= 0, np.searchsorted(used, rows), -1))


@dataclass(frozen=True)
class CommonHypervolumes:
    """Hypervolumes over the edge budgets that all methods of a scene share, so that where a method was
    evaluated does not count: `budgets` [budgets], empty when there are none, and by method the value of each
    of its seeds [seeds]."""

    budgets: Ints
    by_method: Mapping[str, Floats]

    def mean(self, method: str) -> float:
        """Over the method's seeds whose value is known; NaN where there are none."""
        return mean_of_known(self.by_method.get(method, np.empty(0)))


def common_hypervolumes(group: Sequence[Curve]) -> CommonHypervolumes:
    """The share of the box over those budgets (log scale) and from 0 to the empty circuit's divergence that
    each seed's best circuits by validation dominate with their test divergence. The budgets are those that
    pairs are compared on (statistics/paired.py). A method without a finite validation divergence is left out;
    a seed whose test divergence is not known (NaN) at some of the budgets has NaN.
    """
    usable = {curve.method: np.flatnonzero(np.isfinite(curve.validation)) for curve in group}
    some = [curve for curve in group if usable[curve.method].size]
    sizes = [curve.num_edges[usable[curve.method]] for curve in some]
    seeds = [curve.seeds[usable[curve.method]] for curve in some]
    if not some:
        return CommonHypervolumes(np.empty(0, dtype=np.int64), {})
    budgets = common_budgets(some[0].scene.num_edges_total, sizes, seeds)
    if not budgets.size:
        return CommonHypervolumes(budgets, {})
    weights, by_method = log_weights(budgets), {}
    for curve in some:
        rows = curve.choices(budgets)
        test = curve.test[rows[(rows >= 0).all(axis=1)]]
        with np.errstate(invalid="ignore", divide="ignore"):
            heights = np.clip(1 - test[:, weights > 0] / curve.empty, 0.0, 1.0)
        volumes = np.array([weighted_mean(own, weights[weights > 0]) for own in heights])
        by_method[curve.method] = volumes if curve.empty > 0 else np.full(len(heights), np.nan)
    return CommonHypervolumes(budgets, by_method)
