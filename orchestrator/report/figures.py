"""The figure for papers: every scene's curves, bands and fronts as pareto.png and pareto.pdf."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in
from orchestrator.report.panels.curves import FLOOR, divergence_range
from orchestrator.report.scenes import Curve, Scene

# Okabe and Ito's palette: told apart by colour-blind readers. Markers and dashes tell the methods
# apart in grey. The same order as in report/assets/core.js.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "X", "v", "*", "p")
DASHES = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (5, 2, 1, 2)),
    (0, (8, 2)),
    (0, (3, 2)),
    (0, (8, 2, 1, 2)),
    "-",
)

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E6EA",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
}
_LABEL: dict[str, Any] = {"textcoords": "offset points", "color": "#667085", "size": 7}


def write_figure(findings: Findings, png: Path, pdf: Path) -> None:
    """Draws all scenes into one figure. The same findings give the same bytes."""
    with rc_context(_STYLE):
        figure = _figure(findings)
        figure.savefig(png, dpi=200, metadata={"Software": None})
        figure.savefig(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})


def _figure(findings: Findings) -> Figure:
    scenes = list(findings.scenes.items())
    columns = 2 if len(scenes) in (2, 4) else max(1, min(3, len(scenes)))
    rows = max(1, -(-len(scenes) // columns))
    figure = Figure(figsize=(4.6 * columns, 3.3 * rows + 0.45), layout="constrained")
    if not scenes:
        figure.text(0.5, 0.5, "No circuits yet", ha="center", va="center", color="#667085", size=12)
        return figure
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (scene, curves) in zip(grid, scenes, strict=False):
        _scene(findings, axes, scene, curves)
    for axes in grid[len(scenes) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=_colour(slot), marker=_marker(slot), linestyle=_dash(slot), markersize=4.5)
        for slot in findings.slots.values()
    ]
    names = [_literal(name) for name in findings.slots]
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _scene(findings: Findings, axes: Axes, scene: Scene, curves: Sequence[Curve]) -> None:
    most = max(int(curve.num_edges.max()) for curve in curves)
    for curve in curves:
        _curve(findings, axes, curve, most)
    empties = [curve.empty for curve in curves if np.isfinite(curve.empty)]
    if empties:
        level = max(empties[0], FLOOR)
        axes.axhline(level, color="#98A2B3", linewidth=0.8, linestyle=(0, (6, 3)), zorder=1)
        axes.annotate("empty circuit", (1, level), (-2, 2), ("axes fraction", "data"), ha="right", **_LABEL)
    low, high = divergence_range(curves)
    # Before the scale, which would look for limits of its own and find none where all is at the floor.
    axes.set_ylim(max(low, FLOOR) / 1.6, max(high, FLOOR) * 1.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(_literal(findings.titles[scene]), loc="left", size=9, weight="bold")
    axes.set_xlabel(f"edges kept, of {scene.num_edges_total:,}")
    note = f" (≤ {FLOOR:.0e} drawn at {FLOOR:.0e})" if low <= FLOOR else ""
    axes.set_ylabel(f"test {_literal(measured_in(scene.divergence))}{note}")
    for axis, (start, end) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if end / start < 300:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
    known = next((truth for truth in map(findings.ground_truth, curves) if truth is not None), None)
    if known is not None:
        axes.axvline(len(known), color="#98A2B3", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        place = (len(known), 0.0)
        label = f"known circuit: {len(known)}"
        axes.annotate(label, place, (2, 4), ("data", "axes fraction"), rotation=90, **_LABEL)


def _curve(findings: Findings, axes: Axes, curve: Curve, most: int) -> None:
    slot = findings.slots[curve.method]
    colour = _colour(slot)
    bands = curve.bands
    shown = bands.budgets <= most
    budgets = bands.budgets[shown]
    low, middle, high = (
        _floored(values[shown]) for values in (bands.quartile_1, bands.median, bands.quartile_3)
    )
    if len(curve.all_seeds) > 1:
        axes.fill_between(budgets, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
    axes.plot(budgets, middle, drawstyle="steps-post", color=colour, linestyle=_dash(slot), linewidth=1.4)
    edges, test = np.maximum(curve.num_edges, 1), _floored(curve.test)
    axes.scatter(edges, test, s=7, color=colour, marker=_marker(slot), alpha=0.35, linewidths=0)
    axes.scatter(
        edges[curve.front],
        test[curve.front],
        s=26,
        color=colour,
        marker=_marker(slot),
        edgecolors="white",
        linewidths=0.6,
        zorder=3,
    )


def _floored(values: np.ndarray) -> np.ndarray:
    """Values for a logarithmic axis; what is not finite is not drawn."""
    return np.maximum(np.where(np.isfinite(values), values, np.nan), FLOOR)


def _colour(slot: int) -> str:
    return COLOURS[slot % len(COLOURS)]


def _marker(slot: int) -> str:
    return MARKERS[slot % len(MARKERS)]


def _dash(slot: int) -> Any:
    return DASHES[slot % len(DASHES)]


def _literal(name: str) -> str:
    """A name as matplotlib text: one line, no mathematics."""
    return " ".join(name.split()).replace("$", r"\$")
