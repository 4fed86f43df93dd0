"""The graph of EAP-IG and MIB as their loader builds it, written anew from its description: one
input writer, keys and values for every query head, in parallel models MLPs that read no head of
their layer. Scores live in two matrices, which must be filled edge by edge."""

import json
from pathlib import Path
from typing import Any

import numpy as np


class MibGraph:
    """Loads a JSON file and, like theirs, fails with a KeyError for a node or an edge that is not in
    its graph, and for a cfg without `d_model`."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        self.cfg = cfg
        layers, heads = cfg["n_layers"], cfg["n_heads"]
        self.neurons = np.zeros((1 + layers * (heads + 1), cfg["d_model"]))
        self.nodes = {"input": False}
        self.edges: dict[str, tuple[int, int]] = {}
        stream = ["input"]
        self.forward = {"input": 0}
        for layer in range(layers):
            names = [f"a{layer}.h{head}" for head in range(heads)]
            for number, name in enumerate([*names, f"m{layer}"]):
                self.forward[name] = 1 + layer * (heads + 1) + number
            before = layer * (3 * heads + 1)
            for parent in stream:
                for number, name in enumerate(names):
                    for place, part in enumerate("qkv"):
                        self._edge(parent, f"{name}<{part}>", before + place * heads + number)
            if cfg["parallel_attn_mlp"]:
                for parent in stream:
                    self._edge(parent, f"m{layer}", before + 3 * heads)
                stream += [*names, f"m{layer}"]
            else:
                stream += names
                for parent in stream:
                    self._edge(parent, f"m{layer}", before + 3 * heads)
                stream.append(f"m{layer}")
        for parent in stream:
            self._edge(parent, "logits", layers * (3 * heads + 1))
        self.nodes |= dict.fromkeys(stream, False)
        size = (1 + layers * (heads + 1), layers * (3 * heads + 1) + 1)
        self.scores, self.in_graph = np.full(size, np.nan), np.zeros(size, dtype=bool)
        self.told = np.zeros(size, dtype=int)

    def _edge(self, parent: str, child: str, column: int) -> None:
        self.edges[f"{parent}->{child}"] = (self.forward[parent], column)

    @classmethod
    def load(cls, path: Path) -> "MibGraph":
        data = json.loads(path.read_text())
        assert all(key in data for key in ("cfg", "nodes", "edges"))
        graph = cls(data["cfg"])
        for name, node in data["nodes"].items():
            if name == "logits":
                continue
            assert name in graph.nodes, name
            graph.nodes[name] = node["in_graph"]
        for name, edge in data["edges"].items():
            spot = graph.edges[name]
            graph.scores[spot], graph.in_graph[spot] = edge["score"], edge["in_graph"]
            graph.told[spot] += 1
        return graph

    def top(self, number: int, absolute: bool) -> set[str]:
        """Names of the edges that its evaluation keeps at a budget."""
        values = np.abs(self.scores) if absolute else self.scores
        order = sorted(self.edges, key=lambda name: -values[self.edges[name]])
        return set(order[:number])

    def written(self) -> dict[str, Any]:
        """The file that its `to_json` writes."""
        edges = {
            name: {"score": float(self.scores[spot]), "in_graph": bool(self.in_graph[spot])}
            for name, spot in self.edges.items()
        }
        nodes = {name: {"in_graph": on} for name, on in [*self.nodes.items(), ("logits", True)]}
        return {"cfg": self.cfg, "nodes": nodes, "edges": edges}
