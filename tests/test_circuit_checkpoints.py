"""Checkpoints of the published Edge Pruning code: the same edges as its own extraction gives."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.circuits.source import Source, Sources
from tests.published_checkpoint import Checkpoint
from trainers.spec import SpecError

KINDS = {
    "gpt2 with embeddings": ("gpt2", 3, 4, 4, 2),
    "gpt2 without": ("gpt2", 3, 4, 4, 0),
    "llama with embeddings": ("llama", 3, 4, 2, 1),
    "llama without": ("llama", 2, 6, 3, 0),
    "tracr": ("tracr", 4, 1, 1, 2),
}


def read(path: Path, edge_sparsity: float | None = None) -> Source:
    return Sources("runs", edge_sparsity=edge_sparsity).open_all([str(path)])[0]


def ours(edges: list[tuple[str, str]]) -> set[tuple[str, str]]:
    return {("tok_embeds" if writer == "embeds" else writer, reader) for writer, reader in edges}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_the_edges_are_those_of_the_published_extraction(tmp_path: Path, kind: str, seed: int) -> None:
    checkpoint = Checkpoint(*KINDS[kind], seed=seed)
    checkpoint.save(tmp_path / "model.safetensors")
    expected = checkpoint.edges()
    assert expected and len(expected) == len(set(expected))
    circuit = read(tmp_path / "model.safetensors").circuit
    assert set(circuit.edges) == ours(expected)
    _, layers, heads, kv, embeddings = KINDS[kind]
    shape = circuit.graph.shape
    assert (shape.layers, shape.query_heads, shape.key_value_heads) == (layers, heads, kv)
    assert circuit.graph.embeddings == ("maskable" if embeddings else "always_on")
    assert circuit.graph.num_embeddings == (embeddings or (2 if kind.startswith("gpt2") else 1))


@pytest.mark.parametrize("sparsity", [0.2, 0.6, 0.95])
def test_another_sparsity_is_cut_where_the_published_script_cuts(tmp_path: Path, sparsity: float) -> None:
    checkpoint = Checkpoint("gpt2", 3, 4, 4, 2)
    checkpoint.save(tmp_path / "model.safetensors")
    circuit = read(tmp_path / "model.safetensors", sparsity).circuit
    assert set(circuit.edges) == ours(checkpoint.edges(sparsity))


def test_a_score_is_the_lower_of_the_edges_and_the_writers_log_alpha(tmp_path: Path) -> None:
    checkpoint = Checkpoint("gpt2", 2, 3, 3, 2)
    checkpoint.save(tmp_path / "model.safetensors")
    circuit = read(tmp_path / "model.safetensors").circuit
    row, column = circuit.graph.locate("a0.h1", "a1.h2.v")
    expected = min(float(checkpoint.v[1][2 + 1, 2]), float(checkpoint.head_out[0][1]))
    assert float(circuit.scores[row, column]) == expected
    row, column = circuit.graph.locate("pos_embeds", "resid_post")
    assert float(circuit.scores[row, column]) == min(
        float(checkpoint.final[1]), float(checkpoint.embedding_out[1])
    )


def test_a_folder_of_shards_and_bfloat16_are_read(tmp_path: Path) -> None:
    checkpoint = Checkpoint("llama", 2, 4, 2, 1)
    checkpoint.save(tmp_path / "whole.safetensors")
    tensors = list(load_file(tmp_path / "whole.safetensors").items())
    shards = tmp_path / "shards"
    shards.mkdir()
    save_file(dict(tensors[:5]), shards / "model-00001-of-00002.safetensors")
    save_file(dict(tensors[5:]), shards / "model-00002-of-00002.safetensors")
    assert read(shards).circuit.edges == read(tmp_path / "whole.safetensors").circuit.edges
    checkpoint.save(tmp_path / "half.safetensors", torch.bfloat16)
    assert read(tmp_path / "half.safetensors").circuit.num_edges > 0


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("q_read", None, "layer 1 has no log-alphas of q"),
        ("final_read", None, "not all log-alphas are there"),
        ("k_read", torch.zeros(3, 3), "log-alphas of k in layer 1 are \\[3, 3\\]; expected \\[12, 4\\]"),
        ("attn_write", torch.zeros(9), "log-alphas of writers do not fit"),
        ("v_read", torch.full((12, 4), float("nan")), "v_read_log_alphas holds values that are not finite"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, change: torch.Tensor | None, told: str
) -> None:
    tensors = Checkpoint("gpt2", 2, 4, 4, 2).tensors()
    key = next(key for key in reversed(tensors) if name in key)
    tensors = {k: v for k, v in tensors.items() if k != key} | ({} if change is None else {key: change})
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match=told):
        read(tmp_path / "model.safetensors")
