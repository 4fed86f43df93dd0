"""Run folders with real circuit files for tests of the circuits in the report."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from tests.run_folders import GROUP, Runs, point, trial

GRAPH = EdgeGraph(Shape(3, 4, 4, ("tok_embeds",)))
GROUPED = EdgeGraph(Shape(3, 4, 2, ("tok_embeds",)))
BIG = EdgeGraph(Shape(6, 8, 8, ("tok_embeds", "pos_embeds")))
Edge = tuple[str, str]


@dataclass(frozen=True)
class Given:
    """One circuit of a trial that is to be written."""

    circuit: Circuit
    validation: float


def ranked(graph: EdgeGraph, seed: int) -> torch.Tensor:
    """A random score for every edge; edges into the output and out of the embeddings score higher, so
    that small circuits have paths."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(graph.allowed.shape, generator=generator)
    scores[:, -1] += 0.5
    scores[: graph.num_embeddings] += 0.45
    return scores.where(graph.allowed, 0.0)


def top(graph: EdgeGraph, seed: int, num_edges: int) -> Circuit:
    return Circuit.top(graph, ranked(graph, seed), num_edges)


def write(runs: Runs, trial_id: str, seed: int, given: Sequence[Given], **others: Any) -> None:
    """A finished trial with its circuit files and edge lists, written like a real one."""
    total = given[0].circuit.graph.num_edges if given else GRAPH.num_edges
    points = [
        point(n, one.circuit.num_edges, one.validation, num_edges_total=total) for n, one in enumerate(given)
    ]
    edges = {n: one.circuit.edges for n, one in enumerate(given)}
    runs.trial(trial(trial_id, seed, points, **others), edges=edges)
    for n, one in enumerate(given):
        (runs.path / "trials" / trial_id / f"circuit-{n:03d}.safetensors").write_bytes(one.circuit.save())


def ranking_runs(path: Path, graph: EdgeGraph = GRAPH, seeds: int = 3, **others: Any) -> Runs:
    """Per seed, circuits of rising size and falling divergence, and one that is dominated."""
    runs = Runs(path)
    for seed in range(seeds):
        sizes = (8, 14, 20, 33)
        given = [Given(top(graph, seed, n), 1.0 / n + 0.001 * seed) for n in sizes]
        given.append(Given(top(graph, seed + 50, 25), 5.0))
        write(runs, f"seed{seed}", seed, given, **others)
    return runs


def kept(runs: Runs, trial_id: str, number: int) -> list[Edge]:
    """The edge list as it lies in the run folder."""
    file = runs.path / "trials" / trial_id / f"edges-{number:03d}.json"
    return [(writer, reader) for writer, reader in json.loads(file.read_text())]


def stored(runs: Runs, trial_id: str, number: int) -> Circuit:
    return Circuit.load(runs.path / "trials" / trial_id / f"circuit-{number:03d}.safetensors")


def known(circuit: Circuit) -> list[Edge]:
    """A known circuit that shares most edges with this one and has one of its own."""
    edges = circuit.connected().edges
    chooser = random.Random(1)
    shared = chooser.sample(edges, len(edges) - 3)
    others = [e for e in top(circuit.graph, 9, 60).connected().edges if e not in circuit.edges]
    return [*shared, others[0]]


OTHER_GROUP = GROUP.model_copy(update={"method": "EAP"})
