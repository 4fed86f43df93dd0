"""How binary the trained gates are: a gate between 0 and 1 is an edge that training did not decide on."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.findings import Findings
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
from orchestrator.report.thinning import evenly
from orchestrator.statistics.pareto import Floats
from orchestrator.wording import count, percent, spread

# Settings drawn per group; the table has all of them.
DRAWN = 12
# Shares of edges below this are drawn at it.
FLOOR = 1e-5

_GROUP = ("method", "model", "task", "test_set", "ablation", "edge_convention")


def has_gates(findings: Findings) -> bool:
    return any(row["gate_histogram"] for row in findings.trials.values())


def gates(findings: Findings) -> Sequence[Block]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in findings.trials.values():
        if row["gate_histogram"]:
            groups.setdefault(tuple(str(row[name] or "") for name in _GROUP), []).append(row)
    blocks: list[Block] = []
    for number, key in enumerate(sorted(groups)):
        rows = groups[key]
        summary = f"{rows[0]['method']}, {findings.scene_title(rows[0])} ({count(len(rows), 'trial')})"
        blocks.append(Details(summary, _group(findings, number, summary, rows), open=number == 0))
    gated = {key[0] for key in groups}
    lacking = (
        row for row in findings.trials.values() if row["method"] in gated and not row["gate_histogram"]
    )
    without = sum((row["steps"] or 0) > 1 for row in lacking)
    if without:
        blocks.append(Paragraph(f"{count(without, 'trial')} of several steps recorded no gates.", quiet=True))
    return blocks


def _group(findings: Findings, number: int, summary: str, rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    settings: dict[str, list[Floats]] = {}
    for row in sorted(rows, key=lambda row: (findings.settings.get(row["trial_id"], ""), row["trial_id"])):
        counts = np.asarray(json.loads(row["gate_histogram"]), dtype=np.float64)
        settings.setdefault(findings.settings.get(row["trial_id"]) or "all", []).append(counts / counts.sum())
    drawn = evenly(list(settings), DRAWN)
    data = {
        "floor": FLOOR,
        "settings": [{"name": chart_text(name), "share": np.mean(settings[name], axis=0)} for name in drawn],
    }
    chart = Chart(f"chart-gates-{number}", "gates", f"Edges by expected gate, {summary}", data)
    told = [] if len(drawn) == len(settings) else [f"{len(drawn)} of {len(settings)} settings drawn."]
    return [chart, *(Paragraph(text, quiet=True) for text in told), folded(_table(summary, settings))]


def _table(summary: str, settings: Mapping[str, Sequence[Floats]]) -> Table:
    columns = [
        Column("Settings", long=True),
        Column("Trials", numeric=True),
        Column("At 0 (below 0.05)", numeric=True),
        Column("Between", numeric=True),
        Column("At 1 (0.95 and above)", numeric=True),
        Column("Undecided, of those not at 0: median (range)", numeric=True),
    ]
    rows = []
    for name, shares in settings.items():
        mean = np.mean(shares, axis=0)
        undecided = [
            float(share[1:-1].sum() / rest) if (rest := share[1:].sum()) else 0.0 for share in shares
        ]
        between = float(mean[1:-1].sum())
        cells = [percent(float(mean[0])), percent(between), percent(float(mean[-1]))]
        rows.append([name, count(len(shares)), *cells, spread(undecided, 2)])
    return Table(f"How binary the gates are, {summary}", columns, rows)
