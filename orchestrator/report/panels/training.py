"""Training curves: divergence, sparsity and target by step, one figure per group that reported them."""

from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import (
    Block,
    Chart,
    Column,
    Details,
    Paragraph,
    Table,
    chart_text,
    folded,
)
from orchestrator.report.panels.curves import FLOOR
from orchestrator.report.thinning import evenly
from orchestrator.wording import count, significant

# What is drawn of a group: this many trials, evenly over its settings, and steps of each.
TRIALS = 12
STEPS = 80

_GROUP = ("model", "task", "test_set", "ablation", "edge_convention", "method", "divergence")


def has_training(findings: Findings) -> bool:
    return any(_trained(row) for row in findings.trials.values())


def training(findings: Findings) -> Sequence[Block]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in findings.trials.values():
        if _trained(row):
            groups.setdefault(tuple(str(row[name] or "") for name in _GROUP), []).append(row)
    remark = "Colour runs over the settings, then the seeds; the pointer tells which trial a line is."
    charts: list[Block] = []
    bare: list[str] = []
    for key in sorted(groups):
        rows = groups[key]
        named = f"{rows[0]['method']}, {findings.scene_title(rows[0])}"
        drawn = evenly(sorted(rows, key=lambda row: _order(findings, row)), TRIALS)
        curves = [_curve(findings, row, divergence=key[-1]) for row in drawn]
        curves = [curve for curve in curves if _drawable(curve)]
        if not curves:
            bare.append(named)
            continue
        summary = f"{named} ({len(curves)} of {count(len(rows), 'trial')})"
        data = {"divergence": chart_text(words(key[-1] or "divergence")), "floor": FLOOR, "curves": curves}
        chart = Chart(f"chart-training-{len(charts)}", "training", f"Training curves of {summary}", data)
        charts.append(Details(summary, [chart, folded(_ends(summary, curves))], open=not charts))
    told = [Paragraph(f"No curve was reported by {'; '.join(bare)}.", quiet=True)] if bare else []
    return [*([Paragraph(remark, quiet=True)] if charts else []), *charts, *told]


def _drawable(curve: Mapping[str, Any]) -> bool:
    """Whether some line of it has two ends: an attribution reports steps, but nothing that changes."""
    lines = (curve[name] for name in ("divergence", "sparsity", "target"))
    return any(sum(value is not None for value in line) > 1 for line in lines)


def _ends(summary: str, curves: Sequence[Mapping[str, Any]]) -> Table:
    """Where the curves end: what the figure shows, in numbers."""
    names = ("Last step", "Divergence", "Sparsity", "Target")
    rows = []
    for curve in curves:
        ends = [_last(curve[name]) for name in ("divergence", "sparsity", "target")]
        rows.append([unescape(curve["name"]), count(curve["step"][-1]), *ends])
    columns = [Column("Trial", long=True), *(Column(name, numeric=True) for name in names)]
    return Table(f"Ends of the training curves of {summary}", columns, rows)


def _last(line: Sequence[float | None]) -> str:
    known = [value for value in line if value is not None]
    return significant(known[-1]) if known else "–"


def _trained(row: Mapping[str, Any]) -> bool:
    return row["status"] in ("complete", "failed") and (row["steps"] or 0) > 1 and row["method"] is not None


def _order(findings: Findings, row: Mapping[str, Any]) -> tuple[str, int, str]:
    return (findings.settings.get(row["trial_id"], ""), row["seed"] or 0, row["trial_id"])


def _curve(findings: Findings, row: Mapping[str, Any], divergence: str) -> dict[str, Any]:
    reports = evenly(findings.results.progress(row["trial_id"]), STEPS)
    names = {"divergence": divergence, "sparsity": "sparsity", "target": "target_sparsity"}
    values = {key: [_number(report.get(name)) for report in reports] for key, name in names.items()}
    failed = " · failed" if row["status"] == "failed" else ""
    name = chart_text(f"{findings.about(row)} · trial {row['trial_id'][:8]}{failed}")
    return {"name": name, "step": [report["step"] for report in reports], **values}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
