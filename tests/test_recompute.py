"""Blocks that are computed again in the backward: the same logits and gradients, with less memory."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model_patches.circuit_model import CircuitModel
from tests import one_rank
from tests.tiny_models import KINDS, save_tiny, tiny_model, tokens

CLEAN, CORRUPTED = tokens(3, 7, seed=1), tokens(3, 7, seed=2)
POSITIONS = torch.tensor([[6, 1], [5, 3], [2, 4]])


def gates(model: CircuitModel, samples: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand((*samples, *model.graph.exists.shape), generator=generator).requires_grad_()


def step(
    model: CircuitModel, samples: tuple[int, ...], ablation: str, recompute: bool
) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of a fixed combination of them in what the gates are made from."""
    corrupted = model.record(CORRUPTED) if ablation == "interchange" else None
    made_from = gates(model, samples)
    # Some way before the model, as gates are sampled: the graph there is one for all blocks.
    logits = model(CLEAN, made_from.sqrt(), corrupted, POSITIONS, recompute=recompute)
    weight = torch.randn(logits.shape[-3:], generator=torch.Generator().manual_seed(3))
    (logits.float().log_softmax(-1) * weight).sum().backward()
    assert made_from.grad is not None
    return logits.detach(), made_from.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ablation", ["interchange", "zero"])
@pytest.mark.parametrize("samples", [(), (2,)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits(kind: str, samples: tuple[int, ...], ablation: str, dtype: torch.dtype) -> None:
    model = CircuitModel(tiny_model(kind, dtype))
    expected = step(model, samples, ablation, recompute=False)
    found = step(model, samples, ablation, recompute=True)
    again = step(model, samples, ablation, recompute=False)
    for name, *values in zip(("logits", "gradient"), found, expected, again, strict=True):
        assert torch.equal(values[0], values[1]), f"{name} of blocks computed again"
        assert torch.equal(values[2], values[1]), f"{name} after that"
    assert not model.stream.running and not model.stream.again


def test_one_layer_of_reads_is_kept() -> None:
    model = CircuitModel(tiny_model("llama", layers=5))
    rows = CLEAN.numel() * model.width
    step(model, (), "interchange", recompute=True)
    assert model.stream.masked[0].reads._flat.numel() == model.graph.readers_per_layer * rows
    step(model, (), "interchange", recompute=False)
    few = model.graph.shape.query_heads + 1  # of the last layer, which read at the answers
    assert model.stream.masked[0].reads._flat.numel() == (5 * model.graph.readers_per_layer - few) * rows


def test_a_pass_in_between_changes_nothing() -> None:
    """Between a forward and its backward a run may be recorded; another masked pass may not."""
    model = CircuitModel(tiny_model("gpt2"))
    _, expected = step(model, (), "interchange", recompute=False)
    corrupted, made_from = model.record(CORRUPTED), gates(model, ())
    logits = model(CLEAN, made_from.sqrt(), corrupted, POSITIONS, recompute=True)
    model.record(tokens(2, 5, seed=9), lent=True)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    loss = (logits.log_softmax(-1) * weight).sum()
    loss.backward(retain_graph=True)
    assert made_from.grad is not None and torch.equal(made_from.grad, expected)
    with torch.no_grad():
        model(CLEAN, made_from, corrupted)
    with pytest.raises(AssertionError, match="before the next masked pass"):
        loss.backward()


def test_differences_cannot_be_replaced() -> None:
    model = CircuitModel(tiny_model("gpt2"))
    model(CLEAN, gates(model, ()), None, recompute=True)
    with pytest.raises(AssertionError, match="computed again"):
        model.stream.replace_differences(torch.zeros(len(model.graph.writers), 3, 7, model.width))


@pytest.mark.parametrize("zero_stage", [0, 3])
@pytest.mark.parametrize("method", [{"name": "edge_pruning", "target_sparsity": 0.6}, {"name": "eap"}])
def test_a_trial_ends_with_the_same_circuits(
    zero_stage: int, method: dict[str, object], tmp_path: Path
) -> None:
    small = (
        {"steps": 4, "batch_size": 5, "init_log_alpha": 0, "init_std": 2}
        if "target_sparsity" in method
        else {}
    )
    spec = {
        "model": {"path": str(save_tiny("llama", tmp_path / "model"))},
        "task": one_rank.TINY_TASK,
        "method": method | small,
    }
    found = []
    for recompute in (False, True):
        with one_rank.working(zero_stage=zero_stage, recompute_blocks=recompute) as make:
            found.append(one_rank.run(make(), tmp_path / str(recompute), spec))
    assert found[0].status == found[1].status == "complete"
    assert found[0].points == found[1].points and found[0].examples == found[1].examples
    for circuit in (point.circuit for point in found[0].points):
        assert (tmp_path / "True" / circuit).read_bytes() == (tmp_path / "False" / circuit).read_bytes()
