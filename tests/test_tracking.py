"""The MLflow mirror: what it holds, that it never holds it twice, that trials never wait for it."""

import json
import logging
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.drawing import MAX_EDGES, closest_to_output, draw_circuit
from orchestrator.records.trial_result import main_point
from orchestrator.sweep import SweepSpec
from orchestrator.tracking import tracker as tracking
from orchestrator.tracking.tracker import Tracker, track
from orchestrator.tracking.values import params, step_metrics
from orchestrator.wording import masked
from tests.run_folders import EDGES, Runs, point, trial
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.spec import SpecError
from trainers.trial import TrialSpec


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh MLflow database: making one takes seconds, copying one does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def runs(tmp_path: Path, database: bytes) -> Folder:
    """A runs folder with a sweep of two trials, the first complete with three steps."""
    made = Runs(tmp_path / "runs")
    made.sweep("demo", TRIALS)
    folder = made.folder
    folder.write("mlflow.db", database)
    for trial_id in TRIALS:
        folder.write(f"trials/{trial_id}/spec.json", json.dumps(spec().plain()).encode())
    write_progress(folder, TRIALS[0], [1, 2, 3])
    write_result(folder, TRIALS[0])
    return folder


def spec(seed: int = 0) -> TrialSpec:
    data = {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "method": {"name": "random"}}
    return TrialSpec.parse(data | {"seed": seed}, "test")


def sweep() -> SweepSpec:
    base = {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "method": {"name": "random"}}
    return SweepSpec.parse({"name": "demo", "question": "What?", "base": base}, "test")


TRIALS = (spec(0).trial_id, spec(1).trial_id)


def uri(runs: Folder) -> str:
    return f"sqlite:///{runs.path}/mlflow.db"


def write_progress(runs: Folder, trial_id: str, steps: list[int], evaluate: float | None = None) -> None:
    phases = [("train", step, 1 / step) for step in steps] + ([("evaluate", 1, evaluate)] if evaluate else [])
    lines = [
        json.dumps({"time": 1.7e9 + step, "attempt": 1, "phase": phase, "step": step, "total": 3, "kl": kl})
        for phase, step, kl in phases
    ]
    runs.write(f"trials/{trial_id}/progress.jsonl", ("\n".join(lines) + '\n{"torn').encode())


def write_result(runs: Folder, trial_id: str, num_edges: int = 3) -> TrialResult:
    result = trial(trial_id, 0, [point(0, num_edges, 0.001)], steps=3)
    folder = runs / "trials" / trial_id
    folder.write("circuit-000.safetensors", b"weights")
    folder.write("edges-000.json", json.dumps(EDGES[:num_edges]).encode())
    folder.write("result.json", result.model_dump_json().encode())
    return result


def found(runs: Folder, kind: str) -> list[Run]:
    client = MlflowClient(tracking_uri=uri(runs))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.kind = '{kind}'", order_by=["start_time ASC"]))


def history(runs: Folder, run: Run, name: str) -> list[tuple[int, float]]:
    entries = MlflowClient(tracking_uri=uri(runs)).get_metric_history(run.info.run_id, name)
    return sorted((entry.step, entry.value) for entry in entries)


def test_a_sweep_becomes_one_parent_run_with_one_child_per_trial(runs: Folder) -> None:
    tracker = Tracker(uri(runs), sweep(), runs)
    tracker.on_start(TRIALS[0], spec())
    write_progress(runs, TRIALS[0], [1, 2, 3], evaluate=7.0)
    tracker.on_progress(TRIALS[0], Progress(3, 3))
    tracker.on_result(TRIALS[0], write_result(runs, TRIALS[0]))
    tracker.close()
    (parent,), (child,) = found(runs, "sweep"), found(runs, "trial")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["trial_id"] == TRIALS[0]
    assert child.data.tags["version.torch"] == "2.13.0" and child.data.tags["execution.code"] == "0.1.0+abc"
    assert child.data.params["model.builtin"] == "tracr-reverse" and child.data.params["seed"] == "0"
    assert history(runs, child, "kl") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert history(runs, child, "evaluate/kl") == [(1, 7.0)], "another phase's steps are other steps"
    assert child.data.metrics["test_kl"] == 0.001 and child.data.metrics["num_edges"] == 3
    assert child.info.status == "FINISHED" and parent.data.metrics == {"complete": 1, "failed": 0}
    client = MlflowClient(tracking_uri=uri(runs))
    names = {file.path for file in client.list_artifacts(child.info.run_id)}
    assert names == {"spec.json", "result.json", "circuit-000.safetensors", "edges.json", "circuit.png"}
    assert Path(runs.path, "mlartifacts").is_dir(), "artifacts belong to the runs folder"


def test_a_resumed_trial_goes_on_in_its_run_and_no_step_is_there_twice(runs: Folder) -> None:
    for steps in ([1, 2], [1, 2, 2, 3]):  # the second driver resumes from a checkpoint at step 1
        tracker = Tracker(uri(runs), sweep(), runs)
        tracker.on_start(TRIALS[1], spec())
        write_progress(runs, TRIALS[1], steps)
        tracker.on_progress(TRIALS[1], Progress(steps[-1], 3))
        if 3 in steps:
            tracker.on_result(TRIALS[1], write_result(runs, TRIALS[1]))
        tracker.close()
    (child,) = found(runs, "trial")
    assert [step for step, _ in history(runs, child, "kl")] == [1, 2, 3]
    assert len(found(runs, "sweep")) == 1
    for name, value in parent_values(runs).items():
        assert len(value) == 1, f"{name} is told once, though track ran three times"


def parent_values(runs: Folder) -> dict[str, list[tuple[int, float]]]:
    (parent,) = found(runs, "sweep")
    return {name: history(runs, parent, name) for name in parent.data.metrics}


def test_a_sweeps_counts_are_of_all_its_trials_whoever_ran_them(runs: Folder) -> None:
    """A second run that has one trial left must not say that one is complete."""
    both = sweep().model_copy(update={"seeds": (0, 1)})
    tracker = Tracker(uri(runs), both, runs)
    tracker.on_start(TRIALS[1], spec(1))
    tracker.on_result(TRIALS[1], write_result(runs, TRIALS[1]))
    tracker.close()
    assert parent_values(runs) == {"complete": [(2, 2.0)], "failed": [(2, 0.0)]}


def test_the_mirror_of_another_folder_is_not_written_to(runs: Folder, tmp_path: Path) -> None:
    """Its artifacts would land in the folder that this one was copied from."""
    track(runs, uri(runs))
    shutil.copytree(runs.path, tmp_path / "copy")
    copy = Folder.open(tmp_path / "copy")
    with pytest.raises(SpecError, match="cannot be used: it was made for another folder.*delete mlflow.db"):
        track(copy, uri(copy))
    shutil.copytree(runs.path, tmp_path / "clean", ignore=shutil.ignore_patterns("mlflow.db"))
    clean = Folder.open(tmp_path / "clean")
    assert track(clean, uri(clean)) == 2


def test_a_running_trial_is_shown_before_it_ends(runs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "BEAT_SECONDS", 0.05)
    tracker = Tracker(uri(runs), sweep(), runs)
    tracker.on_start(TRIALS[1], spec())
    for steps in ([1], [1, 2]):
        write_progress(runs, TRIALS[1], steps)
        tracker.on_progress(TRIALS[1], Progress(steps[-1], 3))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (found(runs, "trial") and seen(runs) == steps):
            time.sleep(0.1)
        assert seen(runs) == steps
    tracker.close()
    assert found(runs, "trial")[0].info.status == "RUNNING", "it goes on with the next driver"


def seen(runs: Folder) -> list[int]:
    return [step for step, _ in history(runs, found(runs, "trial")[0], "kl")]


def test_a_rerun_replaces_the_run_of_the_result_that_was_replaced(runs: Folder) -> None:
    for num_edges in (3, 2):
        tracker = Tracker(uri(runs), sweep(), runs)
        runs.delete(f"trials/{TRIALS[1]}/result.json")
        tracker.on_start(TRIALS[1], spec())
        write_progress(runs, TRIALS[1], [num_edges])
        tracker.on_progress(TRIALS[1], Progress(1, 3))
        tracker.on_result(TRIALS[1], write_result(runs, TRIALS[1], num_edges))
        tracker.close()
    (child,) = found(runs, "trial")
    assert child.data.metrics["num_edges"] == 2
    assert [step for step, _ in history(runs, child, "kl")] == [2]


def test_track_rebuilds_the_mirror_and_never_doubles_it(runs: Folder) -> None:
    assert track(runs, uri(runs)) == 2
    (parent,), children = found(runs, "sweep"), found(runs, "trial")
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    before = {child.info.run_id: dict(child.data.metrics) for child in children}
    assert track(runs, uri(runs)) == 2
    for folder in ("demo", *(f"trials/{trial_id}" for trial_id in TRIALS)):
        assert runs.exists(f"{folder}/mlflow.json")
        runs.delete(f"{folder}/mlflow.json")
    assert track(runs, uri(runs)) == 2
    assert {child.info.run_id: dict(child.data.metrics) for child in found(runs, "trial")} == before
    finished = next(child for child in children if child.data.tags["trial_id"] == TRIALS[0])
    assert history(runs, finished, "kl") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert len(found(runs, "sweep")) == 1


def test_track_fills_in_what_a_tracker_missed(runs: Folder) -> None:
    tracker = Tracker(uri(runs), sweep(), runs)
    tracker.on_start(TRIALS[0], spec())
    write_progress(runs, TRIALS[0], [1, 2])
    tracker.on_progress(TRIALS[0], Progress(2, 3))
    tracker.close()  # the driver dies here, and the trial ends without it
    write_progress(runs, TRIALS[0], [1, 2, 3])
    track(runs, uri(runs))
    (first, *_) = (run for run in found(runs, "trial") if run.data.tags["trial_id"] == TRIALS[0])
    assert [step for step, _ in history(runs, first, "kl")] == [1, 2, 3]
    assert first.info.status == "FINISHED" and len(found(runs, "trial")) == 2


@pytest.mark.parametrize("fault", ["down", "hangs"])
def test_trials_do_not_wait_for_a_broken_mlflow(
    runs: Folder, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One server refuses, one accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    if fault == "down":
        server.close()
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(f"http://me:pa55word@127.0.0.1:{port}", sweep(), runs)
        tracker.on_start(TRIALS[0], spec())
        for step in range(100):
            tracker.on_progress(TRIALS[0], Progress(step, 100, {"kl": 1.0}))
        tracker.on_result(TRIALS[0], write_result(runs, TRIALS[0]))
        tracker.close()
    server.close()
    warnings = [
        record.getMessage() for record in caplog.records if record.name == "orchestrator.tracking.tracker"
    ]
    assert len(warnings) == 1 and "circuit-sweep track" in warnings[0]
    assert "pa55word" not in caplog.text
    tracker._thread.join(timeout=30)


def test_a_slow_mlflow_lags_and_misses_nothing(runs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go = threading.Event()
    connect = tracking.connect

    def slow(*arguments: Any) -> Any:
        may_go.wait(30)
        return connect(*arguments)

    monkeypatch.setattr(tracking, "connect", slow)
    monkeypatch.setattr(tracking, "BEAT_SECONDS", 0.05)
    tracker = Tracker(uri(runs), sweep(), runs)
    for trial_id in TRIALS:
        tracker.on_start(trial_id, spec())
        write_progress(runs, trial_id, [1, 2, 3])
        tracker.on_progress(trial_id, Progress(3, 3))
        tracker.on_result(trial_id, write_result(runs, trial_id))
    may_go.set()
    tracker.close()
    children = found(runs, "trial")
    assert {child.data.tags["trial_id"] for child in children} == set(TRIALS)
    assert all([step for step, _ in history(runs, child, "kl")] == [1, 2, 3] for child in children)


def test_track_says_which_server_it_cannot_reach(runs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        SpecError, match=r"^--tracking-uri: MLflow at http://\*\*\*@127.0.0.1:9 cannot be used"
    ):
        track(runs, "http://me:secret@127.0.0.1:9")


def test_credentials_in_uris_are_masked() -> None:
    text = "postgresql://me:pa55@host/db s3://KEY:SECRET@bucket/runs?scheme=http&secret_key=abc&region=x"
    assert masked(text) == "postgresql://***@host/db s3://***@bucket/runs?scheme=http&secret_key=***&region=x"
    assert params({"model": {"path": "s3://K:S@b/m"}}) == {"model.path": "s3://***@b/m"}


def test_long_values_are_cut_and_missing_ones_left_out() -> None:
    flat = params({"a": {"b": "x" * 900, "c": None, "d": [1, 2], "e": False}})
    assert flat["a.b"].endswith("…") and len(flat["a.b"]) == 500
    assert {name: flat[name] for name in flat if name != "a.b"} == {"a.d": "[1, 2]", "a.e": "False"}


def test_metric_names_keep_to_the_characters_mlflow_takes() -> None:
    assert step_metrics(Progress(4, 9, {"kl(clean|full)": 1.0})) == [("kl_clean_full_", 1.0, 4)]


def test_the_main_circuit_of_a_ranking_is_the_sparsest_faithful_one() -> None:
    budgets = [
        point(n, edges, kl, kind="budget") for n, (edges, kl) in enumerate([(50, 1e-5), (20, 9e-4), (9, 0.2)])
    ]
    assert main_point(trial("t", 0, budgets)) == budgets[1]
    unfaithful = [point(n, edges, kl, kind="budget") for n, (edges, kl) in enumerate([(50, 0.3), (20, 0.2)])]
    assert main_point(trial("t", 0, unfaithful)) == unfaithful[1]
    assert main_point(trial("t", 0, [*budgets, point(3, 7, 5.0)])) == point(3, 7, 5.0), (
        "a final circuit is the main one"
    )
    refined = [point(0, 7, 1e-5), point(1, 9, 1e-6, kind="path"), point(2, 5, 1e-4, kind="refined")]
    assert main_point(trial("t", 0, refined)) == refined[2], "but a refined one is better still"


@pytest.mark.parametrize(("epsilon", "num_edges"), [(0.001, 3), (0.1, 2)])
def test_the_main_circuit_in_mlflow_is_that_of_the_sweeps_epsilon(
    runs: Folder, epsilon: float, num_edges: int
) -> None:
    Runs(Path(runs.path)).sweep("demo", TRIALS, objectives={"epsilon": epsilon})
    budgets = [point(n, edges, kl, kind="budget") for n, (edges, kl) in enumerate([(3, 1e-5), (2, 0.09)])]
    result = trial(TRIALS[0], 0, budgets, steps=3)
    runs.write(f"trials/{TRIALS[0]}/result.json", result.model_dump_json().encode())
    assert track(runs, uri(runs)) == 2
    assert found(runs, "trial")[0].data.metrics["num_edges"] == num_edges


def test_a_picture_shows_the_edges_closest_to_the_output_first() -> None:
    chain = [(f"a{layer}.h0", f"a{layer + 1}.h0.v") for layer in range(9)] + [("a9.h0", "resid_post")]
    assert closest_to_output(chain, 2) == [("a9.h0", "resid_post"), ("a8.h0", "a9.h0.v")]
    for edges in ([], EDGES, [(f"a0.h{head}", "resid_post") for head in range(MAX_EDGES + 1)]):
        assert draw_circuit(edges, "title").startswith(b"\x89PNG")


def test_a_trial_of_two_sweeps_has_one_run_that_names_both(runs: Folder) -> None:
    Runs(Path(runs.path)).sweep("other", (TRIALS[0],))
    for _ in range(2):
        track(runs, uri(runs))
        tagged = {run.data.tags["trial_id"]: run.data.tags for run in found(runs, "trial")}
        assert {name for name in tagged[TRIALS[0]] if name.startswith("sweep.")} == {
            "sweep.demo",
            "sweep.other",
        }
        assert {name for name in tagged[TRIALS[1]] if name.startswith("sweep.")} == {"sweep.demo"}
    parents = {run.data.tags["sweep"]: run for run in found(runs, "sweep")}
    assert tagged[TRIALS[0]]["mlflow.parentRunId"] == parents["demo"].info.run_id
    assert {name: run.data.metrics["complete"] for name, run in parents.items()} == {"demo": 1, "other": 1}


def test_a_folder_without_sweeps_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nowhere: no sweep there"):
        track(Folder.open(tmp_path / "nowhere"), f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    assert not (tmp_path / "nowhere").exists()


def test_a_trial_that_has_ended_does_not_end_before_it_began(runs: Folder) -> None:
    track(runs, uri(runs))
    (child,) = (one for one in found(runs, "trial") if one.info.status == "FINISHED")
    began, ended = child.info.start_time, child.info.end_time
    assert began is not None and ended is not None and ended - began == 12_000, "as its result says"
