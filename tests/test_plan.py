"""Plans: order, states, cost; and how results that must not count are moved aside."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.attempt import Attempt, Owner
from orchestrator.cli.terminal import plan_text
from orchestrator.control import Control
from orchestrator.faults import Failure, record
from orchestrator.lease import Holder, Lease
from orchestrator.observers import Notice
from orchestrator.observers.events import EventLog
from orchestrator.planning.estimate import estimate
from orchestrator.planning.plan import Plan, PlannedTrial, clear_the_way, plan
from orchestrator.planning.weights import graph_size, parameter_count
from orchestrator.records.results import Results
from orchestrator.settings import settings
from orchestrator.status import status
from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import write_yaml
from trainers.folder import Folder
from trainers.model import ModelSpec
from trainers.result import Point, TrialResult
from trainers.spec import SpecError

SWEEP = {
    "name": "q",
    "question": "is it?",
    "base": {
        "model": {"builtin": "tracr-xproportion"},
        "task": {"name": "tracr"},
        "method": {"name": "edge_pruning", "target_sparsity": 0.9, "steps": 100},
    },
    "vary": {"method.steps": [100, 400, 200]},
}


@pytest.fixture
def runs(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path)


def sweep(**changes: object) -> SweepSpec:
    return SweepSpec.parse(SWEEP | changes, "q")


def finish(trial: PlannedTrial, runs: Folder, **changes: object) -> TrialResult:
    """Writes the result that running the trial would have left."""
    content: dict[str, object] = {
        "trial_id": trial.trial_id,
        "status": "complete",
        "spec": trial.spec.plain(),
        "seed": trial.spec.seed,
        "divergence": "kl",
        "steps": trial.spec.method.steps_planned(),
        "seconds": 3.0,
        "execution": {"ranks": 1},
    }
    result = TrialResult.model_validate(content | changes)
    (runs / "trials" / trial.trial_id).write("result.json", result.model_dump_json().encode())
    return result


def states(planned: Plan) -> Mapping[str, str]:
    return {trial.trial_id: trial.state for trial in planned.trials}


def test_nothing_is_done_in_an_empty_folder(runs: Folder) -> None:
    planned = plan(sweep(seeds=2), runs)
    assert len(planned.missing) == len(planned.trials) == 6
    assert planned.counts["waiting"] == 6
    assert os.listdir(runs.path) == []


def test_trials_of_a_model_come_together(runs: Folder) -> None:
    models = ["tracr-reverse", "tracr-xproportion"]
    planned = plan(sweep(vary={"method.steps": [100, 400], "model.builtin": models}, seeds=2), runs)
    order = [trial.spec.model.builtin for trial in planned.trials]
    assert order == ["tracr-reverse"] * 4 + ["tracr-xproportion"] * 4


def test_expensive_trials_come_first(runs: Folder) -> None:
    planned = plan(sweep(seeds=2), runs)
    assert [trial.spec.method.steps_planned() for trial in planned.trials] == [400, 400, 200, 200, 100, 100]
    assert [trial.spec.seed for trial in planned.trials] == [0, 1, 0, 1, 0, 1]


def test_states_come_from_the_folder(runs: Folder) -> None:
    complete, failed, orphaned, running, waiting = plan(sweep(vary=None, seeds=5), runs).trials
    finish(complete, runs)
    finish(failed, runs, status="failed", error="NaN")
    gone = Owner(sweep="other", host="far-away", pid=1)
    Attempt.begin(runs / "trials" / orphaned.trial_id, {}, gone)
    with Lease.acquire(runs / "other", "other") as lease:
        Attempt.begin(runs / "trials" / running.trial_id, {}, lease.holder.owner)
        planned = plan(sweep(vary=None, seeds=5), runs)
        mine = plan(sweep(vary=None, seeds=5), runs, lease.holder.owner)
    found = states(planned)
    assert found == {
        complete.trial_id: "complete",
        failed.trial_id: "failed",
        orphaned.trial_id: "orphaned",
        running.trial_id: "running",
        waiting.trial_id: "waiting",
    }
    assert [trial.trial_id for trial in planned.missing] == [
        orphaned.trial_id,
        running.trial_id,
        waiting.trial_id,
    ]
    assert states(mine)[running.trial_id] == "orphaned"
    assert Attempt.give_back(runs / "trials" / orphaned.trial_id, lease.holder.owner) is None, "not ours"
    assert Attempt.give_back(runs / "trials" / orphaned.trial_id, gone) is not None
    assert states(plan(sweep(vary=None, seeds=5), runs))[orphaned.trial_id] == "waiting", "it ended in order"


def test_sweeps_share_their_trials(runs: Folder) -> None:
    first = plan(sweep(), runs)
    finish(first.trials[0], runs)
    larger = plan(sweep(name="larger", vary={"method.steps": [100, 200, 300, 400]}), runs)
    assert larger.counts["complete"] == 1 and len(larger.missing) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"trial_id": "x"}', b"\xff\xfe"])
def test_a_corrupt_result_is_reported_moved_aside_and_run_again(runs: Folder, content: bytes) -> None:
    trial = plan(sweep(vary=None), runs).trials[0]
    folder = runs / "trials" / trial.trial_id
    for number in (1, 2):
        folder.write("result.json", content)
        planned = plan(sweep(vary=None), runs)
        assert planned.problems[0].startswith(f"trials/{trial.trial_id}/result.json: not a result (")
        assert folder.read("result.json") == content, "a plan changes nothing"
        cleared, moved = clear_the_way(planned, runs)
        assert moved == [f"{folder.location}/result.json.corrupt-{number}"]
        assert folder.read(f"result.json.corrupt-{number}") == content
        assert not folder.exists("result.json")
        assert states(cleared) == states(plan(sweep(vary=None), runs)) == {trial.trial_id: "waiting"}
        assert cleared.problems == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"result_schema": 99}, "written with schema 99; readable: 1"),
        ({"trial_id": "other"}, "the result of trial other"),
    ],
)
def test_a_result_that_is_not_ours_counts_as_little_for_plan_as_for_the_report(
    runs: Folder, changes: dict[str, object], told: str
) -> None:
    trial = plan(sweep(vary=None), runs).trials[0]
    finish(trial, runs, **changes)
    planned = plan(sweep(vary=None), runs)
    assert planned.problems == (f"trials/{trial.trial_id}/result.json: {told}",)
    (problem,) = Results.load([runs]).problems
    assert problem.what == f"result.json: {told}"
    cleared, moved = clear_the_way(planned, runs)
    assert [one.trial_id for one in cleared.missing] == [trial.trial_id]
    assert moved == [f"{runs.location}/trials/{trial.trial_id}/result.json.corrupt-1"]


def test_rerun_starts_afresh_and_keeps_the_old_result(runs: Folder) -> None:
    one, other, _ = plan(sweep(), runs).trials
    for trial in (one, other):
        finish(trial, runs)
        (runs / "trials" / trial.trial_id).write("checkpoint/state", b"x")
        (runs / "trials" / trial.trial_id).write("progress.jsonl", b"x")
    cleared, moved = clear_the_way(plan(sweep(), runs), runs, rerun=[one.trial_id])
    assert len(cleared.missing) == 2 and len(moved) == 1
    assert (runs / "trials" / one.trial_id).names() == ["result.json.replaced-1"]
    assert (runs / "trials" / other.trial_id).names() == ["checkpoint", "progress.jsonl", "result.json"]
    cleared, moved = clear_the_way(plan(sweep(), runs), runs, rerun=["all"])
    assert len(cleared.missing) == 3 and len(moved) == 1


def test_failed_trials_run_again_only_when_asked(runs: Folder) -> None:
    trial = plan(sweep(vary=None), runs).trials[0]
    finish(trial, runs, status="failed", error="NaN")
    assert clear_the_way(plan(sweep(vary=None), runs), runs)[0].missing == ()
    cleared, moved = clear_the_way(plan(sweep(vary=None), runs), runs, retry_failed=True)
    assert len(cleared.missing) == 1 and moved[0].endswith("result.json.failed-1")


def test_an_unknown_trial_cannot_be_rerun(runs: Folder) -> None:
    planned = plan(sweep(vary=None), runs)
    trial_id = planned.trials[0].trial_id
    with pytest.raises(SpecError, match=f"--rerun: found {trial_id[:-1]}. Did you mean '{trial_id}'"):
        clear_the_way(planned, runs, rerun=[trial_id[:-1]])


def test_time_is_measured_where_it_can_be(runs: Folder) -> None:
    planned = plan(sweep(seeds=2, resources={"lanes": 2}), runs)
    guess = estimate(planned, runs)
    assert guess.bases == ("guessed from the model's size",) and guess.unknown == 0
    for trial, seconds in zip(planned.trials[:3], (1.0, 2.0, 30.0), strict=True):
        steps = trial.spec.method.steps_planned()
        finish(trial, runs, seconds=seconds * steps, peak_memory_bytes=2**30)
    cost = estimate(plan(sweep(seeds=2, resources={"lanes": 2}), runs), runs)
    left = [trial.spec.method.steps_planned() for trial in planned.trials[3:]]
    assert cost.bases == ("measured",) and cost.lanes == 2
    assert cost.seconds == pytest.approx(2.0 * sum(left)), "the median, per step"
    assert cost.memory_bytes is not None and guess.memory_bytes is not None
    assert cost.memory_told == "measured" and cost.memory_bytes > 2**30 > guess.memory_bytes


def test_a_gang_that_this_machine_cannot_hold_is_told(runs: Folder) -> None:
    planned = plan(sweep(resources={"ranks": 100 * (os.cpu_count() or 1)}), runs)
    cost = estimate(planned, runs)
    assert cost.lanes == 0
    assert "waves     none: a trial asks for more CPUs than this machine has" in plan_text(planned, cost)


def test_lanes_are_no_more_than_the_trials_that_are_missing(runs: Folder) -> None:
    several = plan(sweep(resources={"lanes": 8}), runs)
    assert estimate(several, runs).lanes == 3
    assert "on one lane, " in plan_text(several, estimate(several, runs))
    for trial in several.trials[1:]:
        finish(trial, runs)
    one = plan(sweep(resources={"lanes": 8}), runs)
    assert estimate(one, runs).lanes == 1
    assert "waves     1, on 1 lane (1 node)" in plan_text(one, estimate(one, runs))


def test_a_trial_is_told_by_what_differs_among_its_like(runs: Folder) -> None:
    block = {"set": {"model.builtin": "tracr-reverse", "method.steps": 7, "ablation": "zero"}}
    planned = plan(sweep(vary=[block, {"grid": {"method.steps": [100, 400]}}]), runs)
    told = settings(planned.trials)
    by_model = {
        (t.spec.model.builtin, t.spec.method.steps_planned()): told[t.trial_id] for t in planned.trials
    }
    assert by_model == {
        ("tracr-reverse", 7): [],
        ("tracr-xproportion", 100): [("method.steps", 100)],
        ("tracr-xproportion", 400): [("method.steps", 400)],
    }


def test_other_models_ranks_and_failures_measure_nothing(runs: Folder) -> None:
    trial = plan(sweep(vary=None), runs).trials[0]
    base = SWEEP["base"] | {"model": {"builtin": "tracr-reverse"}}  # type: ignore[operator]
    other = plan(sweep(base=base, vary=None, name="other"), runs).trials[0]
    finish(other, runs)
    finish(trial, runs, status="failed")
    cleared, _ = clear_the_way(plan(sweep(vary=None), runs), runs, retry_failed=True)
    assert estimate(cleared, runs).bases == ("guessed from the model's size",)
    finish(trial, runs, execution={"ranks": 2})
    waiting = plan(sweep(vary=None, seeds=2), runs)
    assert estimate(waiting, runs).bases == ("guessed from the model's size",)


def test_what_cannot_be_known_is_unknown(runs: Folder) -> None:
    base = SWEEP["base"] | {"model": {"hub": "some/model"}, "task": {"name": "induction"}}  # type: ignore[operator]
    cost = estimate(plan(sweep(base=base), runs), runs)
    assert (cost.bases, cost.unknown, cost.memory_bytes) == (("unknown",), 3, None)


def test_parameters_are_counted_from_the_weights_header(runs: Folder) -> None:
    from safetensors import safe_open

    model = plan(sweep(vary=None), runs).trials[0].spec.model
    with safe_open(model.files()[-1], "np") as weights:
        expected = sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118
    assert parameter_count(model) == expected > 0


def test_a_graph_is_sized_without_loading_the_model() -> None:
    """Writers times readers, of a compiled program and of a GGUF file with shared key/value heads."""
    assert graph_size(ModelSpec(builtin="tracr-reverse")) == (2 + 4 * (1 + 1)) * (4 * (3 + 1) + 1)
    assert graph_size(ModelSpec(builtin="smollm2-135m")) == (1 + 30 * (9 + 1)) * (30 * (9 + 2 * 3 + 1) + 1)


def test_status_tells_the_sweep_from_the_folder_alone(runs: Folder) -> None:
    planned = plan(sweep(vary=None, seeds=5), runs)
    complete, failed, orphaned, running, waiting = planned.trials
    runs.write("q/sweep.yaml", write_yaml(planned.sweep.plain()).encode())
    runs.write("q/trials.json", json.dumps([trial.trial_id for trial in planned.trials]).encode())
    kept = Point(
        point=0, kind="final", num_edges=7, num_edges_total=32, num_edges_connected=7, sparsity=0.78125,
        metrics={"validation": {"kl": 0.001}}, circuit="circuit-000.safetensors",
    )  # fmt: skip
    finish(complete, runs, seconds=10.0, points=[kept.model_dump()])
    finish(failed, runs, status="failed", error="Traceback\nValueError: NaN loss")
    with Lease.acquire(runs / "q", "q") as lease:
        for trial in (orphaned, running):
            owner = Owner(sweep="gone", host="x", pid=1) if trial is orphaned else lease.holder.owner
            folder = runs / "trials" / trial.trial_id
            Attempt.begin(folder, trial.spec.plain(), owner)
            Attempt.begin(folder, trial.spec.plain(), owner)
            now = {"attempt": 2, "phase": "train", "total": 10}
            lines = [{"time": 100.0 + step, "step": step, "kl": 0.5 / step, **now} for step in (1, 2, 6)]
            old = {"time": 0.0, "attempt": 1, "phase": "train", "step": 9, "total": 10, "kl": 9.0}
            text = "\n".join(json.dumps(line) for line in [old, *lines]) + '\n{"time": 1'
            folder.write("progress.jsonl", text.encode())
            record(folder, Failure(kind="raised" if trial is running else "lost", cause="why it ended"))
        (told,) = status(runs)
    assert told.driver == f"{lease.holder.host} (process {lease.holder.pid})"
    assert told.counts == {"complete": 1, "failed": 1, "running": 1, "waiting": 1, "orphaned": 1}
    assert (told.own_failures, told.machine_failures) == (1, 1)
    by_id = {trial.trial_id: trial for trial in told.trials}
    assert by_id[complete.trial_id].last == {"sparsity": 0.78125, "num_edges": 7.0, "kl": 0.001}
    assert by_id[failed.trial_id].last == {"circuits": 0.0}
    assert by_id[failed.trial_id].error == "ValueError: NaN loss"
    now = by_id[running.trial_id]
    assert (now.phase, now.step, now.total, now.attempts) == ("train", 6, 10, 2)
    assert now.last == {"kl": 0.5 / 6} and now.seconds_left == pytest.approx(4.0)
    assert (now.own_failures, now.machine_failures, now.error) == (1, 0, "why it ended")
    assert now.what == "tracr-xproportion tracr edge_pruning seed=3"
    damaged = runs / "trials" / complete.trial_id
    damaged.write("progress.jsonl", text.encode())
    intact = damaged.read("result.json") or b""
    damaged.write("result.json", b"{")
    with Lease.acquire(runs / "q", "q"):
        (again,) = status(runs)
    anew = next(one for one in again.trials if one.trial_id == complete.trial_id)
    assert anew.state == "waiting" and anew.seconds_left is None, "it starts from its first step"
    damaged.write("result.json", intact)
    assert told.seconds_left == pytest.approx(4.0 + 4.0 + 10.0), "one runs, one was left, one waits; one lane"
    assert by_id[waiting.trial_id].what == "tracr-xproportion tracr edge_pruning seed=4"
    (over,) = status(runs)
    assert over.driver == "" and over.counts["orphaned"] == 2 and not over.ended
    Attempt.give_back(runs / "trials" / orphaned.trial_id, Owner(sweep="gone", host="x", pid=1))
    (over,) = status(runs)
    left = next(one for one in over.trials if one.trial_id == orphaned.trial_id)
    assert (left.state, left.step, left.seconds_left) == ("waiting", 6, pytest.approx(4.0))


def test_before_a_trial_is_over_those_under_way_tell_how_long_the_others_of_their_kind_take(
    runs: Folder,
) -> None:
    planned = plan(sweep(vary=None, seeds=3), runs)
    runs.write("q/sweep.yaml", write_yaml(planned.sweep.plain()).encode())
    runs.write("q/trials.json", json.dumps([trial.trial_id for trial in planned.trials]).encode())
    first = runs / "trials" / planned.trials[0].trial_id
    steps = planned.trials[0].spec.method.steps_planned()
    Attempt.begin(first, planned.trials[0].spec.plain(), Owner(sweep="gone", host="x", pid=1))
    assert status(runs)[0].seconds_left is None
    for step in (1, steps // 2):
        now = {"attempt": 1, "phase": "train", "total": steps, "step": step, "time": 2.0 * step}
        first.append("progress.jsonl", json.dumps(now).encode() + b"\n")
    assert status(runs)[0].seconds_left == pytest.approx(2.0 * (steps - steps // 2) + 2 * 2.0 * steps)


def test_status_tells_of_a_pause_and_of_how_the_last_driver_ended(runs: Folder) -> None:
    runs.write("q/trials.json", b"[]")
    events = EventLog(runs / "q")
    events.on_notice(Notice("started", "3 trials to run"))
    with Lease.acquire(runs / "q", "q"):
        assert (status(runs)[0].paused, status(runs)[0].ended) == (False, "")
        Control(paused=True).write(runs / "q")
        assert status(runs)[0].paused
    assert not status(runs)[0].paused and status(runs)[0].ended.endswith("and was killed or lost")
    runs.append("q/events.jsonl", b'{"event": "sweep_sto\n')
    events.on_notice(Notice("stopped", "by --max-hours"))
    assert status(runs)[0].ended.startswith("the last one was stopped 20")
    assert status(runs)[0].ended.endswith("UTC: by --max-hours")


def test_status_of_what_is_no_sweep_is_refused(runs: Folder) -> None:
    with pytest.raises(SpecError, match="no sweep there"):
        status(runs)
    runs.write("quick/trials.json", b"[]")
    with pytest.raises(SpecError, match="--sweep: found quik. Did you mean 'quick'"):
        status(runs, "quik")
    assert status(runs, "quick")[0].seconds_left == 0.0
    runs.write("quick/trials.json", b"{")
    with pytest.raises(SpecError, match="not a list of trial ids"):
        status(runs)


def test_a_lease_of_another_sweep_says_nothing_about_ours(runs: Folder) -> None:
    trial = plan(sweep(vary=None), runs).trials[0]
    Attempt.begin(runs / "trials" / trial.trial_id, {}, Holder.here("q").owner)
    with Lease.acquire(runs / "other", "other"):
        assert plan(sweep(vary=None), runs).counts["orphaned"] == 1


def test_a_hub_model_at_a_branch_is_told(runs: Folder) -> None:
    base = SWEEP["base"]
    assert isinstance(base, dict)

    def notes(**model: str) -> tuple[str, ...]:
        part = {"model": {"hub": "nobody/none"} | model, "task": {"name": "ioi"}}
        return plan(sweep(base=base | part), runs).notes

    assert notes(revision="0" * 40) == ()
    assert plan(sweep(), runs).notes == ()
    for revision in ("main", "v1"):
        (said,) = notes(revision=revision)
        assert said.startswith(f"model.hub: nobody/none is taken at {revision}, which may stand for another")
