"""Under ZeRO-3 a weight is there only while its module runs: every family computes what it does alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_patches.circuit_model import CircuitModel
from tests.tiny_models import KINDS, save_tiny, tiny_model, tokens
from trainers.distributed import Engine, Ranks
from trainers.model import ModelSpec, load

CLEAN, CORRUPTED, POSITIONS = tokens(2, 6, seed=1), tokens(2, 6, seed=2), torch.tensor([[5], [3]])


def passes(model: CircuitModel) -> list[Tensor]:
    """Logits and gate gradients of every kind of pass."""
    config: Any = model.model.config
    keep = torch.rand(model.graph.exists.shape, generator=torch.Generator().manual_seed(3))
    real = torch.ones_like(CLEAN, dtype=torch.bool)
    real[0, :2] = False
    found = [model.full(CLEAN), model.full(CLEAN, real=real)]
    corrupted = [model.record(CORRUPTED), model.record(CORRUPTED, real), None]
    if config.model_type != "gemma2":  # has a norm after its output bias
        corrupted.append(model.zeros("kept"))
    for states, recompute in [*((states, False) for states in corrupted), (corrupted[0], True)]:
        gates = keep.clone().requires_grad_()
        logits = model(CLEAN, gates, states, POSITIONS, recompute=recompute)
        (gradient,) = torch.autograd.grad(logits.log_softmax(-1).square().sum(), gates)
        found += [logits.detach(), gradient]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_passes_and_gradients_under_zero3(kind: str, ranks: Ranks) -> None:
    expected = passes(CircuitModel(tiny_model(kind)))
    model = CircuitModel(tiny_model(kind))
    parameters = {"trained": nn.Parameter(torch.zeros(3))}
    engine = Engine(model, parameters, [{"names": ["trained"], "weight_decay": 0.0}], ranks, 3)
    assert all(weight.numel() == 0 for weight in model.model.parameters())  # partitioned
    for _ in range(2):
        for ours, alone in zip(engine.run(passes, model), expected, strict=True):
            assert torch.equal(ours, alone)
    engine.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_model_is_loaded_in_the_dtype_asked_for(dtype: str, ranks: Ranks, tmp_path: Path) -> None:
    """From a folder, partitioned while it loads: the weights and all it computes are those of stage 0."""
    spec = ModelSpec.parse({"path": str(save_tiny("llama", tmp_path)), "dtype": dtype}, "model")
    whole, parted = load(spec, ranks, 0).model, load(spec, ranks, 3).model
    assert parted.dtype == whole.dtype == getattr(torch, dtype)
    parameters = {"trained": nn.Parameter(torch.zeros(3))}
    engine = Engine(parted, parameters, [{"names": ["trained"], "weight_decay": 0.0}], ranks, 3)
    for ours, alone in zip(engine.run(passes, parted), passes(whole), strict=True):
        assert ours.dtype == alone.dtype and torch.equal(ours, alone)
    engine.close()
