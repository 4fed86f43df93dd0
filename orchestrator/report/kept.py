"""Kept edges: the circuits of a curve, read from the run folders, each file once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from orchestrator.circuits.paths import Edge
from orchestrator.records.results import Results
from orchestrator.statistics.pareto import Floats, Ints

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """What a circuit's file adds to its edge list: a score per kept edge, and how many query heads
    share a key or value head."""

    of_edges: Floats
    heads_per_kv: int


@dataclass(frozen=True)
class KeptEdges:
    """Reads circuits of run folders by the rows of the points table. An edge is a number: its place in
    `names`, which grows as circuits are read."""

    results: Results
    names: list[Edge] = field(default_factory=list)
    numbers: dict[Edge, int] = field(default_factory=dict)
    read: dict[tuple[str, str], Ints | None] = field(default_factory=dict)

    def number(self, edge: Edge) -> int:
        known = self.numbers.setdefault(edge, len(self.names))
        if known == len(self.names):
            self.names.append(edge)
        return known

    def edges(self, row: Row) -> Ints | None:
        """The edges in the graph's order; None when the edge list cannot be read."""
        key = (row["trial_id"], row["circuit"])
        if key not in self.read:
            found = self.results.edges(*key)
            if found is None:
                self.read[key] = None
            else:
                numbers = [self.number(edge) for edge in dict.fromkeys(found)]
                self.read[key] = np.array(numbers, dtype=np.int64)
        return self.read[key]

    def places(self, numbers: Mapping[Edge, int]) -> Ints:
        """Of every edge read so far its number there, -1 for none, [edges read]."""
        return np.array([numbers.get(edge, -1) for edge in self.names], dtype=np.int64)

    def scores(self, row: Row) -> Scores | None:
        """None when the circuit's file is missing, damaged, or does not fit its edge list."""
        edges = self.edges(row)
        content = self.results.folders[row["trial_id"]].read(row["circuit"])
        if content is None or edges is None:
            return None
        try:
            tensors = load_safetensors(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            shape = json.loads(header["__metadata__"]["circuit"])["shape"]
            # Row by row, as the edge list is written: both are in the graph's order.
            of_edges = tensors["scores"][tensors["kept"]].astype(np.float64)
            shared = int(shape["query_heads"]) // int(shape["key_value_heads"])
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError, ZeroDivisionError):
            return None
        if len(of_edges) != len(edges) or shared < 1:
            return None
        return Scores(of_edges, shared)
