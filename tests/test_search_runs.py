"""A search through the real line: rounds on lanes, the command that goes on, status, a tiny one in full."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pytest import fixture

from orchestrator import drive
from orchestrator.cli.main import main
from orchestrator.cluster import launch
from orchestrator.control import Control
from orchestrator.observers.display import Display
from orchestrator.observers.prometheus import Metrics
from orchestrator.planning.plan import Plan, plan
from orchestrator.records.trial_result import read_result
from orchestrator.status import status
from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import write_yaml
from tests.ray_cluster import ray_environment, ray_of_our_own
from tests.standin import WORK
from tests.test_lane import Notes
from tests.test_search import answered, finish, record, rounds, sweep, write
from trainers.folder import Folder

LIMIT = 300.0  # seconds


@fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_of_our_own():
        yield


@fixture
def runs(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path / "runs")


def run(one: SweepSpec, runs: Folder, *observers: Any, **options: Any) -> launch.Outcome:
    planned = plan(one, runs)
    record(runs, planned)
    return launch.run(planned, runs, observers=observers, work=WORK, **options)


@pytest.mark.parametrize("lanes", [1, 2])
def test_all_rounds_run_in_one_launch_whatever_the_lanes(runs: Folder, local_ray: None, lanes: int) -> None:
    one, notes = sweep({"sampler": "gp"}, seeds=2, resources={"lanes": lanes}), Notes()
    outcome = run(one, runs, notes)
    assert (outcome.complete, outcome.failed, outcome.unfinished, outcome.reason) == (12, 0, 0, "")
    assert notes.heard.count("complete") == 12
    planned = plan(one, runs)
    assert planned.unasked == 0 and planned.counts["complete"] == 12
    found = [read_result(runs / "trials" / trial.trial_id)[0] for trial in planned.trials]
    gangs = {result.execution["pid"] for result in found if result is not None}
    assert lanes > 1 or len(gangs) == 1, "the lane goes on with the next round"
    listed = json.loads(runs.read("s/trials.json") or b"")
    assert sorted(listed) == sorted(trial.trial_id for trial in planned.trials)
    straight = Folder.open(f"{runs.path}-straight")
    finish(one, straight, lambda spec: next(r for r in found if r and r.trial_id == spec.trial_id))
    assert rounds(plan(one, straight)) == rounds(planned)


def test_what_a_launch_leaves_the_next_one_goes_on_with(runs: Folder, local_ray: None) -> None:
    one = sweep(seeds=1, resources={"lanes": 1})
    slow = {"slow": [0]}
    runs.write("fault.json", json.dumps(slow).encode())
    outcome = run(one, runs, max_hours=8 / 3600)
    assert outcome.stopped == "max_hours" and outcome.unfinished
    runs.delete("fault.json")
    outcome = run(one, runs)
    assert outcome.unfinished == 0 and plan(one, runs).counts["complete"] == 6


def test_a_cancelled_trial_is_told_as_failed_and_the_search_goes_on(runs: Folder, local_ray: None) -> None:
    one = sweep(resources={"lanes": 1})
    (cancelled, *_) = plan(one, runs).trials
    Control(cancelled=frozenset({cancelled.trial_id})).write(runs / "s")
    outcome = run(one, runs)
    assert (outcome.complete, outcome.failed) == (5, 1)


def test_a_search_that_cannot_ask_stops_and_says_why(
    runs: Folder, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> object:
        raise ImportError("No module named 'optuna'")

    monkeypatch.setattr("orchestrator.search.study.adaptive", broken)
    outcome = run(sweep(resources={"lanes": 1}), runs)
    assert outcome.complete == 3 and outcome.unfinished == 0
    assert (outcome.stopped, outcome.reason) == (
        "failing",
        "no more trials could be asked for: ImportError: No module named 'optuna'",
    )


def test_the_display_and_the_metrics_count_what_is_not_asked_for_yet(runs: Folder) -> None:
    planned = plan(sweep(seeds=2), runs)
    display, metrics = Display(planned), Metrics(planned, 0)
    try:
        assert display._summary().startswith("0/12 done")
        for question in planned.studies[0].questions:
            write(runs, answered(question.trial))
        new = [trial for trial in plan(planned.sweep, runs).missing if trial not in planned.missing]
        display.on_asked(new)
        assert display._summary().startswith("0/12 done") and "gate_lr=" in display._name(new[0].trial_id)
        told = metrics._registry.get_sample_value("circuit_sweep_trials", {"sweep": "s", "state": "waiting"})
        assert told == 12
    finally:
        display.close()
        metrics.close()


def test_status_counts_what_is_not_asked_for_yet(runs: Folder) -> None:
    one = sweep(seeds=2)
    planned = plan(one, runs)
    runs.write("s/sweep.yaml", write_yaml(one.plain()).encode())
    record(runs, planned)
    for trial in planned.trials:
        write(runs, answered(trial.spec))
    (told,) = status(runs)
    assert (told.unasked, told.counts["complete"], told.seconds_left) == (6, 6, 6 * 12.5)
    finish(one, runs)
    (told,) = status(runs)
    assert (told.unasked, told.counts["complete"], told.seconds_left) == (0, 12, 0)


def test_run_again_goes_on_with_the_next_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that ends after each round stands in for one that is stopped there."""
    launches: list[int] = []

    def launched(
        planned: Plan, runs: Folder, request: drive.Request, uri: str, say: object
    ) -> launch.Outcome:
        launches.append(len(planned.missing))
        for trial in planned.missing:
            write(runs, answered(trial.spec))
        return launch.Outcome(len(planned.missing), 0, 0, 0, 1.0)

    monkeypatch.setattr(drive, "_launch", launched)
    spec = tmp_path / "s.yaml"
    spec.write_text(write_yaml(sweep(seeds=2).plain()))
    asked = ["run", str(spec), "--runs", str(tmp_path / "runs"), "--no-report", "--json"]
    for number, (missing, unasked, code) in enumerate([(6, 2, 1), (4, 0, 1), (2, 0, 0)]):
        ran = CliRunner().invoke(main, asked)
        told = json.loads(ran.stdout)
        assert (ran.exit_code, told["ran"], launches[number]) == (code, missing, missing), told
        assert told["unasked"] == unasked
        ids = json.loads((tmp_path / "runs/s/trials.json").read_text())
        assert len(ids) == [10, 12, 12][number]
    done = CliRunner().invoke(main, [*asked[:-1]])
    assert done.exit_code == 0 and "nothing to do; now 12 complete" in done.stdout


@pytest.mark.slow
def test_a_search_from_the_command_to_the_report(tmp_path: Path) -> None:
    """The real thing, tiny: killed in its second round, and run again."""
    spec, runs = tmp_path / "s.yaml", tmp_path / "runs"
    spec.write_text(write_yaml(sweep(seeds=2).plain()))
    with ray_environment() as environment:
        command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(runs), "--json"]
        first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert first.stderr is not None
            for line in first.stderr:
                if b"8/12" in line:
                    break
        finally:
            first.kill()
            first.communicate(timeout=LIMIT)
        before = {path.name for path in (runs / "trials").iterdir() if (path / "result.json").exists()}
        again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    # A lane may have ended its trial after its driver was killed.
    assert told["counts"]["complete"] == 12 and 0 < told["ran"] <= 12 - len(before) < 12
    assert told["unasked"] == 0
    planned = plan(SweepSpec.load(spec), Folder.open(runs))
    assert before <= {trial.trial_id for trial in planned.trials}
    os.remove(runs / "s" / "search.json")
    assert rounds(plan(planned.sweep, Folder.open(runs))) == rounds(planned), "the trial folders tell it all"
    assert (runs / "s" / "report" / "report.html").is_file()
    assert len(list((runs / "trials").iterdir())) == 12, "nothing was asked that is not in the plan"
