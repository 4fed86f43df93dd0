"""EAP-IG's and MIB's graph JSON: `{"cfg", "nodes", "edges": {"input->a0.h1<q>": {"score", "in_graph"}}}`.

Hanna et al. 2024 (EAP-IG, `Graph.to_json` and `from_json`); MIB's circuit track (Mueller et al.
2025) evaluates such a file as it is. That graph has one input writer and keys and values for every
query head.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from orchestrator.circuits.edge_list import SHOWN, EdgeList
from orchestrator.circuits.placement import described, edges_of, place
from trainers.spec import SpecError


@dataclass(frozen=True)
class MibGraph:
    """The file's content, and what was done to the circuit to fit that graph, for the user."""

    content: bytes
    num_edges: int
    num_edges_total: int
    notes: tuple[str, ...]


def is_mib(data: Any) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(data, dict) and isinstance(data.get("cfg"), dict) and isinstance(data.get("edges"), dict)
    )


def read_mib(data: dict[str, Any], name: str) -> tuple[EdgeList, EdgeGraph]:
    """The edges and the graph that `cfg` describes. Raises SpecError naming what is wrong."""
    cfg, found, wrong = data["cfg"], EdgeList(ungrouped=True), []
    try:
        parallel = bool(cfg.get("parallel_attn_mlp", False))
        shape = Shape(cfg["n_layers"], cfg["n_heads"], cfg["n_heads"], ("tok_embeds",), parallel)
    except (KeyError, ValueError) as error:
        raise SpecError(f"{name}: cfg: {error}; it needs n_layers and n_heads") from None
    for edge, info in data["edges"].items():
        writer, arrow, reader = edge.partition("->")
        score = info.get("score", 0.0) if isinstance(info, dict) else None
        if not arrow or isinstance(score, bool) or not isinstance(score, int | float):
            wrong.append(f"{edge}: found {info!r:.60}; allowed: score and in_graph")
            continue
        problems = found.add(writer, reader, score, bool(info.get("in_graph", False)))
        wrong += [f"{edge}: {problem}" for problem in problems]
    if wrong:
        more = [f"... and {len(wrong) - SHOWN:,} more"] if len(wrong) > SHOWN else []
        raise SpecError("\n  ".join([f"{name}: not an EAP-IG graph", *wrong[:SHOWN], *more]))
    return found, EdgeGraph(shape)


def write_mib(
    circuit: Circuit, width: int, merge: bool, keep_embeddings: bool, ranks: bool, name: str
) -> MibGraph:
    """The circuit as a graph JSON with a score for every edge of MIB's graph.

    `width` is the model's (`d_model`), which the loader wants. `merge` joins two embedding writers,
    `keep_embeddings` puts always-on embeddings above all other edges, `ranks` writes ranks for scores
    if any is below 0, because MIB's evaluation ranks by magnitude unless told otherwise. Raises
    SpecError when one of the first two is needed and not given.
    """
    graph, notes = circuit.graph, []
    always = graph.embeddings == "always_on"
    if always and not keep_embeddings:
        raise SpecError(
            f"{name}: its embeddings are always on, and MIB's graph scores their edges. Run the sweep with "
            "embeddings: maskable, or put them above all other edges: --keep-embeddings"
        )
    if not always and graph.num_embeddings > 1 and not merge:
        raise SpecError(
            f"{name}: the graph has two embedding writers, MIB's has one. Run the sweep with one embedding "
            "writer, or join them (kept if either is, the higher score): --merge-embeddings"
        )
    shape = graph.shape
    target = EdgeGraph(
        Shape(shape.layers, shape.query_heads, shape.query_heads, ("tok_embeds",), shape.parallel_residual)
    )
    edges = edges_of(circuit)
    negative = any(score < 0 for score in edges.scores.values())
    if ranks and negative:
        rank = {score: float(place) for place, score in enumerate(sorted(set(edges.scores.values())))}
        edges.scores = {edge: rank[score] for edge, score in edges.scores.items()}
        notes.append("ranks written for scores (lowest 0), so that order and order by magnitude agree")
    elif negative:
        notes.append("scores below 0 kept; MIB ranks by magnitude unless told otherwise: --rank-scores")
    shared = shape.query_heads // shape.key_value_heads
    if shared > 1:
        edges = _ungrouped(edges, shared)
        notes.append(f"scores of each key/value head copied to its {shared} query heads")
    if always:
        top = 2 * max(map(abs, edges.scores.values()), default=0.0) + 1
        for node in target.readers:
            edges.scores["embeds", node.name] = top
            edges.kept.add(("embeds", node.name))
        notes.append(f"edges of embeddings, which are always on, in the graph with score {top:g}")
    placed = place(edges, target, name, "merge")
    notes += [note.removeprefix(f"{name}: ") for note in placed.notes]
    now = placed.circuit
    notes.append(
        f"counted anew: {now.num_edges:,} of {target.num_edges:,} edges "
        f"(before: {circuit.num_edges:,} of {graph.num_edges:,}; {described(target)})"
    )
    return MibGraph(_content(now, width), now.num_edges, target.num_edges, tuple(notes))


def _ungrouped(edges: EdgeList, shared: int) -> EdgeList:
    """Keys and values told for each query head."""
    copied = EdgeList()
    for (writer, reader), score in edges.scores.items():
        readers = [reader]
        if reader[-2:] in (".k", ".v"):
            head, part = reader.rsplit(".", 1)
            layer, number = head.split(".h")
            first = int(number) * shared
            readers = [f"{layer}.h{first + more}.{part}" for more in range(shared)]
        for one in readers:
            copied.scores[writer, one] = score
            if (writer, reader) in edges.kept:
                copied.kept.add((writer, one))
    return copied


def _content(circuit: Circuit, width: int) -> bytes:
    graph, shape = circuit.graph, circuit.graph.shape
    writers = ["input", *(node.name for node in graph.writers[1:])]
    readers = [_reader(node.name) for node in graph.readers]
    on_path = circuit.nodes | {"logits"} | ({"input"} if circuit.kept[0].any() else set())
    scores, kept = circuit.scores.tolist(), circuit.kept.tolist()
    edges = {
        f"{writers[w]}->{readers[r]}": {"score": scores[w][r], "in_graph": kept[w][r]}
        for w, r in graph.allowed.nonzero().tolist()
    }
    cfg = {
        "n_layers": shape.layers, "n_heads": shape.query_heads,
        "parallel_attn_mlp": shape.parallel_residual, "d_model": width,
    }  # fmt: skip
    nodes = {name: {"in_graph": name in on_path} for name in [*writers, "logits"]}
    return json.dumps({"cfg": cfg, "nodes": nodes, "edges": edges}).encode()


def _reader(name: str) -> str:
    if name == "resid_post":
        return "logits"
    head, _, part = name.rpartition(".")
    return f"{head}<{part}>" if part in ("q", "k", "v") and head else name
