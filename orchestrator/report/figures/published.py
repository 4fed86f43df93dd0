"""Published points in print: hollow markers beside a scene's curves, and their rows in its data."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from orchestrator.report.figures.plot import Row
from orchestrator.report.figures.style import colour, marker
from orchestrator.report.findings import Findings
from orchestrator.report.panels.curve_data import published_beside, published_slots
from orchestrator.report.scenes import Curve, Scene

PART = "published"


def published_rows(
    findings: Findings, scene: Scene, group: Sequence[Curve], metric: str
) -> tuple[list[Row], str]:
    """The published points of a scene that have the metric, each by its source's own number of edges (None
    where the source does not say it), and what ends a caption: it brings its own full stop."""
    points, told = published_beside(findings, scene, group, [metric])
    rows: list[Row] = [
        {
            "part": PART,
            "method": f"{PART}: {point.method}",
            "num_edges": point.num_edges,
            "sparsity": point.sparsity,
            "value": point.metrics[metric],
            "source": point.source,
        }
        for point in points
    ]
    about = " ".join([". Hollow markers: published circuits.", *told]).removesuffix(".")
    return rows, about if rows else ""


def hollow_slots(findings: Findings, rows: Sequence[Row], across: str) -> dict[str, int]:
    """Colour and marker of the published points among the rows that have a place, by name."""
    names = sorted({str(row["method"]) for row in _placed(rows, across)})
    slots = published_slots(findings, [name.removeprefix(f"{PART}: ") for name in names])
    return {name: slots[name.removeprefix(f"{PART}: ")] for name in names}


def draw_published(
    axes: Axes, slots: Mapping[str, int], rows: Sequence[Row], across: str, floor: float = -np.inf
) -> None:
    """Those of the rows that have a place; values below `floor` at it."""
    for method, slot in slots.items():
        own = [row for row in _placed(rows, across) if row["method"] == method]
        x, y = (np.array([row[name] for row in own], dtype=np.float64) for name in (across, "value"))
        look = {"facecolors": "none", "edgecolors": colour(slot), "linewidths": 0.9, "zorder": 2}
        axes.scatter(x, np.maximum(y, floor), s=16, marker=marker(slot), **look)


def _placed(rows: Sequence[Row], across: str) -> Iterator[Row]:
    return (row for row in rows if row["part"] == PART and row[across] is not None)
