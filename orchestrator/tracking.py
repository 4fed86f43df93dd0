"""Mirrors sweeps to MLflow: one parent run per sweep, one child run per trial.

The run folders are the truth: whatever MLflow misses because it was slow or away, `track` puts in
afterwards. No trial ever waits for it.
"""

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from orchestrator.lease import elsewhere
from orchestrator.mirror_values import Metric, masked, step_metrics
from orchestrator.plan import read_result
from orchestrator.sweep import SweepSpec
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.spec import SpecError
from trainers.trial import TrialSpec

if TYPE_CHECKING:
    from orchestrator.mirror import Mirror

EVENTS = 20_000  # waiting to be told; more are dropped and found again in the run folders
GATHER_SECONDS = 1.0  # reports that come within this time go out together
RECONNECT_SECONDS = 60.0
PATIENCE_SECONDS = 20.0  # at a sweep's end, for an MLflow that makes no headway
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    trial_id: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Reported:
    trial_id: str
    metrics: list[Metric]
    at: float


@dataclass(frozen=True)
class Ended:
    trial_id: str
    result: TrialResult


Event = Started | Reported | Ended


class Tracker:
    """An observer. Everything MLflow does happens on one background thread; what it cannot take in
    time is dropped, with one warning. `runs` and `sweep` name what is mirrored."""

    def __init__(self, uri: str, sweep: SweepSpec, runs: Folder, capacity: int = EVENTS) -> None:
        self._uri = uri
        self._sweep = sweep
        self._runs = runs
        self._events: queue.Queue[Event | None] = queue.Queue(capacity)
        self._mirror: Mirror | None = None
        self._parent: str | None = None
        self._retry_at = 0.0
        self._specs: dict[str, dict[str, Any]] = {}
        self._told = 0  # events dealt with
        self._warned = False
        self._counts = {"complete": 0.0, "failed": 0.0}
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def on_start(self, trial_id: str, spec: TrialSpec) -> None:
        self._put(Started(trial_id, spec.plain()))

    def on_retry(self, trial_id: str, reason: str) -> None:
        pass  # the steps that come again are known to the mirror

    def on_progress(self, trial_id: str, progress: Progress) -> None:
        self._put(Reported(trial_id, step_metrics(progress), time.time()))

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        self._put(Ended(trial_id, result))

    def close(self) -> None:
        """Waits for what is left as long as MLflow makes headway."""
        told, since = -1, time.monotonic()
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=PATIENCE_SECONDS)
        while self._thread.is_alive() and time.monotonic() - since < PATIENCE_SECONDS:
            self._thread.join(timeout=0.2)
            if self._told != told:
                told, since = self._told, time.monotonic()
        if self._thread.is_alive():
            self._warn(f"makes no headway; {self._events.qsize()} events were not told")

    def _put(self, event: Event) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._warn("is too slow; some reports were dropped")

    def _warn(self, what: str) -> None:
        """Once: the sweep matters more."""
        if not self._warned:
            self._warned = True
            again = f"circuit-sweep track {masked(self._runs.location)} --tracking-uri {masked(self._uri)}"
            log.warning(
                "MLflow at %s %s. No trial is affected; afterwards run: %s", masked(self._uri), what, again
            )

    def _work(self) -> None:
        while True:
            batch, last = self._gather()
            for group in _by_trial(batch):
                self._attempt(lambda group=group: self._tell(group))
                self._told += len(group)
            if last:
                self._attempt(self._end)
                return

    def _gather(self) -> tuple[list[Event], bool]:
        """The events of about a second, and whether they are the last."""
        batch: list[Event] = []
        event = self._events.get()
        deadline = time.monotonic() + GATHER_SECONDS
        while event is not None:
            batch.append(event)
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return batch, False
        return batch, True

    def _attempt(self, call: Callable[[], None]) -> None:
        """MLflow and its plugins raise whatever they like; none of it may reach the sweep."""
        if self._mirror is None and time.monotonic() < self._retry_at:
            return
        try:
            call()
        except Exception as error:
            self._warn(f"failed: {_short(error)}")
            if self._mirror is None:
                self._retry_at = time.monotonic() + RECONNECT_SECONDS

    def _connected(self) -> "Mirror":
        if self._mirror is None:
            mirror = connect(self._uri, self._runs)
            self._parent = mirror.parent(self._sweep.name, self._sweep.question)
            self._mirror = mirror
        return self._mirror

    def _tell(self, events: list[Event]) -> None:
        """Events of one trial, in order. A trial that another driver ran is mirrored by that one."""
        trial_id = events[0].trial_id
        for event in events:
            if isinstance(event, Started):
                self._specs[trial_id] = event.spec
            elif isinstance(event, Ended):
                self._counts[event.result.status] += 1
        if trial_id not in self._specs:
            return
        mirror = self._connected()
        mirror.child(trial_id, self._specs[trial_id], self._parent)
        mirror.log(trial_id, [(event.metrics, event.at) for event in events if isinstance(event, Reported)])
        for event in events:
            if isinstance(event, Ended):
                mirror.finish(trial_id, event.result)

    def _end(self) -> None:
        mirror = self._connected()
        assert self._parent is not None, "connecting makes the sweep's run"
        mirror.end_parent(self._parent, self._counts)


def track(runs: Folder, uri: str) -> int:
    """Brings the mirror of every sweep in `runs` up to date; returns the number of its trials.

    Finds runs by the ids kept in the folders, else by their tags: nothing is there twice, however
    often this runs. Trials that a live driver is running are left to it.
    Raises SpecError when MLflow cannot be reached.
    """
    try:
        return _mirror_all(connect(uri, runs), runs)
    except OSError:
        raise
    except Exception as error:  # MLflow and its plugins raise whatever they like
        raise SpecError(f"--tracking-uri: MLflow at {masked(uri)} cannot be used: {_short(error)}") from None


def connect(uri: str, runs: Folder) -> "Mirror":
    """Takes seconds: MLflow is imported here, and makes its database if there is none."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from orchestrator.mirror import Mirror

    return Mirror(uri, runs)


def _mirror_all(mirror: "Mirror", runs: Folder) -> int:
    parents: dict[str, str] = {}
    for sweep in runs.names():
        snapshot = (runs / sweep).read("sweep.yaml")
        if snapshot is None:
            continue
        content = yaml.safe_load(snapshot)
        run_id = mirror.parent(sweep, str(content.get("question", "")))
        for trial_id in json.loads((runs / sweep).read("trials.json") or b"[]"):
            parents.setdefault(trial_id, run_id)
        mirror.end_parent(run_id, {})
    mirrored = 0
    for trial_id in (runs / "trials").names():
        folder = runs / "trials" / trial_id
        spec = folder.read("spec.json")
        if spec is None or elsewhere(folder, runs):
            continue
        mirrored += 1
        if mirror.has(trial_id):
            continue
        mirror.child(trial_id, json.loads(spec), parents.get(trial_id))
        result, _ = read_result(folder)
        if result is None:
            mirror.catch_up(trial_id)
        else:
            mirror.finish(trial_id, result)
    return mirrored


def _by_trial(events: Iterable[Event]) -> list[list[Event]]:
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.trial_id, []).append(event)
    return list(groups.values())


def _short(error: Exception) -> str:
    return masked(" ".join(str(error).split()))[:200] or type(error).__name__
