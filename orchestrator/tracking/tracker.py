"""Mirrors sweeps to MLflow: one parent run per sweep, one child run per trial.

The run folders are the truth: whatever MLflow misses because it was slow or away, `track` puts in
afterwards. No trial ever waits for it.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.lease import elsewhere
from orchestrator.observers import Observer
from orchestrator.records.results import Results
from orchestrator.records.sweep_record import sweeps_in
from orchestrator.records.trial_record import read_spec
from orchestrator.records.trial_result import EPSILON, read_result
from orchestrator.search.record import known_trials
from orchestrator.sweep import SweepSpec
from orchestrator.wording import masked
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.spec import SpecError
from trainers.trial import TrialSpec

if TYPE_CHECKING:
    from orchestrator.tracking.mirror import Mirror

BEAT_SECONDS = 2.0  # between two looks at the folders of running trials
RECONNECT_SECONDS = 60.0
FRONT_SECONDS = 300.0  # at least, between two fronts and reports of a running sweep
FRONT_SHARE = 0.05  # of the time, at most, goes into making them
UPLOAD_SECONDS = 60.0  # for the report of some megabytes
PATIENCE_SECONDS = 20.0  # at a sweep's end, for an MLflow that makes no headway
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the password that a URI may hold
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
log = logging.getLogger(__name__)


@dataclass
class Watched:
    """A trial that runs or ran here and is not all in MLflow yet."""

    spec: dict[str, Any]
    moved: bool = True  # since MLflow was told last
    result: TrialResult | None = None


class Tracker(Observer):
    """It only notes which trials moved; one background thread then copies their folders
    to MLflow. So a slow MLflow lags behind, and nothing piles up in memory."""

    def __init__(self, uri: str, sweep: SweepSpec, runs: Folder) -> None:
        self._uri = uri
        self._sweep = sweep
        self._runs = runs
        self._watched: dict[str, Watched] = {}
        self._over = 0  # trials that ended here
        self._mirror: Mirror | None = None
        self._parent = ""
        self._not_before = 0.0  # monotonic; the next attempt to connect
        self._warned = False
        self._headway = 0  # calls that MLflow answered
        self._next_front = time.monotonic() + FRONT_SECONDS
        self._front_of = 0  # trials that were over when the front was made last
        self._making = False  # a front: our own work, however long MLflow is silent
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def on_start(self, trial_id: str, spec: TrialSpec) -> None:
        self._watched.setdefault(trial_id, Watched(spec.plain()))

    def on_progress(self, trial_id: str, progress: Progress) -> None:
        if trial_id in self._watched:
            self._watched[trial_id].moved = True

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        """A trial that another driver ran is mirrored by that one."""
        if trial_id in self._watched:
            self._watched[trial_id].result = result
            self._over += 1

    def close(self) -> None:
        """Waits for the rest as long as MLflow makes headway."""
        self._closing.set()
        seen, since = -1, time.monotonic()
        while self._thread.is_alive() and time.monotonic() - since < PATIENCE_SECONDS:
            self._thread.join(timeout=0.1)
            if self._headway != seen or self._making:
                seen, since = self._headway, time.monotonic()
        if self._thread.is_alive():
            self._warn("makes no headway")

    def _work(self) -> None:
        while not self._closing.wait(BEAT_SECONDS):
            self._round()
            self._front_when_due()
        self._not_before = 0.0
        self._round()
        left = any(watched.result for watched in self._watched.values())
        if self._mirror is not None and not left:
            self._call(self._end)

    def _round(self) -> None:
        for trial_id, watched in list(self._watched.items()):
            result = watched.result
            if result is None and not watched.moved:
                continue
            watched.moved = False  # before looking: what comes from now on is seen in the next round
            told = self._call(partial(self._tell, trial_id, watched.spec, result))
            if told and result is not None:
                del self._watched[trial_id]

    def _front_when_due(self) -> None:
        over = self._over
        if over == self._front_of or time.monotonic() < self._next_front:
            return
        self._front_of, started = over, time.monotonic()
        self._call(self._tell_front)
        took = time.monotonic() - started
        self._next_front = time.monotonic() + max(FRONT_SECONDS, took / FRONT_SHARE)

    def _tell_front(self) -> None:
        from orchestrator.tracking.front import Front, report_files

        mirror = self._connected()
        try:
            self._making = True
            results = Results.load(self._runs / self._sweep.name)
            front, report = Front.of(results), report_files(results)
        finally:
            self._making = False
        mirror.log_front(self._parent, front, report)

    def _call(self, call: Callable[[], None]) -> bool:
        """MLflow and its plugins raise whatever they like; none of it may reach the sweep."""
        if self._mirror is None and time.monotonic() < self._not_before:
            return False
        try:
            call()
        except Exception as error:
            self._warn(f"failed: {_short(error)}")
            if self._mirror is None:
                self._not_before = time.monotonic() + RECONNECT_SECONDS
            return False
        self._headway += 1
        return True

    def _connected(self) -> "Mirror":
        if self._mirror is None:
            mirror = connect(self._uri, self._runs)
            self._parent = mirror.parent(self._sweep.name, self._sweep.question)
            self._mirror = mirror
        return self._mirror

    def _tell(self, trial_id: str, spec: dict[str, Any], result: TrialResult | None) -> None:
        mirror = self._connected()
        mirror.child(trial_id, spec, self._parent)
        if result is None:
            mirror.catch_up(trial_id)
        else:
            mirror.finish(trial_id, result, self._sweep.objectives.epsilon)

    def _end(self) -> None:
        mirror = self._connected()
        counts = {"complete": 0.0, "failed": 0.0}
        for trial_id in known_trials(self._sweep, self._runs / self._sweep.name):
            mirror.belongs(trial_id, self._sweep.name)
            result, _ = read_result(self._runs / "trials" / trial_id)
            if result is not None:
                counts[result.status] += 1
        mirror.end_parent(self._parent, counts)

    def _warn(self, what: str) -> None:
        """Once: the sweep matters more."""
        if not self._warned:
            self._warned = True
            log.warning("%s", _missing(self._uri, self._runs, what))


def mirror_report(uri: str, runs: Folder, sweep: SweepSpec, report: Folder) -> None:
    """Puts the sweep's front, and the report that was just written, into the sweep's run. An MLflow that
    fails, or does not answer for UPLOAD_SECONDS, costs a warning."""
    from orchestrator.tracking.front import Front, read_report

    told: list[str] = []

    def tell(front: Front, files: Mapping[str, bytes]) -> None:
        try:
            mirror = connect(uri, runs)
            mirror.log_front(mirror.parent(sweep.name, sweep.question), front, files)
            told.append("")
        except Exception as error:  # MLflow and its plugins raise whatever they like
            told.append(f"failed: {_short(error)}")

    contents = Front.of(Results.load(runs / sweep.name)), read_report(report)
    thread = threading.Thread(target=tell, args=contents, name="mlflow-report", daemon=True)
    thread.start()
    thread.join(UPLOAD_SECONDS)
    if what := told[0] if told else "makes no headway":
        log.warning("%s", _missing(uri, runs, what))


def track(runs: Folder, uri: str) -> int:
    """Brings the mirror of every sweep in `runs` up to date; returns the number of its trials.

    Finds runs by the ids kept in the folders, else by their tags: nothing is there twice, however
    often this runs. Trials that a live driver is running are left to it.
    Raises SpecError for a folder without sweeps, and when MLflow cannot be reached.
    """
    if not any((runs / name).exists("sweep.yaml") for name in runs.names()):
        raise SpecError(f"{runs.location}: no sweep there; allowed: the folder that `run --runs` was given")
    with _blamed(uri):
        mirror = connect(uri, runs)
        mirrored, runs_of = _mirror_all(mirror, runs)
    for sweep, run_id in runs_of.items():
        _mirror_front(mirror, uri, run_id, runs / sweep)
    return mirrored


@contextmanager
def _blamed(uri: str) -> Iterator[None]:
    """MLflow and its plugins raise whatever they like."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise SpecError(f"--tracking-uri: MLflow at {masked(uri)} cannot be used: {_short(error)}") from None


def connect(uri: str, runs: Folder) -> "Mirror":
    """Takes seconds: MLflow is imported here, and makes its database if there is none."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from orchestrator.tracking.mirror import Mirror

    return Mirror(uri, runs)


def _mirror_all(mirror: "Mirror", runs: Folder) -> tuple[int, dict[str, str]]:
    """How many trials were mirrored, and the run of each sweep."""
    sweeps, _ = sweeps_in(runs, [])
    runs_of = {sweep.name: mirror.parent(sweep.name, sweep.question) for sweep in sweeps}
    first = {trial: sweep for sweep in reversed(sweeps) for trial in sweep.trial_ids}
    mirrored, ended = 0, dict[str, str]()
    for trial_id in (runs / "trials").names():
        folder = runs / "trials" / trial_id
        spec = read_spec(folder)
        if spec is None or elsewhere(folder, runs):
            continue
        mirrored += 1
        result, _ = read_result(folder)
        ended[trial_id] = result.status if result is not None else ""
        if mirror.has(trial_id):
            continue
        sweep = first.get(trial_id)
        mirror.child(trial_id, spec, runs_of[sweep.name] if sweep else None)
        if result is None:
            mirror.catch_up(trial_id)
        else:
            mirror.finish(trial_id, result, sweep.epsilon if sweep else EPSILON)
    for sweep in sweeps:
        for trial_id in set(sweep.trial_ids) & ended.keys():
            mirror.belongs(trial_id, sweep.name)
        states = [ended.get(trial_id) for trial_id in sweep.trial_ids]
        counts = {state: float(states.count(state)) for state in ("complete", "failed")}
        mirror.end_parent(runs_of[sweep.name], counts)
    return mirrored, runs_of


def _mirror_front(mirror: "Mirror", uri: str, run_id: str, home: Folder) -> None:
    from orchestrator.tracking.front import Front, report_files

    results = Results.load(home)
    front = Front.of(results)
    with _blamed(uri):
        known = mirror.has_front(run_id, front)
    if not known:
        report = report_files(results)
        with _blamed(uri):
            mirror.log_front(run_id, front, report)


def _missing(uri: str, runs: Folder, what: str) -> str:
    again = f"circuit-sweep track {masked(runs.location)} --tracking-uri {masked(uri)}"
    return f"MLflow at {masked(uri)} {what}. No trial is affected; what is missing there, this adds: {again}"


def _short(error: Exception) -> str:
    return masked(" ".join(str(error).split()))[:200] or type(error).__name__
