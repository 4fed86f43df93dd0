"""Mirror: a runs folder in MLflow. The only module that imports it."""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric as Entry
from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException

from orchestrator.tracking.front import FRONT, Front
from orchestrator.tracking.values import (
    Metric,
    files,
    final_metrics,
    params,
    progress_of,
    run_name,
    step_metrics,
    tags,
)
from orchestrator.wording import masked
from trainers.folder import Folder
from trainers.outside import parse_json
from trainers.result import TrialResult

EXPERIMENT = "circuit-sweep"
BATCH = 1000  # metrics in one call: MLflow's limit
IDS = "mlflow.json"  # in a trial's and a sweep's folder: run ids by tracking URI


@dataclass
class Child:
    """A trial's MLflow run. `known` holds the (metric, step) pairs it has already."""

    run_id: str
    known: set[tuple[str, int]] = field(default_factory=set)


class Mirror:
    """One MLflow server, seen from one runs folder. Raises what MLflow raises."""

    def __init__(self, uri: str, runs: Folder) -> None:
        """Connects, and makes the database and the experiment if they are not there."""
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is raised, and told in a line
        self._uri = uri
        self._runs = runs
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._experiment_id()
        self._children: dict[str, Child] = {}

    def parent(self, sweep: str, question: str) -> str:
        """The id of the sweep's run; it is made if it is not there."""
        folder = self._runs / sweep
        run_id = self._known_run(folder, "sweep", sweep)
        if run_id is None:
            tags = {"kind": "sweep", "sweep": sweep, "question": question, "mlflow.note.content": question}
            run_id = self._client.create_run(self._experiment, tags=tags, run_name=sweep).info.run_id
            self._keep(folder, run_id)
        snapshot = folder.read("sweep.yaml")
        if snapshot is not None:
            self._log_files(run_id, [("sweep.yaml", masked(snapshot.decode(errors="replace")).encode())])
        return run_id

    def end_parent(self, run_id: str, counts: Mapping[str, float]) -> None:
        """`counts` are the sweep's trials by state; the step is the number of those that are over."""
        over = int(sum(counts.values()))
        self._log_new(run_id, [(name, value, over) for name, value in counts.items()])
        self._client.set_terminated(run_id, "FINISHED")

    def has_front(self, run_id: str, front: Front) -> bool:
        return self._client.get_run(run_id).data.tags.get("front") == front.fingerprint

    def log_front(self, run_id: str, front: Front, report: Mapping[str, bytes]) -> None:
        """The sweep's front as metrics and as a table, and its report in the folder `report`."""
        self._log_new(run_id, front.metrics)
        self._log_files(run_id, [(FRONT, front.table)])
        self._log_files(run_id, report.items(), "report")
        # What MLflow's user interface looks for to show a file as a table.
        self._client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": FRONT, "type": "table"}]))
        self._client.set_tag(run_id, "front", front.fingerprint)

    def _log_new(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """What the run does not say already at that step."""
        names = {name for name, _, _ in metrics} & self._client.get_run(run_id).data.metrics.keys()
        told = {
            (entry.key, entry.step): entry.value
            for name in names
            for entry in self._client.get_metric_history(run_id, name)
        }
        now = int(1000 * time.time())
        entries = [
            Entry(name, value, now, step) for name, value, step in metrics if told.get((name, step)) != value
        ]
        for start in range(0, len(entries), BATCH):
            self._client.log_batch(run_id, metrics=entries[start : start + BATCH])

    def child(self, trial_id: str, spec: dict[str, Any], parent: str | None) -> Child:
        """The trial's run. One that holds an earlier, replaced result gives way to a new one."""
        if trial_id in self._children:
            return self._children[trial_id]
        folder = self._runs / "trials" / trial_id
        run_id = self._known_run(folder, "trial_id", trial_id)
        if run_id is not None:
            run = self._client.get_run(run_id)
            done = run.data.tags.get("mirrored")
            if done not in (None, _fingerprint(folder)):
                self._client.delete_run(run_id)
                run_id = None
        child = (
            self._existing(run_id) if run_id is not None else self._new_child(folder, trial_id, spec, parent)
        )
        self._children[trial_id] = child
        return child

    def belongs(self, trial_id: str, sweep: str) -> None:
        """Tags the trial's run with a sweep that it is part of; a shared trial's parent is the first."""
        run_id = self._known_run(self._runs / "trials" / trial_id, "trial_id", trial_id)
        if run_id is not None:
            self._client.set_tag(run_id, f"sweep.{sweep}", "yes")

    def log(self, trial_id: str, reports: Iterable[tuple[list[Metric], float]]) -> None:
        """Logs the metrics that the trial's run does not have yet, each report with its Unix time."""
        child = self._children[trial_id]
        entries: dict[tuple[str, int], Entry] = {}
        for metrics, at in reports:
            for name, value, step in metrics:
                if (name, step) not in child.known:
                    entries[name, step] = Entry(name, value, int(1000 * at), step)
        new = list(entries.items())
        for start in range(0, len(new), BATCH):
            part = dict(new[start : start + BATCH])
            self._client.log_batch(child.run_id, metrics=list(part.values()))
            child.known |= part.keys()

    def has(self, trial_id: str) -> bool:
        """Does the trial's run hold all of its present result?"""
        folder = self._runs / "trials" / trial_id
        run_id = self._known_run(folder, "trial_id", trial_id) if folder.exists("result.json") else None
        return run_id is not None and self._client.get_run(run_id).data.tags.get("mirrored") == _fingerprint(
            folder
        )

    def finish(self, trial_id: str, result: TrialResult, epsilon: float) -> None:
        """Everything that is not there yet, from the trial's folder; then marks the run complete. `epsilon`
        decides which circuit of a ranking is the main one."""
        folder = self._runs / "trials" / trial_id
        child = self._children[trial_id]
        self.catch_up(trial_id)
        ended = _unix(result.finished) or time.time()
        self.log(trial_id, [(final_metrics(result, epsilon), ended)])
        self._log_files(child.run_id, files(folder, result, epsilon))
        entries = [RunTag(name, value) for name, value in tags(result).items()]
        for start in range(0, len(entries), 100):
            self._client.log_batch(child.run_id, tags=entries[start : start + 100])
        status = "FINISHED" if result.status == "complete" else "FAILED"
        self._client.set_terminated(child.run_id, status, end_time=int(1000 * ended))
        self._client.set_tag(child.run_id, "mirrored", _fingerprint(folder))
        del self._children[trial_id]

    def catch_up(self, trial_id: str) -> None:
        """Logs what progress.jsonl holds and the run does not."""
        content = (self._runs / "trials" / trial_id).read("progress.jsonl") or b""
        by_step: dict[tuple[str, int], tuple[list[Metric], float]] = {}
        for line in content.splitlines():
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # the last line may be torn
                report = parse_json(line)
                told = step_metrics(progress_of(report)), float(report.get("time", 0))
                by_step[str(report.get("phase")), int(report["step"])] = told
        self.log(trial_id, by_step.values())

    def _experiment_id(self) -> str:
        # A server knows where its artifacts belong; a bare database would put them in the working directory.
        local = self._runs.is_local and not self._uri.startswith(("http://", "https://", "databricks"))
        location = (Path(self._runs.path) / "mlartifacts").as_uri() if local else None
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return self._client.create_experiment(EXPERIMENT, artifact_location=location)
        if self._uri == f"sqlite:///{self._runs.path}/mlflow.db" and found.artifact_location != location:
            raise ValueError(
                "it was made for another folder, of which this is a copy, or that was moved; delete mlflow.db"
            )
        return found.experiment_id

    def _known_run(self, folder: Folder, tag: str, value: str) -> str | None:
        """The run kept in the folder, else the one with the tag, if it is still there."""
        run_id = _read_ids(folder).get(masked(self._uri))
        if run_id is not None:
            try:
                if self._client.get_run(run_id).info.lifecycle_stage == "active":
                    return run_id
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        kind = "sweep" if tag == "sweep" else "trial"
        where = f"tags.kind = '{kind}' and tags.`{tag}` = '{value}'"
        found = self._client.search_runs(
            [self._experiment], where, max_results=1, order_by=["start_time ASC"]
        )
        if not found:
            return None
        self._keep(folder, found[0].info.run_id)
        return found[0].info.run_id

    def _keep(self, folder: Folder, run_id: str) -> None:
        ids = _read_ids(folder) | {masked(self._uri): run_id}
        folder.write(IDS, json.dumps(ids, indent=2).encode())

    def _existing(self, run_id: str) -> Child:
        names = self._client.get_run(run_id).data.metrics
        history = [metric for name in names for metric in self._client.get_metric_history(run_id, name)]
        self._client.update_run(run_id, status="RUNNING")
        return Child(run_id, {(metric.key, metric.step) for metric in history})

    def _new_child(self, folder: Folder, trial_id: str, spec: dict[str, Any], parent: str | None) -> Child:
        entries = {"kind": "trial", "trial_id": trial_id}
        if parent is not None:
            entries["mlflow.parentRunId"] = parent
        name = run_name(spec, trial_id)
        began = _started(folder)
        run = self._client.create_run(self._experiment, start_time=began, tags=entries, run_name=name)
        run_id = run.info.run_id
        self._keep(folder, run_id)
        values = [Param(name, value) for name, value in params(spec).items()]
        for start in range(0, len(values), 100):
            self._client.log_batch(run_id, params=values[start : start + 100])
        return Child(run_id)

    def _log_files(
        self, run_id: str, contents: Iterable[tuple[str, bytes]], folder: str | None = None
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
            for name, content in contents:
                Path(scratch, name).write_bytes(content)
            self._client.log_artifacts(run_id, scratch, folder)


def _started(trial: Folder) -> int | None:
    """When a trial that has ended began, in Unix milliseconds; None of one that runs, which begins now."""
    try:
        began = _unix(parse_json(trial.read("result.json") or b"")["started"])
    except (ValueError, KeyError, TypeError):
        return None
    return None if began is None else int(1000 * began)


def _fingerprint(trial: Folder) -> str:
    """Tells one result.json from another."""
    return hashlib.sha256(trial.read("result.json") or b"").hexdigest()[:16]


def _read_ids(folder: Folder) -> dict[str, str]:
    try:
        ids = parse_json(folder.read(IDS) or b"{}")
    except ValueError:
        return {}  # the run is found by its tag
    return ids if isinstance(ids, dict) else {}


def _unix(stamp: str) -> float | None:
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None
