"""Path mode: one run that walks through several targets, and when it leaves each."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.records.trial_result import own_point
from tests import one_rank
from trainers.distributed import Ranks
from trainers.methods.edge_pruning import EdgePruning
from trainers.methods.walk import Walk
from trainers.spec import SpecError

PATH = {"name": "edge_pruning", "target_path": [0.5, 0.75, 0.875], "path_points": 0}


def walk(**fields: Any) -> Walk:
    return Walk(EdgePruning.parse(PATH | {"steps": 12, "warmup_steps": 6, "lr_warmup_steps": 2} | fields, ""))


def walked(run: Walk, seen: list[tuple[float, float]]) -> list[int]:
    """The steps, counted from 1, after which a hold ended, until the run was over."""
    ends = []
    for step, (divergence, sparsity) in enumerate(seen):
        if run.ends(step, divergence, sparsity):
            ends.append(step + 1)
        if run.over:
            break
    return ends


# ---- the schedule


def test_targets_and_rates_by_hand() -> None:
    """12 steps, 3 targets: 4 steps each, the first 2 of them rising; rates warm up once and fall anew."""
    run = walk()
    targets, rates = [], []
    for step in range(12):
        targets.append(run.target(step))
        rates.append(run.rate(step))
        run.ends(step, 1.0, 0.0)
    assert targets == pytest.approx([0, 0.25, 0.5, 0.5, 0.5, 0.625, 0.75, 0.75, 0.75, 0.8125, 0.875, 0.875])
    assert rates == pytest.approx([0, 0.5, 1, 0.5] + [1, 0.75, 0.5, 0.25] * 2)
    assert run.over and run.entered == [0, 4, 8]
    assert [run.target(step) for step in range(12)] == targets, "steps that are over can be asked for, too"
    assert [run.held(step) for step in (2, 3, 7, 11)] == [None, 0.5, 0.75, None]


def test_one_target_is_a_walk_of_one_hold() -> None:
    run = walk(target_path=None, target_sparsity=0.8)
    assert [run.target(step) for step in (0, 3, 6, 11)] == pytest.approx([0, 0.4, 0.8, 0.8])
    assert walked(run, [(1.0, 0.8)] * 12) == [12] and run.entered == [0]


def test_steps_that_no_hold_needs_go_to_the_later_ones() -> None:
    """Two windows of 1 step each tell that the first target has settled; the second is never reached."""
    run = walk(settle_steps=1, steps=24, warmup_steps=6)
    settled = [(1.0, 0.5)] * 2
    falling = [(1.0 - 0.01 * step, 0.7) for step in range(30)]
    assert walked(run, settled + falling) == [2, 13, 24], "22 steps were left for two targets: 11 each"


def test_a_hold_ends_when_the_divergence_of_two_windows_does_not_fall() -> None:
    def ended(seen: list[tuple[float, float]], target: float = 0.5) -> int:
        run = walk(target_path=None, target_sparsity=target, settle_steps=2, warmup_steps=3)
        return walked(run, [(9.0, 0.0)] * 3 + seen)[0]

    at = 0.5
    flat = [(4.0, at), (3.0, at), (3.0, at), (4.0, at), (0.0, at)]
    assert ended(flat) == 7, "equal means: no longer falling"
    late = [(4.0, at), (3.0, at), (3.0, at), (3.9, at), (4.0, at), (0.0, at)]
    assert ended(late) == 8, "a window moves by a step"
    assert ended([(4.0, 0.3)] * 9) == 12, "a target that is not reached is held to the end"
    assert ended([(4.0, 0.4)] * 4 + [(4.0, 0.46)] * 5) == 11, "0.45 is near enough, in both windows"
    assert ended([(4.0, 0.7)] * 9) == 7, "what has passed a target need not come back"
    assert ended([(4.0, 0.5 + 0.03 * step) for step in range(9)]) == 12, "it still gets sparser"


def test_a_target_that_is_passed_while_it_still_rises_is_left() -> None:
    run = walk(target_path=None, target_sparsity=0.5, settle_steps=1, warmup_steps=8)
    assert walked(run, [(1.0, 0.1 * step) for step in range(6)] + [(1.0, 0.52)] * 6) == [7]


def test_a_walk_goes_on_from_its_state() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = [(float(kl), 0.8) for kl in torch.rand(60, generator=generator)]
    settings = {"target_path": [0.79, 0.8, 0.81], "settle_steps": 2, "steps": 60, "warmup_steps": 12}
    whole = walk(**settings)
    ends = walked(whole, seen)
    assert len(ends) == 3 and ends[-1] < 60
    for cut in range(1, ends[-1]):
        first, second = walk(**settings), walk(**settings)
        before = [step + 1 for step in range(cut) if first.ends(step, *seen[step])]
        second.restore(first.state())
        after = []
        for step in range(cut, ends[-1]):
            assert not second.over
            after += [step + 1] if second.ends(step, *seen[step]) else []
        assert (before + after, second.over, second.entered) == (ends, True, whole.entered)


# ---- the trial


def test_a_circuit_per_target(ranks: Ranks, tmp_path: Path) -> None:
    program = one_rank.loaded("tracr-xproportion", "float32")
    method = PATH | {"steps": 90, "gate_samples": 4, "path_points": 9}
    found, reports = one_rank.discover(one_rank.session(program, ranks, tmp_path, method, ablation="zero"))
    final = [one for one in found.found if one.kind == "final"]
    assert [(one.target_sparsity, one.step) for one in final] == [(0.875, 90), (0.5, 30), (0.75, 60)]
    assert final[0].circuit.num_edges < final[2].circuit.num_edges < final[1].circuit.num_edges
    assert {one.kind for one in found.found[3:]} == {"path"}
    assert all(one.step not in (30, 60, 90) for one in found.found[3:])
    assert found.steps == len(reports) == 90
    targets = [report.values["target_sparsity"] for report in reports]
    assert targets == sorted(targets) and (targets[29], targets[59], targets[89]) == (0.5, 0.75, 0.875)


def test_what_has_settled_saves_steps_and_the_result_says_how_many(tmp_path: Path) -> None:
    method = {"name": "edge_pruning", "target_sparsity": 0.5, "steps": 200, "warmup_steps": 40}
    spec = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "ablation": "zero"}
    with one_rank.working() as make:
        worker = make()
        whole = one_rank.run(worker, tmp_path / "whole", spec | {"method": method})
        method |= {"settle_steps": 5}
        short = one_rank.run(worker, tmp_path / "short", spec | {"method": method})
    assert whole.steps == 200 and 10 <= short.steps < 200
    assert short.examples is not None and whole.examples is not None and short.examples < whole.examples
    told = [
        json.loads(line)["step"] for line in (tmp_path / "short" / "progress.jsonl").read_text().splitlines()
    ]
    assert max(told) == short.steps
    final = next(point for point in short.points if point.kind == "final")
    assert final.step == short.steps and final.sparsity > 0.45


def test_a_trial_of_several_targets_has_no_circuit_of_its_own(tmp_path: Path) -> None:
    """As of a ranking: which of them counts is the reader's epsilon's to say."""
    spec = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "ablation": "zero"}
    with one_rank.working() as make:
        result = one_rank.run(make(), tmp_path, spec | {"method": PATH | {"steps": 6}})
    assert [point.target_sparsity for point in result.points if point.kind == "final"] == [0.875, 0.5, 0.75]
    assert own_point(result) is None
    assert sum(text.startswith("target sparsity") for text in result.warnings) == 3


# ---- the spec


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"target_sparsity": 0.9}, "found target_sparsity and target_path; allowed: exactly one of"),
        ({"target_path": [0.9]}, "target_path: found [0.9]; allowed: at least 2 entries"),
        ({"target_path": [0.9, 0.9]}, "target_path: found [0.9, 0.9]; allowed: each above the one before"),
        ({"target_path": [0.9, 0.5]}, "allowed: each above the one before"),
        ({"target_path": [0.0, 0.5, 0.6]}, "target_path[0]: found 0.0"),
        ({"target_path": 0.5}, "target_path: found 0.5; allowed: a list"),
        ({"warmup": "logarithmic", "target_path": [0.5, 1.0]}, "target_path: found 1.0; allowed with log"),
        (
            {"start_sparsity": 0.6},
            "start_sparsity: found 0.6; allowed: at most the first of target_path (0.5)",
        ),
        ({"steps": 2}, "target_path: found 3 targets; allowed: at most steps (2)"),
        ({"writer_gates": True, "writer_target_sparsity": 0.5}, "writers have no path"),
        ({"target_path": None, "penalty": 1.0, "settle_steps": 5}, "settle_steps does nothing with penalty"),
        ({"settle_steps": 0}, "settle_steps: found 0"),
        (
            {"settle_steps": 100, "steps": 60},
            "settle_steps: found 100; allowed: at most 10, half of the steps that a target has",
        ),
    ],
)
def test_impossible_walks_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as error:
        EdgePruning.parse(PATH | fields, "method")
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


def test_path_mode_is_a_curve_of_its_own() -> None:
    """Its points are not those of independent runs."""
    assert EdgePruning.parse(PATH, "").title == "edge pruning (path mode)"
    assert EdgePruning.parse(PATH | {"variant": "slow", "warm_start": "eap"}, "").title == (
        "edge pruning (from EAP, path mode, slow)"
    )
