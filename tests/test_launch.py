"""Sweeps through real lanes on a Ray of our own, with a stand-in for the worker: what runs, what is
retried, what is left to others, and what is there after every kind of end."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from orchestrator.attempt import Attempt
from orchestrator.cluster import launch
from orchestrator.control import Control
from orchestrator.lease import Holder
from orchestrator.planning.plan import plan
from orchestrator.records.trial_result import read_result
from orchestrator.sweep import SweepSpec
from tests.ray_cluster import ray_environment, ray_of_our_own
from tests.standin import WORK, sweep
from tests.test_lane import Notes
from trainers.folder import Folder
from trainers.result import TrialResult
from trainers.spec import SpecError

LIMIT = 120.0  # seconds; nothing here takes as long unless it hangs


def run(runs: Folder, trials: int, observer: Notes | None = None, **options: Any) -> launch.Outcome:
    hours = options.pop("max_hours", None)
    one = sweep(trials, **options)
    observers = [observer] if observer else []
    return launch.run(plan(one, runs), runs, observers=observers, max_hours=hours, work=WORK)


def results(runs: Folder, trials: int) -> list[TrialResult]:
    """By seed."""
    found = [read_result(runs / "trials" / spec.trial_id)[0] for spec in sweep(trials).trials()]
    return [result for result in found if result is not None]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_of_our_own():
        yield


@pytest.fixture
def runs(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path / "runs")


def test_one_gang_serves_all_trials_in_plan_order(runs: Folder, local_ray: None) -> None:
    notes = Notes()
    outcome = run(runs, 4, notes, ranks=2)
    assert (outcome.complete, outcome.failed, outcome.unfinished) == (4, 0, 0)
    done = results(runs, 4)
    assert len({result.execution["pid"] for result in done}) == 1, "the model is loaded once"
    order = [runs.path + f"/trials/{trial.trial_id}/result.json" for trial in plan(sweep(4), runs).trials]
    times = [os.stat(path).st_mtime for path in order]
    assert times == sorted(times)
    ends = [heard for heard in notes.heard if not heard.startswith("step")]
    assert ends == ["start", "complete"] * 4 + ["close"]
    assert notes.heard.count("step 1") == 4, "the first step is told at once"
    for result in done:
        for rank in (0, 1):
            log = runs.read(f"trials/{result.trial_id}/rank-{rank}.log")
            begins = f"rank {rank} begins attempt 1 at step 0 in {os.getcwd()}\n"
            assert log is not None and log.decode().startswith(begins)


def test_a_second_run_has_nothing_to_do(runs: Folder, local_ray: None) -> None:
    run(runs, 1, lanes=1)
    before = results(runs, 1)
    outcome = run(runs, 2, lanes=1)
    assert (outcome.complete, outcome.skipped) == (1, 1), "a trial that is over is never run again"
    assert results(runs, 1) == before


def test_a_killed_rank_costs_one_retry_and_the_trial_goes_on_from_its_checkpoint(
    runs: Folder, local_ray: None
) -> None:
    runs.write("fault.json", json.dumps({"kill": [0]}).encode())
    notes = Notes()
    outcome = run(runs, 2, notes, ranks=2)
    assert (outcome.complete, outcome.failed) == (2, 0)
    killed, other = results(runs, 2)
    assert killed.execution["attempt"] == 2 and killed.execution["resumed_at"] >= 2
    assert other.execution["attempt"] == 1, "nothing else is touched"
    (retry,) = (heard for heard in notes.heard if heard.startswith("retry"))
    assert retry.startswith("retry rank 1 died while running its trial")


def test_real_trials_train_on_a_lane(runs: Folder, local_ray: None) -> None:
    """The real worker: two trials on one gang that keeps the model, and a circuit from each."""
    method = {"name": "edge_pruning", "steps": 20, "target_sparsity": 0.5}
    base = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "method": method}
    content = {"name": "real", "question": "?", "base": base, "seeds": [0, 1], "resources": {"lanes": 1}}
    one = SweepSpec.parse(content, "test")
    notes = Notes()
    outcome = launch.run(plan(one, runs), runs, observers=[notes])
    assert outcome.complete == 2, [trial.result for trial in plan(one, runs).trials]
    for planned in plan(one, runs).trials:
        assert planned.result is not None and planned.result.points[0].num_edges > 0
        assert planned.result.execution["code"] not in ("", "unknown")
        trial = runs / "trials" / planned.trial_id
        assert {"edges.json", "circuit-000.safetensors", "rank-0.log"} <= set(trial.names())
    assert notes.heard.count("start") == notes.heard.count("complete") == 2


@pytest.mark.slow
def test_a_trial_that_always_fails_is_recorded_and_the_sweep_goes_on(runs: Folder, local_ray: None) -> None:
    runs.write("fault.json", json.dumps({"raise_always": [0]}).encode())
    outcome = run(runs, 2, ranks=2)
    assert (outcome.complete, outcome.failed) == (1, 1)
    broken, other = results(runs, 2)
    assert broken.status == "failed" and broken.execution["attempt"] == 2
    assert (broken.error or "").startswith("rank 1 raised an error while running its trial:")
    assert (broken.error or "").splitlines()[-1].startswith("ValueError: gates are not finite at step")
    assert other.status == "complete"
    assert run(runs, 2).skipped == 2, "a failed trial is over; it is run again on demand only"


@pytest.mark.slow
def test_a_frozen_rank_is_noticed_and_its_cpu_comes_back(runs: Folder, local_ray: None) -> None:
    runs.write("fault.json", json.dumps({"freeze": [0]}).encode())
    notes = Notes()
    outcome = run(runs, 3, notes, ranks=2, faults={"stall_seconds": 3})
    assert (outcome.complete, outcome.failed) == (3, 0)
    assert results(runs, 1)[0].execution["attempt"] == 2
    assert "retry rank 1 silent for 3 s while running its trial" in notes.heard
    assert until(lambda: ray.available_resources().get("CPU") == 2.0)


def test_a_gang_that_is_too_large_is_refused_at_once(runs: Folder, local_ray: None) -> None:
    with pytest.raises(SpecError, match=r"a trial asks for 3 rank\(s\) with 1 CPU each, found room for 2"):
        run(runs, 1, ranks=3)


@pytest.mark.slow
def test_a_paused_sweep_frees_its_cpus_and_goes_on_from_the_checkpoint(runs: Folder, local_ray: None) -> None:
    runs.write("fault.json", json.dumps({"slow": [0]}).encode())
    home = runs / "standin"
    first = runs / "trials" / sweep(1).trials()[0].trial_id
    freed: list[bool] = []

    def ask() -> None:
        until(lambda: first.exists("checkpoint/step.json"))
        Control(paused=True).write(home)
        freed.append(until(lambda: ray.available_resources().get("CPU") == 2.0))
        Control().write(home)

    helper, notes = threading.Thread(target=ask), Notes()
    helper.start()
    outcome = run(runs, 2, notes, lanes=1)
    helper.join()
    assert freed == [True] and (outcome.complete, outcome.failed) == (2, 0)
    assert results(runs, 1)[0].execution["resumed_at"] >= 1
    assert [notice.kind for notice in notes.notices] == ["started", "paused", "resumed", "ended"]
    assert notes.failures == [], "a pause is nobody's failure"


@pytest.mark.slow
def test_a_cancelled_trial_ends_at_its_next_step_and_runs_again_when_asked(
    runs: Folder, local_ray: None
) -> None:
    runs.write("fault.json", json.dumps({"slow": [0, 2]}).encode())
    home = runs / "standin"
    trials = [spec.trial_id for spec in sweep(3).trials()]

    def ask() -> None:
        until(lambda: (runs / "trials" / trials[0]).exists("checkpoint/step.json"))
        Control(cancelled=frozenset(trials[:2])).write(home)  # the first runs, the second waits
        until(lambda: (runs / "trials" / trials[2]).exists("checkpoint/step.json"))
        Control(cancelled=frozenset(), retries=1).write(home)

    helper, notes = threading.Thread(target=ask), Notes()
    helper.start()
    outcome = run(runs, 3, notes, lanes=1)
    helper.join()
    assert notes.heard.count("failed") == 2 and notes.heard.count("complete") == 3
    assert (outcome.complete, outcome.failed, outcome.unfinished) == (3, 0, 0)
    assert results(runs, 3)[2].execution["attempt"] == 1, "who asks for others disturbs none that runs"
    cancelled = Folder.open(runs.path) / "trials" / trials[0]
    aside = TrialResult.model_validate_json(cancelled.read("result.json.failed-1") or b"")
    assert aside.error == "cancelled by `circuit-sweep cancel`"


@pytest.mark.slow
def test_trials_that_fail_alike_one_after_the_other_stop_the_sweep(runs: Folder, local_ray: None) -> None:
    runs.write("fault.json", json.dumps({"raise_always": list(range(9))}).encode())
    outcome = run(runs, 9, lanes=1, faults={"identical_failures": 3, "trial_retries": 0})
    assert outcome.stopped == "failing" and (outcome.failed, outcome.unfinished) == (3, 6)
    assert outcome.reason.startswith("3 trials in a row failed alike: ValueError: gates are not finite")


@pytest.mark.slow
def test_a_runs_folder_that_takes_nothing_stops_the_sweep_and_fails_no_trial(
    runs: Folder, local_ray: None
) -> None:
    """As for a disk that is full: nothing can be written, by ranks, lanes and driver alike."""
    runs.write("fault.json", json.dumps({"slow": [0]}).encode())
    trials = Path(runs.path) / "trials"

    def harm() -> None:
        first = runs / "trials" / sweep(1).trials()[0].trial_id
        until(lambda: first.exists("checkpoint/step.json"))
        trials.rename(trials.with_name("away"))
        trials.write_text("not a folder")
        Path(runs.path).chmod(0o500)

    helper = threading.Thread(target=harm)
    helper.start()
    outcome = run(runs, 2, lanes=1)
    helper.join()
    Path(runs.path).chmod(0o700)
    trials.unlink()
    trials.with_name("away").rename(trials)
    assert outcome.stopped == "storage", outcome
    assert "cannot be used" in outcome.reason and outcome.unfinished == 2
    runs.delete("fault.json")
    assert run(runs, 2).complete == 2


@pytest.mark.slow
def test_a_lane_is_replaced_after_so_many_trials(runs: Folder, local_ray: None) -> None:
    run(runs, 4, lanes=1, faults={"recycle_trials": 2})
    pids = [result.execution["pid"] for result in results(runs, 4)]
    assert len(set(pids)) == 2 and pids[0] == pids[1] and pids[2] == pids[3]


@pytest.mark.slow
def test_after_max_hours_the_rest_is_left_for_the_next_run(runs: Folder, local_ray: None) -> None:
    runs.write("fault.json", json.dumps({"slow": [0, 1]}).encode())
    outcome = run(runs, 2, lanes=1, max_hours=4 / 3600)
    assert outcome.stopped == "max_hours" and outcome.complete == 0 and outcome.unfinished == 2
    runs.delete("fault.json")
    outcome = run(runs, 2)
    assert (outcome.complete, outcome.stopped) == (2, "")


@pytest.mark.slow
def test_a_trial_that_another_driver_runs_is_left_to_it_until_that_driver_vanishes(
    runs: Folder, local_ray: None
) -> None:
    """Of three trials another driver has two: it ends one of them and then vanishes."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process = psutil.Process(other.pid)
    holder = Holder.here("other").model_copy(
        update={"pid": other.pid, "process_started": process.create_time()}
    )
    runs.write("other/lease.json", holder.content())
    ended, dropped, _ = (spec.trial_id for spec in sweep(3).trials())
    for trial_id in (ended, dropped):
        Attempt.begin(runs / "trials" / trial_id, {}, holder.owner)
    theirs = TrialResult(trial_id=ended, status="complete", spec={}, seed=0)

    def go_on() -> None:
        until(lambda: len(results(runs, 3)) == 1)
        runs.write(f"trials/{ended}/result.json", theirs.model_dump_json().encode())
        time.sleep(1)
        other.kill()
        other.wait()

    helper = threading.Thread(target=go_on)
    helper.start()
    outcome = run(runs, 3)
    helper.join()
    assert (outcome.complete, outcome.skipped, outcome.unfinished) == (2, 1, 0)
    assert results(runs, 1) == [theirs]
    last = Attempt.last(runs / "trials" / dropped)
    assert last is not None and last.attempt == 2 and last.owner.pid == os.getpid()


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with ray_environment() as variables:
        yield variables


@contextmanager
def driver(runs: Folder, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A driver of four trials, 5 s each, that is in the middle of the first; gone at the end."""
    runs.write("fault.json", json.dumps({"slow": [0, 1, 2, 3]}).encode())
    command = [sys.executable, "-m", "tests.standin", runs.path, "4"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    first = runs / "trials" / sweep(4).trials()[0].trial_id
    try:
        begun = until(lambda: first.exists("checkpoint/step.json") or process.poll() is not None)
        if not begun or process.poll() is not None:
            process.kill()
            pytest.fail(f"the driver did not begin: {process.communicate()[0]}")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=LIMIT)


@pytest.mark.slow
def test_ctrl_c_ends_lanes_at_the_next_step_and_the_same_command_goes_on(
    runs: Folder, environment: dict[str, str]
) -> None:
    with driver(runs, environment) as process:
        ranks = ranks_of(process)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        said, _ = process.communicate(timeout=LIMIT)
    assert ranks
    assert process.returncode == 130, said
    assert "Stopping when the running steps end" in said and "Traceback" not in said
    assert until(lambda: not any(rank.is_running() for rank in ranks))
    runs.delete("fault.json")
    again = subprocess.run(
        [sys.executable, "-m", "tests.standin", runs.path, "4"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
    )
    assert again.returncode == 0, again.stderr
    first = results(runs, 4)[0]
    assert first.execution["attempt"] == 2 and first.execution["resumed_at"] >= 1
    assert len(re.findall("✓", again.stdout)) == 4 and "Traceback" not in again.stdout + again.stderr


@pytest.mark.slow
def test_killing_the_driver_leaves_no_rank_and_loses_nothing(
    runs: Folder, environment: dict[str, str]
) -> None:
    with driver(runs, environment) as process:
        ranks = ranks_of(process)
        process.kill()
        process.wait()
    assert ranks
    assert until(lambda: not any(rank.is_running() for rank in ranks))
    runs.delete("fault.json")
    command = [sys.executable, "-m", "tests.standin", runs.path, "4"]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * LIMIT)
    assert again.returncode == 0, again.stderr
    assert [result.execution["attempt"] for result in results(runs, 4)] == [2, 1, 1, 1]


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The rank and lane processes of a driver."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.name().startswith(("ray::Rank", "ray::Lane", "ray::_Inner"))]


def until(holds: Callable[[], bool]) -> bool:
    """Waits for it, but not for ever."""
    deadline = time.monotonic() + LIMIT
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()
