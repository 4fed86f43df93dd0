"""Drawn circuits: what the page's drawing of circuits is given. Layout and drawing happen in the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.circuits.paths import (
    NODE,
    OUTPUT,
    OUTPUT_LAYER,
    Edge,
    kind_of,
    level_of,
    node_of,
    place_of,
    served,
)
from orchestrator.report import codes
from orchestrator.statistics.pareto import Floats, Ints

BoolArray = NDArray[np.bool_]
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

    @cached_property
    def ends(self) -> Ints:
        """The numbers of the two boxes that every edge joins, [edges, 2]."""
        found = [(self.nodes[writer], self.nodes[self.drawn_node(reader)]) for writer, reader in self.numbers]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def boxes(self, edges: Ints) -> Ints:
        """The boxes that these edges join, upwards."""
        return np.unique(self.ends[edges])

    @cached_property
    def _feeds(self) -> Floats:
        """1 where a reader feeds a node, [readers, nodes]."""
        feeds = np.zeros((len(self.readers), len(self.nodes)))
        for name, number in self.readers.items():
            feeds[
                number, [self.nodes[one] for one in served(name, self.heads_per_kv) if one in self.nodes]
            ] = 1
        return feeds

    @cached_property
    def _pairs(self) -> Ints:
        """Of every edge its writer and its reader, [edges, 2]."""
        found = [(self.nodes[writer], self.readers[reader]) for writer, reader in self.numbers]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def loose(self, edges: Ints) -> Ints:
        """Those of a circuit's edges that are on no path, as `circuits.paths.on_paths` has it."""
        writers, readers = self._pairs[edges].T
        kept = np.zeros((len(self.nodes), len(self.readers)))
        kept[writers, readers] = 1
        links = kept @ self._feeds > 0
        names = list(self.nodes)
        inputs = [number for number in np.unique(writers).tolist() if not NODE.fullmatch(names[number])]
        alive = _reached(links, inputs) if inputs else np.ones(len(names), dtype=bool)
        useful = _reached(links.T, [self.nodes[OUTPUT]] if OUTPUT in self.nodes else [])
        fed = np.asarray(self._feeds[:, useful] > 0).max(axis=1, initial=False)
        on_path = alive[writers] & fed[readers]
        return edges[np.logical_not(on_path)]

    def plain(self) -> dict[str, Any]:
        """As JSON values: `nodes` [name, layer, row], `readers` [name, node, kind, nodes served], and
        `pairs`, of every edge its writer times the number of readers plus its reader."""
        levels = sorted({level_of(name) for name in self.nodes})
        layers = {layer: place for place, layer in enumerate(self.layers)}
        wide = len(self.readers)
        pairs = (self._pairs @ (wide, 1)).tolist()
        return {
            "layers": [_layer_name(layer) for layer in self.layers],
            "rows": [_row_name(level) for level in levels],
            "nodes": [[name, layers[level_of(name)[0]], levels.index(level_of(name))] for name in self.nodes],
            "readers": [self._reader(name) for name in self.readers],
            "pairs": codes.members(pairs, len(self.nodes) * wide),
        }

    def _reader(self, name: str) -> list[Any]:
        node = self.drawn_node(name)
        serves = [] if node == node_of(name) else served(name, self.heads_per_kv)
        inside = [self.nodes[head] for head in serves if head in self.nodes]
        return [name, self.nodes[node], KINDS.index(kind_of(name)), inside]


def drawing(edges: Ints, graph: Graph) -> dict[str, Any]:
    """A circuit that can be drawn: its edges, and those of them on no path."""
    size = len(graph.numbers)
    loose = graph.loose(edges).tolist()
    return {"edges": codes.members(edges.tolist(), size), "loose": codes.members(loose, size)}


def detail(edges: Ints, scores: Floats | None, others: Sequence[Ints], graph: Graph) -> dict[str, Any]:
    """What is known about each edge and box of a circuit that can be drawn: its score; on how many of
    `others`, circuits of one seed each near the same budget, it is kept."""
    told: dict[str, Any] = {"of": len(others)}
    if len(edges) and len(others) > 1:
        on = np.bincount(np.concatenate(others), minlength=len(graph.numbers))
        boxes = np.concatenate([graph.boxes(other) for other in others])
        on_boxes = np.bincount(boxes, minlength=len(graph.nodes))
        told["on"] = codes.same_or_numbers(on[np.sort(edges)].tolist())
        told["nodes"] = codes.same_or_numbers(on_boxes[graph.boxes(edges)].tolist())
    return told | (codes.scores(scores[np.argsort(edges)]) if scores is not None else {})


def summary(edges: Sequence[Edge], layers: Sequence[int]) -> dict[str, Any]:
    """A circuit that the page has no room for: numbers of edges between layers and between kinds of nodes."""
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


def _reached(links: BoolArray, start: Sequence[int]) -> BoolArray:
    """Nodes to which `links` [from, to] lead from those at the start, and these."""
    seen = np.zeros(len(links), dtype=bool)
    seen[list(start)] = True
    new = seen
    while new.any():
        new = links[new].any(axis=0) & ~seen
        seen = seen | new
    return seen


def _layer_name(layer: int) -> str:
    return {-1: "embeddings", OUTPUT_LAYER: "output"}.get(layer, str(layer))


def _row_name(level: tuple[int, int]) -> str:
    name = _layer_name(level[0])
    return name if level[0] in (-1, OUTPUT_LAYER) else f"{name} {PARTS[level[1]]}"
