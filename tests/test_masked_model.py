"""CircuitModel against clean and corrupted Hugging Face runs and against naive hooks."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from model_patches.circuit import Circuit
from model_patches.circuit_model import CircuitModel
from model_patches.graph import Embeddings
from model_patches.states import WriterStates
from tests.naive_model import NaiveModel
from tests.tiny_models import KINDS, LAYERS, QUERY_HEADS, VOCAB, exact_model, tiny_model, tokens

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}
ABLATIONS = ["interchange", "zero"]
CLEAN, CORRUPTED = tokens(3, 9, seed=1), tokens(3, 9, seed=2)


def distance(ours: Tensor, reference: Tensor) -> float:
    """max |Δ| / max |logit|."""
    assert ours.shape == reference.shape and ours.dtype == reference.dtype
    return float((ours - reference).abs().max() / reference.abs().max())


def exact(kind: str, embeddings: Embeddings = "maskable") -> tuple[CircuitModel, NaiveModel]:
    """The patched model and an untouched one with the same weights, in float64 throughout."""
    return CircuitModel(exact_model(kind), embeddings), NaiveModel(exact_model(kind))


def states(model: CircuitModel, ablation: str, corrupted: Tensor = CORRUPTED) -> WriterStates | None:
    return model.record(corrupted) if ablation == "interchange" else None


def gates_of(model: CircuitModel, keep: Tensor) -> Callable[[str, str], float]:
    rows, columns = model.graph.writer_index, model.graph.reader_index
    return lambda writer, reader: float(keep[rows[writer], columns[reader]])


def random_gates(model: CircuitModel, seed: int) -> Tensor:
    return torch.rand(model.graph.exists.shape, generator=torch.Generator().manual_seed(seed))


def names(model: CircuitModel) -> list[str]:
    return [node.name for node in model.graph.writers]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_all_gates_1_is_the_clean_model_and_all_0_the_corrupted(kind: str, dtype: torch.dtype) -> None:
    new = partial(exact_model, kind) if dtype == torch.float64 else partial(tiny_model, kind, dtype)
    untouched = new()
    with torch.no_grad():
        clean, corrupted = (untouched(input_ids=x).logits for x in (CLEAN, CORRUPTED))
    assert distance(clean, corrupted) > 0.5  # else what follows says nothing
    model = CircuitModel(new())
    every = model.graph.exists.float()
    recorded = model.record(CORRUPTED)
    assert distance(model(CLEAN, every, recorded), clean) <= TOLERANCE[dtype]
    assert distance(model(CLEAN, 0 * every, recorded), corrupted) <= TOLERANCE[dtype]
    assert distance(model(CLEAN, every, None), clean) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_pass_is_bit_identical_to_the_unpatched_model(kind: str, dtype: torch.dtype) -> None:
    model = tiny_model(kind, dtype)
    keys = list(model.state_dict())
    with torch.no_grad():
        before = model(input_ids=CLEAN).logits
    patched = CircuitModel(model)
    assert torch.equal(patched.full(CLEAN), before)
    patched(CLEAN, patched.graph.exists.float(), patched.record(CORRUPTED))
    assert torch.equal(patched.full(CLEAN), before)
    assert list(patched.model.state_dict()) == keys
    untouched = tiny_model(kind, dtype).state_dict()
    assert all(torch.equal(value, untouched[key]) for key, value in patched.model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_writes_are_those_of_naive_hooks_and_add_up(kind: str) -> None:
    model, naive = exact(kind)
    recorded, expected = model.record(CORRUPTED), naive.writes(CORRUPTED)
    assert names(model) == list(expected)
    for row, write in zip(recorded.writers, expected.values(), strict=True):
        torch.testing.assert_close(row, write.expand_as(row), atol=1e-12, rtol=0)
    for residual, group in zip(recorded.residuals, model.graph.groups(), strict=True):
        torch.testing.assert_close(residual, recorded.writers[: group.visible].sum(0), atol=1e-12, rtol=0)
    assert recorded.num_bytes == recorded.writers.nbytes + recorded.residuals.nbytes


# Embedding, head and MLP writers; q, k, v, MLP and output readers; inside a layer and across layers.
EDGES = [
    ("tok_embeds", "a0.h3.q"), ("tok_embeds", "a0.h1.k"), ("tok_embeds", "a0.h0.v"), ("tok_embeds", "m0"),
    ("tok_embeds", "a1.h0.k"), ("tok_embeds", "resid_post"), ("a0.h3", "m0"), ("a0.h2", "a1.h1.q"),
    ("a0.h3", "a1.h0.k"), ("a0.h0", "a1.h1.v"), ("a0.h1", "m1"), ("a0.h2", "resid_post"), ("m0", "a1.h3.q"),
    ("m0", "a1.h1.k"), ("m0", "a1.h0.v"), ("m0", "m1"), ("m0", "resid_post"), ("a1.h2", "m1"),
    ("a1.h0", "resid_post"), ("m1", "resid_post"),
]  # fmt: skip
POSITION_EDGES = [("pos_embeds", "a0.h0.q"), ("pos_embeds", "a1.h1.v"), ("pos_embeds", "m1")]


def edges_of(model: CircuitModel) -> list[tuple[str, str]]:
    """Those of the two lists that the model has: parallel layers have none from a head to their MLP."""
    rows, columns = model.graph.writer_index, model.graph.reader_index
    there = lambda w, r: w in rows and bool(model.graph.exists[rows[w], columns[r]])  # noqa: E731
    found = [edge for edge in EDGES + POSITION_EDGES if there(*edge)]
    assert len(found) >= len(EDGES) - 2
    return found


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_edge_cut_is_a_naive_hook_on_one_reader(kind: str, ablation: str) -> None:
    model, naive = exact(kind)
    recorded, full = states(model, ablation), naive.logits(CLEAN)
    writes, other = naive.writes(CLEAN), naive.writes(CORRUPTED)
    for writer, reader in edges_of(model):
        keep = model.graph.exists.float()
        keep[model.graph.locate(writer, reader)] = 0
        ablated = other[writer] if ablation == "interchange" else torch.zeros_like(writes[writer])
        expected = naive.cut_one(reader, CLEAN, ablated - writes[writer])
        assert distance(model(CLEAN, keep, recorded), expected) <= 1e-10, (writer, reader)
        inert = writer == "pos_embeds" and ablation == "interchange"  # the same in both runs
        assert (distance(expected, full) > 1e-6) is not inert, (writer, reader)


@pytest.mark.parametrize("kind", KINDS)
def test_one_edge_kept_moves_the_corrupted_run_only_from_embedding_to_output(kind: str) -> None:
    """Any other writer computes its corrupted value, and any other reader's write goes nowhere."""
    model, naive = exact(kind)
    recorded, corrupted = model.record(CORRUPTED), naive.logits(CORRUPTED)
    change = naive.writes(CLEAN)["tok_embeds"] - naive.writes(CORRUPTED)["tok_embeds"]
    for writer, reader in edges_of(model):
        keep = Circuit.from_edges(model.graph, [(writer, reader)]).keep()
        expected = corrupted
        if (writer, reader) == ("tok_embeds", "resid_post"):
            expected = naive.cut_one(reader, CORRUPTED, change)
            assert distance(expected, corrupted) > 0.1
        assert distance(model(CLEAN, keep, recorded), expected) <= 1e-10, (writer, reader)


@pytest.mark.parametrize("kind", KINDS)
def test_one_embedding_edge_kept_is_a_naive_hook_on_the_corrupted_run(kind: str) -> None:
    """With all other embedding edges cut and everything after them kept, clean and corrupted swap roles."""
    model, naive = exact(kind)
    recorded, corrupted = model.record(CORRUPTED), naive.logits(CORRUPTED)
    change = naive.writes(CLEAN)["tok_embeds"] - naive.writes(CORRUPTED)["tok_embeds"]
    for writer, reader in [edge for edge in EDGES if edge[0] == "tok_embeds"]:
        keep = model.graph.exists.float()
        keep[: model.graph.num_embeddings] = 0
        keep[model.graph.locate(writer, reader)] = 1
        expected = naive.cut_one(reader, CORRUPTED, change)
        assert distance(expected, corrupted) > 1e-6
        assert distance(model(CLEAN, keep, recorded), expected) <= 1e-10, (writer, reader)


@pytest.mark.parametrize("embeddings", ["maskable", "always_on"])
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_random_circuits_equal_the_naive_model(kind: str, ablation: str, embeddings: Embeddings) -> None:
    model, naive = exact(kind, embeddings)
    recorded, corrupted = states(model, ablation), CORRUPTED if ablation == "interchange" else None
    for seed, share in enumerate((0.2, 0.5, 0.9)):
        scores = random_gates(model, seed)
        circuit = Circuit.top(model.graph, scores, round(share * model.graph.num_edges))
        keep = circuit.keep()
        expected = naive.masked_logits(CLEAN, corrupted, gates_of(model, keep), names(model))
        assert distance(model(CLEAN, keep, recorded), expected) <= 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_gates_between_0_and_1_equal_the_naive_model(kind: str) -> None:
    model, naive = exact(kind)
    keep = random_gates(model, seed=3).double()
    expected = naive.masked_logits(CLEAN, CORRUPTED, gates_of(model, keep), names(model))
    assert distance(model(CLEAN, keep, model.record(CORRUPTED)), expected) <= 1e-10


def test_an_always_on_empty_circuit_still_carries_the_embeddings() -> None:
    model, naive = exact("gpt2", "always_on")
    empty = Circuit.from_edges(model.graph, [])
    ours = model(CLEAN, empty.keep(), model.record(CORRUPTED))
    always = lambda writer, _reader: float(writer.endswith("embeds"))  # noqa: E731
    expected = naive.masked_logits(CLEAN, CORRUPTED, always, names(model))
    assert distance(ours, expected) <= 1e-10
    assert distance(ours, naive.logits(CORRUPTED)) > 0.1


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_disconnected_edges_change_nothing_under_interchange(kind: str) -> None:
    model, _ = exact(kind)
    recorded, dropped = model.record(CORRUPTED), 0
    for seed in range(4):
        scores = random_gates(model, seed)
        circuit = Circuit.top(model.graph, scores, round(0.12 * model.graph.num_edges))
        connected = circuit.connected()
        dropped += circuit.num_edges - connected.num_edges
        ours, fewer = (model(CLEAN, c.keep(), recorded) for c in (circuit, connected))
        assert distance(fewer, ours) <= 1e-10
    assert dropped > 0


@pytest.mark.parametrize("kind", KINDS)
def test_logits_at_answer_positions_are_the_gathered_logits(kind: str) -> None:
    model, _ = exact(kind)
    positions = torch.tensor([[8, 0], [3, 3], [5, 8]])
    keep = random_gates(model, seed=4)
    recorded = model.record(CORRUPTED)
    index = positions.unsqueeze(-1).expand(-1, -1, VOCAB)
    for run in (lambda p: model.full(CLEAN, p), lambda p: model(CLEAN, keep, recorded, p)):
        everywhere, wanted = run(None), run(positions)
        assert wanted.shape == (3, 2, VOCAB)
        assert distance(wanted, everywhere.gather(1, index)) <= 1e-12
        # Positions of one pass do not stay for the next.
        assert run(None).shape == model.model(input_ids=CLEAN).logits.shape == everywhere.shape


@pytest.mark.parametrize("kind", KINDS)
def test_right_padding_changes_no_logit_before_it(kind: str) -> None:
    model, _ = exact(kind)
    keep = random_gates(model, seed=5)
    padded, other_padded = (torch.cat([x, tokens(3, 5, seed=9)], 1) for x in (CLEAN, CORRUPTED))
    positions = torch.arange(9).expand(3, -1)
    short = model(CLEAN, keep, model.record(CORRUPTED))
    long = model(padded, keep, model.record(other_padded), positions)
    assert distance(long, short) <= 1e-10
    assert distance(model.full(padded, positions), model.full(CLEAN)) <= 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_and_changing_shapes_give_each_example_its_own_logits(kind: str) -> None:
    model, _ = exact(kind)
    keep = random_gates(model, seed=6)
    recorded = model.record(CORRUPTED)
    together = model(CLEAN, keep, recorded)
    for example in range(3):
        row = slice(example, example + 1)
        alone = model(CLEAN[row], keep, model.record(CORRUPTED[row]))
        assert distance(alone, together[row]) <= 1e-10
        assert distance(model(CLEAN[row], keep, recorded[row]), together[row]) <= 1e-10
    chosen = torch.tensor([2, 0])
    assert distance(model(CLEAN[chosen], keep, recorded[chosen]), together[chosen]) <= 1e-10
    model(tokens(2, 4, seed=7), keep, None)
    model(tokens(1, 1, seed=8), keep, model.record(tokens(1, 1, seed=9)))
    assert torch.equal(model(CLEAN, keep, recorded), together)


@pytest.mark.parametrize("kind", KINDS)
def test_several_samples_of_gates_in_one_pass_are_the_passes_of_each(kind: str) -> None:
    model, _ = exact(kind)
    generator = torch.Generator().manual_seed(7)
    samples = torch.rand((3, *model.graph.exists.shape), generator=generator, dtype=torch.float64)
    positions = torch.tensor([[8, 0], [3, 3], [5, 8]])
    for recorded in (model.record(CORRUPTED), None):
        together = model(CLEAN, samples, recorded, positions)
        assert together.shape == (3, 3, 2, VOCAB)
        for sample, logits in zip(samples, together, strict=True):
            assert distance(logits, model(CLEAN, sample, recorded, positions)) <= 1e-10
        assert distance(model(CLEAN, samples[:1], recorded, positions)[0], together[0]) <= 1e-10
        alone = model(CLEAN[:1], samples, None if recorded is None else recorded[:1], positions[:1])
        assert distance(alone, together[:, :1]) <= 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_full_and_record_work_after_an_error_inside_a_masked_pass(kind: str) -> None:
    model, _ = exact(kind)
    keep = random_gates(model, seed=7)
    recorded = model.record(CORRUPTED)
    full, masked = model.full(CLEAN), model(CLEAN, keep, recorded)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory, say")

    def works_as_before() -> bool:
        return (
            torch.equal(model.full(CLEAN), full)
            and torch.equal(model.record(CORRUPTED).writers, recorded.writers)
            and torch.equal(model(CLEAN, keep, recorded), masked)
        )

    table = model.architecture
    for path in (table.attention_norm, table.attention_output, table.mlp):
        handle = model.blocks[1].get_submodule(path).register_forward_pre_hook(fail)
        for broken in (
            lambda: model.record(CORRUPTED),
            lambda: model.full(CLEAN, CLEAN[:, :1] * 0),
            lambda: model(CLEAN, keep, recorded, CLEAN[:, :1] * 0),
        ):
            with pytest.raises(RuntimeError, match="out of memory, say"):
                broken()
        handle.remove()
        assert works_as_before(), path


def test_a_pass_whose_buffers_do_not_fit_into_memory_leaves_the_model_usable() -> None:
    model, _ = exact("gpt2")
    keep, full = model.graph.exists.float(), model.full(CLEAN)
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 1, dtype=torch.long).expand(10**12, 1), keep, None)
    assert torch.equal(model.full(CLEAN), full)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_does_not_fit_the_batch_is_refused(kind: str) -> None:
    model, _ = exact(kind)
    keep, full = model.graph.exists.float(), model.full(CLEAN)
    same_size = model.record(tokens(9, 3, seed=3))  # as many tokens, another shape
    for bad in (
        lambda: model(CLEAN, keep, same_size),
        lambda: model(CLEAN, keep, model.record(CORRUPTED)[:2]),
        lambda: model(CLEAN[:1], keep, model.record(CORRUPTED)),
        lambda: model(CLEAN[0], keep, model.record(CORRUPTED)),
        lambda: model(CLEAN, keep[:-1], model.record(CORRUPTED)),
        lambda: model(CLEAN, keep.new_ones(keep.shape[0] + 1, keep.shape[1] + 1), model.record(CORRUPTED)),
    ):
        with pytest.raises(AssertionError):
            bad()
        assert torch.equal(model.full(CLEAN), full)


def test_nothing_of_a_pass_stays_in_the_next() -> None:
    model, _ = exact("llama")
    one, other = random_gates(model, seed=1), random_gates(model, seed=2)
    recorded, first = model.record(CORRUPTED), None
    for _ in range(3):
        ours = model(CLEAN, one, recorded)
        assert first is None or torch.equal(ours, first)
        first = ours
        model(tokens(2, 7, seed=4), other, None)
        model.record(tokens(2, 7, seed=5))
        model.full(tokens(2, 7, seed=6), torch.zeros(2, 1, dtype=torch.long))


def test_the_model_stays_frozen_and_in_eval_mode() -> None:
    model = CircuitModel(tiny_model("gpt2"))
    model.train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert len(model.blocks) == LAYERS and model.graph.shape.query_heads == QUERY_HEADS


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    model = tiny_model("gpt2")
    model.config.model_type = "gpt3"
    with pytest.raises(ValueError, match="'gpt3' is not supported; known: gemma, gemma2, gemma3_text, gpt2"):
        CircuitModel(model)
