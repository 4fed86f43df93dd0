"""What a cut edge carries: means over a reference set, and heads' shares of an output bias."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from model_patches.circuit_model import CircuitModel
from model_patches.states import WriterStates
from tests.naive_model import NaiveModel, Writes
from tests.tiny_models import KINDS, LAYERS, QUERY_HEADS, exact_model, tiny_model, tokens

CLEAN, REFERENCE, POSITIONS = (
    tokens(3, 7, seed=1),
    tokens(5, 7, seed=2),
    torch.tensor([[6, 1], [2, 3], [0, 5]]),
)
OVER = {"global": (1, 2), "per position": (1,)}
EDGES = [
    ("tok_embeds", "a0.h1.k"), ("tok_embeds", "m0"), ("tok_embeds", "resid_post"), ("a0.h3", "a1.h0.v"),
    ("a0.h2", "m1"), ("a0.h1", "resid_post"), ("m0", "a1.h3.q"), ("m0", "m1"), ("m1", "resid_post"),
]  # fmt: skip
WITH_BIAS = ["gpt2", "gpt_neox", "gpt_neox-serial", "llama", "opt", "phi"]
WITHOUT_BIAS = ["gemma", "gemma3_text", "mistral", "qwen2", "qwen3", "tracr"]


def assert_close(ours: Tensor, expected: Tensor) -> None:
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-10 * expected.abs().max()


def mean(model: CircuitModel, over: str) -> WriterStates:
    return WriterStates.of(model.graph, model.record(REFERENCE).writers.mean(OVER[over], keepdim=True))


def means(naive: NaiveModel, over: str) -> Writes:
    """The same by name, without anything of model_patches; one value for the batch."""
    writes = {name: write.expand(5, -1, -1) for name, write in naive.writes(REFERENCE).items()}
    dims = (0, 1) if over == "global" else (0,)
    return {name: write.mean(dims, keepdim=True) for name, write in writes.items()}


def random_gates(model: CircuitModel, *samples: int) -> Tensor:
    shape = (*samples, *model.graph.exists.shape)
    return torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def gates_of(model: CircuitModel, keep: Tensor) -> Callable[[str, str], float]:
    rows, columns = model.graph.writer_index, model.graph.reader_index
    return lambda writer, reader: float(keep[rows[writer], columns[reader]])


def names(model: CircuitModel) -> list[str]:
    return [node.name for node in model.graph.writers]


def gradient(model: CircuitModel, keep: Tensor, states: WriterStates | None) -> Tensor:
    keep = keep.clone().requires_grad_()
    model(CLEAN, keep, states, POSITIONS).log_softmax(-1).square().sum().backward()
    assert keep.grad is not None
    return keep.grad


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("kind", KINDS)
def test_each_cut_edge_carries_the_mean(kind: str, over: str) -> None:
    model, naive = CircuitModel(exact_model(kind)), NaiveModel(exact_model(kind))
    states, other = mean(model, over), means(naive, over)
    assert states.writers.shape[1:3] == (1, 7 if over == "per position" else 1)
    full, writes = naive.logits(CLEAN), naive.writes(CLEAN)
    for writer, reader in EDGES:
        keep = model.graph.exists.double()
        keep[model.graph.locate(writer, reader)] = 0
        expected = naive.cut_one(reader, CLEAN, other[writer] - writes[writer])
        assert (expected - full).abs().max() > 1e-6
        assert_close(model(CLEAN, keep, states), expected)
    keep = random_gates(model)
    expected = naive.masked_logits(CLEAN, other, gates_of(model, keep), names(model))
    assert_close(model(CLEAN, keep, states), expected)
    every = model.graph.exists.double()
    assert_close(model(CLEAN, every, states), full)


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("kind", KINDS)
def test_one_value_for_all_is_the_value_of_each(kind: str, over: str) -> None:
    """In logits and gradients, with one sample of gates and with several, for a batch of any size."""
    model = CircuitModel(exact_model(kind))
    states = mean(model, over)
    shape = (3, 7)
    copied = WriterStates(*(x.expand(-1, *shape, -1).clone() for x in (states.writers, states.residuals)))
    for keep in (random_gates(model), random_gates(model, 2)):
        assert_close(model(CLEAN, keep, states, POSITIONS), model(CLEAN, keep, copied, POSITIONS))
        assert_close(gradient(model, keep, states), gradient(model, keep, copied))
        assert_close(model(CLEAN[:2], keep, states), model(CLEAN[:2], keep, copied[:2]))


def test_one_value_for_all_is_not_copied() -> None:
    model = CircuitModel(tiny_model("gpt2"))
    states = mean(model, "global")
    for some in (slice(0, 2), torch.tensor([2, 0])):
        assert states[some].writers is states.writers
    assert states.num_bytes * 20 < model.record(REFERENCE).num_bytes


@pytest.mark.parametrize("found", [(2, 7), (3, 6), (1, 6), (2, 1)])
def test_states_of_another_size_are_refused(found: tuple[int, int]) -> None:
    model = CircuitModel(tiny_model("gpt2"))
    states, keep = model.record(tokens(*found, seed=3)), model.graph.exists.float()
    with pytest.raises(AssertionError, match=f"a corrupted run of \\({found[0]}, {found[1]}\\) for tokens"):
        model(CLEAN, keep, states)


def output_bias(kind: str, naive: NaiveModel, layer: int) -> Tensor:
    return naive.layers[layer].output.bias


@pytest.mark.parametrize("kind", WITH_BIAS)
def test_a_kept_output_bias_is_left_behind_by_a_cut_head(kind: str) -> None:
    model, naive = CircuitModel(exact_model(kind)), NaiveModel(exact_model(kind))
    states = model.zeros("kept")
    assert states is not None and states.writers.shape[1:3] == (1, 1)
    left: Writes = {name: torch.zeros(1, 1, 32, dtype=torch.float64) for name in names(model)}
    for layer in range(LAYERS):
        for head in range(QUERY_HEADS):
            left[f"a{layer}.h{head}"] += output_bias(kind, naive, layer) / QUERY_HEADS
    for row, name in enumerate(names(model)):
        assert_close(states.writers[row], left[name]) if left[name].any() else None
        assert bool(states.writers[row].any()) is name.startswith("a")
    keep = random_gates(model).round()
    expected = naive.masked_logits(CLEAN, left, gates_of(model, keep), names(model))
    kept, shared = model(CLEAN, keep, states), model(CLEAN, keep, model.zeros("shared"))
    assert_close(kept, expected)
    assert (kept - shared).abs().max() > 1e-3 * shared.abs().max()
    every = model.graph.exists.double()
    assert_close(model(CLEAN, every, states), naive.logits(CLEAN))


@pytest.mark.parametrize("kind", WITHOUT_BIAS)
def test_without_an_output_bias_the_conventions_are_one(kind: str) -> None:
    model = CircuitModel(exact_model(kind))
    states, keep = model.zeros("kept"), random_gates(model)
    assert states is not None and not states.writers.any() and not states.residuals.any()
    assert_close(model(CLEAN, keep, states), model(CLEAN, keep, model.zeros("shared")))


def test_shared_is_zero_ablation_as_it_is() -> None:
    assert CircuitModel(tiny_model("gpt2")).zeros("shared") is None


def test_a_bias_before_a_norm_has_no_share_to_be_kept() -> None:
    model = CircuitModel(tiny_model("gemma2"))  # with attention_bias
    full = model.full(CLEAN)
    with pytest.raises(ValueError, match="'kept' is not defined for this model"):
        model.zeros("kept")
    assert torch.equal(model.full(CLEAN), full)


def test_every_kind_is_in_one_of_the_lists() -> None:
    kept: Any = {*WITH_BIAS, *WITHOUT_BIAS, "gemma2"}
    assert kept == set(KINDS)
