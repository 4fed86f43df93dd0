"""Aims: which circuits were trained towards a target sparsity, and which of them missed it."""

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.report.doubt import Doubt
from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve
from orchestrator.wording import count, percent, shortest

# How far a final circuit may be from a target below 1; or half an edge, where that is more.
TOLERANCE = 0.005
OWN_WARNING = "target sparsity"  # how a trial begins that says so itself


def aimed(curve: Curve) -> list[Mapping[str, Any]]:
    """Final circuits that were trained towards a target."""
    return [row for row in curve.rows if row["target_sparsity"] is not None and row["kind"] == "final"]


def missed(row: Mapping[str, Any]) -> bool:
    """Whether a circuit is further from its target than it may be. A target of 1 or more pushes as hard as it
    can and is none that could be met."""
    most = max(TOLERANCE, 0.5 / row["num_edges_total"]) + 1e-12
    return row["target_sparsity"] < 1 and abs(row["sparsity"] - row["target_sparsity"]) > most


def missed_targets(findings: Findings, curve: Curve, where: str) -> Iterator[Doubt]:
    """One doubt per target, of the trials that do not say so themselves."""
    rows = aimed(curve)
    for target in sorted({row["target_sparsity"] for row in rows}):
        own = [row for row in rows if row["target_sparsity"] == target]
        off = [row for row in own if missed(row) and not _says_so(findings.trials[row["trial_id"]])]
        if off:
            achieved = sorted(row["sparsity"] for row in off)
            ends = percent(achieved[0]) + f" to {percent(achieved[-1])}" * (achieved[0] != achieved[-1])
            some = f"{len(off)} of {count(len(own), 'final circuit')}"
            text = (
                f"{some} missed the target sparsity {shortest(target)} by more than {TOLERANCE} and half an "
                f"edge: cut are {ends}."
            )
            ids = sorted({row["trial_id"] for row in off})
            yield Doubt(where, text, "Go by the achieved sparsity, as all curves do.", ids)


def _says_so(trial: Mapping[str, Any]) -> bool:
    return any(text.startswith(OWN_WARNING) for text in trial["warnings"] or ())
