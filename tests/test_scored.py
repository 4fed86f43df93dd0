"""Where some tokens' logits are wanted, the last layer leaves out the others, and nothing else changes."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model_patches.circuit_model import CircuitModel
from model_patches.graph import Embeddings
from model_patches.layout import Layout
from model_patches.states import WriterStates
from tests.tiny_models import KINDS, exact_model, tokens

CLEAN, CORRUPTED = tokens(3, 9, seed=1), tokens(3, 9, seed=2)
# Two of each example's tokens; of the second, one twice.
POSITIONS = torch.tensor([[2, 8], [5, 5], [0, 7]])


@pytest.fixture(params=["by sample", "by token"], autouse=True)
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny models are narrow; blocks of one token, and gradients in parts, are what real ones have."""
    if request.param == "by token":
        monkeypatch.setattr("model_patches.layout.NARROW", 0)
        monkeypatch.setattr("model_patches.gradients.PART_ROWS", 1)
    yield


def wanted(logits: Tensor) -> Tensor:
    return logits[..., torch.arange(len(POSITIONS)).unsqueeze(1), POSITIONS, :]


def random_gates(model: CircuitModel, *samples: int) -> Tensor:
    shape = (*samples, *model.graph.exists.shape)
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.where(model.graph.always_on, 1.0, keep).requires_grad_()


def states(model: CircuitModel, ablation: str, positions: Tensor | None) -> WriterStates | None:
    match ablation:
        case "interchange":
            return model.record(CORRUPTED, positions=positions)
        case "mean":
            return WriterStates.of(model.graph, model.record(CORRUPTED).writers.mean((1, 2), keepdim=True))
        case _:
            return None


def assert_close(ours: Tensor, reference: Tensor) -> None:
    assert ours.shape == reference.shape
    assert (ours - reference).abs().max() <= 1e-9 * reference.abs().max()


def test_only_few_scored_tokens_have_a_buffer_of_their_own() -> None:
    few, many = (Layout.of(2, CLEAN, torch.arange(n).repeat(3, 1), 4).scored for n in (4, 5))
    assert few is not None and len(few) == 2 * 3 * 4 and many is None
    with pytest.raises(AssertionError, match="at one position at least"):
        Layout.of(1, CLEAN, POSITIONS[:, :0], 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_model(kind: str) -> None:
    model = CircuitModel(exact_model(kind))
    assert_close(model.full(CLEAN, POSITIONS), wanted(model.full(CLEAN)))


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_states(kind: str) -> None:
    model = CircuitModel(exact_model(kind))
    everywhere, some = model.record(CORRUPTED), model.record(CORRUPTED, positions=POSITIONS)
    last = model.graph.first_head(model.graph.shape.layers - 1)
    assert_close(some.writers[:last], everywhere.writers[:last])
    assert_close(wanted(some.writers), wanted(everywhere.writers))
    assert_close(wanted(some.residuals), wanted(everywhere.residuals))
    assert some.writers.isfinite().all()


@pytest.mark.parametrize("embeddings", ["maskable", "always_on"])
@pytest.mark.parametrize("ablation", ["interchange", "mean", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_of_masked_passes(kind: str, ablation: str, embeddings: Embeddings) -> None:
    model = CircuitModel(exact_model(kind), embeddings)
    keep = random_gates(model, 2)
    logits = wanted(model(CLEAN, keep, states(model, ablation, None)))
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (expected,) = torch.autograd.grad((logits.tanh() * weights).sum(), keep)
    for _ in range(2):  # buffers are kept from the pass before
        ours = model(CLEAN, keep, states(model, ablation, POSITIONS), POSITIONS)
        assert_close(ours, logits)
        (found,) = torch.autograd.grad((ours.tanh() * weights).sum(), keep)
        assert_close(found, expected)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt", "gemma2"])
def test_the_last_mlp_sees_the_scored_tokens_alone(kind: str) -> None:
    model = CircuitModel(exact_model(kind))
    seen: list[int] = []
    mlp = model.blocks[-1].get_submodule(model.architecture.mlp)
    mlp.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0][..., 0].numel()))
    model.full(CLEAN, POSITIONS)
    model(CLEAN, random_gates(model, 2), model.record(CORRUPTED, positions=POSITIONS), POSITIONS)
    assert seen == [5, 5, 10]
    model.full(CLEAN)
    assert seen[-1] == CLEAN.numel()
