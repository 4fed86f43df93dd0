"""Set algebra of circuits: union, intersection, difference, node sets, IoU, votes."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_patches.circuit import Circuit, feeding_readers, iou
from model_patches.graph import EdgeGraph, Shape
from orchestrator.circuits.algebra import combined, strongest

GRAPH = EdgeGraph(Shape(2, 4, 2, ("tok_embeds", "pos_embeds")))


def random_circuit(seed: int, share: float = 0.3, graph: EdgeGraph = GRAPH) -> Circuit:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(graph.allowed.shape, generator=generator)
    return Circuit.top(graph, scores, round(share * graph.num_edges))


@settings(deadline=None, max_examples=40)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_set_operations_are_those_of_the_sets_of_edges(seeds: list[int]) -> None:
    circuits = [random_circuit(seed) for seed in seeds]
    sets = [set(circuit.edges) for circuit in circuits]
    first, *others = circuits
    assert set(first.union(*others).edges) == set.union(*sets)
    assert set(first.intersect(*others).edges) == set.intersection(*sets)
    assert set(first.subtract(*others).edges) == sets[0].difference(*sets[1:])


def test_scores_of_combined_circuits() -> None:
    one, other = random_circuit(1), random_circuit(2)
    for w, r in GRAPH.allowed.nonzero().tolist():
        pair = float(one.scores[w, r]), float(other.scores[w, r])
        assert float(one.union(other).scores[w, r]) == max(pair)
        assert float(one.intersect(other).scores[w, r]) == min(pair)
        assert float(one.subtract(other).scores[w, r]) == pair[0]


def test_votes_count_who_keeps_an_edge() -> None:
    circuits = [random_circuit(seed) for seed in range(5)]
    votes = combined(circuits, "union", votes=True)
    for row, column in GRAPH.allowed.nonzero().tolist():
        assert votes.scores[row, column] == sum(bool(one.kept[row, column]) for one in circuits)
    shared = combined([circuits[0], circuits[0]], "intersect", votes=True)
    assert shared.num_edges and shared.scores[shared.kept].eq(2).all()
    assert torch.equal(combined(circuits, "union").scores, circuits[0].union(*circuits[1:]).scores)


@pytest.mark.parametrize("operation", ["union", "intersect", "subtract"])
@pytest.mark.parametrize(
    "other",
    [EdgeGraph(GRAPH.shape, "always_on"), EdgeGraph(Shape(2, 4, 4, GRAPH.shape.embeddings))],
    ids=["convention", "shape"],
)
def test_circuits_of_different_graphs_are_refused(operation: str, other: EdgeGraph) -> None:
    with pytest.raises(ValueError, match="different graphs"):
        getattr(random_circuit(0), operation)(random_circuit(0, graph=other))


def test_nodes_are_the_writers_on_paths() -> None:
    path = [("tok_embeds", "a0.h1.k"), ("a0.h3", "m1"), ("m1", "resid_post")]
    loose = [("pos_embeds", "a0.h0.k"), ("m0", "resid_post"), ("a0.h1", "a1.h1.v")]
    assert Circuit.from_edges(GRAPH, path + loose).nodes == {"tok_embeds", "a0.h3", "m1"}
    assert Circuit.from_edges(GRAPH, loose).nodes == frozenset()


def test_iou() -> None:
    assert iou({1, 2, 3}, {2, 3, 4}) == 0.5
    assert iou(set(), {1}) == 0 and iou(set(), set()) == 1


def test_feeding_readers_share_grouped_heads() -> None:
    named = [[GRAPH.readers[column].name for column in columns] for columns in feeding_readers(GRAPH)]
    fed = dict(zip((node.name for node in GRAPH.writers), named, strict=True))
    assert fed["tok_embeds"] == [] and fed["m1"] == ["m1"]
    for layer, head in product(range(2), range(4)):
        expected = [f"a{layer}.h{head}.q", f"a{layer}.h{head // 2}.k", f"a{layer}.h{head // 2}.v"]
        assert fed[f"a{layer}.h{head}"] == expected


def test_another_budget_on_the_same_scores() -> None:
    circuit = random_circuit(3)
    by_size = strongest(circuit, 7, by_magnitude=True)
    magnitudes = np.sort(np.abs(circuit.scores.numpy()[GRAPH.allowed.numpy()]))[::-1]
    assert by_size.num_edges == 7
    assert float(by_size.scores[by_size.kept].abs().min()) == pytest.approx(magnitudes[6])
    assert torch.equal(by_size.scores, circuit.scores), "the scores keep their signs"
    assert strongest(circuit, 7, by_magnitude=False).scores[strongest(circuit, 7, False).kept].min() > 0


def test_a_circuit_from_its_bytes_or_a_message_with_its_name() -> None:
    circuit = random_circuit(4)
    assert Circuit.loads(circuit.save(), "x").edges == circuit.edges
    with pytest.raises(ValueError, match="^s3://bucket/circuit-000.safetensors: not a circuit file: "):
        Circuit.loads(b"nonsense", "s3://bucket/circuit-000.safetensors")


def test_arrays_become_a_circuit_without_what_is_no_edge() -> None:
    scores, kept = np.ones(tuple(GRAPH.allowed.shape)), np.ones(tuple(GRAPH.allowed.shape), dtype=bool)
    circuit = Circuit.from_arrays(GRAPH, scores, kept)
    assert circuit.num_edges == GRAPH.num_edges and torch.equal(circuit.scores, GRAPH.allowed.float())
