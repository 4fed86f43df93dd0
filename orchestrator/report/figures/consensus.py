"""Overlap of circuits, for print: IoU of every two seeds of a scene's methods at one edge budget."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from orchestrator.report.figures.curves import identity
from orchestrator.report.figures.plot import Plot, Row
from orchestrator.report.figures.style import ONE_COLUMN, STYLE, label, wrapped
from orchestrator.report.findings import Findings
from orchestrator.report.kept import KeptEdges
from orchestrator.report.panels.consensus import (
    Seeds,
    at_budget,
    edge_budgets_of,
    membership,
    reference_budget,
)
from orchestrator.report.scenes import Curve, Scene
from orchestrator.report.thinning import evenly
from orchestrator.statistics.consensus import iou_matrix
from orchestrator.wording import count

# Circuits of a scene in one matrix: its methods in order, their seeds in order, as many of each method.
CIRCUITS = 60
# Methods named at the axes; more are numbered, and named below.
NAMED = 5

COLUMNS = ("method", "seed", "other_method", "other_seed", "iou")


def between_seeds(findings: Findings) -> list[Plot]:
    kept = KeptEdges(findings.results)
    plots = (_plot(findings, scene, group, kept) for scene, group in findings.scenes.items())
    return [plot for plot in plots if plot is not None]


def _plot(findings: Findings, scene: Scene, group: Sequence[Curve], kept: KeptEdges) -> Plot | None:
    """None for a scene without two circuits to compare."""
    truth = next((known for known in map(findings.ground_truth, group) if known is not None), None)
    known = None if truth is None else len(truth)
    budgets = edge_budgets_of(group, known)
    if not budgets:
        return None
    budget = reference_budget(group, {size: [_seeds(c, size) for c in group] for size in budgets}, known)
    found = [at_budget(curve, budget, kept) for curve in group]
    share = max(2, CIRCUITS // len(found))
    named = [
        (one.curve.method, seed, circuit)
        for one in found
        for seed, circuit in evenly(list(zip(one.seeds, one.circuits, strict=True)), share)
    ]
    if len(named) < 2:
        return None
    most = max(len(one.seeds) for one in found)
    thinned = f" · {share} of the up to {most} seeds of each method" if most > share else ""
    values = iou_matrix(membership([circuit for _, _, circuit in named]))
    rows: list[Row] = [
        {"method": method, "seed": seed, "other_method": other, "other_seed": beside, "iou": _share(value)}
        for (method, seed, _), line in zip(named, values.tolist(), strict=True)
        for (other, beside, _), value in zip(named, line, strict=True)
    ]
    return Plot(
        kind="consensus",
        about=f"{scene.model} {scene.task}",
        identity=identity(scene),
        title=findings.titles[scene],
        details=f"At most {count(budget, 'edge')}{thinned} · {scene.details}",
        columns=COLUMNS,
        rows=rows,
        size=(ONE_COLUMN, 3.2 + _legend_height(len({method for method, _, _ in named}))),
        draw=partial(_draw, f"{findings.titles[scene]} · at most {count(budget, 'edge')}"),
    )


def _seeds(curve: Curve, budget: int) -> Seeds:
    """The seeds that have a circuit, without reading it."""
    having = tuple(seed for seed in curve.all_seeds if curve.best_of_seed(seed, budget) is not None)
    return Seeds(curve, budget, having, ())


def _share(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _legend_height(methods: int) -> float:
    """Inches that the names of numbered methods take."""
    return 0.12 + 0.155 * methods if methods > NAMED else 0.0


def _draw(about: str, canvas: Figure | SubFigure, rows: Sequence[Row]) -> None:
    axes = canvas.subplots()
    names = list(dict.fromkeys((str(row["method"]), row["seed"]) for row in rows))
    size = len(names)
    values = np.array([np.nan if row["iou"] is None else row["iou"] for row in rows], dtype=np.float64)
    matrix = values.reshape(size, size)
    shown = axes.pcolormesh(np.arange(size + 1), np.arange(size + 1), matrix, cmap="Greys", vmin=0, vmax=1)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.grid(False)
    methods = list(dict.fromkeys(method for method, _ in names))
    starts = [next(place for place, (own, _) in enumerate(names) if own == method) for method in methods]
    ends = [*starts[1:], size]
    for edge in starts[1:]:
        axes.axhline(edge, color="#D55E00", linewidth=0.7)
        axes.axvline(edge, color="#D55E00", linewidth=0.7)
    middles = [(start + end) / 2 for start, end in zip(starts, ends, strict=True)]
    if len(methods) <= NAMED:
        told = [wrapped(method, 20, 3) for method in methods]
        axes.set_yticks(middles, told)
        axes.set_xticks(middles, told, rotation=35, ha="right", rotation_mode="anchor")
    else:
        axes.set_yticks(middles, [str(number) for number in range(1, len(methods) + 1)])
        axes.set_xticks(middles, [str(number) for number in range(1, len(methods) + 1)])
        named = [f"{number}  {label(method)}" for number, method in enumerate(methods, 1)]
        handles = [Line2D([], [], linestyle="") for _ in named]
        canvas.legend(handles, named, loc="lower center", handlelength=0, handletextpad=0)
    axes.tick_params(length=0)
    canvas.colorbar(shown, cax=axes.inset_axes((1.04, 0.1, 0.05, 0.8)), label="IoU")
    # Over the whole figure: the matrix is too narrow for it.
    canvas.suptitle(wrapped(about, 46, 3), x=0.02, ha="left", size=STYLE["axes.titlesize"])
