"""A report is written again exactly when another one would come out: never a stale one, never for nothing."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import drive, reported
from orchestrator.report import delivery
from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import write_yaml
from tests.run_folders import Runs, point, small_sweep, trial
from tests.test_objectives import SWEEP
from trainers.folder import Folder


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return small_sweep(tmp_path / "runs")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that a report was written to, in place of a report that takes many seconds."""
    told: list[str] = []

    def publish(sources: list[Folder], target: Folder) -> str:
        told.append(target.location)
        target.write("report.html", b"the page")
        files = {"report.html": hashlib.sha256(b"the page").hexdigest()}
        target.write("report.json", json.dumps({"files": files}).encode())
        return f"table {len(told)}"

    monkeypatch.setattr(delivery, "publish_report", publish)
    return told


def publish(runs: Runs) -> str:
    home = runs.folder / "small"
    trials = [runs.folder / "trials" / str(name) for name in json.loads(home.read("trials.json") or b"")]
    return reported.publish_unless_current(home, home / "report", trials)


def test_nothing_has_changed(runs: Runs, written: list[str]) -> None:
    assert [publish(runs) for _ in range(3)] == ["table 1"] * 3
    assert len(written) == 1


def _same_size_and_time(path: Path, old: str, new: str) -> None:
    """Changes a file as `cp -p` of another one of the same size and time would."""
    assert len(old) == len(new)
    stat, text = path.stat(), path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a trial ends": lambda path: Runs(path).trial(trial("waiting", 3, [point(0, 2, 0.1)])),
    "a result says something else": lambda path: _same_size_and_time(
        path / "trials/ep0/result.json", '"sparsity":', '"sparsitx":'
    ),
    "an edge list is edited": lambda path: _same_size_and_time(
        path / "trials/ep0/edges-000.json", "m0", "m1"
    ),
    "an edge list is lost": lambda path: (path / "trials/ep0/edges-000.json").unlink(),
    "progress is added": lambda path: (path / "trials/bad/progress.jsonl").write_text("{}\n"),
    "a trial's folder is gone": lambda path: (path / "trials/random1").rename(path / "random1"),
    "the question": lambda path: (path / "small/sweep.yaml").write_text("name: small\nquestion: Another?\n"),
    "the plan": lambda path: (path / "small/trials.json").write_text('["ep0"]'),
    "the page is edited": lambda path: (path / "small/report/report.html").write_text("the pagE"),
    "the page is deleted": lambda path: (path / "small/report/report.html").unlink(),
    "another report was put there": lambda path: (path / "small/report/report.json").write_text("{}"),
    "what it was made from is not known": lambda path: (path / "small/reported.json").unlink(),
    "what it was made from is damaged": lambda path: (path / "small/reported.json").write_text('{"inputs": '),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_report_is_written_again(change: str, runs: Runs, written: list[str]) -> None:
    publish(runs)
    CHANGES[change](runs.path)
    publish(runs)
    assert len(written) == 2
    publish(runs)
    assert len(written) == 2


def test_other_code_writes_another_report(
    runs: Runs, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(runs)
    monkeypatch.setattr(reported, "code_digest", lambda: "edited")
    publish(runs)
    assert len(written) == 2


def test_a_run_with_nothing_to_do_starts_nothing(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither Ray nor MLflow, no second look at the results, and the table comes from the first time."""
    (tmp_path / "q.yaml").write_text(write_yaml(SWEEP))
    runs = Runs(tmp_path / "runs")
    for trial_id, spec in SweepSpec.load(tmp_path / "q.yaml").trials_by_id().items():
        runs.trial(trial(trial_id, spec.seed, [point(0, 3, 0.0)], spec=spec.plain()))
    monkeypatch.setattr(drive, "_launch", lambda *_: pytest.fail("launched"))
    request = drive.Request(tmp_path / "q.yaml", str(runs.path))
    ended = [drive.drive(request, lambda line: None) for _ in range(2)]
    assert [(one.exit_code, one.ran, one.table) for one in ended] == [(0, 0, "table 1")] * 2
    assert len(written) == 1
