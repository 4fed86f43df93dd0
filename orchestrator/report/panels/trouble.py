"""Failed trials and warnings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Column, Paragraph, Table
from orchestrator.wording import count, shortest, significant

# Rows of a table of failures or warnings; all of them are in trials.parquet.
SHOWN = 200


def has_failures(findings: Findings) -> bool:
    return bool(findings.with_status("failed", "unreadable"))


def failures(findings: Findings) -> Sequence[Block]:
    columns = [
        Column("Trial", code=True),
        Column("Method"),
        Column("Scene", long=True),
        Column("Settings", long=True),
        Column("Attempt", numeric=True),
        Column("Error", code=True, long=True),
    ]
    failed = findings.with_status("failed", "unreadable")
    rows = []
    for row in failed[:SHOWN]:
        attempt = json.loads(row["execution"] or "{}").get("attempt")
        about = findings.about(row) if row["seed"] is not None else "–"
        error = _shortened(row["error"] or "no error was recorded")
        names = [row["method"] or "–", findings.scene_title(row)]
        rows.append([row["trial_id"], *names, about, "–" if attempt is None else str(attempt), error])
    return [Table("Failed trials", columns, rows), *_more(len(failed))]


def has_warnings(findings: Findings) -> bool:
    return next(_warnings(findings), None) is not None


def warnings(findings: Findings) -> Sequence[Block]:
    trials_of: dict[tuple[str, str], list[str]] = {}
    for where, text, trial_ids in _warnings(findings):
        trials_of.setdefault((where, text), []).extend(trial_ids)
    columns = [Column("Where"), Column("Warning", long=True), Column("Trials", code=True, long=True)]
    rows = [[where, text, _some(ids)] for (where, text), ids in list(trials_of.items())[:SHOWN]]
    return [Table("Warnings", columns, rows), *_more(len(trials_of))]


def num_warnings(findings: Findings) -> int:
    """How many different warnings the report holds."""
    return len({(where, text) for where, text, _ in _warnings(findings)})


Warned = tuple[str, str, Sequence[str]]  # where, what, trial ids


def _warnings(findings: Findings) -> Iterator[Warned]:
    for problem in findings.results.problems:
        yield ("files", f"{problem.where}: {problem.what}", ())
    yield from _mixed(findings)
    yield from _curve_warnings(findings)
    in_sample = [row["trial_id"] for row in findings.with_status("complete") if row["in_sample"]]
    if in_sample:
        text = "The test examples are the training examples: the test divergence says nothing about others."
        yield ("test set", text, in_sample)
    for row in findings.trials.values():
        for text in row["warnings"] or ():
            yield (row["method"] or "trial", text, (row["trial_id"],))


def _mixed(findings: Findings) -> Iterator[Warned]:
    versions: dict[str, list[str]] = {}
    for row in findings.with_status("complete", "failed"):
        versions.setdefault(row["code"] or "not recorded", []).append(row["trial_id"])
    if len(versions) > 1:
        told = ", ".join(f"{code} ({count(len(ids), 'trial')})" for code, ids in sorted(versions.items()))
        yield ("versions", f"The trials ran with different versions of circuit-sweep: {told}.", ())
    epsilons = sorted({sweep.epsilon for sweep in findings.results.sweeps})
    if len(epsilons) > 1:
        told = ", ".join(shortest(epsilon) for epsilon in epsilons)
        yield ("sweeps", f"The sweeps ask for different ε ({told}); the strictest is used.", ())


def _curve_warnings(findings: Findings) -> Iterator[Warned]:
    for scene, group in findings.scenes.items():
        for curve in group:
            where = f"{curve.method}, {findings.titles[scene]}"
            if len(curve.all_seeds) == 1:
                text = "One seed, so its curves have no band (a method that does not use the seed runs once)."
                yield (curve.method, text, sorted({row["trial_id"] for row in curve.rows}))
            strange = [row for row in curve.rows if not _finite(row)]
            if strange:
                ids = sorted({row["trial_id"] for row in strange})
                yield (where, f"{count(len(strange), 'circuit')} without a finite divergence.", ids)
            empties = [row["divergence_empty"] for row in curve.rows if row["divergence_empty"] is not None]
            if not np.isfinite(curve.empty):
                yield (where, "The empty circuit's divergence is not known: no hypervolume.", ())
            elif empties and max(empties) - min(empties) > 1e-3 * abs(curve.empty):
                told = f"{significant(min(empties))} to {significant(max(empties))}"
                yield (where, f"The empty circuit's divergence differs between trials: {told}.", ())
    for row in findings.with_status("complete"):
        if row["num_points"] == 0:
            yield (row["method"] or "trial", "Complete, but without any circuit.", (row["trial_id"],))
        elif row["method"] is None or row["divergence"] is None:
            yield ("trial", "Its group or divergence is missing: it is on no curve.", (row["trial_id"],))


def _finite(row: Mapping[str, Any]) -> bool:
    values = (row["divergence_validation"], row["divergence_test"])
    return all(value is not None and np.isfinite(value) for value in values)


def _some(trial_ids: Sequence[str], limit: int = 3) -> str:
    listed = ", ".join(trial_ids[:limit])
    return listed + (f" and {len(trial_ids) - limit} more" if len(trial_ids) > limit else "")


def _more(total: int) -> list[Block]:
    if total <= SHOWN:
        return []
    return [Paragraph(f"The first {SHOWN} of {total:,}; trials.parquet holds all.", quiet=True)]


def _shortened(text: str, limit: int = 2000) -> str:
    return text if len(text) <= limit else f"{text[:limit]} …"
