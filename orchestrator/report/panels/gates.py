"""How binary the trained gates are: a gate between 0 and 1 is an edge that training did not decide on."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.declared import declares
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
    """Also where gates were trained but not recorded: the panel says why there are none."""
    return any(row["gate_histogram"] for row in findings.trials.values()) or bool(_lacking(findings))


def _lacking(findings: Findings) -> list[Mapping[str, Any]]:
    """Complete trials that trained gates and have no histogram: each has had one since it exists."""
    complete = findings.with_status("complete")
    return [row for row in complete if not row["gate_histogram"] and declares(row, "trains_gates")]


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
    lacking = _lacking(findings)
    if lacking:
        blocks.append(Paragraph(_told(findings, lacking), quiet=True))
    return blocks


def _told(findings: Findings, lacking: Sequence[Mapping[str, Any]]) -> str:
    """Which trials have no histogram, and why."""
    numbers = Counter(f"{row['method'] or 'trial'}, {findings.scene_title(row)}" for row in lacking)
    codes = sorted({row["code"] or "not recorded" for row in lacking})
    which = "; ".join(f"{name} ({number:,})" for name, number in sorted(numbers.items()))
    return (
        f"{count(len(lacking), 'trial')} trained gates without recording how binary they were, as earlier "
        f"versions of circuit-sweep did ({', '.join(codes)}): {which}."
    )


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
