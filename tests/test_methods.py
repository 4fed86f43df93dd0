"""Methods: what every entry of METHODS promises, and what EAP and random score."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import one_rank
from tests.naive_model import NaiveModel
from tests.tiny_models import tiny_model
from trainers.distributed import Ranks
from trainers.evaluate import empty_circuit, evaluate
from trainers.methods import METHODS
from trainers.methods.base import Diverged, Method
from trainers.metrics import METRICS
from trainers.model import Loaded
from trainers.session import Session
from trainers.spec import SpecError
from trainers.tasks.base import SPLITS, Dataset

KINDS = ("gpt2", "llama", "tracr-reverse", "tracr-xproportion")
NAMES: dict[type[Method], str] = {method: method.model_fields["name"].default for method in METHODS}
# The smallest settings that each method accepts; a new method with required fields adds its own.
SMALL: dict[str, dict[str, Any]] = {
    "edge_pruning": {
        "penalty": 0.5, "steps": 6, "path_points": 3, "init_log_alpha": 0, "init_std": 2,
        "ranking_budgets": [20, 3, 3, 10**6],
    },
    "node_pruning": {
        "penalty": 0.5, "steps": 6, "path_points": 3, "init_log_alpha": 0, "init_std": 2,
        "ranking_budgets": [20, 3, 3, 10**6],
    },
    "eap": {"edge_budgets": [20, 3, 3, 10**6]},
    "eap_ig_inputs": {"edge_budgets": [20, 3, 3, 10**6], "steps": 3},
    "eap_ig_activations": {"edge_budgets": [20, 3, 3, 10**6], "steps": 2},
    "exact_patching": {"edge_budgets": [20, 3, 3, 10**6]},
    "acdc": {"thresholds": [0.3, 0.01], "ranking_budgets": [20, 3, 3, 10**6]},
    "random": {"edge_budgets": [20, 3, 3, 10**6]},
}  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict[str, Loaded]:
    return {kind: one_rank.loaded(kind, "float64") for kind in KINDS}


def settings(method: type[Method], **fields: Any) -> dict[str, Any]:
    return {"name": NAMES[method], **SMALL.get(NAMES[method], {}), **fields}


def eap(**fields: Any) -> dict[str, Any]:
    return {"name": "eap", **fields}


# ---- every method


SETTINGS = [(kind, *rest) for kind in KINDS for rest in (("interchange", "maskable"), ("zero", "always_on"))]
SETTINGS += [("llama", "mean", "maskable"), ("gpt2", "mean_positional", "always_on")]


@pytest.mark.parametrize("kind, ablation, embeddings", SETTINGS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_reports_and_finds_circuits(
    method: type[Method],
    kind: str,
    ablation: str,
    embeddings: str,
    models: dict[str, Loaded],
    ranks: Ranks,
    tmp_path: Path,
) -> None:
    fields: dict[str, Any] = {"ablation": ablation, "embeddings": embeddings}
    session = one_rank.session(models[kind], ranks, tmp_path, settings(method), **fields)
    found, reports = one_rank.discover(session)
    assert reports and reports[-1].step == reports[-1].total
    assert all(isinstance(value, float) for report in reports for value in report.values.values())
    steps = [report.step for report in reports]
    assert steps == sorted(steps) and all(0 <= step <= reports[0].total for step in steps)
    assert 1 <= len(found.found) <= session.spec.method.points_planned()
    graph = session.graph
    for item in found.found:
        circuit = item.circuit
        assert circuit.graph.embeddings == embeddings
        assert 0 <= circuit.num_edges <= graph.num_edges
        assert not (circuit.kept & ~graph.allowed).any()
        if item.kind in ("budget", "ranking"):  # higher is more important, whatever the method
            cut = graph.allowed & ~circuit.kept
            assert not cut.any() or circuit.scores[circuit.kept].min() >= circuit.scores[cut].max()
    for kind in ("budget", "ranking"):
        budgets = [item.circuit.num_edges for item in found.found if item.kind == kind]
        assert budgets == sorted(set(budgets)) and (not budgets or budgets[-1] == graph.num_edges)
    assert found.found[0].kind in ("final", "threshold", "budget")
    assert 0 <= found.backward_examples <= found.examples
    if found.signed is not None:
        assert found.signed.dtype == torch.float64 and found.signed[~graph.allowed].eq(0).all()


# What went forward and backward, by hand: 13 examples; the full model's and the corrupted run's passes
# come first, twice for each call of the evaluation; 8 samples of gates; 5 components of 2 steps.
COST: dict[str, tuple[int, int]] = {
    "edge_pruning": (26 + 6 * 8 * 13, 6 * 8 * 13),
    "node_pruning": (26 + 6 * 8 * 13, 6 * 8 * 13),
    "eap": (26 + 13, 13),
    "eap_ig_inputs": (26 + 13 + 3 * 13, 3 * 13),
    "eap_ig_activations": (26 + 5 * 2 * 13, 5 * 2 * 13),
    "exact_patching": (26 + 13 * (1 + 82), 0),
    "random": (0, 0),
}


@pytest.mark.parametrize("method", METHODS)
def test_what_a_discovery_costs(
    method: type[Method], models: dict[str, Loaded], ranks: Ranks, tmp_path: Path
) -> None:
    session = one_rank.session(models["llama"], ranks, tmp_path, settings(method))
    assert session.graph.num_edges == 82
    found, _ = one_rank.discover(session)
    if NAMES[method] == "acdc":  # every circuit that is measured shares its references with others
        assert found.examples % 13 == 0 and 26 + 13 * 82 < found.examples < 4 * 13 * 82
        assert found.backward_examples == 0
    else:
        assert (found.examples, found.backward_examples) == COST[NAMES[method]]


def test_what_only_fills_a_share_costs_nothing(
    models: dict[str, Loaded], ranks: Ranks, tmp_path: Path
) -> None:
    session = one_rank.session(models["llama"], ranks, tmp_path, eap())
    filler = replace(session.share(session.examples["train"][:2]), weight=torch.tensor([1.0, 0.0]))
    session.count(filler, 3, backward=True)
    assert session.cost() == (3, 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_finds_the_same_again_and_uses_its_seed_as_it_says(
    method: type[Method], models: dict[str, Loaded], ranks: Ranks, tmp_path: Path
) -> None:
    def kept(seed: int) -> list[Tensor]:
        torch.manual_seed(seed + 100)
        session = one_rank.session(models["llama"], ranks, tmp_path, settings(method), seed=seed)
        return [item.circuit.kept for item in one_rank.discover(session)[0].found]

    def same(first: list[Tensor], second: list[Tensor]) -> bool:
        return len(first) == len(second) and all(map(torch.equal, first, second))

    assert same(kept(3), kept(3))
    assert same(kept(3), kept(4)) == (not method.uses_seed)


@pytest.mark.parametrize("method", METHODS)
def test_settings_survive_being_written_down(method: type[Method]) -> None:
    first = method.parse(settings(method, variant="ours"), "")
    assert method.parse(first.plain(), "") == first
    assert (
        first.title == f"{method.label} (ours)" and method.parse(settings(method), "").title == method.label
    )
    assert method.version >= 1


def test_the_seed_of_a_trial_never_changes_its_examples(
    models: dict[str, Loaded], ranks: Ranks, tmp_path: Path
) -> None:
    for kind in KINDS:
        sessions = [
            one_rank.session(models[kind], ranks, tmp_path, settings(METHODS[-1]), seed=seed)
            for seed in (0, 9)
        ]
        assert sessions[0].examples == sessions[1].examples
        assert set(sessions[0].examples) == set(SPLITS)


# ---- random


def test_random_circuits_are_nested(models: dict[str, Loaded], ranks: Ranks, tmp_path: Path) -> None:
    method = {"name": "random"}
    session = one_rank.session(models["gpt2"], ranks, tmp_path, method, seed=1)
    found, _ = one_rank.discover(session)
    sizes = [item.circuit.num_edges for item in found.found]
    assert sizes[0] == 1 and sizes[-1] == session.graph.num_edges and len(sizes) > 15
    for smaller, larger in zip(found.found, found.found[1:], strict=False):
        assert not (smaller.circuit.kept & ~larger.circuit.kept).any()
    ratios = [b / a for a, b in zip(sizes[8:], sizes[9:], strict=False)]
    assert max(ratios) / min(ratios) < 1.3, "equal ratios, up to rounding"


# ---- EAP


def eap_scores(session: Session) -> Tensor:
    """The ranking that EAP left in its circuits [writers, readers]."""
    return one_rank.discover(session)[0].found[0].circuit.scores.double()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("ablation", ["interchange", "zero"])
@pytest.mark.parametrize("metric", ["logit_difference", None])
def test_a_score_is_the_slope_of_the_metric_in_the_gate(
    kind: str, ablation: str, metric: str | None, models: dict[str, Loaded], ranks: Ranks, tmp_path: Path
) -> None:
    """Against finite differences on an untouched model, one gate at a time, in float64. Llama's norms
    are float32 whatever the model is, so its differences must be coarse."""
    width, relative, absolute = (1e-4, 1e-4, 1e-6) if kind == "gpt2" else (1e-2, 1e-2, 3e-3)
    method = eap(rank_by="signed", edge_budgets=[1]) | ({"metric": metric} if metric else {})
    session = one_rank.session(models[kind], ranks, tmp_path, method, ablation=ablation)
    scores, examples, graph = eap_scores(session), session.examples["train"], session.graph
    naive = NaiveModel(tiny_model(kind, torch.float64))
    clean = torch.tensor([example.clean for example in examples])
    corrupted = torch.tensor([e.corrupted for e in examples]) if ablation == "interchange" else None
    right = torch.tensor([example.answers[0] for example in examples])
    wrong = torch.tensor([example.distractors[0] for example in examples])
    order = [node.name for node in graph.writers]

    def difference(edge: tuple[str, str], gate: float) -> float:
        logits = naive.masked_logits(clean, corrupted, lambda w, r: gate if (w, r) == edge else 1.0, order)
        last = logits[:, -1]
        return float((last.gather(1, right[:, None]) - last.gather(1, wrong[:, None])).mean())

    strongest = scores.abs().flatten().topk(4).indices.tolist()
    some = graph.flat_index[:: graph.num_edges // 6].tolist()
    for index in strongest + some:
        row, column = divmod(index, len(graph.readers))
        edge = (graph.writers[row].name, graph.readers[column].name)
        slope = (difference(edge, 1 + width) - difference(edge, 1 - width)) / (2 * width)
        assert scores[row, column].item() == pytest.approx(slope, rel=relative, abs=absolute), edge
    assert scores[~graph.allowed].eq(0).all() and scores[graph.allowed].ne(0).double().mean() > 0.75
    if ablation == "interchange" and "pos_embeds" in order:  # alike in both runs: nothing to cut
        assert scores[order.index("pos_embeds")].eq(0).all()


def test_batches_add_up(models: dict[str, Loaded], ranks: Ranks, tmp_path: Path) -> None:
    method = eap(rank_by="signed", edge_budgets=[1])
    whole = one_rank.session(models["gpt2"], ranks, tmp_path, method)
    parts = one_rank.session(models["gpt2"], ranks, tmp_path, method)
    parts.resources = parts.resources.model_copy(update={"batch_examples": 5})
    assert torch.allclose(eap_scores(whole), eap_scores(parts), rtol=1e-5, atol=1e-7)
    found, reports = one_rank.discover(parts)
    assert [report.step for report in reports] == [5, 10, 13] and found.steps == 3


def test_ranking_by_magnitude_and_by_sign(models: dict[str, Loaded], ranks: Ranks, tmp_path: Path) -> None:
    budgets = [1, 2, 5, 20, 60]
    found = {}
    for rank_by in ("signed", "magnitude"):
        session = one_rank.session(
            models["gpt2"], ranks, tmp_path, eap(rank_by=rank_by, edge_budgets=budgets)
        )
        found[rank_by] = one_rank.discover(session)[0].found
    signed, magnitude = found["signed"][0].circuit.scores, found["magnitude"][0].circuit.scores
    assert signed.lt(0).any() and torch.equal(signed.abs(), magnitude)
    for rank_by in ("signed", "magnitude"):  # the sign is never lost
        session = one_rank.session(models["gpt2"], ranks, tmp_path, eap(rank_by=rank_by))
        kept_apart = one_rank.discover(session)[0].signed
        assert kept_apart is not None and torch.equal(kept_apart.float(), signed)
    for rank_by, scores in (("signed", signed), ("magnitude", magnitude)):
        allowed = models["gpt2"].graph("maskable").allowed
        for budget, item in zip(budgets, found[rank_by], strict=True):
            kept = item.circuit.kept
            assert item.circuit.num_edges == budget
            assert scores[kept].min() >= scores[allowed & ~kept].max()


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.divergence])
def test_eap_refuses_a_divergence_by_name(name: str) -> None:
    with pytest.raises(
        SpecError, match=f"metric: found '{name}', a divergence .* zero, so it scores nothing"
    ):
        METHODS[1].parse(eap(metric=name), "trial.yaml")


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if not metric.differentiable])
def test_eap_refuses_a_metric_without_gradient(name: str) -> None:
    with pytest.raises(SpecError, match=f"found '{name}', which has no gradient; allowed: logit_difference"):
        METHODS[1].parse(eap(metric=name), "trial.yaml")


def test_eap_refuses_what_the_task_does_not_measure(
    models: dict[str, Loaded], ranks: Ranks, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="found 'logit_diference'; allowed: logit_difference"):
        METHODS[1].parse(eap(metric="logit_diference"), "")
    said = "method.metric: found answer_product, which the task does not measure; allowed: kl, logit_di"
    with pytest.raises(SpecError, match=said):
        one_rank.session(models["gpt2"], ranks, tmp_path, eap(metric="answer_product"))


def test_scores_that_are_not_finite_end_the_trial_on_all_ranks_alike(ranks: Ranks, tmp_path: Path) -> None:
    broken = one_rank.loaded("gpt2", "float32")
    with torch.no_grad():
        next(iter(broken.model.model.parameters())).fill_(math.nan)
    session = one_rank.session(broken, ranks, tmp_path, eap())
    with pytest.raises(Diverged, match="an EAP score is not finite"):
        one_rank.discover(session)
    session.close()


def test_all_scores_zero_is_told(models: dict[str, Loaded], ranks: Ranks, tmp_path: Path) -> None:
    """A right answer of 1/2 asks for no deviation, so nothing deserves credit."""
    session = one_rank.session(models["tracr-xproportion"], ranks, tmp_path, eap(), ablation="zero")
    splits = dict(session.examples)
    splits["train"] = [replace(e, answers=(0.5,) * len(e.answers)) for e in splits["train"]]
    session.__dict__["dataset"] = Dataset(splits)
    found, _ = one_rank.discover(session)
    assert found.warnings == ("every EAP score is zero",)


# ---- evaluation, which every method's circuits go through


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_every_curve(kind: str, models: dict[str, Loaded], ranks: Ranks, tmp_path: Path) -> None:
    """The full model diverges by 0; the circuit of all edges is the full model, the empty one is not."""
    session = one_rank.session(models[kind], ranks, tmp_path, {"name": "random"})
    everything = one_rank.discover(session)[0].found[-1].circuit
    session.open()
    for split in ("validation", "test"):
        empty = empty_circuit(session)
        assert everything.num_edges == session.graph.num_edges and empty.num_edges == 0
        full, (kept, nothing) = one_rank.finish(evaluate(session, [everything, empty], split))
        assert list(full) == list(kept) == list(nothing) == list(session.metrics)
        assert full[session.divergence] == pytest.approx(0, abs=1e-12)
        for name in full:
            # Hugging Face's RMS norms round to float32 whatever the dtype; folded into q, k and v they don't.
            assert kept[name] == pytest.approx(full[name], abs=1e-6)
        assert nothing[session.divergence] > 1e-3
    session.close()


def test_evaluation_does_not_depend_on_the_size_of_batches(
    models: dict[str, Loaded], ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = one_rank.session(models["llama"], ranks, tmp_path, {"name": "random"})
    circuits = [item.circuit for item in one_rank.discover(session)[0].found]
    session.open()
    _, together = one_rank.finish(evaluate(session, circuits, "test"))
    session.resources = session.resources.model_copy(update={"batch_examples": 3})
    monkeypatch.setattr("trainers.evaluate.SIDE_BY_SIDE_BYTES", 1)
    _, one_by_one = one_rank.finish(evaluate(session, circuits, "test"))
    session.close()
    for first, second in zip(together, one_by_one, strict=True):
        assert first == pytest.approx(second, abs=1e-9)
