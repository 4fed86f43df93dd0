"""Every other test metric against edges, with normalised faithfulness on the right."""

import json
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike

from orchestrator.report.figures.curves import (
    COLUMNS,
    across_label,
    curve_rows,
    draw_curves,
    identity,
    slots_of,
)
from orchestrator.report.figures.plot import Plot, Row
from orchestrator.report.figures.published import draw_published, hollow_slots, published_rows
from orchestrator.report.figures.style import (
    FAINT,
    NOTE,
    ONE_COLUMN,
    label,
    legend_height,
    log_ticks,
    methods_legend,
    share_axis,
    title,
)
from orchestrator.report.findings import SCENE_COLUMNS, Findings
from orchestrator.report.metric_words import measured_in, words
from orchestrator.report.scenes import Curve, Scene
from orchestrator.statistics.pareto import Floats, bands, edge_budgets, seed_choices

# Within this of 1, a circuit's faithfulness is good; tinted in the figure.
NEAR = 0.1


def has_other_metrics(findings: Findings) -> bool:
    return any(_measured(scene, group) for scene, group in findings.scenes.items())


def other_metrics(findings: Findings) -> list[Plot]:
    return [
        _plot(findings, scene, group, metric)
        for scene, group in findings.scenes.items()
        for metric in _measured(scene, group)
    ]


def _measured(scene: Scene, group: Sequence[Curve]) -> list[str]:
    """Test metrics of a scene besides its divergence, by name."""
    columns = set(group[0].rows[0]) - {"test_set", f"test_{scene.divergence}"}
    names = sorted(name for name in columns if name.startswith("test_"))
    rows = [row for curve in group for row in curve.rows]
    finite = (name for name in names if any(_finite(row[name]) for row in rows))
    return [name.removeprefix("test_") for name in finite]


def _plot(findings: Findings, scene: Scene, group: Sequence[Curve], metric: str) -> Plot:
    rows: list[Row] = []
    for curve in group:
        values = np.array([_number(row[f"test_{metric}"]) for row in curve.rows])
        known = np.isfinite(values)
        if known.any():
            budgets = edge_budgets(scene.num_edges_total, curve.num_edges[known])
            own = (curve.num_edges[known], curve.validation[known], curve.seeds[known])
            choices = seed_choices(*own, budgets, curve.rounding)
            rows += curve_rows(curve, values, bands(values[known], choices, budgets))
    rows += _ends(findings, scene, metric)
    published, told = published_rows(findings, scene, group, metric)
    rows += published
    slots = slots_of(findings, group)
    hollow = hollow_slots(findings, rows, "num_edges")
    return Plot(
        kind="metric",
        about=f"{metric} {scene.model} {scene.task}",
        identity=(*identity(scene), metric),
        title=f"{findings.titles[scene]}: {words(metric)}",
        details=f"{words(metric)} · {scene.details}{told}",
        columns=COLUMNS,
        rows=rows,
        size=(ONE_COLUMN, 2.45 + legend_height(slots | hollow, ONE_COLUMN)),
        draw=partial(_draw, findings, scene, metric, slots),
    )


def _ends(findings: Findings, scene: Scene, metric: str) -> Iterator[Row]:
    """What the full model and the empty circuit reach, as medians over the scene's trials."""
    trials = [
        row
        for row in findings.with_status("complete")
        if all(row[name] == getattr(scene, name) for name in SCENE_COLUMNS)
        and row["num_edges_total"] == scene.num_edges_total
    ]
    for part, column in (("full model", "full"), ("empty circuit", "empty")):
        measured = (json.loads(row[column] or "{}").get("test", {}).get(metric) for row in trials)
        finite = [float(value) for value in measured if _finite(value)]
        if finite:
            yield {"part": part, "value": float(np.median(finite))}


def _draw(
    findings: Findings,
    scene: Scene,
    metric: str,
    slots: dict[str, int],
    canvas: Figure | SubFigure,
    rows: Sequence[Row],
) -> None:
    axes = canvas.subplots()
    axes.set_xscale("log")
    draw_curves(axes, findings, rows, "num_edges")
    hollow = hollow_slots(findings, rows, "num_edges")
    draw_published(axes, hollow, rows, "num_edges")
    ends = {str(row["part"]): float(row["value"] or 0) for row in rows if row.get("method") is None}
    for name, value in ends.items():
        axes.axhline(value, color=FAINT, linewidth=0.7, linestyle=(0, (6, 3)), zorder=1)
        place, units = (1, value), ("axes fraction", "data")
        axes.annotate(name, place, (-2, 2), xycoords=units, ha="right", **NOTE)
    axes.margins(y=0.08)
    title(axes, findings.titles[scene])
    axes.set_xlabel(across_label(scene, "num_edges"))
    axes.set_ylabel(f"test {label(measured_in(metric), 30)}")
    log_ticks(axes)
    share_axis(axes, scene.num_edges_total)
    if len(ends) == 2 and ends["full model"] != ends["empty circuit"]:
        _faithfulness_axis(axes, ends["full model"], ends["empty circuit"])
    methods_legend(canvas, slots, ONE_COLUMN, hollow)


def _faithfulness_axis(axes: Axes, full: float, empty: float) -> None:
    """(Mueller et al. 2025, MIB): f = (m(C) − m(∅)) / (m(M) − m(∅)), linear in the metric m."""
    span = full - empty
    limits = axes.get_ylim()
    axes.axhspan(full - NEAR * span, full + NEAR * span, color=FAINT, alpha=0.18, linewidth=0, zorder=0)
    axes.set_ylim(*limits)

    def share(value: ArrayLike) -> Floats:
        return (np.asarray(value, dtype=np.float64) - empty) / span

    def metric(value: ArrayLike) -> Floats:
        return empty + np.asarray(value, dtype=np.float64) * span

    beside = axes.secondary_yaxis("right", functions=(share, metric))
    beside.set_ylabel("faithfulness f")
    beside.spines["right"].set_visible(True)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _finite(value: object) -> bool:
    return bool(np.isfinite(_number(value)))
