"""Deep models in bf16: what is summed is summed in float32 and rounded once."""

import pytest
import torch
from torch import Tensor

from model_patches.circuit_model import CircuitModel
from tests.tiny_models import KINDS, tiny_model, tokens

LAYERS = 24
CLEAN, CORRUPTED = tokens(2, 9, seed=1), tokens(2, 9, seed=2)
POSITIONS = torch.tensor([[8, 4], [3, 8]])


def distance(ours: Tensor, reference: Tensor) -> float:
    """max |Δ| / max |logit|."""
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


@torch.no_grad()
def logits(kind: str, dtype: torch.dtype, x: Tensor) -> Tensor:
    """Of the untouched Hugging Face model."""
    return tiny_model(kind, dtype, layers=LAYERS)(input_ids=x).logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_deep_bf16_model_is_corrupted_at_gates_0_and_clean_at_gates_1(kind: str) -> None:
    model = CircuitModel(tiny_model(kind, torch.bfloat16, layers=LAYERS))
    states, every = model.record(CORRUPTED), model.graph.exists.float()
    with torch.no_grad():
        empty, whole = (model(CLEAN, keep, states) for keep in (0 * every, every))
    assert distance(empty, logits(kind, torch.bfloat16, CORRUPTED)) <= 3e-2
    # What 24 layers make of bf16's rounding is not ours: as near to the truth as Hugging Face's own run.
    exact = logits(kind, torch.float64, CLEAN)
    assert distance(whole, exact) <= 3 * distance(logits(kind, torch.bfloat16, CLEAN), exact)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_corrupted_residuals_are_exact_sums_rounded_once(kind: str) -> None:
    model = CircuitModel(tiny_model(kind, torch.bfloat16, layers=LAYERS))
    states = model.record(CORRUPTED)
    assert states.writers.dtype == states.residuals.dtype == torch.bfloat16
    for residual, group in zip(states.residuals, model.graph.groups(), strict=True):
        exact = states.writers[: group.visible].double().sum(0)
        # Half a unit of bf16's last place, and what float32 adds where terms cancel.
        assert ((residual - exact).abs() <= 2**-8 * exact.abs() + 1e-5).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_gate_gradients_of_a_deep_bf16_model_are_float32_and_point_the_same_way(kind: str) -> None:
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        model = CircuitModel(tiny_model(kind, dtype, layers=LAYERS))
        generator = torch.Generator().manual_seed(5)
        keep = (0.2 + 0.6 * torch.rand(model.graph.exists.shape, generator=generator)).requires_grad_()
        out = model(CLEAN, keep, model.record(CORRUPTED), POSITIONS)
        out.double().log_softmax(-1)[..., 0].sum().backward()
        assert keep.grad is not None and keep.grad.dtype == torch.float32
        found.append(keep.grad.flatten())
    rough, exact = found
    assert (rough - exact).norm() <= 0.1 * exact.norm()
