"""Exact edge activation patching: naive hooks on an untouched model, one edge at a time."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import one_rank
from tests.naive_model import NaiveModel
from tests.tiny_models import tiny_model
from trainers.distributed import Ranks
from trainers.session import Session


def by_hand(session: Session, kind: str, metric: str) -> Tensor:
    """The mean metric's loss [writers, readers] when one reader's input lacks one clean write."""
    graph, examples = session.graph, session.examples["train"]
    naive = NaiveModel(tiny_model(kind, torch.float64))
    clean = torch.tensor([example.clean for example in examples])
    writes = naive.writes(clean)
    carried = {name: torch.zeros_like(write) for name, write in writes.items()}
    if session.spec.ablation == "interchange":
        carried = naive.writes(torch.tensor([example.corrupted for example in examples]))
    answers = torch.tensor([[example.answers[0], example.distractors[0]] for example in examples])
    full = F.log_softmax(naive.logits(clean)[:, -1], -1)

    def goodness(logits: Tensor) -> float:
        last = logits[:, -1]
        if metric == "kl":
            return -float((full.exp() * (full - F.log_softmax(last, -1))).sum(-1).mean())
        if metric == "exact_match":
            return float((last.argmax(-1) == full.argmax(-1)).double().mean())
        right, wrong = last.gather(1, answers).unbind(1)
        return float((right - wrong).mean())

    scores, whole = torch.zeros(graph.allowed.shape, dtype=torch.float64), goodness(naive.logits(clean))
    for row, column in graph.allowed.nonzero().tolist():
        writer, reader = graph.writers[row].name, graph.readers[column].name
        cut = naive.cut_one(reader, clean, carried[writer] - writes[writer])
        scores[row, column] = whole - goodness(cut)
    return scores


@pytest.mark.parametrize(
    "kind, ablation, metric",
    [
        ("gpt2", "interchange", "logit_difference"),
        ("gpt2", "zero", "kl"),
        ("gpt2", "interchange", "exact_match"),
        ("llama", "interchange", "kl"),
        ("llama", "zero", "logit_difference"),
    ],
)
def test_every_score_is_what_cutting_the_edge_by_hand_does(
    kind: str, ablation: str, metric: str, ranks: Ranks, tmp_path: Path
) -> None:
    method = {"name": "exact_patching", "metric": metric, "rank_by": "signed", "edge_budgets": [5]}
    session = one_rank.session(one_rank.loaded(kind, "float64"), ranks, tmp_path, method, ablation=ablation)
    found, _ = one_rank.discover(session)
    expected = by_hand(session, kind, metric)
    assert found.signed is not None and found.steps == session.graph.num_edges
    # Llama's norms are float32 whatever the model is.
    assert torch.allclose(found.signed, expected, rtol=1e-5, atol=1e-9 if kind == "gpt2" else 1e-6)
    assert expected.abs().max() > 0.01
    if metric != "exact_match":
        best = expected.flatten().topk(5).indices
        assert set(best.tolist()) == set(found.found[0].circuit.kept.flatten().nonzero().flatten().tolist())


@pytest.mark.parametrize("name", ["eap", "eap_ig_inputs", "eap_ig_activations"])
def test_an_attribution_is_in_the_same_unit(name: str, ranks: Ranks, tmp_path: Path) -> None:
    """Tokens that are nearly alike make every cut a small change, of which attributions are the first
    order: their scores are then those of exact patching, and no multiple of them."""
    gpt2, alike = one_rank.loaded("gpt2", "float64"), 1e-3
    with torch.no_grad():
        weight = gpt2.model.model.get_parameter("transformer.wte.weight")
        weight.lerp_(weight.mean(0, keepdim=True), 1 - alike)
    found = {}
    for method in ("exact_patching", name):
        fields = {"name": method, "metric": "logit_difference", "edge_budgets": [1]}
        session = one_rank.session(gpt2, ranks, tmp_path / method, fields)
        found[method] = one_rank.discover(session)[0].signed
    exact, scores = found["exact_patching"], found[name]
    assert exact is not None and scores is not None
    largest = exact.abs().max()
    assert torch.allclose(scores, exact, rtol=0, atol=0.02 * float(largest)) and largest > 1e-9
    strong = exact.abs() > 0.1 * largest
    assert strong.sum() > 3 and (scores / exact)[strong].sub(1).abs().max() < 0.02


def test_a_search_that_was_stopped_goes_on(
    ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.methods.exact_patching.WINDOW", 20)
    gpt2, method = one_rank.loaded("gpt2", "float64"), {"name": "exact_patching", "edge_budgets": [5]}
    whole, _ = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path / "whole", method))
    first = one_rank.session(gpt2, ranks, tmp_path / "parts", method)
    first.checkpoints.every_seconds = 0
    steps = first.spec.method.discover(first)
    while next(steps).step < 60:
        pass
    steps.close()
    first.close()
    second = one_rank.session(gpt2, ranks, tmp_path / "parts", method)
    rest, reports = one_rank.discover(second)
    assert whole.signed is not None and rest.signed is not None
    assert torch.equal(rest.signed, whole.signed) and reports[0].step == 60
    assert rest.examples == whole.examples
