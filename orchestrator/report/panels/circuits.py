"""Circuits: the circuits on the fronts, drawn or summarised, one view of them all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.circuits.paths import Edge
from orchestrator.report.codes import rising
from orchestrator.report.drawn import KINDS, ORIGINS, Graph, drawing, layer_of, stability, summary
from orchestrator.report.findings import Findings
from orchestrator.report.kept import KeptEdges, Scores, nearest_of_seed, seed_front
from orchestrator.report.metric_words import measured_in
from orchestrator.report.panels.blocks import Block, CircuitsView, Paragraph
from orchestrator.report.panels.curves import evenly
from orchestrator.report.scenes import Curve, Scene
from orchestrator.wording import count

# Larger circuits are summarised: a drawing of more edges shows nothing.
DRAWN_EDGES = 800
# Characters of data; what does not fit is left out and told.
BUDGET = 380_000
PER_EDGE, PER_CIRCUIT, PER_SUMMARY = 5, 240, 1500
ON_FRONT, ON_SEED_FRONT = 40, 12

KEY = (
    f"Circuits of at most {DRAWN_EDGES} edges are drawn; of larger ones the page shows how many edges lead "
    "from layer to layer. Stability: on how many seeds of the method an edge is kept, counting of every "
    "seed its best circuit by validation with at most as many edges as the circuit shown; of a seed without "
    "a circuit so small, its sparsest one."
)
GraphKey = tuple[str, str, int]
Ref = tuple[str, str, int]  # method, trial, point: one circuit of one curve


@dataclass(frozen=True)
class View:
    """Circuits of one curve, fewest edges first: row indices on the front of all seeds (`seed` None) or
    of one; `on_front` of them were there before some were left out."""

    curve: Curve
    seed: int | None
    rows: tuple[int, ...]
    on_front: int

    @property
    def refs(self) -> list[Ref]:
        return [ref(self.curve, row) for row in self.rows]


def ref(curve: Curve, row: int) -> Ref:
    point = curve.rows[row]
    return curve.method, point["trial_id"], point["point"]


def circuits(findings: Findings) -> Sequence[Block]:
    kept = KeptEdges(findings.results)
    views, left_out = chosen_views(findings)
    readable = [_readable(view, kept) for view in views]
    lost = {one for v, r in zip(views, readable, strict=True) for one in set(v.refs) - set(r.refs)}
    blocks: list[Block] = [Paragraph(KEY, quiet=True)]
    shown = [view for view in readable if view.rows]
    if lost:
        blocks.append(Paragraph(f"{count(len(lost), 'edge list')} could not be read.", quiet=True))
    if left_out:
        told = f"So that the page stays small, {count(left_out, 'front')} of single seeds left out."
        blocks.append(Paragraph(told, quiet=True))
    if not shown:
        blocks.append(Paragraph("No circuit to show: none on a front has a readable edge list."))
        return blocks
    data = _data(findings, kept, shown)
    unscored = sum(
        "top" not in circuit and circuit["n"] > 0 and "edges" in circuit for circuit in data["circuits"]
    )
    if unscored:
        told = f"{count(unscored, 'drawn circuit')} without scores: the circuit's file is missing or damaged."
        blocks.append(Paragraph(told, quiet=True))
    return [*blocks, CircuitsView("circuits-view", "Circuits on the fronts", data)]


def chosen_views(findings: Findings) -> tuple[list[View], int]:
    """The front of each curve, then the fronts of its seeds, as many as the page has room for; and how
    many fronts there was no room for."""
    curves = [curve for group in findings.scenes.values() for curve in group]
    views = [_thinned(curve, None, curve.front.tolist(), ON_FRONT) for curve in curves]
    left = BUDGET
    seen: set[Ref] = set()
    for view in views:
        left -= _cost(view, seen)
    left_out = 0
    most = max((len(curve.all_seeds) for curve in curves), default=0)
    for place in range(most):
        for curve in curves:
            if 1 < len(curve.all_seeds) > place:
                seed = curve.all_seeds[place]
                view = _thinned(curve, seed, seed_front(curve, seed).tolist(), ON_SEED_FRONT)
                cost = _cost(view, set(seen))
                if cost <= left:
                    left -= _cost(view, seen)
                    views.append(view)
                else:
                    left_out += 1
    return [view for view in views if view.rows], left_out


def _thinned(curve: Curve, seed: int | None, rows: list[int], limit: int) -> View:
    return View(curve, seed, tuple(evenly(rows, limit)), len(rows))


def _cost(view: View, seen: set[Ref]) -> int:
    """About how many characters the view's circuits take that were not seen before."""
    new = [row for row in view.rows if ref(view.curve, row) not in seen]
    seen.update(ref(view.curve, row) for row in new)
    sizes = [int(view.curve.num_edges[row]) for row in new]
    return sum(PER_CIRCUIT + PER_EDGE * n if n <= DRAWN_EDGES else PER_SUMMARY for n in sizes)


def _readable(view: View, kept: KeptEdges) -> View:
    rows = tuple(row for row in view.rows if kept.edges(view.curve.rows[row]) is not None)
    return View(view.curve, view.seed, rows, view.on_front)


def graph_key(scene: Scene) -> GraphKey:
    """Scenes with the same one have the same edges."""
    return scene.model, scene.edge_convention, scene.num_edges_total


def _data(findings: Findings, kept: KeptEdges, views: Sequence[View]) -> dict[str, Any]:
    """All that the drawing needs, as JSON values."""
    scores = _scores(kept, views)
    truths = {scene: _truth(findings, group) for scene, group in findings.scenes.items()}
    graphs = {key: _graph(key, kept, views, scores, truths) for key in dict.fromkeys(map(_key_of, views))}
    numbered: dict[Ref, int] = {}
    told: list[dict[str, Any]] = []
    for view in views:
        graph = graphs[_key_of(view)]
        for row in view.rows:
            if ref(view.curve, row) not in numbered:
                numbered[ref(view.curve, row)] = len(told)
                told.append(
                    _circuit(findings, kept, view.curve, row, graph, scores.get(ref(view.curve, row)))
                )
    order = list(graphs)
    scenes = [
        _scene(findings, scene, order.index(graph_key(scene)), truths[scene], graphs, views, numbered)
        for scene in findings.scenes
        if any(view.curve.scene == scene for view in views)
    ]
    return {
        "kinds": list(KINDS), "origins": list(ORIGINS), "drawn": DRAWN_EDGES,
        "graphs": [graph.plain() for graph in graphs.values()], "scenes": scenes, "circuits": told,
    }  # fmt: skip


def _key_of(view: View) -> GraphKey:
    return graph_key(view.curve.scene)


def _small(view: View, row: int) -> bool:
    return int(view.curve.num_edges[row]) <= DRAWN_EDGES


def _scores(kept: KeptEdges, views: Sequence[View]) -> dict[Ref, Scores]:
    """Of the circuits that are drawn; of a graph none of whose circuits is, of one, for its shape."""
    found: dict[Ref, Scores] = {}
    shaped: set[GraphKey] = set()
    ordered = sorted(views, key=lambda view: not any(_small(view, row) for row in view.rows))
    for view in ordered:
        for row in view.rows:
            if ref(view.curve, row) in found or not (_small(view, row) or _key_of(view) not in shaped):
                continue
            scores = kept.scores(view.curve.rows[row])
            if scores is not None:
                found[ref(view.curve, row)] = scores
                shaped.add(_key_of(view))
    return found


def _truth(findings: Findings, group: Iterable[Curve]) -> frozenset[Edge]:
    known = (findings.ground_truth(curve) for curve in group)
    return next((truth for truth in known if truth is not None), frozenset())


def _graph(
    key: GraphKey,
    kept: KeptEdges,
    views: Sequence[View],
    scores: dict[Ref, Scores],
    truths: dict[Scene, frozenset[Edge]],
) -> Graph:
    own = [(view, row) for view in views if _key_of(view) == key for row in view.rows]
    truth = {edge for scene, edges in truths.items() if graph_key(scene) == key for edge in edges}
    numbers = [_numbers(kept, view.curve, row) for view, row in own]
    everything = {kept.names[number] for number in np.unique(np.concatenate(numbers)).tolist()} | truth
    drawn = [found for found, (view, row) in zip(numbers, own, strict=True) if _small(view, row)]
    edges = {kept.names[n] for found in drawn for n in found.tolist()} | truth
    shared = [
        scores[ref(view.curve, row)].heads_per_kv for view, row in own if ref(view.curve, row) in scores
    ]
    layers = {layer_of(name) for name in {name for edge in everything for name in edge}}
    return Graph(frozenset(edges), shared[0] if shared else 1, tuple(sorted(layers)))


def _numbers(kept: KeptEdges, curve: Curve, row: int) -> np.ndarray:
    found = kept.edges(curve.rows[row])
    assert found is not None, "views hold readable circuits"
    return found


def _edges(kept: KeptEdges, curve: Curve, row: int) -> list[Edge]:
    return [kept.names[number] for number in _numbers(kept, curve, row).tolist()]


def _circuit(
    findings: Findings, kept: KeptEdges, curve: Curve, row: int, graph: Graph, scores: Scores | None
) -> dict[str, Any]:
    """One circuit: what it is, how good it is, and its drawing or its summary."""
    point = curve.rows[row]
    edges = _edges(kept, curve, row)
    about = {
        "n": len(edges),
        "about": findings.about(point),
        "trial": point["trial_id"],
        "validation": _number(curve.validation[row]),
        "test": _number(curve.test[row]),
    }
    if len(edges) > DRAWN_EDGES:
        return about | summary(edges, graph.layers)
    nearest = [nearest_of_seed(curve, seed, int(curve.num_edges[row])) for seed in curve.all_seeds]
    others = [
        edges if other == row else [kept.names[n] for n in found.tolist()]
        for other in nearest
        if other is not None and (found := kept.edges(curve.rows[other])) is not None
    ]
    values = scores.of_edges if scores is not None and len(scores.of_edges) == len(edges) else None
    return about | drawing(edges, values, stability(others, graph), graph)


def _scene(
    findings: Findings,
    scene: Scene,
    graph: int,
    truth: frozenset[Edge],
    graphs: dict[GraphKey, Graph],
    views: Sequence[View],
    numbered: dict[Ref, int],
) -> dict[str, Any]:
    numbers = graphs[graph_key(scene)].numbers
    methods = []
    for curve in findings.scenes[scene]:
        own = [view for view in views if view.curve is curve]
        if own:
            told = [_view(findings, view, numbered) for view in own]
            methods.append({"name": curve.method, "slot": findings.slots[curve.method], "views": told})
    return {
        "title": findings.titles[scene],
        "graph": graph,
        "total": scene.num_edges_total,
        "divergence": measured_in(scene.divergence),
        "truth": rising(numbers[edge] for edge in truth) if truth else None,
        "methods": methods,
    }


def _view(findings: Findings, view: View, numbered: dict[Ref, int]) -> dict[str, Any]:
    """`start` is the sparsest faithful circuit that is drawn, else the largest that is, else the first."""
    drawn = np.flatnonzero(view.curve.num_edges[list(view.rows)] <= DRAWN_EDGES)
    within = drawn[view.curve.validation[list(view.rows)][drawn] <= findings.epsilon]
    start = int(within[0]) if len(within) else int(drawn[-1]) if len(drawn) else 0
    return {
        "seed": view.seed,
        "circuits": [numbered[ref(view.curve, row)] for row in view.rows],
        "on_front": view.on_front,
        "start": start,
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
