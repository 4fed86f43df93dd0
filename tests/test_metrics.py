"""Metrics: one number per example, by hand, and what every entry of METRICS promises."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor

from trainers.data import Batch, Example
from trainers.metrics import METRICS

VOCAB = 5
CPU = torch.device("cpu")


def batch() -> Batch:
    """Three examples with 2, 1 and 2 scored positions."""
    examples = [
        Example((1, 2), (3, 4), (0, 1), (1, 4), (2, 0)),
        Example((1,), (3,), (0,), (3,), (1,)),
        Example((4, 0), (2, 1), (0, 1), (0, 2), (1, 3)),
    ]
    return Batch.of(examples, [1.0, 1.0, 1.0], torch.device("cpu"))


def logits(seed: int, vocab: int = VOCAB) -> Tensor:
    return torch.randn(3, 2, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compute(name: str, ours: Tensor, full: Tensor, examples: Batch | None = None) -> Tensor:
    return METRICS[name].compute(ours, full, examples or batch())


def test_batches_are_padded_with_what_is_never_scored() -> None:
    found = batch()
    assert found.clean.tolist() == [[1, 2], [1, 1], [4, 0]]
    assert found.scored.tolist() == [[True, True], [True, False], [True, True]]
    assert found.positions.tolist() == [[0, 1], [0, 0], [0, 1]]
    assert found.repeat(2).answers.tolist() == found.answers.tolist() * 2
    undecided = Batch.of([Example((1,), (2,), (0,), (1,))], [1.0], torch.device("cpu"))
    assert undecided.distractors is None and undecided.repeat(3).distractors is None


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_finite_float_per_example(name: str, dtype: torch.dtype) -> None:
    metric, vocab = METRICS[name], 1 if name == "answer_product" else VOCAB
    assert metric.name == name and metric.label
    found = compute(name, logits(0, vocab).to(dtype), logits(1, vocab).to(dtype))
    assert found.shape == (3,) and found.is_floating_point() and found.isfinite().all()


@pytest.mark.parametrize("name", METRICS)
def test_positions_that_are_not_scored_change_nothing(name: str) -> None:
    vocab = 1 if name == "answer_product" else VOCAB
    ours, full = logits(0, vocab), logits(1, vocab)
    other_ours, other_full = ours.clone(), full.clone()
    other_ours[1, 1], other_full[1, 1] = torch.randn(2, vocab, dtype=torch.float64) * 50
    assert torch.equal(compute(name, ours, full), compute(name, other_ours, other_full))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.divergence])
def test_a_divergence_is_0_at_the_full_model_with_no_gradient_and_positive_elsewhere(name: str) -> None:
    assert not METRICS[name].higher_is_better
    for seed in range(5):
        full = logits(seed)
        at_full = full.clone().requires_grad_()
        found = compute(name, at_full, full)
        assert torch.allclose(found, torch.zeros(3, dtype=torch.float64), atol=1e-15)
        (gradient,) = torch.autograd.grad(found.sum(), at_full)
        assert gradient.abs().max() < 1e-15
        assert compute(name, logits(seed + 10), full).gt(0).all()
        if name != "squared_error":  # a softmax does not see a shift of all logits
            assert compute(name, full + 3, full).abs().max() < 1e-12


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.differentiable and not m.divergence])
def test_what_is_said_to_be_differentiable_is(name: str) -> None:
    vocab = 1 if name == "answer_product" else VOCAB
    ours = logits(0, vocab).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: compute(name, x, logits(1, vocab)), ours)
    (gradient,) = torch.autograd.grad(compute(name, ours, logits(1, vocab)).sum(), ours)
    assert gradient[batch().scored].abs().sum() > 0 and gradient[1, 1].abs().max() == 0


def test_kl_by_hand() -> None:
    """Full model (3/4, 1/4), circuit (1/2, 1/2): 3/4 log 3/2 + 1/4 log 1/2 nats."""
    one = Batch.of([Example((0,), (1,), (0,), (0,))], [1.0], torch.device("cpu"))
    full = torch.tensor([[[math.log(3.0), 0.0]]], dtype=torch.float64)
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert compute("kl", torch.zeros(1, 1, 2).double(), full, one).item() == pytest.approx(by_hand, abs=1e-12)
    assert compute("kl", full, torch.zeros(1, 1, 2).double(), one).item() == pytest.approx(
        0.5 * math.log(2 / 3) + 0.5 * math.log(2), abs=1e-12
    )


def test_means_over_scored_positions_by_hand() -> None:
    """Logits are 10 · position + token: answers minus distractors are token differences."""
    ours = torch.arange(VOCAB).double().expand(3, 2, VOCAB) + torch.tensor([[0.0], [10.0]])
    full = torch.zeros(3, 2, VOCAB).double()
    assert compute("logit_difference", ours, full).tolist() == [(1 - 2 + 4 - 0) / 2, 2, (-1 - 1) / 2]
    assert compute("accuracy", ours, full).tolist() == [0.5, 0, 0], "4 is right at one position"
    full[:, 0, 4] = 1
    assert compute("exact_match", ours, full).tolist() == [0.5, 1, 0.5]
    assert compute("squared_error", ours, ours + 2).tolist() == [4 * VOCAB] * 3
    normaliser = math.log(sum(math.exp(token) for token in range(VOCAB)))
    expected = [(1 + 4) / 2 - normaliser, 3 - normaliser, (0 + 2) / 2 - normaliser]
    assert compute("answer_log_probability", ours, full).tolist() == pytest.approx(expected)


def test_answer_product_by_hand() -> None:
    """Outputs 2 and 4 for answers 1 and 0: (2 · 1/2 + 4 · −1/2) / 2."""
    one = Batch.of([Example((0, 1), (1, 1), (0, 1), (1.0, 0.0))], [1.0], torch.device("cpu"))
    ours = torch.tensor([[[2.0], [4.0]]])
    assert compute("answer_product", ours, ours, one).tolist() == [-0.5]


def test_same_output_of_categories_needs_every_scored_argmax() -> None:
    full = logits(3)
    assert compute("same_output", full * 2 + 1, full).tolist() == [1, 1, 1]
    for example, position in ((0, 0), (0, 1), (1, 0)):
        ours = full.clone()
        ours[example, position] *= -1
        expected = [1.0, 1.0, 1.0]
        expected[example] = 0.0
        assert compute("same_output", ours, full).tolist() == expected
    ours = full.clone()
    ours[1, 1] *= -1
    assert compute("same_output", ours, full).tolist() == [1, 1, 1], "not scored"


def test_same_output_of_a_number_tolerates_a_thousandth() -> None:
    full = logits(3, vocab=1)
    assert compute("same_output", full + 0.0009, full).tolist() == [1, 1, 1]
    assert compute("same_output", full - 0.0011, full).tolist() == [0, 0, 0]


@pytest.mark.parametrize("vocab", [1, VOCAB])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_the_same_output(vocab: int, value: float) -> None:
    full = logits(3, vocab)
    ours = full.clone()
    ours[0, 0, 0] = value
    assert compute("same_output", ours, full).tolist()[0] == 0
    assert compute("same_output", ours, ours).tolist()[0] == 0


def test_kl_of_bfloat16_logits_is_taken_in_float32() -> None:
    full = logits(0).to(torch.bfloat16)
    ours = (logits(0) + logits(1) / 50).to(torch.bfloat16)
    exact = compute("kl", ours.double(), full.double())
    assert torch.allclose(compute("kl", ours, full).double(), exact, rtol=1e-3, atol=1e-6)


def ordered(*answers: int) -> Batch:
    """One scored position per example, whose answer counts the candidates."""
    return Batch.of([Example((0,), (1,), (0,), (each,)) for each in answers], [1.0] * len(answers), CPU)


def test_probability_difference_by_hand() -> None:
    """Candidates 0 to 4 of probability 1/16, 1/16, 1/8, 1/4, 1/2; the answer itself is on neither side."""
    probabilities = torch.tensor([1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2], dtype=torch.float64)
    ours = probabilities.log().expand(3, 1, 5) + 7
    found = compute("probability_difference", ours, ours, ordered(2, 0, 4))
    assert found.tolist() == pytest.approx([3 / 4 - 1 / 8, 15 / 16, -1 / 2], abs=1e-12)


def test_probability_difference_within_10_by_hand() -> None:
    """100 candidates, equally likely but for one."""
    ours = torch.zeros(4, 1, 100, dtype=torch.float64)
    far, near = ours.clone(), ours.clone()
    far[:, 0, 61], near[:, 0, 60] = 5, 5
    answers = ordered(50, 5, 97, 50)
    share = 1 / (99 + math.exp(5))
    assert compute("probability_difference_10", ours, ours, answers).tolist() == pytest.approx(
        [0, 5 / 100, -8 / 100, 0], abs=1e-12
    )
    assert compute("probability_difference_10", far, far, answers)[0].item() == pytest.approx(0, abs=1e-12)
    within = compute("probability_difference_10", near, near, answers)[0].item()
    assert within == pytest.approx((math.exp(5) - 1) * share, abs=1e-12)


@pytest.mark.parametrize("steps", [None, 4, 1], ids=["no ties", "some ties", "many ties"])
def test_kendalls_tau_is_scipys(steps: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, full = torch.randn(2, 6, 2, 100, generator=generator, dtype=torch.float64)
    full = ours * torch.linspace(-1, 1, 6).double()[:, None, None] + full / 2
    if steps is not None:
        ours, full = (ours * steps).round(), (full * steps).round()
    found = compute("kendall_tau", ours, full, Batch.of(
        [Example((0, 1), (1, 0), (0, 1), (0, 0)) for _ in range(6)], [1.0] * 6, CPU
    ))  # fmt: skip
    scipys: Any = kendalltau
    expected = [
        np.mean([scipys(ours[row, place], full[row, place], variant="b").statistic for place in range(2)])
        for row in range(6)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert min(expected) < -0.2 and max(expected) > 0.2


def test_kendalls_tau_of_nothing_but_ties_is_0() -> None:
    flat, full = torch.zeros(1, 1, 100), torch.arange(100.0).expand(1, 1, 100)
    assert compute("kendall_tau", flat, full, ordered(0)).tolist() == [0]
    assert compute("kendall_tau", full, full, ordered(0)).tolist() == [1]
    assert compute("kendall_tau", -full, full, ordered(0)).tolist() == [-1]


def test_kendalls_tau_is_of_candidates_not_of_a_vocabulary() -> None:
    with pytest.raises(AssertionError, match="a readout has 50257 of them"):
        compute("kendall_tau", torch.zeros(1, 1, 50257), torch.zeros(1, 1, 50257), ordered(0))
