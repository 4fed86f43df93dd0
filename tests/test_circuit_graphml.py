"""GraphML: networkx, which did not write it, finds the same edges and paths in it."""

import io

import networkx
import pytest

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Embeddings, Shape
from orchestrator.circuits.graphml import graphml
from tests.test_circuit_algebra import random_circuit

SHAPE = Shape(2, 4, 2, ("tok_embeds", "pos_embeds"))


def loaded(circuit: Circuit) -> networkx.DiGraph:
    graph = networkx.read_graphml(io.BytesIO(graphml(circuit)))
    assert isinstance(graph, networkx.DiGraph) and not graph.is_multigraph()
    return graph


@pytest.mark.parametrize("convention", ["maskable", "always_on"])
@pytest.mark.parametrize("seed", range(4))
def test_edges_and_scores_come_back_and_paths_are_paths(convention: Embeddings, seed: int) -> None:
    circuit = random_circuit(seed, 0.15, EdgeGraph(SHAPE, convention))
    graph = loaded(circuit)
    kept = {(u, v): data["score"] for u, v, data in graph.edges(data=True) if data["kind"] == "edge"}
    assert set(kept) == set(circuit.edges)
    for (writer, reader), score in kept.items():
        assert score == pytest.approx(float(circuit.scores[circuit.graph.locate(writer, reader)]))
    assert networkx.is_directed_acyclic_graph(graph)
    after = {
        n for e in ("tok_embeds", "pos_embeds") if e in graph for n in {e, *networkx.descendants(graph, e)}
    }
    before = networkx.ancestors(graph, "resid_post") | {"resid_post"} if "resid_post" in graph else set()
    on_path = {edge for edge in kept if edge[0] in after and edge[1] in before}
    assert on_path == set(circuit.connected().edges)


def test_nodes_and_edges_tell_what_they_are() -> None:
    circuit = Circuit.from_edges(
        EdgeGraph(SHAPE), [("tok_embeds", "a0.h1.k"), ("a0.h3", "m1"), ("m1", "resid_post")]
    )
    graph = loaded(circuit)
    assert graph.nodes["a0.h3"] == {"kind": "head", "layer": 0, "head": 3}
    assert graph.nodes["a0.h1.k"] == {"kind": "head", "layer": 0, "head": 1, "part": "k"}
    assert (
        graph.edges["a0.h1.k", "a0.h3"]["kind"] == "inside" and graph.edges["a0.h3", "m1"]["input"] == "mlp"
    )
    assert not graph.has_node("a0.h2"), "it shares the key head, but writes nothing here"


def test_the_same_circuit_is_the_same_bytes() -> None:
    circuit = random_circuit(0)
    assert graphml(circuit) == graphml(circuit)
