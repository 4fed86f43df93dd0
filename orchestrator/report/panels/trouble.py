"""Failed trials and warnings."""

import json
from collections.abc import Iterator, Sequence

from orchestrator.report.doubt import Doubt
from orchestrator.report.doubts import doubts
from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Column, Paragraph, Table

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
    return bool(_doubts(findings))


def warnings(findings: Findings) -> Sequence[Block]:
    merged: dict[tuple[str, str, str], list[str]] = {}
    for doubt in _doubts(findings):
        merged.setdefault((doubt.where, doubt.what, doubt.advice), []).extend(doubt.trials)
    columns = [
        Column("Where", long=True),
        Column("Warning", long=True),
        Column("What to do", long=True),
        Column("Trials", code=True, long=True),
    ]
    rows = [[where, what, advice or "–", _some(ids) or "–"] for (where, what, advice), ids in merged.items()]
    return [Table("Warnings", columns, rows[:SHOWN]), *_more(len(rows))]


def _doubts(findings: Findings) -> Sequence[Doubt]:
    """Computed once: they read circuits."""
    return findings.once("doubts", lambda: tuple(doubts(findings)))


def num_warnings(findings: Findings) -> int:
    """How many different warnings the report holds."""
    return len({(doubt.where, doubt.what) for doubt in _doubts(findings)})


Warned = tuple[str, str, Sequence[str]]  # where, what, trial ids


def warned(findings: Findings) -> Iterator[Warned]:
    """Every warning, also those that several trials gave, one after the other."""
    for doubt in _doubts(findings):
        yield doubt.where, doubt.what, doubt.trials


def _some(trial_ids: Sequence[str], limit: int = 3) -> str:
    listed = ", ".join(trial_ids[:limit])
    return listed + (f" and {len(trial_ids) - limit} more" if len(trial_ids) > limit else "")


def _more(total: int) -> list[Block]:
    if total <= SHOWN:
        return []
    return [Paragraph(f"The first {SHOWN} of {total:,}; trials.parquet holds all.", quiet=True)]


def _shortened(text: str, limit: int = 2000) -> str:
    return text if len(text) <= limit else f"{text[:limit]} …"
