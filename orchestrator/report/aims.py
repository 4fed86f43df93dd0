"""Aims: which circuits were trained towards a target sparsity, and which of them missed it on which side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.report.declared import declares
from orchestrator.report.doubt import Doubt
from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve
from orchestrator.wording import count, percent, shortest, spread

# How far a final circuit may be from a target below 1; or less than one edge, where that is more: between
# two whole numbers of edges either is near enough.
TOLERANCE = 0.005
OWN_WARNING = "target sparsity"  # how a trial's own warning begins

Row = Mapping[str, Any]


def aimed(curve: Curve) -> list[Row]:
    """Final circuits that were trained towards a target."""
    return [row for row in curve.rows if row["target_sparsity"] is not None and row["kind"] == "final"]


def missed(row: Row) -> bool:
    """Whether a circuit is further from its target than it may be. A target of 1 or more pushes as hard as it
    can and is none that could be met."""
    off = abs(row["num_edges"] - wanted(row))
    return row["target_sparsity"] < 1 and off > TOLERANCE * row["num_edges_total"] and off >= 1 - 1e-9


def wanted(row: Row) -> float:
    """The edges that its target would keep, which need be no whole number."""
    return (1 - row["target_sparsity"]) * row["num_edges_total"]


def missed_targets(findings: Findings, curve: Curve, where: str) -> Iterator[Doubt]:
    """One doubt per target and side of it. Of trials that cut edges by the group (node pruning) those that
    say themselves that they missed it: how large the groups are, only they know."""
    rows = aimed(curve)
    for target in sorted({row["target_sparsity"] for row in rows}):
        own = [row for row in rows if row["target_sparsity"] == target]
        off = [row for row in own if missed(row) and _counts(findings.trials[row["trial_id"]])]
        short = [row for row in off if row["num_edges"] > wanted(row)]
        past = [row for row in off if row["num_edges"] < wanted(row)]
        if short:
            yield _doubt(where, "fell short of", short, len(own), _advice_short(findings, curve, short[0]))
        if past:
            yield _doubt(where, "overshot", past, len(own), PAST)


PAST = (
    "Lower multiplier_lr, or take multipliers: pi, which follow the target: Adam's, having grown while it "
    "rose, cut on after it was met. A penalty instead of a target cannot overshoot. Or go by the achieved "
    "sparsity, as all curves do."
)
SHORT = (
    "Raise multiplier_lr or steps, or take multipliers: pi, which follow the target, or go by the achieved "
    "sparsity, as all curves do."
)


def _advice_short(findings: Findings, curve: Curve, row: Row) -> str:
    """More pressure, unless no circuit of the wanted size could do the task."""
    total = curve.scene.num_edges_total
    truth = findings.ground_truth(curve)
    least, what = 1, "a circuit has at least one edge"
    if truth is not None:
        least, what = max(1, len(truth)), f"the known circuit has {count(len(truth), 'edge')}"
        exact = curve.num_edges[curve.validation <= curve.rounding]
        if exact.size and exact.min() < least:
            least = max(1, int(exact.min()))
            what = f"the smallest that was found to change nothing has {count(least, 'edge')}"
    if wanted(row) >= least:
        return SHORT
    most = percent(1 - least / total)
    return f"Ask for at most {most}: of {total:,} edges the target keeps {wanted(row):.3g}, and {what}."


def _doubt(where: str, how: str, off: Sequence[Row], of: int, advice: str) -> Doubt:
    sizes = [row["num_edges"] for row in off]
    target, needed = off[0]["target_sparsity"], wanted(off[0])
    text = (
        f"{len(off)} of {count(of, 'final circuit')} {how} the target sparsity {shortest(target)}: kept are "
        f"{spread(sizes)} edges, where the target keeps {needed:,.1f}."
    )
    return Doubt(where, text, advice, sorted({row["trial_id"] for row in off}))


def _counts(trial: Row) -> bool:
    said = any(text.startswith(OWN_WARNING) for text in trial["warnings"] or ())
    return said or declares(trial, "cuts_single_edges") is not False
