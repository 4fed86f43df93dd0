"""ACDC: the circuits of the plain, slow algorithm, and an exact circuit of a compiled program."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model_patches.graph import EdgeGraph, Shape
from tests import one_rank
from tests.naive_model import NaiveModel
from tests.tiny_models import tiny_model
from trainers.distributed import Ranks
from trainers.evaluate import evaluate
from trainers.methods import acdc
from trainers.methods.acdc import Acdc, Search, order
from trainers.methods.base import Discovery
from trainers.session import Session
from trainers.spec import SpecError

Edge = tuple[str, str]


def settings(**fields: Any) -> dict[str, Any]:
    return {"name": "acdc", **fields}


def edges(found: Discovery) -> list[set[Edge]]:
    return [set(item.circuit.edges) for item in found.found if item.kind == "threshold"]


# ---- the plain algorithm, by names, with hooks on an untouched model


class Slow:
    """One edge at a time, every one of them run."""

    def __init__(self, session: Session, kind: str, metric: str) -> None:
        self.naive, self.metric = NaiveModel(tiny_model(kind, torch.float64)), metric
        examples, graph = session.examples["train"], session.graph
        self.clean = torch.tensor([example.clean for example in examples])
        self.corrupted = (
            torch.tensor([example.corrupted for example in examples])
            if session.spec.ablation == "interchange"
            else None
        )
        self.answers = torch.tensor([[example.answers[0], example.distractors[0]] for example in examples])
        self.full = F.log_softmax(self.naive.logits(self.clean)[:, -1], -1)
        self.writers = [node.name for node in graph.writers]
        self.allowed = {
            (graph.writers[row].name, graph.readers[column].name)
            for row, column in graph.allowed.nonzero().tolist()
        }
        self.always = {"tok_embeds", "pos_embeds"} if graph.embeddings == "always_on" else set()
        self.nearest = 1.0  # of a cost to its threshold

    def badness(self, kept: set[Edge]) -> float:
        gate = lambda w, r: float(w in self.always or (w, r) in kept)  # noqa: E731
        last = self.naive.masked_logits(self.clean, self.corrupted, gate, self.writers)[:, -1]
        if self.metric == "kl":
            return float((self.full.exp() * (self.full - F.log_softmax(last, -1))).sum(-1).mean())
        right, wrong = last.gather(1, self.answers).unbind(1)
        return -float((right - wrong).mean())

    def circuit(self, threshold: float) -> tuple[set[Edge], dict[Edge, float]]:
        kept, costs = set(self.allowed), {}
        now = self.badness(kept)
        readers = sorted({reader for _, reader in kept}, key=_from_the_output)
        for reader in readers:
            into = [writer for writer, other in kept if other == reader]
            for writer in sorted(into, key=lambda name: _from_the_output(name)):
                after = self.badness(kept - {(writer, reader)})
                costs[(writer, reader)] = after - now
                self.nearest = min(self.nearest, abs(after - now - threshold))
                if after - now < threshold:
                    kept.remove((writer, reader))
                    now = after
        return kept, costs


def _from_the_output(name: str) -> tuple[int, int, int, int]:
    """Later layers first; in a layer the MLP, queries, keys, values (or the heads), higher heads first."""
    if name == "resid_post":
        return (-1000, 0, 0, 0)
    if name.endswith("embeds"):
        return (1, 0, 0, name == "pos_embeds")
    match = re.fullmatch(r"([am])(\d+)(?:\.h(\d+))?(?:\.([qkv]))?", name)
    assert match is not None
    kind, layer, head, part = match.groups()
    return (-int(layer), kind == "a", "qkv".index(part) if part else 0, -int(head or 0))


@pytest.mark.parametrize(
    "kind, ablation, embeddings, metric, thresholds",
    [
        ("gpt2", "interchange", "maskable", "kl", [0.02]),
        ("gpt2", "zero", "always_on", "kl", [0.02]),
        ("llama", "interchange", "maskable", "logit_difference", [0.003, 0.03]),
    ],
)
def test_the_circuits_are_those_of_the_plain_algorithm(
    kind: str,
    ablation: str,
    embeddings: str,
    metric: str,
    thresholds: list[float],
    ranks: Ranks,
    tmp_path: Path,
) -> None:
    method = settings(metric=metric, thresholds=thresholds[::-1])
    fields: dict[str, Any] = {"ablation": ablation, "embeddings": embeddings}
    session = one_rank.session(one_rank.loaded(kind, "float64"), ranks, tmp_path, method, **fields)
    found, _ = one_rank.discover(session)
    assert [item.threshold for item in found.found] == thresholds
    slow = Slow(session, kind, metric)
    for threshold, item in zip(thresholds, found.found, strict=True):
        kept, costs = slow.circuit(threshold)
        assert set(item.circuit.edges) == kept and 0 < len(kept) < session.graph.num_edges
        for (writer, reader), cost in costs.items():
            place = session.graph.locate(writer, reader)
            assert float(item.circuit.scores[place]) == pytest.approx(cost, rel=1e-4, abs=1e-5)
    assert slow.nearest > 1e-5, "no decision of this test hangs on rounding"


@pytest.mark.parametrize("smallest, largest", [(1, 1), (500, 500)])
def test_how_many_edges_are_tried_at_once_changes_nothing(
    smallest: int, largest: int, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, method = one_rank.loaded("llama", "float64"), settings(thresholds=[0.003, 0.02])
    expected, _ = one_rank.discover(one_rank.session(llama, ranks, tmp_path, method))
    monkeypatch.setattr(acdc, "SMALLEST", smallest)
    monkeypatch.setattr(acdc, "LARGEST", largest)
    monkeypatch.setattr(Search, "window", smallest)
    found, _ = one_rank.discover(one_rank.session(llama, ranks, tmp_path, method))
    assert edges(found) == edges(expected) and len({len(kept) for kept in edges(found)}) == 2


def test_edges_that_nothing_reads_are_cut_without_a_run(ranks: Ranks, tmp_path: Path) -> None:
    """A threshold that cuts every edge: once the output reads nothing, nothing is left to run."""
    llama = one_rank.loaded("llama", "float64")
    session = one_rank.session(llama, ranks, tmp_path, settings(thresholds=[1e6]))
    found, _ = one_rank.discover(session)
    into_output = int(session.graph.allowed[:, -1].sum())
    assert edges(found) == [set()]
    assert 13 * into_output < found.examples < 13 * 3 * into_output < 13 * session.graph.num_edges


def test_the_order_is_from_the_output_to_the_embeddings() -> None:
    graph = EdgeGraph(Shape(2, 2, 1, ("tok_embeds", "pos_embeds")))
    columns = len(graph.readers)
    tried = [(graph.writers[e // columns].name, graph.readers[e % columns].name) for e in order(graph)]
    assert sorted(order(graph)) == graph.flat_index.tolist()
    assert tried[:8] == [
        (writer, "resid_post")
        for writer in ("m1", "a1.h1", "a1.h0", "m0", "a0.h1", "a0.h0", "tok_embeds", "pos_embeds")
    ]
    readers = list(dict.fromkeys(reader for _, reader in tried))
    assert readers == [
        "resid_post", "m1", "a1.h1.q", "a1.h0.q", "a1.h0.k", "a1.h0.v",
        "m0", "a0.h1.q", "a0.h0.q", "a0.h0.k", "a0.h0.v",
    ]  # fmt: skip


# ---- the ranking, resuming, fields


def test_the_ranking_is_by_threshold_then_by_cost() -> None:
    graph = EdgeGraph(Shape(1, 1, 1, ("tok_embeds",)))
    search = Search.of(graph, 2, None)
    flat = graph.flat_index
    search.kept.view(2, -1)[0, flat[3:]] = False
    search.kept.view(2, -1)[1, flat[1:]] = False
    costs = torch.tensor([[5.0, 1, 2, 0.3, 0.1, 0.2, 0.4, 0.6], [0.5, 9, 9, 9, 9, 9, 9, 9]])
    search.costs.view(2, -1)[:, flat] = costs.double()
    ranking = search.ranking().flatten()[flat]
    best = ranking.argsort(descending=True).tolist()
    assert best[:3] == [0, 2, 1] and best[3:] == sorted(range(3, len(flat)), key=lambda i: -costs[0, i])
    assert sorted(ranking.tolist()) == list(range(1, len(flat) + 1))


def test_a_search_that_was_stopped_goes_on(ranks: Ranks, tmp_path: Path) -> None:
    llama, method = one_rank.loaded("llama", "float64"), settings(thresholds=[0.001, 0.003])
    whole, _ = one_rank.discover(one_rank.session(llama, ranks, tmp_path / "whole", method))
    first = one_rank.session(llama, ranks, tmp_path / "parts", method)
    first.checkpoints.every_seconds = 0
    steps = first.spec.method.discover(first)
    while (reached := next(steps).step) < 100:  # of 164: at the second threshold
        pass
    steps.close()
    first.close()
    second = one_rank.session(llama, ranks, tmp_path / "parts", method)
    rest, reports = one_rank.discover(second)
    assert 0 < reports[0].step <= reached and edges(rest) == edges(whole)
    for one, other in zip(rest.found, whole.found, strict=True):
        assert torch.allclose(one.circuit.scores, other.circuit.scores, atol=1e-6)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"thresholds": []}, "thresholds: found []; allowed: at least 1 entry"),
        ({"thresholds": [0]}, "thresholds[0]: found 0; allowed: greater than 0"),
        ({"metric": "klm"}, "metric: found 'klm'; allowed: kl, "),
        ({"ranking_budgets": [0]}, "ranking_budgets: found [0]; allowed: a list of whole numbers above 0"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as error:
        Acdc.parse(fields, "acdc")
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


# ---- compiled programs


def exact_circuit(program: str, threshold: float, ranks: Ranks, folder: Path) -> tuple[set[Edge], float]:
    """The circuit at a threshold, and the share of the domain on which its output is the program's."""
    method = settings(thresholds=[threshold])
    loaded = one_rank.loaded(program, "float32")
    session = one_rank.session(loaded, ranks, folder, method, ablation="zero")
    circuit = one_rank.discover(session)[0].found[0].circuit
    session.open()
    _, (scores,) = one_rank.finish(evaluate(session, [circuit], "test"))
    session.close()
    return set(circuit.edges), scores["same_output"]


def test_on_xproportion_the_circuit_is_functionally_exact(ranks: Ranks, tmp_path: Path) -> None:
    """Five edges say the same as ACDC's published seven: the selector may read nothing."""
    found, same = exact_circuit("tracr-xproportion", 1e-4, ranks, tmp_path)
    assert same == 1 and len(found) <= 7
    assert {("a1.h0", "resid_post"), ("m0", "a1.h0.v"), ("tok_embeds", "m0")} <= found


def test_on_reverse_the_circuit_is_functionally_exact(ranks: Ranks, tmp_path: Path) -> None:
    found, same = exact_circuit("tracr-reverse", 1e-3, ranks, tmp_path)
    assert same == 1 and len(found) <= 11 and ("a3.h0", "resid_post") in found
