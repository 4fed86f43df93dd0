"""Studies replayed from trial folders: the same results bring the same questions, whatever happens."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.planning.plan import Plan, clear_the_way, plan
from orchestrator.planning.snapshot import write_trials
from orchestrator.search.asking import adaptive
from orchestrator.search.outcome import outcome
from orchestrator.search.record import RECORD, known_trials
from orchestrator.sweep import SweepSpec
from tests.broken_files import broken
from tests.run_folders import TOTAL, point, trial
from tests.test_search_spec import SPACE, sweep
from trainers.folder import Folder
from trainers.result import TrialResult
from trainers.trial import TrialSpec

Answer = Callable[[TrialSpec], TrialResult]


@pytest.fixture
def runs(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path / "runs")


def answered(spec: TrialSpec, test: float | None = None, **others: Any) -> TrialResult:
    """Two circuits whose divergences depend on the settings: least with a learning rate near 0.1."""
    told = spec.method.plain()
    edges = max(2, round(TOTAL * (1 - told["target_sparsity"])))
    miss = abs(np.log10(told["gate_lr"]) + 1) + told["target_sparsity"] ** 2
    points = [point(0, edges, miss, test), point(1, 2 * edges, miss / 2, test, kind="path")]
    return trial(spec.trial_id, spec.seed, points, spec=spec.plain(), **others)


def write(runs: Folder, result: TrialResult) -> None:
    runs.write(f"trials/{result.trial_id}/result.json", result.model_dump_json().encode())


def record(runs: Folder, planned: Plan) -> None:
    """What a driver writes before trials run."""
    write_trials(runs / planned.sweep.name, [trial.trial_id for trial in planned.trials], planned.studies)


def finish(one: SweepSpec, runs: Folder, answer: Answer = answered) -> list[list[list[str]]]:
    """Runs a search to its end, with its record; trial ids by study and round."""
    while (planned := plan(one, runs)).missing:
        record(runs, planned)
        for missing in planned.missing:
            write(runs, answer(missing.spec))
    assert planned.unasked == 0
    return rounds(planned)


def rounds(planned: Plan) -> list[list[list[str]]]:
    return [
        [[question.trial_id for question in asked] for asked in study.rounds] for study in planned.studies
    ]


def test_a_search_asks_in_rounds_until_it_has_asked_for_all(runs: Folder) -> None:
    one = sweep(seeds=2)
    planned = plan(one, runs)
    assert (len(planned.trials), planned.unasked, planned.counts["waiting"]) == (6, 6, 6)
    assert planned.points == 12 * planned.trials[0].spec.method.points_planned()
    found = finish(one, runs)
    assert [[len(asked) for asked in study] for study in found] == [[3, 2, 1], [3, 2, 1]]
    ids = [trial_id for study in found for asked in study for trial_id in asked]
    assert len(set(ids)) == 12
    assert list(known_trials(one, runs / "s")) == ids
    assert plan(one, runs).counts["complete"] == 12


def test_the_first_study_to_end_its_round_goes_on_alone(runs: Folder) -> None:
    one = sweep(seeds=2)
    first = plan(one, runs).studies[0]
    for question in first.questions:
        write(runs, answered(question.trial))
    planned = plan(one, runs)
    assert [len(study.questions) for study in planned.studies] == [5, 3]
    assert len(planned.missing) == 5 and planned.unasked == 4


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
@pytest.mark.parametrize("order", [0, 1])
def test_interruptions_change_no_question(tmp_path: Path, sampler: str, order: int) -> None:
    """One trial at a time, in any order, planned anew each time, with and without the record."""
    one = sweep({"sampler": sampler}, seeds=2)
    straight = finish(one, Folder.open(tmp_path / "straight"))
    torn, draws = Folder.open(tmp_path / "torn"), random.Random(order)
    while (planned := plan(one, torn)).missing:
        if draws.random() < 0.5:
            record(torn, planned)
        else:
            torn.delete(f"s/{RECORD}")
        again = plan(one, torn)
        assert rounds(again) == rounds(planned)
        write(torn, answered(draws.choice(planned.missing).spec))
    assert rounds(planned) == straight


def test_test_examples_play_no_part(tmp_path: Path) -> None:
    one = sweep({"trials": 12})
    noise = random.Random(0)
    asked = finish(one, Folder.open(tmp_path / "a"))

    def other_test(spec: TrialSpec) -> TrialResult:
        empty = {"validation": {"kl": 2.0}, "test": {"kl": noise.random()}}
        return answered(spec, test=noise.random(), empty=empty)

    def other_validation(spec: TrialSpec) -> TrialResult:
        return trial(spec.trial_id, 0, [point(0, noise.randrange(5, 90), noise.random())], spec=spec.plain())

    assert finish(one, Folder.open(tmp_path / "b"), other_test) == asked
    assert finish(one, Folder.open(tmp_path / "c"), other_validation) != asked


def test_a_search_goes_where_circuits_are_better(tmp_path: Path) -> None:
    """Divergence is least at a learning rate of 0.1: later questions are nearer to it."""
    space = SPACE | {"method.gate_lr": {"log": [1e-3, 10]}}
    one = sweep({"space": space, "trials": 40, "startup": 8, "round": 4}, seeds=2)
    runs = Folder.open(tmp_path)
    finish(one, runs)
    for study in plan(one, runs).studies:
        far = [abs(np.log10(question.values["method.gate_lr"]) + 1) for question in study.questions]
        assert np.median(far[20:]) < 0.5 * np.median(far[:8])


def test_a_failed_trial_counts_and_teaches_nothing(runs: Folder) -> None:
    one = sweep({"trials": 8})
    (worst, *_) = plan(one, runs).studies[0].questions

    def answer(spec: TrialSpec) -> TrialResult:
        failed = {"status": "failed", "error": "diverged at step 3"}
        return answered(spec) if spec.trial_id != worst.trial_id else trial(spec.trial_id, 0, [], **failed)

    finish(one, runs, answer)
    study = plan(one, runs).studies[0]
    assert len(study.questions) == 8 and plan(one, runs).counts["failed"] == 1
    others = [(question.values, outcome(answered(question.trial))) for question in study.questions[1:]]
    failed = (worst.values, outcome(trial("t", 0, [], status="failed")))
    for sampler in ("tpe", "gp"):
        asking = study.study.search.model_copy(update={"sampler": sampler})
        assert next(adaptive(asking, [failed, *others], 7)) == next(adaptive(asking, others, 7))


def test_where_all_fail_questions_go_on(runs: Folder) -> None:
    one = sweep()
    finish(one, runs, lambda spec: trial(spec.trial_id, 0, [], status="failed", error="x"))
    assert plan(one, runs).counts["failed"] == 6


def test_a_failed_trial_that_runs_again_changes_later_rounds_only(runs: Folder) -> None:
    one = sweep({"trials": 9})
    (first, *_) = plan(one, runs).studies[0].questions
    write(runs, trial(first.trial_id, 0, [], status="failed", error="a node was lost"))
    for question in plan(one, runs).studies[0].rounds[0][1:]:
        write(runs, answered(question.trial))
    before = plan(one, runs)
    record(runs, before)
    for question in before.studies[0].rounds[1]:
        write(runs, answered(question.trial))
    record(runs, plan(one, runs))
    asked = rounds(plan(one, runs))[0]
    cleared, moved = clear_the_way(plan(one, runs), runs, retry_failed=True)
    assert len(moved) == 1 and first.trial_id in {trial.trial_id for trial in cleared.missing}
    assert first.trial_id not in cleared.studies[0].told
    assert rounds(plan(one, runs))[0] == asked, "nothing is asked anew while it runs"
    write(runs, answered(first.trial))
    assert finish(one, runs)[0][: len(asked)] == asked


def test_more_trials_go_on_with_the_same_questions(runs: Folder) -> None:
    short = finish(sweep({"trials": 6}), runs)[0]  # its last round was cut short
    longer = sweep({"trials": 10})
    planned = plan(longer, runs)
    assert planned.counts["complete"] == 6 and len(planned.missing) == 1
    asked = finish(longer, runs)[0]
    assert [trial_id for one in asked for trial_id in one][:6] == [
        trial_id for one in short for trial_id in one
    ]
    assert plan(sweep({"trials": 5}), runs).counts["complete"] == 5


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"k": 5}', b'{"KEY": {"rounds": [[{"method.gate_lr": "x"}]], "exhausted": false}}'],
)
def test_a_record_that_is_none_is_asked_again(runs: Folder, content: bytes) -> None:
    one = sweep()
    asked = rounds(plan(one, runs))
    runs.write(f"s/{RECORD}", content.replace(b"KEY", one.studies()[0].key.encode()))
    assert rounds(plan(one, runs)) == asked


def test_a_damaged_record_never_stops_a_plan(runs: Folder) -> None:
    one = sweep({"trials": 5})
    finish(one, runs)
    whole = runs.read(f"s/{RECORD}") or b""
    for seed in range(200):
        runs.write(f"s/{RECORD}", broken(whole, random.Random(seed)))
        assert plan(one, runs).unasked <= 5


def test_values_that_were_never_asked_are_asked_anew(runs: Folder) -> None:
    one = sweep()
    asked = rounds(plan(one, runs))
    record(runs, plan(one, runs))
    content = json.loads(runs.read(f"s/{RECORD}") or b"")
    for values in ({"method.gate_lr": 9.0}, {"method.steps": 7}, {"method.gate_lr": True}):
        (told,) = content.values()
        (first, *_) = told["rounds"][0]
        changed = {one.studies()[0].key: told | {"rounds": [[first | values, *told["rounds"][0][1:]]]}}
        runs.write(f"s/{RECORD}", json.dumps(changed).encode())
        assert rounds(plan(one, runs)) == asked


def test_another_space_is_another_study(runs: Folder) -> None:
    finish(sweep(), runs)
    keys = {sweep(change).studies()[0].key for change in ({}, {"trials": 9}, {"seed": 1}, {"round": 3})}
    assert len(keys) == 3, "how far it goes is no other study"
    other = plan(sweep({"seed": 1}), runs)
    assert other.counts["complete"] == 0


def test_chance_asks_without_waiting(runs: Folder) -> None:
    planned = plan(sweep({"sampler": "random", "trials": 9}), runs)
    assert len(planned.missing) == 9 and planned.unasked == 0


def test_a_space_without_more_settings_ends_the_search(runs: Folder) -> None:
    """Rules between fields may forbid most of it; here, 5 of 9 settings."""
    method = {"name": "edge_pruning", "steps": 20, "target_sparsity": 0.5}
    space = {
        "method.steps": {"choice": [10, 20, 30]},
        "method.gate_samples": {"integer": [1, 3]},
    }
    base = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "method": method}
    one = sweep({"space": space, "trials": 9, "startup": 4, "round": 4}, base=base)

    def same(spec: TrialSpec) -> TrialResult:
        return trial(spec.trial_id, 0, [point(0, 9, 0.5)], spec=spec.plain())

    (asked,) = finish(one, runs, same)
    assert sum(map(len, asked)) == 9, "each setting once"


def test_what_is_told_of_a_trial() -> None:
    nan = float("nan")
    points = [
        point(0, 10, 0.5, test=9.0),
        point(1, 20, 0.6, test=0.0),  # larger and worse, however good on the test examples
        point(2, 40, 0.1, test=9.0),
        point(3, 5, 99.0, test=0.0),  # worse than the empty circuit
        point(4, 3, nan, test=0.0),
    ]
    told = outcome(trial("t", 0, points))
    assert told.costs[:, 1].tolist() == [2.0, 0.5, 0.1]
    assert np.allclose(10 ** told.costs[:, 0] * TOTAL, [5, 10, 40])
    assert told.widest[1] == 0.5, "0.97 decades x 1.5, against 0.37 x 1.9"
    assert outcome(trial("t", 0, points, status="failed")).failed
    assert outcome(trial("t", 0, [point(0, 3, nan)])).failed
    metrics = {"validation": {"kl": 0.5, "logit_difference_error": 0.3}, "test": {}}
    empty = {"validation": {"kl": 2.0, "logit_difference_error": 1.0}}
    other = trial("t", 0, [point(0, 10, 0.0, metrics=metrics)], empty=empty)
    assert outcome(other, "logit_difference_error").costs[0, 1] == 0.3
    assert outcome(other, "unmeasured").costs[0, 1] == 0.5


def test_the_plan_in_json_says_what_is_still_to_come(runs: Folder) -> None:
    from orchestrator.cli.terminal import plan_json, plan_text
    from orchestrator.planning.estimate import estimate

    planned = plan(sweep(resources={"lanes": 1}, seeds=2), runs)
    cost = estimate(planned, runs)
    told = json.loads(json.dumps(plan_json(planned, cost)))
    assert (told["studies"], told["missing"], told["unasked"], told["estimate"]["waves"]) == (2, 6, 6, 12)
    alone = estimate(plan(sweep({"trials": 3}, seeds=2, resources={"lanes": 1}), runs), runs)
    assert cost.seconds == pytest.approx(2 * alone.seconds)
    text = plan_text(planned, cost)
    assert "2 studies of 6 trials (tpe, 3 at first, then 2 at a time): 6 asked for, 6 to come" in text
