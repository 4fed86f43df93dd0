"""Complements, knockouts and incompleteness, by hand and on models."""

import math
from pathlib import Path

import pytest
import torch

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from tests import one_rank
from trainers.distributed import Ranks
from trainers.evaluate import empty_circuit, evaluate
from trainers.evaluation.completeness import (
    Incompleteness,
    complement,
    incompleteness,
    knocked_out_pairs,
    knockouts,
)

GRAPH = EdgeGraph(Shape(2, 2, 2, ("tok_embeds", "pos_embeds")))


def top(num_edges: int, graph: EdgeGraph = GRAPH) -> Circuit:
    scores = torch.rand(graph.allowed.shape, generator=torch.Generator().manual_seed(1))
    return Circuit.top(graph, scores, num_edges)


@pytest.mark.parametrize("embeddings", ["maskable", "always_on"])
def test_a_circuit_and_its_complement_are_all_edges(embeddings: str) -> None:
    graph = EdgeGraph(GRAPH.shape, embeddings)  # type: ignore[arg-type]
    circuit = top(9, graph)
    rest = complement(circuit)
    assert not (circuit.kept & rest.kept).any() and torch.equal(circuit.kept | rest.kept, graph.allowed)
    assert rest.num_edges == graph.num_edges - 9 and torch.equal(complement(rest).kept, circuit.kept)


@pytest.mark.parametrize("num_edges, samples", [(12, 10), (12, 41), (3, 3), (40, 1)])
def test_knockouts_are_proper_subsets_single_edges_and_many_sizes(num_edges: int, samples: int) -> None:
    circuit = top(num_edges)
    found = knockouts(circuit, samples)
    sizes = [one.num_edges for one in found]
    assert len(found) == samples == len({tuple(one.edges) for one in found}), "all different"
    assert all(0 < size < num_edges for size in sizes)
    assert not any((one.kept & ~circuit.kept).any() for one in found)
    singles = min((samples + 1) // 2, num_edges)
    assert sizes[:singles] == [1] * singles
    assert [one.edges for one in knockouts(circuit, samples)] == [one.edges for one in found], "seeded"
    if samples == 41:
        assert {1, 3, 6, 9, 11} <= set(sizes), "10, 25, 50, 75 and 90 % of 12 edges"
        assert [one.edges for one in knockouts(circuit, samples, seed=1)] != [one.edges for one in found]


def test_a_small_circuit_has_few_subsets() -> None:
    assert len(knockouts(top(2), 50)) == 2 and knockouts(top(1), 50) == [] == knockouts(top(0), 50)
    assert len(knockouts(top(3), 50)) == 6, "every proper subset of three edges"


def test_the_worst_subset_by_hand() -> None:
    pairs = torch.tensor([[1.0, 4.0], [3.0, 4.5], [2.0, 1.0], [2.5, math.nan], [0.0, 0.0], [1.0, 9.0]])
    found = incompleteness(("a", "b"), pairs, [5, 6, 7])
    assert found["a"] == Incompleteness(2.0, 5, 1.0, 3.0)
    assert math.isnan(found["b"].gap) and found["b"].num_edges == 6


def test_incompleteness_of_models(ranks: Ranks, tmp_path: Path) -> None:
    """The circuit of all edges is complete; of another, every gap is that of two evaluations by hand."""
    session = one_rank.session(one_rank.loaded("gpt2", "float64"), ranks, tmp_path, {"name": "random"})
    session.open()
    everything, circuit = top(session.graph.num_edges, session.graph), top(30, session.graph)
    for one in (everything, circuit):
        subsets = knockouts(one, 6)
        pairs = knocked_out_pairs(one, subsets)
        _, scores = one_rank.finish(evaluate(session, pairs, "test"))
        means = torch.tensor([list(score.values()) for score in scores], dtype=torch.float64)
        found = incompleteness(session.metrics, means, [subset.num_edges for subset in subsets])
        by_hand = dict.fromkeys(session.metrics, 0.0)
        for subset in subsets:
            model = Circuit(session.graph, one.scores, session.graph.allowed & ~subset.kept)
            less = Circuit(session.graph, one.scores, one.kept & ~subset.kept)
            _, (m, c) = one_rank.finish(evaluate(session, [model, less], "test"))
            by_hand = {name: max(gap, abs(m[name] - c[name])) for name, gap in by_hand.items()}
        assert {name: worst.gap for name, worst in found.items()} == pytest.approx(by_hand, abs=1e-9)
        assert (found["kl"].gap > 1e-3) == (one is circuit)
    _, (without_all, empty) = one_rank.finish(
        evaluate(session, [complement(everything), empty_circuit(session)], "test")
    )
    assert without_all == pytest.approx(empty), "the model without all its edges is the empty circuit"
    session.close()
