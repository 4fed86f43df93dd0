"""Drawn circuits: what the page's drawing of circuits is given. Layout and drawing happen in the page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from orchestrator.circuits.paths import (
    NODE,
    OUTPUT_LAYER,
    Edge,
    kind_of,
    level_of,
    node_of,
    on_paths,
    place_of,
    served,
)
from orchestrator.report import codes
from orchestrator.statistics.pareto import Floats

KINDS = ("q", "k", "v", "mlp", "output")  # of readers
ORIGINS = ("embeddings", "heads", "MLPs")  # kinds of writers
PARTS = {0: "key/value", 1: "heads", 2: "MLP"}
MOST_LAYERS = 200  # rows and columns of a summary


@dataclass(frozen=True)
class Graph:
    """Edges of one model that the page speaks of, by name, and how many query heads share a key or
    value head. Nodes, readers and edges are numbered from the bottom of the model to its output."""

    edges: frozenset[Edge]
    heads_per_kv: int
    layers: tuple[int, ...]  # those of every circuit, drawn or not

    def drawn_node(self, reader: str) -> str:
        """The box that a reader belongs to: `a3.h2`, or `a3.kv1` for a key or value head that several
        query heads share."""
        node = node_of(reader)
        shared = self.heads_per_kv > 1 and kind_of(reader) in ("k", "v") and NODE.fullmatch(node)
        return node.replace(".h", ".kv") if shared else node

    @cached_property
    def nodes(self) -> dict[str, int]:
        found = {writer for writer, _ in self.edges} | {self.drawn_node(reader) for _, reader in self.edges}
        return {name: number for number, name in enumerate(sorted(found, key=place_of))}

    @cached_property
    def readers(self) -> dict[str, int]:
        order = sorted({reader for _, reader in self.edges}, key=self._reader_place)
        return {name: number for number, name in enumerate(order)}

    def _reader_place(self, reader: str) -> tuple[int, int, str]:
        return self.nodes[self.drawn_node(reader)], KINDS.index(kind_of(reader)), reader

    @cached_property
    def numbers(self) -> dict[Edge, int]:
        order = sorted(self.edges, key=lambda edge: (self.nodes[edge[0]], self.readers[edge[1]]))
        return {edge: number for number, edge in enumerate(order)}

    def plain(self) -> dict[str, Any]:
        """As JSON values: `nodes` [name, layer, row], `readers` [name, node, kind, nodes served]."""
        levels = sorted({level_of(name) for name in self.nodes})
        layers = {layer: place for place, layer in enumerate(self.layers)}
        return {
            "layers": [_layer_name(layer) for layer in self.layers],
            "rows": [_row_name(level) for level in levels],
            "nodes": [[name, layers[level_of(name)[0]], levels.index(level_of(name))] for name in self.nodes],
            "readers": [self._reader(name) for name in self.readers],
            "writers": codes.numbers(self.nodes[writer] for writer, _ in self.numbers),
            "into": codes.numbers(self.readers[reader] for _, reader in self.numbers),
        }

    def _reader(self, name: str) -> list[Any]:
        node = self.drawn_node(name)
        serves = [] if node == node_of(name) else served(name, self.heads_per_kv)
        inside = [self.nodes[head] for head in serves if head in self.nodes]
        return [name, self.nodes[node], KINDS.index(kind_of(name)), inside]


@dataclass(frozen=True)
class Stability:
    """On how many of `seeds` edges and nodes are kept, near one edge budget."""

    seeds: int
    edges: dict[Edge, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)


def stability(circuits: Iterable[Sequence[Edge]], graph: Graph) -> Stability:
    """Counts over circuits, one per seed."""
    edges: dict[Edge, int] = {}
    nodes: dict[str, int] = {}
    seeds = 0
    for circuit in circuits:
        seeds += 1
        for edge in circuit:
            edges[edge] = edges.get(edge, 0) + 1
        for node in {writer for writer, _ in circuit} | {graph.drawn_node(reader) for _, reader in circuit}:
            nodes[node] = nodes.get(node, 0) + 1
    return Stability(seeds, edges, nodes)


def drawing(edges: Sequence[Edge], scores: Floats | None, seen: Stability, graph: Graph) -> dict[str, Any]:
    """A circuit that is drawn: its edges, those of them on no path, scores, counts of seeds."""
    order = np.argsort([graph.numbers[edge] for edge in edges], kind="stable") if edges else np.array([], int)
    ordered = [edges[place] for place in order.tolist()]
    nodes = {writer for writer, _ in edges} | {graph.drawn_node(reader) for _, reader in edges}
    loose = set(edges) - set(on_paths(edges, graph.heads_per_kv))
    told: dict[str, Any] = {
        "edges": codes.rising(graph.numbers[edge] for edge in edges),
        "loose": codes.rising(graph.numbers[edge] for edge in loose),
        "of": seen.seeds,
    }
    if ordered and seen.seeds > 1:
        told["on"] = codes.same_or_numbers([seen.edges[edge] for edge in ordered])
        told["nodes"] = codes.same_or_numbers(
            [seen.nodes[n] for n in sorted(nodes, key=graph.nodes.__getitem__)]
        )
    return told | (codes.scores(scores[order]) if scores is not None else {})


def summary(edges: Sequence[Edge], layers: Sequence[int]) -> dict[str, Any]:
    """A circuit too large to draw: numbers of edges between layers and between kinds of nodes."""
    places = {layer: place for place, layer in enumerate(layers)}
    between = np.zeros((len(layers), len(layers)), dtype=np.int64)
    kinds = np.zeros((len(ORIGINS), len(KINDS)), dtype=np.int64)
    writers = {name: (places[layer_of(name)], origin_of(name)) for name in {edge[0] for edge in edges}}
    readers = {
        name: (places[layer_of(name)], KINDS.index(kind_of(name))) for name in {edge[1] for edge in edges}
    }
    for writer, reader in edges:
        between[writers[writer][0], readers[reader][0]] += 1
        kinds[writers[writer][1], readers[reader][1]] += 1
    told = {"kinds": kinds.ravel().tolist()}
    return told if len(layers) > MOST_LAYERS else told | {"grid": codes.numbers(between.ravel().tolist())}


def layer_of(name: str) -> int:
    """The layer of a writer or a reader: -1 below all layers, OUTPUT_LAYER for the output."""
    return level_of(node_of(name))[0]


def origin_of(writer: str) -> int:
    """The kind of a writer, as its place in ORIGINS."""
    match = NODE.fullmatch(writer)
    return 0 if not match else 2 if match["kind"] == "m" else 1


def _layer_name(layer: int) -> str:
    return {-1: "embeddings", OUTPUT_LAYER: "output"}.get(layer, str(layer))


def _row_name(level: tuple[int, int]) -> str:
    name = _layer_name(level[0])
    return name if level[0] in (-1, OUTPUT_LAYER) else f"{name} {PARTS[level[1]]}"
