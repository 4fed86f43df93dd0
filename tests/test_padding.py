"""`real`: an example's logits, writes and gradients are those it has alone, wherever its padding is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model_patches.circuit_model import CircuitModel
from model_patches.states import WriterStates
from tests.tiny_models import KINDS, VOCAB, exact_model, tiny_model, tokens

LENGTHS = (9, 6, 1, 4)
SEQ = max(LENGTHS)
CLEAN, CORRUPTED = ([tokens(1, n, seed=10 * n + s) for n in LENGTHS] for s in (1, 2))
LAST = torch.tensor([[n - 1] for n in LENGTHS])
SIDES = ["left", "right"]
ABLATIONS = ["interchange", "zero"]


def padded(examples: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """One batch and where it is real. The padding is made of tokens that mean something to the model."""
    batch, real = tokens(len(examples), SEQ, seed=99), torch.zeros(len(examples), SEQ, dtype=torch.bool)
    for row, example in enumerate(examples):
        batch[row, place(row, side)] = example
        real[row, place(row, side)] = True
    return batch, real


def place(row: int, side: str) -> slice:
    return slice(SEQ - LENGTHS[row], SEQ) if side == "left" else slice(0, LENGTHS[row])


def last(side: str) -> Tensor:
    """The position of each example's last token in a batch."""
    return torch.full_like(LAST, SEQ - 1) if side == "left" else LAST


def assert_close(ours: Tensor, alone: Tensor) -> None:
    assert ours.shape == alone.shape
    assert (ours - alone).abs().max() <= 1e-10 * alone.abs().max()


def random_gates(model: CircuitModel, *samples: int) -> Tensor:
    shape = (*samples, *model.graph.exists.shape)
    return torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def recorded(
    model: CircuitModel, ablation: str, tokens: Tensor, real: Tensor | None = None
) -> WriterStates | None:
    return model.record(tokens, real) if ablation == "interchange" else None


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_the_full_model(kind: str, side: str) -> None:
    model = CircuitModel(exact_model(kind))
    batch, real = padded(CLEAN, side)
    everywhere, wanted = model.full(batch, real=real), model.full(batch, last(side), real)
    assert everywhere.isfinite().all()
    for row, example in enumerate(CLEAN):
        alone = model.full(example)[0]
        assert_close(everywhere[row, place(row, side)], alone)
        assert_close(wanted[row], alone[-1:])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_writes(kind: str, side: str) -> None:
    model = CircuitModel(exact_model(kind))
    states = model.record(*padded(CORRUPTED, side))
    assert states.writers.isfinite().all() and states.residuals.isfinite().all()
    for row, example in enumerate(CORRUPTED):
        alone = model.record(example)
        assert_close(states.writers[:, row, place(row, side)], alone.writers[:, 0])
        assert_close(states.residuals[:, row, place(row, side)], alone.residuals[:, 0])


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_of_masked_passes(kind: str, side: str, ablation: str) -> None:
    model = CircuitModel(exact_model(kind))
    (batch, real), (other, other_real) = padded(CLEAN, side), padded(CORRUPTED, side)
    assert torch.equal(real, other_real)
    weight = torch.randn(VOCAB, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def run(keep: Tensor, *args: Tensor | WriterStates | None) -> tuple[Tensor, Tensor]:
        keep = keep.clone().requires_grad_()
        logits = model(args[0], keep, *args[1:])
        (logits.log_softmax(-1) @ weight).sum().backward()
        assert keep.grad is not None
        return logits.detach(), keep.grad

    states = recorded(model, ablation, other, real)
    for keep in (random_gates(model), random_gates(model, 2)):
        together, gradient = run(keep, batch, states, last(side), real)
        expected = torch.zeros_like(gradient)
        for row, (clean, corrupted) in enumerate(zip(CLEAN, CORRUPTED, strict=True)):
            alone, by_gate = run(keep, clean, recorded(model, ablation, corrupted), LAST[row : row + 1])
            assert_close(together[..., row, :, :], alone[..., 0, :, :])
            expected += by_gate
        assert_close(gradient, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_right_padding_needs_no_mask(kind: str) -> None:
    model = CircuitModel(exact_model(kind))
    batch, real = padded(CLEAN, "right")
    keep, states = random_gates(model), model.record(padded(CORRUPTED, "right")[0])
    without = model.full(batch, LAST), model(batch, keep, states, LAST)
    masked = model.full(batch, LAST, real), model(batch, keep, states, LAST, real)
    for ours, expected in zip(without, masked, strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_infinite_where_there_is_no_token(kind: str, dtype: torch.dtype) -> None:
    """A query that may attend to nothing must not spread NaN through the gates' gradient."""
    model = CircuitModel(tiny_model(kind, dtype))
    (batch, real), (other, _) = padded(CLEAN, "left"), padded(CORRUPTED, "left")
    keep = random_gates(model).float().requires_grad_()
    states = model.record(other, real)
    logits = model(batch, keep, states, real=real)
    logits.float().log_softmax(-1).square().mean().backward()
    assert keep.grad is not None and keep.grad.isfinite().all() and keep.grad.any()
    assert logits.isfinite().all() and states.writers.isfinite().all()


def test_the_mask_is_given_to_the_model_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = CircuitModel(tiny_model("gpt2"))
    batch, real = padded(CLEAN, "right")
    seen: list[set[str]] = []
    forward: Callable[..., object] = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda **given: seen.append({*given}) or forward(**given))
    model.full(batch)
    model.full(batch, real=real)
    plain = {"input_ids", "use_cache"}
    assert seen == [plain, plain | {"attention_mask", "position_ids"}]


def test_a_mask_of_another_shape_is_refused() -> None:
    model = CircuitModel(tiny_model("gpt2"))
    batch, real = padded(CLEAN, "left")
    with pytest.raises(AssertionError, match="real is"):
        model.full(batch, real=real[:, 1:])
