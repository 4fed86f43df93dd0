"""Node pruning: which edges a node's gate opens, and circuits of whole nodes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_patches import gates as hard_concrete
from model_patches.graph import EdgeGraph, Embeddings, Shape
from tests import one_rank
from trainers.distributed import Ranks
from trainers.methods.gated_nodes import GatedNodes, edge_ends
from trainers.methods.node_pruning import NodePruning
from trainers.spec import SpecError

GROUPED = EdgeGraph(Shape(2, 4, 2, ("tok_embeds",)))


def gated(values: Tensor, graph: EdgeGraph, rule: str) -> GatedNodes:
    ends = edge_ends(graph) if rule == "both_ends" else edge_ends(graph)[:, :1]
    return GatedNodes(nn.Parameter(values), (), ends, len(graph.writers))


def reading(graph: EdgeGraph, reader: str) -> list[str]:
    """The nodes that use what a reader reads, by name."""
    layer_head, _, part = reader.partition(".h")
    if reader == "resid_post" or not part:
        return [] if reader == "resid_post" else [reader]
    head, letter = part.split(".")
    if letter == "q":
        return [f"{layer_head}.h{head}"]
    sharing = graph.shape.query_heads // graph.shape.key_value_heads
    return [f"{layer_head}.h{int(head) * sharing + number}" for number in range(sharing)]


@pytest.mark.parametrize("embeddings", ["maskable", "always_on"])
@pytest.mark.parametrize("rule", ["both_ends", "writer"])
def test_an_edges_gate_is_that_of_its_ends(rule: str, embeddings: Embeddings) -> None:
    """Keys and values of grouped heads are read by the query heads that share them."""
    graph = EdgeGraph(GROUPED.shape, embeddings)
    noise = torch.rand(3, len(graph.writers), generator=torch.Generator().manual_seed(1))
    values = torch.randn(len(graph.writers), generator=torch.Generator().manual_seed(2))
    nodes = hard_concrete.sample(values, noise)
    found, none = gated(values, graph, rule).sample(noise)
    assert none is None and found.shape == (3, graph.num_edges)
    for place, (row, column) in enumerate(graph.allowed.nonzero().tolist()):
        expected = nodes[:, row].clone()
        readers = reading(graph, graph.readers[column].name)
        if rule == "both_ends" and readers:
            expected *= torch.stack([nodes[:, graph.writer_index[name]] for name in readers]).amax(0)
        assert torch.allclose(found[:, place], expected), graph.readers[column].name


def circuit_of(nodes: GatedNodes, graph: EdgeGraph) -> Any:
    engine: Any = SimpleNamespace(value=lambda _name: nodes.nodes.detach())
    return nodes.circuit(engine, graph)


@pytest.mark.parametrize("rule", ["both_ends", "writer"])
@pytest.mark.parametrize("seed", range(4))
def test_a_circuit_is_made_of_whole_nodes(seed: int, rule: str) -> None:
    values = 3 * torch.randn(len(GROUPED.writers), generator=torch.Generator().manual_seed(seed))
    nodes = gated(values, GROUPED, rule)
    circuit = circuit_of(nodes, GROUPED)
    by_size = []
    for number in range(len(values) + 1):
        best = set(values.topk(number).indices.tolist())
        names = {GROUPED.writers[row].name for row in best}
        edges = set()
        for row, column in GROUPED.allowed.nonzero().tolist():
            readers = reading(GROUPED, GROUPED.readers[column].name)
            if row in best and (rule == "writer" or not readers or names & set(readers)):
                edges.add((GROUPED.writers[row].name, GROUPED.readers[column].name))
        by_size.append(edges)
    assert set(circuit.edges) in by_size
    wanted = float(nodes.expected().detach().double().sum())
    assert abs(circuit.num_edges - wanted) == pytest.approx(min(abs(len(e) - wanted) for e in by_size))


def test_a_higher_price_leaves_fewer_nodes(ranks: Ranks, tmp_path: Path) -> None:
    llama, sizes = one_rank.loaded("llama", "float32"), []
    for penalty in (0.3, 3.0):
        method = {
            "name": "node_pruning", "penalty": penalty, "steps": 80, "path_points": 0, "gate_lr": 0.2,
            "init_log_alpha": 1.0,
        }  # fmt: skip
        session = one_rank.session(llama, ranks, tmp_path, method)
        found, _ = one_rank.discover(session)
        edges = set(found.found[0].circuit.edges)
        writers = {writer for writer, _ in edges}
        assert all((writer, "resid_post") in edges for writer in writers), "it reads every kept node"
        sizes.append(len(edges))
    assert sizes[0] > 60 and 5 < sizes[1] < 50


def test_edge_prunings_own_fields_are_not_node_prunings() -> None:
    for key in ("writer_gates", "preset", "warm_start", "final_gates"):
        with pytest.raises(SpecError, match=f"{key}: unknown key"):
            NodePruning.parse({"target_sparsity": 0.5, key: None}, "")
    with pytest.raises(SpecError, match="found none of them; allowed: exactly one of target_sparsity,"):
        NodePruning.parse({}, "")
