"""Circuits for print: one of each method of a scene, chosen by `_chosen`."""

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure, SubFigure

from orchestrator.circuits.paths import on_paths
from orchestrator.drawing import draw_into, natural_size
from orchestrator.report.figures.curves import identity
from orchestrator.report.figures.plot import Plot, Row
from orchestrator.report.figures.style import label
from orchestrator.report.findings import Findings
from orchestrator.report.kept import KeptEdges
from orchestrator.report.scenes import Curve
from orchestrator.wording import count, percent, significant

# Circuits in a report, and edges of one: of more, a drawing on paper shows nothing.
CIRCUITS = 8
DRAWN_EDGES = 300

COLUMNS = ("writer", "reader", "score", "on_path")


def on_the_fronts(findings: Findings) -> list[Plot]:
    kept, found = KeptEdges(findings.results), list[Plot]()
    for group in findings.scenes.values():
        for curve in group:
            plot = _plot(findings, curve, kept) if len(found) < CIRCUITS else None
            found += [plot] if plot is not None else []
    return found


def has_drawable(findings: Findings) -> bool:
    return any(_chosen(findings, curve) for group in findings.scenes.values() for curve in group)


def _chosen(findings: Findings, curve: Curve) -> tuple[int, str] | None:
    """The row of a curve's circuit and which one that is: the first of these that is small enough."""
    faithful = curve.sparsest(findings.epsilon(curve.scene)).values()
    best = min(faithful, key=lambda row: (curve.num_edges[row], row), default=None)
    small = [row for row in curve.front.tolist() if 0 < curve.num_edges[row] <= DRAWN_EDGES]
    ways = (
        (best, "the sparsest faithful circuit of all seeds"),
        (curve.knee, "the circuit at the knee of the front"),
        (small[-1] if small else None, f"the largest of the front with at most {DRAWN_EDGES} edges"),
    )
    fitting = ((row, which) for row, which in ways if row is not None)
    return next((one for one in fitting if 0 < curve.num_edges[one[0]] <= DRAWN_EDGES), None)


def _plot(findings: Findings, curve: Curve, kept: KeptEdges) -> Plot | None:
    """None where no edge is on a path from the input to the output, or the edge list cannot be read."""
    chosen = _chosen(findings, curve)
    numbers = kept.edges(curve.rows[chosen[0]]) if chosen else None
    if chosen is None or numbers is None:
        return None
    row, which = chosen
    point, scores = curve.rows[row], kept.scores(curve.rows[row])
    shared = scores.heads_per_kv if scores is not None else 1
    edges = [kept.names[number] for number in numbers.tolist()]
    drawn = set(on_paths(edges, shared))
    if not drawn:
        return None
    values = scores.of_edges.tolist() if scores is not None else [None] * len(edges)
    rows: list[Row] = [
        {"writer": edge[0], "reader": edge[1], "score": score, "on_path": int(edge in drawn)}
        for edge, score in zip(edges, values, strict=True)
    ]
    cut = percent(1 - len(edges) / curve.scene.num_edges_total)
    size = f"{count(len(edges), 'edge')} of {curve.scene.num_edges_total:,} ({cut} cut)"
    told = f"{label(curve.method)} · {label(findings.titles[curve.scene])}\n{size}"
    divergences = [significant(float(values[row])) for values in (curve.validation, curve.test)]
    off = len(edges) - len(drawn)
    return Plot(
        kind="circuit",
        about=f"{curve.scene.model} {curve.scene.task} {curve.method}",
        identity=(*identity(curve.scene), curve.method),
        title=f"{curve.method}, {findings.titles[curve.scene]}",
        details=f"{curve.method}, {which}: {size}, validation {divergences[0]}, test {divergences[1]}, "
        f"{findings.about(point)}, trial {point['trial_id']}"
        + f" · not drawn: {count(off, 'edge')} on no path" * bool(off)
        + f" · {curve.scene.details}",
        columns=COLUMNS,
        rows=rows,
        size=natural_size(edges, told, _scores(rows), shared),
        draw=partial(_draw, told, shared),
    )


def _scores(rows: Sequence[Row]) -> list[float]:
    return [1.0 if row["score"] is None else float(row["score"]) for row in rows]


def _draw(title: str, heads_per_kv: int, canvas: Figure | SubFigure, rows: Sequence[Row]) -> None:
    edges = [(str(row["writer"]), str(row["reader"])) for row in rows]
    draw_into(canvas, edges, title, _scores(rows), heads_per_kv)
