"""GPT-2's activation in one kernel: the same function, and a plain pass to the last bit."""

import pytest
import torch
from transformers.activations import NewGELUActivation

from model_patches.activations import FusedGelu
from model_patches.circuit_model import CircuitModel
from tests.tiny_models import KINDS, tiny_model, tokens


def test_the_same_function_and_gradient() -> None:
    stream = CircuitModel(tiny_model("gpt2")).stream
    fused, spelled_out = FusedGelu(NewGELUActivation(), stream), NewGELUActivation()
    stream.recording = True  # a pass that is not plain
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(fused(x), spelled_out(x), rtol=1e-12, atol=1e-13)
    ours, reference = (torch.autograd.grad(one(x).sum(), x)[0] for one in (fused, spelled_out))
    assert torch.allclose(ours, reference, rtol=1e-12, atol=1e-12)
    half = x.detach().bfloat16()
    assert torch.equal(fused(half), spelled_out(half))
    stream.stop()
    x = x.detach().float()
    assert torch.equal(fused(x), spelled_out(x))


@pytest.mark.parametrize("kind", KINDS)
def test_masked_passes_spell_nothing_out(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CircuitModel(tiny_model(kind))
    calls: list[int] = []
    forward = NewGELUActivation.forward

    def counted(self: NewGELUActivation, x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return forward(self, x)

    monkeypatch.setattr(NewGELUActivation, "forward", counted)
    keep = torch.rand(model.graph.exists.shape, generator=torch.Generator().manual_seed(0))
    model(tokens(2, 5, seed=1), keep, model.record(tokens(2, 5, seed=2)))
    assert not calls
