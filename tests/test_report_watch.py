"""`report --watch`: refreshes when something has changed, ends by itself, and leaves a page that is whole."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser

from orchestrator.cli.main import main
from orchestrator.lease import Lease
from orchestrator.records import trial_record
from orchestrator.records.results import Results
from orchestrator.report import watch as watching
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from orchestrator.report.watch import Refreshed, watch
from tests.run_folders import Runs, point, trial
from trainers.folder import Folder

ROOT = Path(__file__).parent.parent


def two_trials(path: Path, *over: str) -> Runs:
    runs = Runs(path)
    runs.sweep("live", ["aa", "bb"])
    for trial_id in over:
        runs.trial(trial(trial_id, 0, [point(0, 9, 0.1), point(1, 20, 0.0)]))
    return runs


class Clock:
    """Stands in for time.sleep: each wait lets the next thing happen to the runs folder."""

    def __init__(self, *events: Callable[[], object]) -> None:
        self.events = list(events)
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.events.pop(0)()


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(circuits, refresh_seconds) of each report; none is really written."""
    reports: list[tuple[int, int]] = []

    def deliver(
        results: Results,
        target: Folder,
        max_examples: int | None = None,
        refresh_seconds: int = 0,
        figures: bool = True,
    ) -> str:
        reports.append((results.points.num_rows, refresh_seconds))
        return "table"

    monkeypatch.setattr(watching, "deliver", deliver)
    return reports


def run(runs: Runs, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Refreshed], list[str]]:
    """Watches the sweep until it ends by itself; what was told and what was warned of."""
    told: list[Refreshed] = []
    warned: list[str] = []
    monkeypatch.setattr(time, "sleep", clock.sleep)
    source = runs.folder / "live"
    assert watch([source], runs.folder / "out", 30, told.append, warned.append) == "table"
    assert not clock.events
    return told, warned


def nothing() -> None:
    pass


def test_it_refreshes_when_a_trial_ends_and_stops_with_the_last(
    tmp_path: Path, delivered: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = two_trials(tmp_path)
    clock = Clock(nothing, lambda: two_trials(tmp_path, "aa"), nothing, lambda: two_trials(tmp_path, "bb"))
    told, warned = run(runs, clock, monkeypatch)
    assert delivered == [(0, 30), (2, 30), (4, 0)], "the last page does not reload itself"
    assert [(one.standing.over, one.standing.trials) for one in told] == [(0, 2), (1, 2), (2, 2)]
    assert re.fullmatch(r"1 of 2 trials over; 2 circuits; no driver; report written in .* s", str(told[1]))
    assert str(told[2]).endswith("The sweep is over") and not warned
    assert all(0 < wait <= 30 for wait in clock.waits)


def test_it_waits_for_the_driver_to_end(
    tmp_path: Path, delivered: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = two_trials(tmp_path, "aa", "bb")
    with Lease.acquire(runs.folder / "live", "live") as lease:
        told, _ = run(runs, Clock(lease.release), monkeypatch)
    assert delivered == [(4, 30), (4, 0)]
    assert f"driven by {lease.holder.host} (process {os.getpid()})" in str(told[0])


def test_a_trial_that_failed_is_over_and_one_that_is_run_again_is_not(
    tmp_path: Path, delivered: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = two_trials(tmp_path, "aa")
    runs.trial(trial("bb", 1, [], status="failed", error="no"))
    told, _ = run(runs, Clock(), monkeypatch)
    assert "2 of 2 trials over, 1 failed; 2 circuits" in str(told[0])
    runs.folder.delete("trials/bb/result.json")
    told, _ = run(runs, Clock(lambda: two_trials(tmp_path, "bb")), monkeypatch)
    assert [one.standing.over for one in told] == [1, 2]


def test_results_that_have_not_changed_are_not_read_again(
    tmp_path: Path, delivered: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    reader = trial_record.read_result

    def counted(folder: Folder) -> Any:
        if (found := reader(folder))[0] is not None:
            read.append(folder.path.rpartition("/")[2])
        return found

    monkeypatch.setattr(trial_record, "read_result", counted)
    runs = two_trials(tmp_path, "aa")
    run(runs, Clock(nothing, nothing, lambda: two_trials(tmp_path, "bb")), monkeypatch)
    assert read == ["aa", "bb"]


def test_a_result_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    known: trial_record.Known = {}
    runs = two_trials(tmp_path, "aa")
    assert Results.load(runs.path, known=known).points.num_rows == 2
    runs.trial(trial("aa", 0, [point(0, 9, 0.1)]))
    assert Results.load(runs.path, known=known).points.num_rows == 1
    runs.folder.delete("trials/aa/result.json")
    assert Results.load(runs.path, known=known).points.num_rows == 0


def test_a_folder_that_is_away_for_a_while_is_warned_of(
    tmp_path: Path, delivered: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = two_trials(tmp_path, "aa")
    load = Results.load

    def away(*sources: Any, **options: Any) -> Results:
        raise OSError(5, "Input/output error")

    events = [lambda: monkeypatch.setattr(Results, "load", away)]
    events += [lambda: (monkeypatch.setattr(Results, "load", load), two_trials(tmp_path, "bb"))]  # pyright: ignore
    told, warned = run(runs, Clock(*events), monkeypatch)
    assert [one.standing.over for one in told] == [1, 2]
    assert warned == ["OSError: [Errno 5] Input/output error; tried again in 30 s"]


def test_ctrl_c_leaves_a_page_that_does_not_reload_itself(
    tmp_path: Path, delivered: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(two_trials(tmp_path, "aa"), Clock(interrupt), monkeypatch)
    assert delivered == [(2, 30), (2, 0)]


def test_ctrl_c_while_the_folder_is_away_leaves_such_a_page_too(
    tmp_path: Path, delivered: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*sources: Any, **options: Any) -> Results:
        raise OSError(5, "Input/output error")

    def interrupt() -> None:
        raise KeyboardInterrupt

    clock = Clock(lambda: monkeypatch.setattr(Results, "load", away), interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(two_trials(tmp_path, "aa"), clock, monkeypatch)
    assert delivered == [(2, 30), (2, 0)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--every", "30"], "--every: found without --watch"),
        (["--watch", "--every", "4"], "4 is not in the range x>=5"),
        (["--watch", "--every", "soon"], "'soon' is not a valid integer"),
    ],
)
def test_a_wrong_rate_is_told(tmp_path: Path, options: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["report", str(two_trials(tmp_path).path), *options])
    assert result.exit_code == 2 and told in result.stderr and "Traceback" not in result.stderr


def test_the_command_ends_by_itself_and_prints_one_line_a_refresh(tmp_path: Path) -> None:
    runs = two_trials(tmp_path, "aa", "bb")
    arguments = ["report", str(runs.path / "live"), "--watch", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    first, line, after = result.stderr.splitlines()
    assert first == f"Watching every 60 s: {tmp_path}/out/report.html (Ctrl-C ends it)"
    assert re.fullmatch(r"\d\d:\d\d:\d\d  2 of 2 trials over; 4 circuits; report written .*over", line)
    assert after.startswith("Next: ")
    assert f"Report: {tmp_path}/out/report.html" in result.stdout
    watched = (tmp_path / "out/report.html").read_text("utf-8")
    assert watched == page(Findings.of(Results.load(runs.path / "live"))), "as without --watch"


def test_each_refresh_is_a_line_of_json_for_scripts(tmp_path: Path, delivered: list[tuple[int, int]]) -> None:
    runs = two_trials(tmp_path, "aa", "bb")
    arguments = ["report", str(runs.path / "live"), "--watch", "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert json.loads(result.stdout)["report"] == f"{tmp_path}/out" and delivered == [(4, 0)]
    assert json.loads(result.stderr.splitlines()[1])["standing"]["over"] == 2


def heed_ctrl_c() -> None:
    """What was started in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_command_is_interrupted_with_exit_code_130(tmp_path: Path) -> None:
    runs = two_trials(tmp_path, "aa")
    command = [sys.executable, "-m", "orchestrator", "report", str(runs.path / "live"), "--watch"]
    child = subprocess.Popen(
        [*command, "--every", "60"], cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "1 of 2 trials over" in line:
            break
    html = runs.path / "live/report/report.html"
    assert 'id="reload"' in html.read_text("utf-8")
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=120) == 130
    assert "Traceback" not in child.stderr.read()
    assert 'id="reload"' not in html.read_text("utf-8") and "Unfinished" in html.read_text("utf-8")


def test_only_the_page_of_an_unfinished_sweep_says_so(tmp_path: Path) -> None:
    half = Findings.of(Results.load(two_trials(tmp_path / "half", "aa").path))
    whole = Findings.of(Results.load(two_trials(tmp_path / "whole", "aa", "bb").path))
    assert "1 of the trials is not over" in page(half) and 'http-equiv="refresh"' not in page(half)
    assert "Unfinished:" not in page(whole, 30) and 'http-equiv="refresh"' not in page(whole, 30)
    assert page(half, 30) == page(half, 30)


@pytest.mark.parametrize("scripts", [True, False])
def test_the_page_reloads_itself_from_disk_until_it_is_told_not_to(
    tmp_path: Path, browser: Browser, scripts: bool
) -> None:
    """Without scripts, too; with them, unless its box is unticked."""
    findings = Findings.of(Results.load(two_trials(tmp_path, "aa").path))
    file = tmp_path / "report.html"
    file.write_text(page(findings, 1))
    context = browser.new_context(java_script_enabled=scripts)
    visit = context.new_page()
    problems: list[str] = []
    visit.on("console", lambda message: problems.append(message.text))
    visit.goto(file.as_uri())
    file.write_text(page(findings, 1).replace("Unfinished:", "Reloaded:"))
    visit.get_by_text("Reloaded:").wait_for(timeout=30_000)
    if scripts:
        box = visit.get_by_label("reload every 1 s")
        box.focus()
        visit.keyboard.press("Space")
        file.write_text(page(findings, 1))
        visit.wait_for_timeout(2500)
        assert visit.get_by_text("Reloaded:").count() == 1
        visit.reload()
        assert not visit.get_by_label("reload every 1 s").is_checked(), "the choice outlives a reload"
    assert problems == []
    context.close()
