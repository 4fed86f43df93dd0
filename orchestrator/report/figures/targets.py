"""Target and achieved sparsity, for print."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure, SubFigure

from orchestrator.report.figures.plot import Plot, Row
from orchestrator.report.figures.style import (
    FAINT,
    ONE_COLUMN,
    colour,
    legend_height,
    marker,
    methods_legend,
    title,
)
from orchestrator.report.findings import Findings
from orchestrator.wording import count

COLUMNS = ("method", "model", "task", "target_sparsity", "sparsity", "seed", "trial_id")


def target_and_achieved(findings: Findings) -> list[Plot]:
    rows = [
        {name: row[name] for name in COLUMNS}
        for group in findings.scenes.values()
        for curve in group
        for row in curve.rows
        if row["target_sparsity"] is not None and row["kind"] == "final"
    ]
    slots = {name: slot for name, slot in findings.slots.items() if any(r["method"] == name for r in rows)}
    return [
        Plot(
            kind="targets",
            about="",
            identity=(),
            title="Target and achieved sparsity",
            details=f"Target and achieved sparsity of {count(len(rows), 'circuit')}",
            columns=COLUMNS,
            rows=rows,
            size=(ONE_COLUMN, 2.6 + legend_height(slots, ONE_COLUMN)),
            draw=partial(_draw, slots),
        )
    ]


def _draw(slots: dict[str, int], canvas: Figure | SubFigure, rows: Sequence[Row]) -> None:
    axes = canvas.subplots()
    for method, slot in slots.items():
        own = [row for row in rows if row["method"] == method]
        target, achieved = (
            np.array([row[name] for row in own], dtype=np.float64) for name in ("target_sparsity", "sparsity")
        )
        axes.scatter(target, achieved, s=14, color=colour(slot), marker=marker(slot), alpha=0.7, linewidths=0)
    low = min(min(axes.get_xlim()), min(axes.get_ylim()))
    high = max(max(axes.get_xlim()), max(axes.get_ylim()))
    axes.plot([low, high], [low, high], color=FAINT, linewidth=0.8, linestyle=(0, (6, 3)), zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    title(axes, "Target and achieved sparsity")
    axes.set_xlabel("target sparsity")
    axes.set_ylabel("achieved sparsity")
    methods_legend(canvas, slots, ONE_COLUMN)
