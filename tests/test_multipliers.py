"""Multipliers that follow the error of a sparsity target: the rule by hand, its loss, and what it is for."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import one_rank
from tests.test_published_loss import PublishedLoss, spied
from tests.tiny_models import tiny_model
from trainers.distributed import Ranks
from trainers.methods.edge_pruning import EdgePruning
from trainers.methods.multipliers import PiMultipliers
from trainers.methods.schedules import relative_error
from trainers.spec import SpecError

PI = {"name": "edge_pruning", "target_sparsity": 0.5, "multipliers": "pi", "path_points": 0}
WRITERS = {"writer_gates": True, "writer_target_sparsity": 0.75}


def multipliers(**fields: Any) -> PiMultipliers:
    return PiMultipliers(EdgePruning.parse(PI | {"multiplier_gain": 8, "integral_steps": 2} | fields, ""))


def values(*pairs: tuple[float, float]) -> dict[str, float]:
    """What a step reports: sparsity and target, of edges and of writers."""
    told = {}
    for prefix, (sparsity, target) in zip(("", "writer_"), pairs, strict=False):
        told |= {f"{prefix}sparsity": sparsity, f"{prefix}target_sparsity": target}
    return told


def test_errors_are_shares_of_the_edges_that_the_target_keeps() -> None:
    """Of 100 edges a target of 0.9 keeps 10: 20 are one too many per wanted one, 5 half of one too few."""
    assert [relative_error(s, 0.9) for s in (0.9, 0.8, 0.95)] == pytest.approx([0, -1, 0.5])


def test_the_rule_by_hand() -> None:
    """λ1 sums up gain · error / steps, at a share of the learning rates; λ2 stays half of the gain."""
    rule = multipliers()
    assert [pair.tolist() for pair in rule.pairs()] == [[0, 4]]
    rule.follow(values((0.25, 0.5)), 1.0)  # 8 · -0.5 / 2
    assert [pair.tolist() for pair in rule.pairs()] == [[-2, 4]]
    rule.follow(values((0.625, 0.5)), 0.5)  # 8 · 0.25 · 0.5 / 2
    assert [pair.tolist() for pair in rule.pairs()] == [[-1.5, 4]]
    rule.follow(values((0.5, 0.5)), 1.0)
    assert [pair.tolist() for pair in rule.pairs()] == [[-1.5, 4]], "at the target nothing moves"


def test_writers_have_a_multiplier_of_their_own() -> None:
    rule = multipliers(**WRITERS)
    rule.follow(values((0.5, 0.5), (0.5, 0.75)), 1.0)
    assert [pair.tolist() for pair in rule.pairs()] == [[0, 4], [-4, 4]]


def test_the_rule_goes_on_from_its_state() -> None:
    rule, other = multipliers(**WRITERS), multipliers(**WRITERS)
    rule.follow(values((0.1, 0.3), (0.2, 0.7)), 1 / 3)
    other.restore(rule.state())
    assert other.integrals == rule.integrals
    other.restore({})
    assert other.integrals == rule.integrals, "a checkpoint of another time says nothing of it"


@pytest.mark.parametrize("fields", [{}, {"target_sparsity": None, "penalty": 0.1}])
def test_adams_multipliers_and_penalties_have_nothing_to_follow(fields: dict[str, Any]) -> None:
    rule = PiMultipliers(EdgePruning.parse(PI | {"multipliers": "adam"} | fields, ""))
    rule.follow({"sparsity": 0.1}, 1.0)
    assert rule.pairs() == [] and rule.state()["multipliers.integrals"].numel() == 0


# ---- the loss


@pytest.mark.parametrize("fields", [{}, WRITERS, {"sparsity_estimate": "expected"}])
def test_the_loss_is_the_published_one_with_these_multipliers(
    fields: dict[str, Any], ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """λ1 · e + λ2 · e² is λ1 / (1 − t) · (s − t) + λ2 / (1 − t)² · (s − t)²: checked against a reference that
    knows (s − t) alone, with λ1 summed up here."""
    gpt2 = one_rank.loaded("gpt2", "float64")
    method = PI | {
        "target_sparsity": 0.9, "steps": 4, "init_std": 1.5, "gate_lr": 0.3, "lr_warmup_steps": 0,
        "lr_decay": "constant", "multiplier_gain": 6, "integral_steps": 4,
    } | fields  # fmt: skip
    session = one_rank.session(gpt2, ranks, tmp_path, method, seed=3)
    steps, reports = spied(session, monkeypatch)
    reference = PublishedLoss(session, tiny_model("gpt2", torch.float64))
    integrals = {"": 0.0, "writer_": 0.0}
    for number, (step, report) in enumerate(zip(steps, reports, strict=True)):
        assert not any(name.startswith("lambda") for name in step.values), "no optimiser moves them"
        pairs = {}
        for prefix, name in (("", "lambda_edges"), ("writer_", "lambda_writers")):
            target = report.values.get(f"{prefix}target_sparsity", 0.0)
            pairs[name] = torch.tensor([integrals[prefix] / (1 - target), 3 / (1 - target) ** 2])
            error = (report.values.get(f"{prefix}sparsity", 0.0) - target) / (1 - target)
            assert report.values.get(f"{prefix}lambda_1", 0.0) == pytest.approx(integrals[prefix], abs=1e-6)
            integrals[prefix] += 6 * error / 4
        loss, _, sparsity = reference.loss(step.values | pairs, number)
        assert step.loss == pytest.approx(loss, rel=1e-5, abs=1e-6)
        assert report.values["sparsity"] == pytest.approx(sparsity, abs=1e-6)


# ---- the trial


@pytest.mark.parametrize("target", [0.5, 0.84])
def test_targets_bind(target: float, ranks: Ranks, tmp_path: Path) -> None:
    """Within two of xproportion's 32 edges; Adam's multipliers miss 0.5 by four or five of them."""
    program = one_rank.loaded("tracr-xproportion", "float32")
    method = PI | {"target_sparsity": target, "steps": 150, "gate_samples": 4}
    session = one_rank.session(program, ranks, tmp_path, method, ablation="zero")
    found, reports = one_rank.discover(session)
    assert found.found[0].circuit.sparsity == pytest.approx(target, abs=0.07)
    assert reports[-1].values["lambda_2"] == 15


def test_targets_of_nodes_bind(ranks: Ranks, tmp_path: Path) -> None:
    """Sixteen of 32 edges, up to half of the most that one node cuts."""
    program = one_rank.loaded("tracr-xproportion", "float32")
    method = PI | {"name": "node_pruning", "steps": 240, "gate_samples": 4}
    session = one_rank.session(program, ranks, tmp_path, method, ablation="zero")
    found, reports = one_rank.discover(session)
    assert found.warnings == () and reports[-1].values["lambda_2"] == 15


# ---- the spec


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"multipliers": "sgd"}, "multipliers: found 'sgd'. Allowed: 'adam' or 'pi'"),
        ({"multiplier_gain": 0}, "multiplier_gain: found 0; allowed: greater than 0"),
        (
            {"multipliers": "adam", "multiplier_gain": 3},
            "multiplier_gain does nothing with multipliers: adam; leave it out",
        ),
        ({"integral_steps": 0}, "integral_steps: found 0; allowed: greater than or equal to 1"),
        ({"multiplier_lr": 1}, "multiplier_lr does nothing with multipliers: pi; leave it out"),
        ({"target_sparsity": 1.02}, "target_sparsity: found 1.02; allowed with multipliers: pi: below 1"),
        (
            {"target_sparsity": None, "target_path": [0.5, 1.0]},
            "target_path: found 1.0; allowed with multipliers: pi: below 1",
        ),
        (
            {"writer_gates": True, "writer_target_sparsity": 1.0},
            "writer_target_sparsity: found 1.0; allowed with multipliers: pi: below 1",
        ),
        (
            {"target_sparsity": None, "penalty": 0.1},
            "multipliers does nothing with penalty; leave it out",
        ),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as error:
        EdgePruning.parse(PI | fields, "")
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


def test_todays_trials_keep_their_ids() -> None:
    plain = {"name": "edge_pruning", "target_sparsity": 0.5}
    adam = EdgePruning.parse(plain | {"multipliers": "adam"}, "")
    assert adam.canonical() == {"target_sparsity": 0.5}
    assert EdgePruning.parse(PI, "").canonical() == {
        "target_sparsity": 0.5,
        "multipliers": "pi",
        "path_points": 0,
    }
