"""EAP-IG's and MIB's graph JSON: what we write their loader reads in full, and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from orchestrator.circuits.mib import write_mib
from orchestrator.circuits.placement import same_graph
from orchestrator.circuits.source import Source, Sources
from tests.mib_graph import MibGraph
from trainers.spec import SpecError

TWO = ("tok_embeds", "pos_embeds")


def random_circuit(graph: EdgeGraph, share: float = 0.3) -> Circuit:
    scores = torch.rand(graph.allowed.shape, generator=torch.Generator().manual_seed(7)) + 0.01
    return Circuit.top(graph, scores, round(share * graph.num_edges))


def loaded(circuit: Circuit, tmp_path: Path, **options: bool) -> MibGraph:
    flags = {"merge": False, "keep_embeddings": False, "ranks": False} | options
    made = write_mib(circuit, 8, name="c", **flags)
    file = tmp_path / "importances.json"
    file.write_bytes(made.content)
    graph = MibGraph.load(file)
    assert made.num_edges_total == len(graph.edges) and made.num_edges == graph.in_graph.sum()
    spots = np.array(list(graph.edges.values()))
    assert (graph.told[spots[:, 0], spots[:, 1]] == 1).all() and graph.told.sum() == len(graph.edges)
    assert np.isfinite(graph.scores[spots[:, 0], spots[:, 1]]).all(), "every edge has a score"
    return graph


def test_gpt2_small_has_the_32491_edges_that_mib_counts(tmp_path: Path) -> None:
    circuit = random_circuit(EdgeGraph(Shape(12, 12, 12, ("tok_embeds",))), 0.01)
    graph = loaded(circuit, tmp_path)
    assert len(graph.edges) == 32_491 == circuit.graph.num_edges
    assert graph.in_graph.sum() == circuit.num_edges == 325
    for name, (row, column) in list(graph.edges.items())[::97]:
        assert graph.scores[row, column] == pytest.approx(float(circuit.scores[row, column])), name
        assert graph.in_graph[row, column] == bool(circuit.kept[row, column])


def test_qwen_has_the_179749_edges_that_mib_counts() -> None:
    """Qwen2.5-0.5B: 24 layers, 14 heads, 2 key/value heads; the count is MIB's own constant."""
    shape = Shape(24, 14, 14, ("tok_embeds",))
    assert EdgeGraph(shape).num_edges == 179_749


@pytest.mark.parametrize("parallel", [False, True])
def test_key_value_scores_are_copied_to_each_query_head(tmp_path: Path, parallel: bool) -> None:
    circuit = random_circuit(EdgeGraph(Shape(2, 6, 2, ("tok_embeds",), parallel)))
    graph = loaded(circuit, tmp_path)
    ours = circuit.graph
    for name, spot in graph.edges.items():
        writer, child = name.split("->")
        reader = child.replace("<", ".").replace(">", "").replace("logits", "resid_post")
        if reader[-2:] in (".k", ".v"):
            head, part = reader.rsplit(".", 1)
            layer, number = head.split(".h")
            reader = f"{layer}.h{int(number) // 3}.{part}"
        row, column = ours.locate(writer.replace("input", "tok_embeds"), reader)
        assert graph.scores[spot] == pytest.approx(float(circuit.scores[row, column])), name
        assert graph.in_graph[spot] == bool(circuit.kept[row, column]), name


def test_two_embedding_writers_are_refused_or_merged(tmp_path: Path) -> None:
    circuit = random_circuit(EdgeGraph(Shape(2, 2, 2, TWO)))
    with pytest.raises(SpecError, match="two embedding writers.*--merge-embeddings"):
        loaded(circuit, tmp_path)
    graph = loaded(circuit, tmp_path, merge=True)
    for name, spot in graph.edges.items():
        if name.startswith("input->"):
            column = spot[1]
            both = circuit.scores[:2, column]
            assert graph.scores[spot] == pytest.approx(float(both.max()))
            assert graph.in_graph[spot] == bool(circuit.kept[:2, column].any())


@pytest.mark.parametrize("names", [TWO, TWO[:1]])
def test_always_on_embeddings_are_refused_or_put_first(tmp_path: Path, names: tuple) -> None:
    circuit = random_circuit(EdgeGraph(Shape(2, 2, 2, names), "always_on"))
    with pytest.raises(SpecError, match="always on.*--keep-embeddings"):
        loaded(circuit, tmp_path, merge=True)
    graph = loaded(circuit, tmp_path, keep_embeddings=True)
    readers = len(circuit.graph.readers)
    for absolute in (True, False):
        assert graph.top(readers, absolute) == {name for name in graph.edges if name.startswith("input->")}
    assert graph.in_graph.sum() == circuit.num_edges + readers


def test_ranked_scores_rank_alike_by_value_and_by_magnitude(tmp_path: Path) -> None:
    graph = EdgeGraph(Shape(2, 2, 2, ("tok_embeds",)))
    log_alphas = torch.randn(graph.allowed.shape, generator=torch.Generator().manual_seed(3)) * 6 - 5
    log_alphas[graph.locate("m0", "m1")] = -1e30  # a gate that is cut
    circuit = Circuit.top(graph, log_alphas, 9)
    plain, ranked = loaded(circuit, tmp_path), loaded(circuit, tmp_path, ranks=True)
    kept = {name for name, spot in ranked.edges.items() if ranked.in_graph[spot]}
    assert plain.top(9, absolute=False) == kept == ranked.top(9, absolute=True) == ranked.top(9, False)
    assert plain.top(9, absolute=True) != kept, "the ranks are needed"


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_graph_comes_back(tmp_path: Path, kv_heads: int) -> None:
    circuit = random_circuit(EdgeGraph(Shape(2, 4, kv_heads, ("tok_embeds",))))
    file = tmp_path / "graph.json"
    file.write_bytes(write_mib(circuit, 8, False, False, False, "c").content)
    like = tmp_path / "like.safetensors"
    like.write_bytes(circuit.save())
    from orchestrator.circuits.source import GraphChoice

    alone = read(Sources("runs"), file).circuit
    assert alone.graph.shape == Shape(2, 4, 4, ("tok_embeds",))
    again = read(Sources("runs", choice=GraphChoice(like=str(like))), file).circuit
    assert same_graph(again.graph, circuit.graph)
    assert again.edges == circuit.edges and torch.allclose(again.scores, circuit.scores)


def read(sources: Sources, file: Path) -> Source:
    return sources.open_all([str(file)])[0]


def test_their_own_file_is_read(tmp_path: Path) -> None:
    theirs = MibGraph({"n_layers": 2, "n_heads": 3, "parallel_attn_mlp": False, "d_model": 8})
    theirs.scores = np.random.default_rng(0).normal(size=theirs.scores.shape)
    theirs.in_graph = theirs.scores > 1
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(theirs.written()))
    circuit = read(Sources("runs"), file).circuit
    assert circuit.graph.num_edges == len(theirs.edges)
    for row, column in circuit.graph.allowed.nonzero().tolist():
        assert float(circuit.scores[row, column]) == pytest.approx(theirs.scores[row, column])
        assert bool(circuit.kept[row, column]) == bool(theirs.in_graph[row, column])


def test_a_damaged_graph_is_refused_with_every_fault(tmp_path: Path) -> None:
    cfg = {"n_layers": 1, "n_heads": 1}
    edges = {"input->a0.h0<q>": {"score": 1.0}, "imput->m0": {"score": 1.0}, "input->m0": 3, "m0": {}}
    file = tmp_path / "graph.json"
    file.write_text(json.dumps({"cfg": cfg, "nodes": {}, "edges": edges}))
    with pytest.raises(SpecError) as caught:
        read(Sources("runs"), file)
    message = str(caught.value)
    assert message.startswith(f"{file}: not an EAP-IG graph")
    assert "imput" in message and "input->m0: found 3" in message and "m0: found {}" in message
    file.write_text(json.dumps({"cfg": {"n_layers": 1}, "nodes": {}, "edges": {}}))
    with pytest.raises(SpecError, match="cfg: .*n_heads"):
        read(Sources("runs"), file)
