"""The display: lines for a log file, a block for a terminal."""

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.faults import Failure
from orchestrator.observers.display import Display
from orchestrator.planning.plan import Plan, plan
from orchestrator.sweep import SweepSpec
from tests.run_folders import point, trial
from trainers.folder import Folder
from trainers.progress import Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    method = {"name": "edge_pruning", "steps": 1000, "target_sparsity": 0.9}
    base = {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "method": method}
    content = {"name": "demo", "question": "What?", "base": base, "seeds": [0, 1, 2]}
    return plan(SweepSpec.parse(content, "test"), Folder.open(tmp_path))


def progress(step: int) -> Progress:
    return Progress(step, 1000, {"sparsity": 0.5, "target_sparsity": 0.75, "kl": 0.0123, "lambda_1": 3.0})


def written(planned: Plan, terminal: bool) -> tuple[Display, Clock, io.StringIO]:
    text, clock = io.StringIO(), Clock()
    console = Console(file=text, force_terminal=terminal, width=150, color_system=None)
    return Display(planned, console, clock), clock, text


def test_a_log_file_gets_a_line_per_end_and_one_every_ten_seconds(planned: Plan) -> None:
    display, clock, text = written(planned, terminal=False)
    first, second, third = (planned.trials[number] for number in range(3))
    display.on_start(first.trial_id, first.spec)
    for step in range(1, 1001):
        clock.now += 0.025
        display.on_progress(first.trial_id, progress(step))
    display.on_result(first.trial_id, trial(first.trial_id, 0, [point(0, 12, 0.0234)]))
    display.on_start(second.trial_id, second.spec)
    display.on_failure(
        second.trial_id, Failure(kind="lost", cause="rank 1 died while running its trial: lost\n"), True
    )
    display.on_start(second.trial_id, second.spec)
    display.on_result(
        second.trial_id,
        trial(
            second.trial_id,
            1,
            [],
            status="failed",
            error='Traceback:\n  File "x.py", line 1\n    raise\nValueError: no',
        ),
    )
    display.on_result(third.trial_id, trial(third.trial_id, 2, [point(0, 9, 0.512)]))
    display.close()
    names = [
        f"{one.trial_id[:8]} tracr-reverse tracr edge_pruning seed={one.spec.seed}" for one in planned.trials
    ]
    state = "sparsity 50.0 % (target 75.0 %), kl 0.0123"
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text.getvalue().splitlines()]
    assert lines == [
        "3 trials to run; starting the first lanes",
        f"0/3 done, 1 running, 1 min 5 s left; {names[0]}: train 400/1000, {state}",
        f"0/3 done, 1 running, 55 s left; {names[0]}: train 800/1000, {state}",
        f"✓ 1/3 {names[0]}: 12 edges of 94, test kl 0.0234, 25 s",
        f"↻ {names[1]}: lost, will be tried again: rank 1 died while running its trial: lost",
        f"✗ 2/3 {names[1]}: failed: ValueError: no",
        f"✓ 3/3 {names[2]}: 9 edges of 94, test kl 0.512, run by another driver",
    ]


def test_a_log_file_is_not_silent_while_trials_load(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.observers.display.LINE_SECONDS", 0.02)
    display, clock, text = written(planned, terminal=False)
    told: list[str] = []

    def wait_for(words: str) -> None:
        for _ in range(1000):
            if words in text.getvalue():
                told.append(words)
                return
            time.sleep(0.01)

    clock.now += 1
    wait_for("0/3 done, 0 running, starting")
    one = planned.trials[0]
    display.on_start(one.trial_id, one.spec)
    clock.now += 1
    wait_for("edge_pruning seed=0: loading")
    display.close()
    assert len(told) == 2, text.getvalue()


def test_the_end_of_a_trial_tells_its_best_circuit_and_its_warnings(planned: Plan) -> None:
    display, _, text = written(planned, terminal=False)
    first, second = planned.trials[:2]
    points = [point(0, 12, 0.0), point(1, 30, 0.0, kind="path"), point(2, 7, 0.001, kind="refined")]
    display.on_result(first.trial_id, trial(first.trial_id, 0, points, warnings=["target\nnot binding"]))
    many = ["w" * 500, "other"]
    display.on_result(second.trial_id, trial(second.trial_id, 1, points[:2], warnings=many))
    display.close()
    _, one, other = text.getvalue().splitlines()
    assert "7 edges of 94, test kl 0.001" in one and one.endswith("; warning: target not binding")
    assert "12 edges of 94" in other and f"; warning 1 of 2: {'w' * 119}…" in other


def test_a_terminal_shows_what_runs_now(planned: Plan) -> None:
    display, clock, text = written(planned, terminal=True)
    one = planned.trials[0]
    display.on_start(one.trial_id, one.spec)
    clock.now += 30
    display.on_progress(one.trial_id, progress(500))
    display.on_failure(one.trial_id, Failure(kind="lost", cause="frozen"), True)
    display.on_start(one.trial_id, one.spec)
    display.on_progress(one.trial_id, progress(600))
    console = Console(file=io.StringIO(), width=150, color_system=None)
    console.print(display._block())
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    display.close()
    assert "0/3 done, 1 running, 1 repeated attempt" in shown and "left" in shown
    assert "train 600/1000, sparsity 50.0 % (target 75.0 %), kl 0.0123, attempt 2" in shown
    assert "\x1b[?25h" in text.getvalue().rpartition("\x1b[?25l")[2], "the cursor comes back"


def test_a_trial_that_waits_for_another_attempt_does_not_run(planned: Plan) -> None:
    display, _, _ = written(planned, terminal=True)
    one, other = planned.trials[:2]
    for trial_ in (one, other):
        display.on_start(trial_.trial_id, trial_.spec)
    display.on_failure(one.trial_id, Failure(kind="lost", cause="its node is gone"), True)
    assert display._summary() == "0/3 done, 1 running, 1 repeated attempt"
    display.on_result(one.trial_id, trial(one.trial_id, 0, [], status="failed", error="ValueError: no"))
    display.on_again(one.trial_id)
    assert display._summary() == "0/3 done, 1 running, 1 repeated attempt"
    display.close()


def test_a_sweep_with_nothing_to_do_shows_nothing(planned: Plan) -> None:
    display, _, text = written(Plan(planned.sweep, ()), terminal=True)
    display.close()
    assert text.getvalue() == ""
