"""Training curves: divergence, sparsity and target by step, one figure per group."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import Block, Chart, Details, Paragraph, chart_text
from orchestrator.report.panels.curves import FLOOR, evenly
from orchestrator.wording import count

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
    blocks: list[Block] = [Paragraph(remark, quiet=True)]
    for number, key in enumerate(sorted(groups)):
        rows = groups[key]
        drawn = evenly(sorted(rows, key=lambda row: _order(findings, row)), TRIALS)
        curves = [_curve(findings, row, divergence=key[-1]) for row in drawn]
        curves = [curve for curve in curves if len(curve["step"]) > 1]
        told = f"{len(curves)} of {count(len(rows), 'trial')}"
        summary = f"{rows[0]['method']}, {findings.scene_title(rows[0])} ({told})"
        data = {"divergence": chart_text(words(key[-1] or "divergence")), "floor": FLOOR, "curves": curves}
        content: Block = Paragraph("Their progress was not kept.", quiet=True)
        if curves:
            content = Chart(f"chart-training-{number}", "training", f"Training curves of {summary}", data)
        blocks.append(Details(summary, [content], open=number == 0))
    return blocks


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
