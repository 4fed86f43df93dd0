"""Placement: edges known by name, put on an edge graph. Nothing is skipped in silence.

Where several edges become one (two embeddings merged, query heads that share a key head), the one
edge is kept if any of them is, and takes the highest score. Where one becomes several
(one embedding split, a key head copied to its query heads), each takes its score. Edges that a list
does not name score 0, or as its lowest if that is less.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph
from orchestrator.circuits.edge_list import Edge, EdgeList, capped
from orchestrator.circuits.names import JOINT
from orchestrator.wording import count
from trainers.spec import SpecError, nearest

Adapt = Literal["merge", "split", "drop"]
LABELS = {"tok_embeds": "tok_embeds", "pos_embeds": "pos_embeds", JOINT: "the one embedding"}


@dataclass(frozen=True)
class Placed:
    circuit: Circuit
    notes: tuple[str, ...] = ()  # what was changed on the way, for the user


def described(graph: EdgeGraph) -> str:
    """`12 layers, 12 heads, 2 embedding writers, maskable: 32,936 edges`."""
    shape = graph.shape
    grouped = f" ({shape.key_value_heads} key/value)" if shape.key_value_heads != shape.query_heads else ""
    parts = [count(shape.layers, "layer"), count(shape.query_heads, "head") + grouped]
    parts.append(count(graph.num_embeddings, "embedding writer"))
    parts += ["parallel residual"] * shape.parallel_residual
    return f"{', '.join(parts)}, {graph.embeddings}: {graph.num_edges:,} edges"


def same_graph(first: EdgeGraph, second: EdgeGraph) -> bool:
    return (first.shape, first.embeddings) == (second.shape, second.embeddings)


def place(edges: EdgeList, graph: EdgeGraph, name: str, adapt: Adapt | None = None) -> Placed:
    """The circuit of named edges on `graph`.

    Raises SpecError that lists every unknown name, node out of range and impossible edge, or that says which
    `--adapt-embeddings` would bridge two embedding conventions.
    """
    lowest = min([0.0, *edges.scores.values()])
    scores = np.full(graph.allowed.shape, -np.inf)
    kept = np.zeros(graph.allowed.shape, dtype=bool)
    problems: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for edge, score in edges.scores.items():
        for writer, reader in _adapted(edge, edges.ungrouped, graph, adapt, problems, changed):
            spot = _spot(writer, reader, graph, problems)
            if spot is not None:
                scores[spot] = max(score, scores[spot])
                kept[spot] |= edge in edges.kept
    _out_of_range(edges, graph, problems)
    if problems or edges.wrong:
        raise SpecError(_refusal(edges, problems, graph, name))
    notes = [f"{name}: {text.format(count(number, 'edge'))}" for text, number in changed.items()]
    if edges.inside:
        notes.append(f"{name}: {count(edges.inside, 'step')} inside heads and MLPs left out (no edges)")
    circuit = Circuit.from_arrays(graph, np.where(np.isinf(scores), lowest, scores), kept)
    if circuit.num_edges and not circuit.connected().num_edges:
        why = (
            ""
            if graph.embeddings == "always_on"
            else "; if embeddings were always on: --embeddings always_on"
        )
        notes.append(f"{name}: no path leads from an embedding to the output{why}")
    return Placed(circuit, tuple(notes))


def carried(circuit: Circuit, graph: EdgeGraph, name: str, adapt: Adapt | None) -> Placed:
    """A circuit on another graph: of another embedding convention, or with grouped heads.

    Raises SpecError when the graphs differ in more, or when `adapt` does not say what to do.
    """
    if same_graph(circuit.graph, graph):
        return Placed(circuit)
    old, new = circuit.graph.shape, graph.shape
    alike = (old.layers, old.query_heads, old.parallel_residual) == (
        new.layers, new.query_heads, new.parallel_residual,
    )  # fmt: skip
    ungrouped = old.key_value_heads == old.query_heads != new.key_value_heads
    lost = circuit.graph.embeddings == "always_on" and graph.embeddings == "maskable"
    if not alike or lost or not (ungrouped or old.key_value_heads == new.key_value_heads):
        hint = "; to leave the embeddings out of both, put it first or give --like, with" if lost else ""
        hint += " --adapt-embeddings drop" if lost else ""
        raise SpecError(
            f"{name}: on another graph ({described(circuit.graph)}; not {described(graph)}){hint}"
        )
    return place(edges_of(circuit, ungrouped), graph, name, adapt)


def edges_of(circuit: Circuit, ungrouped: bool = False) -> EdgeList:
    """Every edge of the circuit's graph by name; a graph's only embedding is called so."""
    graph = circuit.graph
    names = [node.name for node in graph.writers]
    if graph.num_embeddings == 1:
        names[0] = JOINT
    readers = [node.name for node in graph.readers]
    spots = list(zip(*np.nonzero(graph.allowed.numpy()), strict=True))
    scores, kept = circuit.scores.numpy(), circuit.kept.numpy()
    found = {(names[w], readers[r]): float(scores[w, r]) for w, r in spots}
    chosen = {(names[w], readers[r]) for w, r in spots if kept[w, r]}
    return EdgeList(found, chosen, ungrouped)


def _adapted(
    edge: Edge,
    ungrouped: bool,
    graph: EdgeGraph,
    adapt: Adapt | None,
    problems: Counter[str],
    changed: Counter[str],
) -> list[Edge]:
    """The edge under the names of `graph`: none, one or two."""
    writer, reader = edge
    shared = graph.shape.query_heads // graph.shape.key_value_heads
    if ungrouped and shared > 1 and reader[-2:] in (".k", ".v"):
        head, part = reader.rsplit(".", 1)
        layer, number = head.split(".h")
        reader = f"{layer}.h{int(number) // shared}.{part}"
        changed["{} into keys and values of query heads put on the key/value heads they share"] += 1
    if writer not in LABELS:
        return [(writer, reader)]
    if graph.embeddings == "always_on":
        if adapt == "drop":
            changed["{} of embeddings dropped: they are always on here"] += 1
            return []
        problems[f"leave {LABELS[writer]}; embeddings are always on here: --adapt-embeddings drop"] += 1
        return []
    if graph.num_embeddings == 1:
        if writer == "pos_embeds":
            if adapt != "merge":
                problems[
                    "leave pos_embeds; the graph has one embedding writer: --adapt-embeddings merge"
                ] += 1
                return []
            changed["{} of pos_embeds merged into the one embedding writer (highest score)"] += 1
        return [("tok_embeds", reader)]
    if writer == JOINT:
        if adapt != "split":
            problems["leave the one embedding; the graph has two writers: --adapt-embeddings split"] += 1
            return []
        changed["{} of the one embedding copied to tok_embeds and pos_embeds"] += 1
        return [("tok_embeds", reader), ("pos_embeds", reader)]
    return [(writer, reader)]


def _spot(writer: str, reader: str, graph: EdgeGraph, problems: Counter[str]) -> tuple[int, int] | None:
    row, column = graph.writer_index.get(writer), graph.reader_index.get(reader)
    if row is None:
        problems[f"unknown writer {writer}{nearest(writer, graph.writer_index)}"] += 1
    if column is None:
        problems[f"unknown reader {reader}{nearest(reader, graph.reader_index)}"] += 1
    if row is None or column is None:
        return None
    if not graph.allowed[row, column]:
        problems[f"no edge {writer}->{reader}: the reader comes first"] += 1
        return None
    return row, column


def _out_of_range(edges: EdgeList, graph: EdgeGraph, problems: Counter[str]) -> None:
    """Nodes that the graph has not, of edges that are wrong in another way."""
    for end in edges.loose:
        readers = end.role == "reader"
        if end.role != "inner" and end.name not in (*LABELS, *graph.writer_index, *graph.reader_index):
            index = graph.reader_index if readers else graph.writer_index
            role = "reader" if readers else "writer"
            problems[f"unknown {role} {end.name}{nearest(end.name, index)}"] += 1


def _refusal(edges: EdgeList, problems: Counter[str], graph: EdgeGraph, name: str) -> str:
    lines = edges.told()
    for problem, number in problems.items():
        if problem.startswith("leave "):
            lines.append(f"{count(number, 'edge')} {'leaves' if number == 1 else 'leave'} {problem[6:]}")
        else:
            head, mark, hint = problem.partition(" Did")
            times = f" ({count(number, 'edge')})" if number > 1 else ""
            lines.append(f"{head}{times}{'.' if mark else ''}{mark}{hint}")
    return capped(f"{name}: does not fit the graph ({described(graph)})", lines)
