"""Exact integer algebra on a model worked out on paper, and gradients with respect to the gates."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model_patches.circuit import Circuit
from model_patches.circuit_model import CircuitModel
from model_patches.states import WriterStates
from tests.micro_model import CLEAN, CLEAN_LOGITS, CORRUPTED, CORRUPTED_LOGITS, micro_model
from tests.tiny_models import KINDS, exact_model, tiny_model, tokens

Edge = tuple[str, str]
T_Q, T_K, T_V = ("tok_embeds", "a0.h1.q"), ("tok_embeds", "a0.h1.k"), ("tok_embeds", "a0.h0.v")


class Micro:
    """The hand-computable model with its two runs."""

    def __init__(self) -> None:
        self.model = CircuitModel(micro_model())
        self.clean, self.corrupted = torch.tensor([CLEAN]), self.model.record(torch.tensor([CORRUPTED]))

    def logits(self, keep: Tensor, zero: bool = False) -> list[float]:
        return self.model(self.clean, keep, None if zero else self.corrupted).flatten().tolist()

    def without(self, *edges: Edge) -> Tensor:
        keep = self.model.graph.exists.double()
        for edge in edges:
            keep[self.model.graph.locate(*edge)] = 0
        return keep

    def only(self, *edges: Edge) -> Tensor:
        return Circuit.from_edges(self.model.graph, list(edges)).keep().double()


@pytest.fixture
def micro() -> Micro:
    return Micro()


def test_the_micro_model_computes_what_its_table_says(micro: Micro) -> None:
    assert micro.model.full(micro.clean).flatten().tolist() == CLEAN_LOGITS
    assert micro.model.full(torch.tensor([CORRUPTED])).flatten().tolist() == CORRUPTED_LOGITS
    t, one, a0h0, a0h1, m0, a1h0, a1h1, m1 = micro.corrupted.writers[:, 0]
    columns = [t[:, 0], one[:, 1], a0h0[:, 2], a0h1[:, 3], m0[:, 4], a1h0[:, 2], a1h1[:, 3], m1[:, 4]]
    assert torch.stack(columns).tolist() == [[6, 2], [1, 1], [4, 4], [6, 6], [0, 2], [8, 8], [2, 2], [2, 6]]
    assert micro.logits(micro.without()) == CLEAN_LOGITS
    assert micro.logits(0 * micro.without()) == CORRUPTED_LOGITS
    assert micro.logits(0 * micro.without(), zero=True) == [0, 0]


# Worked out by hand from the table in micro_model.py: t + 10a + 100b + 1000m after the cut.
CUT = {
    ("tok_embeds", "resid_post"): [6 + 80 + 600 + 5000, 2 + 80 + 600 + 2000],  # t = 6, 2 at the output only
    T_V: [2 + 100 + 600 + 6000, 4 + 100 + 600 + 2000],  # a0.h0 = 4, m0 = 2 0, a1.h0 = 6
    T_K: [2 + 60 + 400 + 3000, 4 + 60 + 400 + 0],  # a0.h1 looks at position 0: 2; a1.h0 = 3, m1 = 2 0
    T_Q: CLEAN_LOGITS,  # the query reads the constant only
    ("pos_embeds", "a0.h1.q"): CLEAN_LOGITS,  # the same in both runs
    ("a0.h0", "m0"): [2 + 90 + 600 + 6000, 4 + 90 + 600 + 2000],  # m0 = 2 0, a1.h0 = 6
    ("a0.h1", "resid_post"): [2 + 80 + 800 + 5000, 4 + 80 + 800 + 2000],  # 6 instead of 4 in b
    ("a0.h1", "m1"): [2 + 80 + 600 + 7000, 4 + 80 + 600 + 4000],  # m1 = 6 4
    ("m0", "a1.h1.k"): [2 + 80 + 800 + 7000, 4 + 80 + 800 + 4000],  # looks at position 1: 4; m1 = 6 4
    ("m0", "m1"): CLEAN_LOGITS,  # m1 does not read m
    ("m1", "resid_post"): [2 + 80 + 600 + 3000, 4 + 80 + 600 + 6000],
}
CUT_TO_ZERO = {
    ("tok_embeds", "resid_post"): [80 + 600 + 5000, 80 + 600 + 2000],
    ("pos_embeds", "a0.h1.q"): [2 + 70 + 500 + 4000, 4 + 70 + 500 + 1000],  # uniform: 3; a1.h0 = 4, m1 = 3 1
    ("m0", "a1.h1.k"): [2 + 80 + 700 + 6000, 4 + 80 + 700 + 3000],  # uniform: 3; m1 = 5 3
    ("m1", "resid_post"): [2 + 80 + 600 + 1000, 4 + 80 + 600 + 0],
}


@pytest.mark.parametrize(("edge", "expected"), CUT.items(), ids=str)
def test_one_edge_cut_gives_the_number_on_paper(micro: Micro, edge: Edge, expected: list[int]) -> None:
    assert micro.logits(micro.without(edge)) == expected


@pytest.mark.parametrize(("edge", "expected"), CUT_TO_ZERO.items(), ids=str)
def test_one_edge_cut_to_zero_gives_the_number_on_paper(
    micro: Micro, edge: Edge, expected: list[int]
) -> None:
    assert micro.logits(micro.without(edge), zero=True) == expected


def test_kept_edges_and_half_gates_give_the_numbers_on_paper(micro: Micro) -> None:
    assert micro.logits(micro.only(("tok_embeds", "resid_post"))) == [2926 - 4, 8922 + 2]
    assert micro.logits(micro.only(T_V, ("a0.h0", "resid_post"))) == [2926 - 10, 8922 - 10]
    assert micro.logits(micro.only(("a0.h0", "resid_post"))) == CORRUPTED_LOGITS  # nothing clean reaches it
    half = micro.without()
    half[micro.model.graph.locate("tok_embeds", "resid_post")] = 0.5
    assert micro.logits(half) == [4 + 80 + 600 + 5000, 3 + 80 + 600 + 2000]


def test_gate_gradients_at_the_full_model_are_the_whole_numbers_on_paper(micro: Micro) -> None:
    keep = micro.without().requires_grad_()
    micro.model(micro.clean, keep, micro.corrupted).sum().backward()
    edges = [*CUT, ("tok_embeds", "m1"), ("a0.h0", "resid_post")]
    gradient = {edge: value(keep, micro, edge) for edge in edges}
    assert gradient[("tok_embeds", "resid_post")] == (2 - 6) + (4 - 2)
    assert gradient[("a0.h0", "resid_post")] == 2 * 10 * (3 - 4)
    assert gradient[("a0.h1", "resid_post")] == 2 * 100 * (4 - 6)
    assert gradient[("a0.h1", "m1")] == 2 * 1000 * (4 - 6)  # both positions are above the kink
    assert gradient[("tok_embeds", "m1")] == 1000 * -(2 - 6) + 1000 * -(4 - 2)
    # t: -4 +2, mean -1 in a; m0 is above the kink at position 0 only: 1000 there and 2·10 by a1.h0's mean.
    assert gradient[T_V] == 2 * 10 * -1 + 1000 * -1 + 2 * 10 * -1
    assert gradient[T_Q] == gradient[T_K] == gradient[("m0", "a1.h1.k")] == gradient[("m0", "m1")] == 0


def value(keep: Tensor, micro: Micro, edge: Edge) -> float:
    assert keep.grad is not None
    return float(keep.grad[micro.model.graph.locate(*edge)])


CLEAN_TOKENS, CORRUPTED_TOKENS = tokens(2, 5, seed=1), tokens(2, 5, seed=2)
Run = Callable[[Tensor], Tensor]


def loss_of(model: CircuitModel, recorded: WriterStates | None) -> Run:
    """A fixed random combination of the log-probabilities at two positions, for each sample of gates."""
    weight = torch.randn(2, 2, 61, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    positions = torch.tensor([[4, 1], [2, 3]])

    def loss(keep: Tensor) -> Tensor:
        logits = model(CLEAN_TOKENS, keep, recorded, positions)
        return (logits.double().log_softmax(-1) * weight).flatten(-3).sum(-1)

    return loss


def gates(model: CircuitModel, seed: int, samples: tuple[int, ...] = ()) -> Tensor:
    """Away from 0 and 1, and random where there is no edge too."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*samples, *model.graph.exists.shape)
    return (0.2 + 0.6 * torch.rand(shape, generator=generator, dtype=torch.float64)).requires_grad_()


def gradient_of(run: Run, keep: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(run(keep).sum(), keep)
    return gradient


@torch.no_grad()
def slopes(run: Run, keep: Tensor, edges: Tensor, step: float = 1e-4) -> Tensor:
    """Five-point differences, exact up to step^4; many bumped gates side by side in one pass."""
    bumps = step * torch.eye(keep.numel(), dtype=keep.dtype)[edges].view(-1, *keep.shape)
    found = []
    for some in bumps.split(40):
        far, near = (run(keep + n * some) - run(keep - n * some) for n in (2, 1))
        found.append((8 * near - far) / (12 * step))
    return torch.cat(found)


@pytest.mark.parametrize("ablation", ["interchange", "zero"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", ["as narrow models have them", "as wide models have them"])
def test_gate_gradients_are_finite_differences(
    kind: str, ablation: str, blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks.startswith("as wide"):
        monkeypatch.setattr("model_patches.layout.NARROW", 0)
        monkeypatch.setattr("model_patches.gradients.PART_ROWS", 1)
    model = CircuitModel(exact_model(kind))
    run = loss_of(model, model.record(CORRUPTED_TOKENS) if ablation == "interchange" else None)
    keep = gates(model, seed=4)
    gradient = gradient_of(run, keep)
    expected = slopes(run, keep.detach(), model.graph.flat_index)
    ours = gradient.flatten()[model.graph.flat_index]
    assert (ours - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert not gradient[~model.graph.exists].any()  # exactly 0 where no edge can be
    # Positions are the same in both runs; RMS norms do not see the scale of a lone embedding.
    inert = ours.abs() <= 1e-6 * ours.abs().max()
    blind = "pos_embeds" if ablation == "interchange" else "tok_embeds"
    edges = Circuit.top(model.graph, torch.zeros(keep.shape), model.graph.num_edges).edges
    assert all(edge[0] == blind for edge, unseen in zip(edges, inert.tolist(), strict=True) if unseen)
    assert inert.float().mean() < 0.5


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "phi"])
def test_gradients_of_several_samples_are_those_of_each(kind: str) -> None:
    model = CircuitModel(tiny_model(kind, torch.float64))
    for recorded in (model.record(CORRUPTED_TOKENS), None):
        run = loss_of(model, recorded)
        keep = gates(model, seed=5, samples=(3,))
        together = gradient_of(run, keep)
        for sample, gradient in zip(keep.detach(), together, strict=True):
            alone = gradient_of(run, sample.requires_grad_())
            torch.testing.assert_close(gradient, alone, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_gradients_of_two_passes_add_up(kind: str) -> None:
    model = CircuitModel(tiny_model(kind, torch.float64))
    recorded = model.record(CORRUPTED_TOKENS)
    keep = gates(model, seed=6)
    one, two = loss_of(model, recorded), loss_of(model, None)
    first, second = gradient_of(one, keep), gradient_of(two, keep)
    one(keep).backward()
    two(keep).backward()
    assert keep.grad is not None
    torch.testing.assert_close(keep.grad, first + second, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_other_passes_between_two_steps_leave_no_trace(kind: str) -> None:
    model = CircuitModel(tiny_model(kind, torch.float64))
    recorded, keep, other = model.record(CORRUPTED_TOKENS), gates(model, seed=7), gates(model, seed=8)
    run = loss_of(model, recorded)
    first = gradient_of(run, keep)
    with torch.no_grad():
        run(other)
        model(tokens(3, 7, seed=5), other, None)
    assert torch.equal(gradient_of(run, keep), first)
    gradient_of(loss_of(model, None), other)
    loss = run(keep)
    model.full(tokens(3, 7, seed=5))  # passes without gates may come before the backward
    model.record(tokens(3, 7, seed=5))
    assert torch.equal(torch.autograd.grad(loss, keep)[0], first)


def test_a_second_backward_of_one_pass_is_refused() -> None:
    """The first one turned the reads into their gradients."""
    model = CircuitModel(tiny_model("gpt2", torch.float64))
    keep = gates(model, seed=9)
    loss = loss_of(model, model.record(CORRUPTED_TOKENS))(keep)
    torch.autograd.grad(loss, keep, retain_graph=True)
    with pytest.raises(AssertionError, match="one backward"):
        torch.autograd.grad(loss, keep)


@pytest.mark.parametrize("no_grad", [True, False])
def test_a_backward_after_a_newer_masked_pass_is_refused(no_grad: bool) -> None:
    model = CircuitModel(tiny_model("gpt2", torch.float64))
    run, keep = loss_of(model, model.record(CORRUPTED_TOKENS)), gates(model, seed=10)
    loss = run(keep)
    with torch.set_grad_enabled(not no_grad):
        run(keep)
    with pytest.raises(AssertionError, match="before the next masked pass"):
        loss.backward()
    assert keep.grad is None


def test_gradients_are_the_same_in_both_edge_conventions() -> None:
    """A gate's gradient does not depend on which convention counts it."""
    maskable, always_on = (
        CircuitModel(tiny_model("gpt2", torch.float64), embeddings)
        for embeddings in ("maskable", "always_on")
    )
    keep = gates(maskable, seed=11)
    one, other = (loss_of(model, model.record(CORRUPTED_TOKENS)) for model in (maskable, always_on))
    assert torch.equal(gradient_of(one, keep), gradient_of(other, keep))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "phi"])
def test_a_finished_pass_holds_on_to_nothing(kind: str) -> None:
    """Neither to its gates nor, through them, to its whole autograd graph."""
    model = CircuitModel(tiny_model(kind, torch.float64))
    recorded, keep = model.record(CORRUPTED_TOKENS), gates(model, seed=13)
    logits = model(CLEAN_TOKENS, keep, recorded)
    gone = [weakref.ref(keep), weakref.ref(logits), weakref.ref(recorded.writers)]
    del keep, logits, recorded
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_in_low_precision_point_the_same_way(dtype: torch.dtype) -> None:
    exact = CircuitModel(tiny_model("llama", torch.float64))
    rough = CircuitModel(tiny_model("llama", dtype))
    keep = gates(exact, seed=12)
    expected = gradient_of(loss_of(exact, exact.record(CORRUPTED_TOKENS)), keep)
    low = keep.detach().float().requires_grad_()
    ours = gradient_of(loss_of(rough, rough.record(CORRUPTED_TOKENS)), low)
    assert ours.dtype == torch.float32  # gates stay in float32 whatever the model's dtype
    error = (ours - expected).norm() / expected.norm()
    assert error < (1e-4 if dtype == torch.float32 else 0.1)


def test_lent_states_are_the_same_and_live_until_the_next() -> None:
    model = CircuitModel(tiny_model("llama", torch.float64))
    kept, lent = model.record(CORRUPTED_TOKENS), model.record(CORRUPTED_TOKENS, lent=True)
    assert torch.equal(lent.writers, kept.writers) and torch.equal(lent.residuals, kept.residuals)
    again = model.record(CLEAN_TOKENS, lent=True)
    assert again.writers.data_ptr() == lent.writers.data_ptr()
    assert torch.equal(again.writers, model.record(CLEAN_TOKENS).writers)
    assert torch.equal(kept.writers, model.record(CORRUPTED_TOKENS).writers)
