"""The front and the report of a sweep in its MLflow run: during the sweep, at its end, by `track`."""

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.records.results import Results
from orchestrator.report.publish import write_files
from orchestrator.tracking import front as front_values
from orchestrator.tracking import tracker as tracking
from orchestrator.tracking.front import COLUMNS, Front, read_report
from orchestrator.tracking.tracker import Tracker, mirror_report, track
from tests import test_tracking
from tests.run_folders import Runs, small_sweep
from tests.test_tracking import found, spec, sweep, uri, write_result
from trainers.folder import Folder

database = test_tracking.database


@pytest.fixture
def runs(tmp_path: Path, database: bytes) -> Folder:
    """A sweep called demo: three methods, four complete trials, one failed, one waiting."""
    made = small_sweep(tmp_path / "runs")
    made.folder.delete("small")
    made.sweep("demo", ["ep0", "ep1", "random0", "random1", "bad", "waiting"])
    made.folder.write("mlflow.db", database)
    return made.folder


def client(runs: Folder) -> MlflowClient:
    return MlflowClient(tracking_uri=uri(runs))


def content(runs: Folder, run: Run, path: str) -> bytes:
    return Path(client(runs).download_artifacts(run.info.run_id, path)).read_bytes()


def artifacts(runs: Folder, run: Run, folder: str | None = None) -> set[str]:
    return {file.path for file in client(runs).list_artifacts(run.info.run_id, folder)}


def fronts(run: Run) -> dict[str, float]:
    return {name: value for name, value in run.data.metrics.items() if "/" in name}


def check(runs: Folder, run: Run) -> None:
    """What a sweep's run must hold about `runs`, whoever put it there."""
    results = Results.load(runs / "demo")
    found = fronts(run)
    volumes = results.frames.front.groupby("method")["hypervolume"].first()
    for method in ("edge pruning", "random"):
        assert found[f"hypervolume/tracr reverse - in-sample - zero ablation/{method}"] == pytest.approx(
            volumes[method]
        )
    assert found["sparsest_faithful_edges/tracr reverse - in-sample - zero ablation/edge pruning"] == 3
    assert found["sparsest_faithful_edges/tracr reverse - in-sample - zero ablation/random"] == 94
    table = json.loads(content(runs, run, "front.json"))
    assert table["columns"] == list(COLUMNS)
    kept = [row[COLUMNS.index("num_edges")] for row in table["data"]]
    assert kept == results.frames.front["num_edges"].tolist()
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "front.json", "type": "table"}]
    assert {"report/report.html", "report/pareto.png"} <= artifacts(runs, run, "report")


def test_track_mirrors_the_front_and_the_report_once(runs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    track(runs, uri(runs))
    (parent,) = found(runs, "sweep")
    check(runs, parent)
    name = "hypervolume/tracr reverse - in-sample - zero ablation/random"
    (entry,) = client(runs).get_metric_history(parent.info.run_id, name)
    assert entry.step == 5, "the trials that were over"
    monkeypatch.setattr(front_values, "report_files", None)  # nothing has changed: none is made
    track(runs, uri(runs))
    assert len(client(runs).get_metric_history(parent.info.run_id, name)) == 1


def test_the_end_of_a_run_mirrors_the_report_that_was_written(runs: Folder, tmp_path: Path) -> None:
    write_files(Results.load(runs / "demo"), tmp_path / "report")
    mirror_report(uri(runs), runs, sweep(), Folder.open(tmp_path / "report"))
    (parent,) = found(runs, "sweep")
    check(runs, parent)
    written = (tmp_path / "report/report.html").read_bytes()
    assert content(runs, parent, "report/report.html") == written
    track(runs, uri(runs))
    assert fronts(found(runs, "sweep")[0]) == fronts(parent)


def test_a_running_sweep_shows_its_front_at_a_bounded_rate(
    runs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []

    def files(results: Results) -> dict[str, bytes]:
        made.append(time.monotonic())
        return {"report.html": b"page", "pareto.png": b"figure"}

    monkeypatch.setattr(front_values, "report_files", files)
    monkeypatch.setattr(tracking, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(tracking, "FRONT_SECONDS", 0.5)
    tracker = Tracker(uri(runs), sweep(), runs)
    tracker.on_start("ep0", spec())
    tracker.on_result("ep0", write_result(runs, "ep0"))
    assert until(lambda: len(made) == 1)
    time.sleep(0.6)
    assert len(made) == 1, "no trial has ended since"
    for trial_id in ("ep1", "random0"):
        tracker.on_start(trial_id, spec())
        tracker.on_result(trial_id, write_result(runs, trial_id))
    assert until(lambda: len(made) == 2)
    tracker.close()
    assert made[1] - made[0] >= 0.5
    (parent,) = found(runs, "sweep")
    assert content(runs, parent, "report/report.html") == b"page" and fronts(parent)
    steps = client(runs).get_metric_history(
        parent.info.run_id, "hypervolume/tracr reverse - in-sample - zero ablation/edge pruning"
    )
    assert len(steps) == 2


def until(happened: Any) -> bool:
    deadline = time.monotonic() + 60
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happened()


def test_a_front_that_cannot_be_made_costs_a_warning_and_nothing_else(
    runs: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = threading.Event()

    def broken(results: Results) -> dict[str, bytes]:
        tried.set()
        raise RuntimeError("no figure")

    monkeypatch.setattr(front_values, "report_files", broken)
    monkeypatch.setattr(tracking, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(tracking, "FRONT_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(uri(runs), sweep(), runs)
        tracker.on_start("ep0", spec())
        tracker.on_result("ep0", write_result(runs, "ep0"))
        assert tried.wait(60)
        tracker.close()
    told = [
        record.getMessage() for record in caplog.records if record.name == "orchestrator.tracking.tracker"
    ]
    assert len(told) == 1 and "no figure" in told[0] and "circuit-sweep track" in told[0]
    (child,) = found(runs, "trial")
    assert child.info.status == "FINISHED"


def test_an_mlflow_that_is_away_costs_the_end_of_a_run_a_warning(
    runs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        mirror_report("http://me:pa55word@127.0.0.1:9", runs, sweep(), Folder.open(tmp_path / "none"))
    told = [
        record.getMessage() for record in caplog.records if record.name == "orchestrator.tracking.tracker"
    ]
    assert len(told) == 1 and "No trial is affected" in told[0] and "pa55word" not in told[0]


def test_a_sweep_without_circuits_has_an_empty_front(tmp_path: Path) -> None:
    front = Front.of(Results.load(Runs(tmp_path).sweep("empty", ["waiting"])))
    assert not front.metrics and json.loads(front.table)["data"] == []
    assert read_report(Folder.open(tmp_path / "nowhere")) == {}
