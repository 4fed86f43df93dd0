"""Circuits: the circuits on the fronts, drawn or summarised, one view of them all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.circuits.paths import Edge
from orchestrator.report.codes import members
from orchestrator.report.drawn import KINDS, ORIGINS, Graph, detail, drawing, layer_of, summary
from orchestrator.report.findings import Findings
from orchestrator.report.kept import KeptEdges
from orchestrator.report.metric_words import measured_in
from orchestrator.report.panels.blocks import Block, CircuitsView, Paragraph
from orchestrator.report.room import Held, Ref, Room, View, ref, room
from orchestrator.report.scenes import Curve, Scene
from orchestrator.statistics.pareto import Ints
from orchestrator.wording import count

# Larger circuits are shown by their strongest edges at first.
DRAWN_EDGES = 800
# Circuits and fronts told by name, of those that there is no room for.
NAMED = 8

KEY = (
    f"Every circuit on a front: the slider goes along it. Of circuits with more than {DRAWN_EDGES} edges "
    "those with the highest scores are drawn at first; the filters show others, or all. Stability: on how "
    "many seeds of the method an edge is kept, counting of every seed its best circuit by validation with at "
    "most as many edges as the circuit shown; of a seed without a circuit so small, its sparsest one."
)
GraphKey = tuple[str, str, int]


def circuits(findings: Findings) -> Sequence[Block]:
    kept = KeptEdges(findings.results)
    given = room(findings)
    readable = [_readable(view, kept) for view in given.views]
    lost = {one for v, r in zip(given.views, readable, strict=True) for one in set(v.sizes) - set(r.sizes)}
    blocks: list[Block] = [Paragraph(KEY, quiet=True)]
    shown = [view for view in readable if view.rows]
    if lost:
        blocks.append(Paragraph(f"{count(len(lost), 'edge list')} could not be read.", quiet=True))
    blocks += [Paragraph(told, quiet=True) for told in _left_out(findings, given)]
    if not shown:
        blocks.append(Paragraph("No circuit to show: none on a front has a readable edge list."))
        return blocks
    data = _data(findings, kept, shown, given.held)
    unscored = sum("of" in one and "top" not in one and one["n"] > 0 for one in data["circuits"])
    if unscored:
        told = f"{count(unscored, 'circuit')} without scores: the circuit's file is missing or damaged."
        blocks.append(Paragraph(told, quiet=True))
    return [*blocks, CircuitsView("circuits-view", "Circuits on the fronts", data)]


def _left_out(findings: Findings, given: Room) -> Iterable[str]:
    """What there was no room for, and how to see it."""
    start = "So that the page stays small"
    also = "circuit-sweep circuit show lists all edges of any circuit with their scores."
    for held, told in ((Held.SUMMARY, "only summarised"), (Held.EDGES, "without scores and stability")):
        found: dict[str, dict[Ref, int]] = {}
        for view in given.views:
            sizes = {one: size.edges for one, size in view.sizes.items() if given.held[one] == held}
            if sizes:
                found.setdefault(_named(findings, view.curve), {}).update(sizes)
        if found:
            number = sum(map(len, found.values()))
            which = _some(
                (
                    f"{name} ({_some(map(count, sorted(sizes.values())))} edges)"
                    for name, sizes in found.items()
                ),
                "; ",
            )
            yield f"{start}, {count(number, 'circuit')} {told}: {which}. {also}"
    if given.left_out:
        seeds: dict[str, list[str]] = {}
        for view in given.left_out:
            seeds.setdefault(_named(findings, view.curve), []).append(str(view.seed))
        which = _some(
            (f"{name}, seed{'s' * (len(own) > 1)} {_some(own)}" for name, own in seeds.items()), "; "
        )
        yield f"{start}, {count(len(given.left_out), 'front')} of single seeds left out: {which}."


def _named(findings: Findings, curve: Curve) -> str:
    """The method, and its scene where there are several."""
    title = findings.titles[curve.scene]
    return f"{curve.method}, {title}" if len(findings.scenes) > 1 else curve.method


def _some(names: Iterable[str], between: str = ", ") -> str:
    listed = list(names)
    more = f"{between}and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return between.join(listed[:NAMED]) + more


def _readable(view: View, kept: KeptEdges) -> View:
    rows = tuple(row for row in view.rows if kept.edges(view.curve.rows[row]) is not None)
    return View(view.curve, view.seed, rows, view.on_front)


def graph_key(scene: Scene) -> GraphKey:
    """Scenes with the same one have the same edges."""
    return scene.model, scene.edge_convention, scene.num_edges_total


def _data(
    findings: Findings, kept: KeptEdges, views: Sequence[View], held: Mapping[Ref, Held]
) -> dict[str, Any]:
    """All that the drawing needs, as JSON values."""
    truths = {scene: _truth(findings, group) for scene, group in findings.scenes.items()}
    graphs = {key: _graph(key, kept, views, truths) for key in dict.fromkeys(map(_key_of, views))}
    places = {key: kept.places(graph.numbers) for key, graph in graphs.items()}
    numbered: dict[Ref, int] = {}
    told: list[dict[str, Any]] = []
    for view in views:
        graph, place = graphs[_key_of(view)], places[_key_of(view)]
        for row in view.rows:
            one = ref(view.curve, row)
            if one not in numbered:
                numbered[one] = len(told)
                about = _about(findings, view.curve, row)
                told.append(about | _circuit(kept, view.curve, row, graph, place, held[one]))
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


def _truth(findings: Findings, group: Iterable[Curve]) -> frozenset[Edge]:
    known = (findings.ground_truth(curve) for curve in group)
    return next((truth for truth in known if truth is not None), frozenset())


def _graph(
    key: GraphKey, kept: KeptEdges, views: Sequence[View], truths: dict[Scene, frozenset[Edge]]
) -> Graph:
    own = [(view.curve, row) for view in views if _key_of(view) == key for row in view.rows]
    truth = {edge for scene, edges in truths.items() if graph_key(scene) == key for edge in edges}
    numbers = np.unique(np.concatenate([_numbers(kept, curve, row) for curve, row in own]))
    # Stability counts circuits that the page need not hold, but only for edges that it does.
    edges = {kept.names[number] for number in numbers.tolist()} | truth
    scored = (kept.scores(curve.rows[row]) for curve, row in own)
    shared = next((found.heads_per_kv for found in scored if found is not None), 1)
    layers = {layer_of(name) for name in {name for edge in edges for name in edge}}
    return Graph(frozenset(edges), shared, tuple(sorted(layers)))


def _numbers(kept: KeptEdges, curve: Curve, row: int) -> Ints:
    found = kept.edges(curve.rows[row])
    assert found is not None, "views hold readable circuits"
    return found


def _about(findings: Findings, curve: Curve, row: int) -> dict[str, Any]:
    """What a circuit is and how good it is."""
    point = curve.rows[row]
    return {
        "about": findings.about(point),
        "trial": point["trial_id"],
        "point": point["point"],
        "seed": point["seed"],
        "validation": _number(curve.validation[row]),
        "test": _number(curve.test[row]),
    }


def _circuit(
    kept: KeptEdges, curve: Curve, row: int, graph: Graph, place: Ints, held: Held
) -> dict[str, Any]:
    """A circuit's size and its drawing, with what is known of its edges where that is held, or its
    summary. `place`: of the edges of `kept` the numbers in the graph."""
    known = _numbers(kept, curve, row)
    if held == Held.SUMMARY:
        return {"n": len(known)} | summary([kept.names[n] for n in known.tolist()], graph.layers)
    edges = place[known]
    told = {"n": len(edges)} | drawing(edges, graph)
    if held == Held.EDGES:
        return told
    nearest = [curve.nearest_of_seed(seed, int(curve.num_edges[row])) for seed in curve.all_seeds]
    found = [
        known if other == row else kept.edges(curve.rows[other]) for other in nearest if other is not None
    ]
    others = [place[other[other < len(place)]] for other in found if other is not None]
    scores = kept.scores(curve.rows[row])
    of_edges = scores.of_edges if scores is not None else None
    return told | detail(edges, of_edges, [other[other >= 0] for other in others], graph)


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
        "truth": members((numbers[edge] for edge in truth), len(numbers)) if truth else None,
        "methods": methods,
    }


def _view(findings: Findings, view: View, numbered: dict[Ref, int]) -> dict[str, Any]:
    """`start` is the sparsest faithful circuit; without one, the largest that is drawn in full, else the
    first."""
    rows = list(view.rows)
    faithful = np.flatnonzero(view.curve.validation[rows] <= findings.epsilon(view.curve.scene))
    drawn = np.flatnonzero(view.curve.num_edges[rows] <= DRAWN_EDGES)
    start = int(faithful[0]) if len(faithful) else int(drawn[-1]) if len(drawn) else 0
    return {
        "seed": view.seed,
        "circuits": [numbered[ref(view.curve, row)] for row in rows],
        "on_front": view.on_front,
        "start": start,
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
