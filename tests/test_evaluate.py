"""Evaluation: every example's value by naive hooks, in order, whatever the batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from model_patches.circuit import Circuit
from tests import one_rank
from tests.naive_model import NaiveModel
from tests.tiny_models import VOCAB, tiny_model
from trainers.data import Example
from trainers.distributed import Ranks
from trainers.evaluate import REFERENCE_BYTES, Evaluation, empty_circuit, evaluate, evaluate_examples
from trainers.model import Loaded
from trainers.session import Session

LENGTHS = (5, 3, 9, 3, 7, 5, 4, 9, 2, 6, 3)


@pytest.fixture(scope="module")
def llama() -> Loaded:
    return one_rank.loaded("llama", "float64")


def examples() -> list[Example]:
    """Prompts of many lengths, some scored at two positions."""
    draw = torch.Generator().manual_seed(3)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, VOCAB, (count,), generator=draw).tolist())

    places = [(length - 1,) if length % 2 else (0, length - 1) for length in LENGTHS]
    return [
        Example(tokens(length), tokens(length), where, tokens(len(where)), tokens(len(where)))
        for length, where in zip(LENGTHS, places, strict=True)
    ]


@pytest.fixture
def session(llama: Loaded, ranks: Ranks, tmp_path: Path) -> Iterator[Session]:
    session = one_rank.session(llama, ranks, tmp_path, {"name": "random"})
    session.examples["test"] = examples()  # type: ignore[index]
    session.open()
    yield session
    session.close()


def circuits(session: Session, *sizes: int) -> list[Circuit]:
    draw = torch.Generator().manual_seed(1)
    scores = torch.rand(session.graph.allowed.shape, generator=draw)
    return [Circuit.top(session.graph, scores, size) for size in sizes]


def by_hooks(example: Example, circuit: Circuit | None, naive: NaiveModel) -> dict[str, float]:
    """The metrics of one example by their definitions, from hooks on an untouched model."""
    clean, corrupted = torch.tensor([example.clean]), torch.tensor([example.corrupted])
    full = naive.logits(clean)[0, list(example.positions)]
    logits = full
    if circuit is not None:
        edges, order = set(circuit.edges), [node.name for node in circuit.graph.writers]
        logits = naive.masked_logits(clean, corrupted, lambda w, r: float((w, r) in edges), order)
        logits = logits[0, list(example.positions)]
    p, q = full.log_softmax(-1), logits.log_softmax(-1)
    rows = range(len(example.positions))
    right = torch.stack([logits[i, int(example.answers[i])] for i in rows])
    wrong = torch.stack([logits[i, example.distractors[i]] for i in rows])
    found = {
        "kl": (p.exp() * (p - q)).sum(-1),
        "logit_difference": right - wrong,
        "accuracy": (logits.argmax(-1) == torch.tensor(example.answers)).double(),
        "exact_match": (logits.argmax(-1) == full.argmax(-1)).double(),
    }
    return {name: float(value.mean()) for name, value in found.items()}


def test_every_value_is_the_naive_models_in_the_splits_order(session: Session) -> None:
    chosen = circuits(session, 0, 12, 60)
    found = one_rank.finish(evaluate_examples(session, chosen, "test"))
    assert found.metrics == session.metrics and found.values.dtype == torch.float32
    assert found.values.shape == (4, len(session.metrics), len(LENGTHS))
    naive = NaiveModel(tiny_model("llama", torch.float64))
    for row, circuit in enumerate([None, *chosen]):
        for place, example in enumerate(session.examples["test"]):
            expected = by_hooks(example, circuit, naive)
            values = dict(zip(found.metrics, found.values[row, :, place].tolist(), strict=True))
            assert values == pytest.approx(expected, abs=2e-6), (row, place)
    assert found.means.numpy() == pytest.approx(found.values.double().mean(-1).numpy(), abs=1e-6)


def test_means_and_values_do_not_depend_on_batches(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = circuits(session, 5, 40, 80)
    first = one_rank.finish(evaluate_examples(session, chosen, "test"))
    full, rest = one_rank.finish(evaluate(session, chosen, "test"))
    assert full == first.full and rest == first.circuits, "the same pass, with and without values"
    per_token = len(session.graph.writers) * session.loaded.model.width * 8
    for batch, reference, together in ((3, 2**40, 1), (64, 20 * per_token, 2**40), (64, 1, 1)):
        session.resources = session.resources.model_copy(update={"batch_examples": batch})
        monkeypatch.setitem(REFERENCE_BYTES, "cpu", reference)
        monkeypatch.setattr("trainers.evaluate.SIDE_BY_SIDE_BYTES", together)
        again = one_rank.finish(evaluate_examples(session, chosen, "test"))
        assert again.values.numpy() == pytest.approx(first.values.numpy(), abs=1e-6)
        assert again.means.numpy() == pytest.approx(first.means.numpy(), abs=1e-10)


def test_reference_passes_serve_all_circuits_and_batches_are_bounded(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, ...]] = []
    references = session.references

    def counted(batch: Any) -> Any:
        batches.append(tuple(batch.clean.shape))
        return references(batch)

    monkeypatch.setattr(session, "references", counted)
    per_token = len(session.graph.writers) * session.loaded.model.width * 8
    monkeypatch.setitem(REFERENCE_BYTES, "cpu", 20 * per_token)
    monkeypatch.setattr("trainers.evaluate.SIDE_BY_SIDE_BYTES", 1)
    one_rank.finish(evaluate(session, circuits(session, 1, 2, 3, 4, 5), "test"))
    assert batches == [(2, 9), (2, 7), (4, 5), (3, 3)], "20 tokens at most, the longest first"


def test_the_full_model_alone(session: Session) -> None:
    found = one_rank.finish(evaluate_examples(session, [], "test"))
    assert found.circuits == [] and found.full["kl"] == 0 and found.full["exact_match"] == 1


def test_intervals_of_rows(session: Session) -> None:
    found = one_rank.finish(evaluate_examples(session, [empty_circuit(session)], "test"))
    full, empty = found.intervals()
    assert full["kl"] == (0, 0) and full["exact_match"] == (1, 1), "no spread, no interval"
    for name, (low, high) in empty.items():
        assert low <= found.circuits[0][name] <= high
    low, high = empty["kl"]
    assert 0 < low < high
    same = Evaluation(found.metrics, found.means, found.values.flip(0)).intervals()
    assert same == [empty, full], "every row is resampled alike"


def test_a_circuit_that_is_not_a_number_stays_one(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = session.measure

    def broken(name: str, *arguments: Any) -> Any:
        values = measure(name, *arguments)
        return values.masked_fill(values == values.max(), torch.nan) if name == "logit_difference" else values

    monkeypatch.setattr(session, "measure", broken)
    found = one_rank.finish(evaluate_examples(session, circuits(session, 30), "test"))
    assert found.circuits[0]["logit_difference"] != found.circuits[0]["logit_difference"]
    assert found.circuits[0]["kl"] > 0
    low, _ = found.intervals()[1]["logit_difference"]
    assert low != low


@dataclass(frozen=True)
class OneOfTwo(Ranks):
    """A rank of two, without the other."""

    def total(self, values: torch.Tensor) -> torch.Tensor:
        return values


def test_ranks_make_equally_many_passes_whatever_their_prompts_lengths(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, under ZeRO-3, one would wait for the other's weights for ever. Rank 0 has the longer prompts:
    by its own, fewer circuits fit side by side."""
    chosen = circuits(session, *range(1, 12))
    session.examples["test"] = examples()[:10]  # type: ignore[index]  # even shares: no fillers
    alone = session.ranks
    for fitting in (1.0, 2.5, 4.0):
        state = len(session.graph.writers) * session.loaded.model.width * 8
        monkeypatch.setattr("trainers.evaluate.SIDE_BY_SIDE_BYTES", int(fitting * 5 * 9 * state))
        passes = []
        for rank in (0, 1):
            session.ranks = OneOfTwo(rank, 2, alone.device)
            passes.append(len(list(evaluate(session, chosen, "test"))))
        assert passes[0] == passes[1] > 1
