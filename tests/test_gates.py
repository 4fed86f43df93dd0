"""Hard-concrete gates: their distribution, their gradient, and noise that every rank agrees on."""

import math

import pytest
import torch

from model_patches import gates

LOG_ALPHAS = torch.tensor([-9.0, -4.0, -2.0, -0.5, 0.0, 0.7, 2.0, 3.3, 5.0, 10.0], dtype=torch.float64)


def drawn(count: int = 200_000) -> torch.Tensor:
    uniform = torch.rand(count, len(LOG_ALPHAS), generator=torch.Generator().manual_seed(0)).double()
    return gates.sample(LOG_ALPHAS, uniform)


def test_expectation_and_probability_are_what_many_draws_tend_to() -> None:
    samples = drawn()
    error = samples.std(0) / math.sqrt(len(samples))
    assert ((gates.expected(LOG_ALPHAS) - samples.mean(0)).abs() <= 4 * error + 1.5e-3).all()
    opened = (samples > 0).double()
    error = opened.std(0) / math.sqrt(len(samples))
    assert ((gates.probability_open(LOG_ALPHAS) - opened.mean(0)).abs() <= 4 * error + 1e-5).all()


def test_probability_open_in_closed_form() -> None:
    """P(z > 0) = P(s > 1/12) with logit(s) = (logit(u) + log_alpha) · 3/2, so it is
    sigmoid(log_alpha + 2/3 · log 11)."""
    by_hand = torch.sigmoid(LOG_ALPHAS + 2 / 3 * math.log(11))
    assert torch.allclose(gates.probability_open(LOG_ALPHAS), by_hand)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_are_exactly_0_and_1_with_positive_probability(dtype: torch.dtype) -> None:
    noise = torch.tensor([[0.0], [0.01], [0.5], [0.99], [1.0]], dtype=dtype)
    assert gates.sample(torch.tensor([10.0], dtype=dtype), noise)[1:].eq(1).all()
    assert gates.sample(torch.tensor([-10.0], dtype=dtype), noise)[:-1].eq(0).all()
    middle = gates.sample(torch.zeros(1, dtype=dtype), noise).flatten()
    assert middle.tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert middle[0] == 0 and middle[-1] == 1, "noise of exactly 0 and 1 is finite"


def test_a_gate_by_hand() -> None:
    """u = 0.6, log_alpha = 0.3: s = sigmoid(1.5 · (log 1.5 + 0.3)), z = 1.2 s − 0.1."""
    s = 1 / (1 + math.exp(-1.5 * (math.log(1.5) + 0.3)))
    found = gates.sample(torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64))
    assert found.item() == pytest.approx(1.2 * s - 0.1, abs=1e-12)


def test_gradient_is_that_of_the_open_part_and_0_where_clamped() -> None:
    uniform = torch.rand(50, len(LOG_ALPHAS), generator=torch.Generator().manual_seed(1)).double()
    assert torch.autograd.gradcheck(
        lambda log_alpha: gates.sample(log_alpha, uniform), LOG_ALPHAS.clone().requires_grad_()
    )
    log_alpha = LOG_ALPHAS.clone().requires_grad_()
    closed = gates.sample(log_alpha, torch.full((1, len(LOG_ALPHAS)), 1e-5))
    closed.sum().backward()
    assert log_alpha.grad is not None
    assert log_alpha.grad[closed.detach().flatten() == 0].eq(0).all()
    assert log_alpha.grad[(closed > 0).flatten() & (closed < 1).flatten()].gt(0).all()


def test_expected_rises_with_log_alpha_and_has_a_gradient_everywhere() -> None:
    values = torch.linspace(-12, 12, 97, dtype=torch.float64, requires_grad=True)
    found = gates.expected(values)
    assert found.diff().gt(0).all() and found[0] < 1e-4 and found[-1] > 1 - 1e-4
    assert found[48].item() == pytest.approx(0.5)
    found.sum().backward()
    assert values.grad is not None and values.grad.gt(0).all()


def test_samples_broadcast() -> None:
    assert gates.sample(torch.zeros(4), torch.full((3, 4), 0.5)).shape == (3, 4)


def test_published_mask_zeroes_the_expected_number_of_smallest_gates() -> None:
    log_alpha = torch.randn(1001, generator=torch.Generator().manual_seed(2)).double() * 3
    mask = gates.published_mask(log_alpha, torch.zeros(1001, dtype=torch.int64))
    zeros = round(float((1 - gates.probability_open(log_alpha)).sum()))
    assert int((mask == 0).sum()) == zeros > 100
    soft = torch.sigmoid(0.8 * log_alpha / (2 / 3))
    assert torch.equal(mask[mask > 0], soft[mask > 0])
    assert log_alpha[mask == 0].max() < log_alpha[mask > 0].min()


def test_published_mask_breaks_ties_by_index() -> None:
    """log_alpha = −2/3 · log 11: every gate opens with probability 1/2, and half of ten are cut."""
    even = torch.full((10,), -2 / 3 * math.log(11), dtype=torch.float64)
    mask = gates.published_mask(even, torch.zeros(10, dtype=torch.int64))
    assert (mask == 0).tolist() == [True] * 5 + [False] * 5


def test_published_mask_counts_zeros_in_each_tensor_of_its_own() -> None:
    """Two tensors, interleaved, all gates of which open with probability 1/2: each loses half its gates,
    though every gate of the second is the larger."""
    log_alpha = torch.full((8,), -2 / 3 * math.log(11), dtype=torch.float64)
    log_alpha[1::2] += 1e-6
    mask = gates.published_mask(log_alpha, torch.tensor([0, 1] * 4))
    assert (mask == 0).tolist() == [True] * 4 + [False] * 4
    together = gates.published_mask(log_alpha, torch.zeros(8, dtype=torch.int64))
    assert (together == 0).tolist() == [True, False] * 4


def test_noise_is_a_function_of_seed_step_and_sample() -> None:
    torch.manual_seed(1)
    first = gates.noise((7,), seed=3, step=5, sample_index=0)
    torch.manual_seed(2)
    torch.rand(10)
    assert torch.equal(first, gates.noise((7,), seed=3, step=5, sample_index=0))
    assert first.dtype == torch.float64 and first.ge(0).all() and first.lt(1).all()
    keys = [(seed, step, index) for seed in range(4) for step in range(-1, 4) for index in range(3)]
    draws = {tuple(gates.noise((7,), *key).tolist()) for key in keys}
    assert len(draws) == len(keys), "no two keys share their noise"


def test_noise_pinned() -> None:
    """The same numbers on every machine, or no trial could be repeated elsewhere."""
    found = gates.noise((3,), seed=1, step=2, sample_index=3)
    assert found.tolist() == pytest.approx(
        [0.9095738382472716, 0.048412807127775515, 0.8331623517972987], abs=0
    )


def test_drawing_noise_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    gates.noise((3,), 0, 0, 0)
    assert torch.equal(torch.rand(3), expected)
