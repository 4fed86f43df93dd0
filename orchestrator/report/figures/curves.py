"""Pareto curves for print: a scene's divergence against its edges and against its sparsity."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from orchestrator.report.figures.plot import Plot, Row
from orchestrator.report.figures.published import PART, draw_published, hollow_slots, published_rows
from orchestrator.report.figures.style import (
    FAINT,
    NOTE,
    ONE_COLUMN,
    colour,
    dash,
    label,
    legend_height,
    log_ticks,
    marker,
    methods_legend,
    share_axis,
    title,
)
from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in
from orchestrator.report.panels.curve_data import FLOOR, divergence_range
from orchestrator.report.scenes import Curve, Scene
from orchestrator.report.thinning import evenly
from orchestrator.statistics.pareto import Bands, Floats

# Circuits drawn of a curve, besides its front; points.parquet holds all.
CIRCUITS = 300

COLUMNS = (
    "part",
    "method",
    "num_edges",
    "sparsity",
    "value",
    "low",
    "high",
    "num_seeds",
    "seed",
    "trial_id",
    "source",
)


def against_edges(findings: Findings) -> list[Plot]:
    return [_plot(findings, scene, "num_edges") for scene in findings.scenes]


def against_sparsity(findings: Findings) -> list[Plot]:
    return [_plot(findings, scene, "sparsity") for scene in findings.scenes]


def identity(scene: Scene) -> tuple[str, ...]:
    return tuple(str(value) for value in vars(scene).values())


def slots_of(findings: Findings, group: Sequence[Curve]) -> dict[str, int]:
    return {curve.method: findings.slots[curve.method] for curve in group}


def _plot(findings: Findings, scene: Scene, across: str) -> Plot:
    group = findings.scenes[scene]
    rows = [row for curve in group for row in curve_rows(curve, curve.test, curve.bands)]
    rows += reference_rows(findings, group)
    published, told = published_rows(findings, scene, group, scene.divergence)
    rows += published
    slots = slots_of(findings, group)
    return Plot(
        kind="curve" if across == "num_edges" else "sparsity",
        about=f"{scene.model} {scene.task}",
        identity=identity(scene),
        title=findings.titles[scene],
        details=f"{scene.details}{told}",
        columns=COLUMNS,
        rows=rows,
        size=(ONE_COLUMN, 2.45 + legend_height(slots | hollow_slots(findings, rows, across), ONE_COLUMN)),
        draw=partial(_draw, findings, scene, slots, across),
    )


def curve_rows(curve: Curve, values: Floats, bands: Bands) -> Iterator[Row]:
    """A curve as rows: `band` (median, quartiles and seeds at each size that was evaluated; one seed has no
    quartiles), `seed` (what the bands are made of), `circuit`, `front`. What is not finite is not drawn."""
    total = curve.scene.num_edges_total
    for place in np.flatnonzero(np.isin(bands.budgets, curve.num_edges) & np.isfinite(bands.median)):
        edges = int(bands.budgets[place])
        low, middle, high = (finite(of[place]) for of in (bands.quartile_1, bands.median, bands.quartile_3))
        low, high = (low, high) if bands.num_seeds[place] > 1 else (None, None)
        where: Row = {
            "num_edges": edges,
            "sparsity": 1 - edges / total,
            "num_seeds": int(bands.num_seeds[place]),
        }
        yield {"part": "band", "method": curve.method, **where, "value": middle, "low": low, "high": high}
    yield from _seed_rows(curve, values, bands)
    by_size = np.argsort(curve.num_edges, kind="stable").tolist()
    on_front = set(curve.front.tolist())
    for index in sorted({*on_front, *evenly(by_size, CIRCUITS)}):
        if np.isfinite(values[index]):
            edges = int(curve.num_edges[index])
            yield {
                "part": "front" if index in on_front else "circuit",
                "method": curve.method,
                "num_edges": edges,
                "sparsity": 1 - edges / total,
                "value": float(values[index]),
                "seed": int(curve.seeds[index]),
                "trial_id": curve.rows[index]["trial_id"],
            }


def _seed_rows(curve: Curve, values: Floats, bands: Bands) -> Iterator[Row]:
    """Each seed's best circuit at each size that a band has, with its value; of several seeds alone."""
    if len(curve.all_seeds) < 2:
        return
    sizes = bands.budgets[np.isin(bands.budgets, curve.num_edges) & np.isfinite(bands.median)]
    chosen = curve.choices(sizes)
    for place, size in enumerate(sizes.tolist()):
        for row in chosen[chosen[:, place] >= 0, place].tolist():
            yield {
                "part": "seed",
                "method": curve.method,
                "num_edges": size,
                "sparsity": 1 - size / curve.scene.num_edges_total,
                "value": finite(float(values[row])),
                "seed": int(curve.seeds[row]),
                "trial_id": curve.rows[row]["trial_id"],
            }


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def reference_rows(findings: Findings, group: Sequence[Curve]) -> Iterator[Row]:
    """The empty circuit's divergence and the size of the known circuit, where there are any."""
    total = group[0].scene.num_edges_total
    if np.isfinite(group[0].empty):
        yield {"part": "empty circuit", "num_edges": 0, "sparsity": 1.0, "value": float(group[0].empty)}
    truth = next((t for t in map(findings.ground_truth, group) if t is not None), None)
    if truth is not None:
        yield {"part": "known circuit", "num_edges": len(truth), "sparsity": 1 - len(truth) / total}


def _draw(
    findings: Findings,
    scene: Scene,
    slots: dict[str, int],
    across: str,
    canvas: Figure | SubFigure,
    rows: Sequence[Row],
) -> None:
    axes = canvas.subplots()
    divergence_axes(axes, findings, scene, rows, across)
    if across == "num_edges":
        share_axis(axes, scene.num_edges_total)
    methods_legend(canvas, slots, ONE_COLUMN, hollow_slots(findings, rows, across))


def divergence_axes(axes: Axes, findings: Findings, scene: Scene, rows: Sequence[Row], across: str) -> None:
    """A scene on a logarithmic axis of divergence."""
    low, high = divergence_range(findings.scenes[scene])
    beside = [float(row["value"] or 0) for row in rows if row["part"] == PART]
    low, high = min([low, *beside]), max([high, *beside])
    # Before the scale, which would look for limits of its own and find none where all is at the floor.
    axes.set_ylim(max(low, FLOOR) / 1.6, max(high, FLOOR) * 1.8)
    axes.set_yscale("log")
    if across == "num_edges":
        axes.set_xscale("log")
    draw_curves(axes, findings, rows, across, floor=FLOOR)
    draw_published(axes, hollow_slots(findings, rows, across), rows, across, FLOOR)
    references(axes, rows, across)
    title(axes, findings.titles[scene])
    axes.set_xlabel(across_label(scene, across))
    axes.set_ylabel(f"test {label(measured_in(scene.divergence), 30)}")
    log_ticks(axes, floor=FLOOR)


def across_label(scene: Scene, across: str) -> str:
    if across == "sparsity":
        return f"sparsity (share of {scene.num_edges_total:,} edges cut)"
    return f"edges kept, of {scene.num_edges_total:,}"


def draw_curves(
    axes: Axes, findings: Findings, rows: Sequence[Row], across: str, floor: float | None = None
) -> None:
    """All bands, circuits and fronts of `rows`; with a `floor`, values below it at it."""
    measured = [row for row in rows if row.get("method") is not None and row["part"] != PART]
    for method in dict.fromkeys(str(row["method"]) for row in measured):
        slot = findings.slots[method]
        tint, shape = colour(slot), marker(slot)
        own = [row for row in measured if row["method"] == method]
        band = [row for row in own if row["part"] == "band"]
        x = _numbers(band, across)
        low, middle, high = (_floored(_numbers(band, name), floor) for name in ("low", "value", "high"))
        if np.max(_numbers(band, "num_seeds"), initial=0) > 1:
            axes.fill_between(x, low, high, step="post", color=tint, alpha=0.18, linewidth=0)
        axes.plot(x, middle, drawstyle="steps-post", color=tint, linestyle=dash(slot), linewidth=1.2)
        for part, style in _CIRCUIT_STYLES.items():
            some = [row for row in own if row["part"] == part]
            edges = _numbers(some, across)
            edges = np.maximum(edges, 1) if across == "num_edges" else edges
            axes.scatter(edges, _floored(_numbers(some, "value"), floor), color=tint, marker=shape, **style)


_CIRCUIT_STYLES = {
    "circuit": {"s": 5, "alpha": 0.35, "linewidths": 0},
    "front": {"s": 20, "edgecolors": "white", "linewidths": 0.5, "zorder": 3},
}


def references(axes: Axes, rows: Sequence[Row], across: str) -> None:
    for row in rows:
        if row["part"] == "empty circuit":
            level = max(float(row["value"] or 0), FLOOR)
            axes.axhline(level, color=FAINT, linewidth=0.7, linestyle=(0, (6, 3)), zorder=1)
            place, units = (1, level), ("axes fraction", "data")
            axes.annotate("empty circuit", place, (-2, 2), xycoords=units, ha="right", **NOTE)
        if row["part"] == "known circuit":
            at = max(float(row[across] or 0), 1) if across == "num_edges" else float(row[across] or 0)
            axes.axvline(at, color=FAINT, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
            told, units = f"known circuit: {row['num_edges']}", ("data", "axes fraction")
            # On the side of sparser circuits, and above the floor: few curves come there.
            side, shift = ("right", -2) if across == "num_edges" else ("left", 2)
            place = {"rotation": 90, "va": "bottom", "ha": side}
            axes.annotate(told, (at, 0.1), (shift, 0), xycoords=units, **place, **NOTE)


def _numbers(rows: Sequence[Row], name: str) -> Floats:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _floored(values: Floats, floor: float | None) -> Floats:
    return values if floor is None else np.maximum(values, floor)
