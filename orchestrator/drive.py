"""Drive: one `circuit-sweep run`, from the spec file to the report."""

import os
import re
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.lease import Lease, LeaseHeld
from orchestrator.planning.plan import Plan, clear_the_way, plan
from orchestrator.planning.snapshot import write_trials
from orchestrator.reported import publish_unless_current
from orchestrator.smoke import smoke
from orchestrator.sweep import SweepSpec
from orchestrator.wording import count
from orchestrator.yaml_source import write_yaml
from trainers.folder import Folder
from trainers.spec import SpecError

if TYPE_CHECKING:
    from orchestrator.cluster.launch import Outcome
    from orchestrator.observers import Observer

MIN_FREE_BYTES = 256 * 2**20
# Ray sets it for the entrypoint of a submitted job, and for nothing else.
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"

OK, SOME_FAILED, USER_ERROR, HELD, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True)
class Request:
    """What the command line asks for; operational switches only."""

    spec: Path
    runs: str
    address: str | None = None
    tracking_uri: str | None = None
    rerun: tuple[str, ...] = ()
    retry_failed: bool = False
    max_hours: float | None = None
    report: bool = True
    wait: bool = False
    metrics_port: int | None = None
    verbose: bool = False
    smoke: bool = False


@dataclass(frozen=True)
class Finished:
    """How a run ended. `ran` counts the trials that ran in it, `plan` is the sweep's state now."""

    exit_code: int
    plan: Plan
    ran: int
    seconds: float
    tracking_uri: str
    report: Folder | None
    table: str
    stopped: str = ""  # a launch's Why
    reason: str = ""  # why it stopped by itself


def drive(request: Request, say: Callable[[str], None]) -> Finished:
    """Runs what is missing of a sweep and reports on all of it; `say` gets lines for the user.

    Raises SpecError for what the user can put right, LeaseHeld when another driver runs the sweep
    or took it over. Nothing of an earlier run is lost in either case.
    """
    sweep = SweepSpec.load(request.spec)
    sweep = smoke(sweep) if request.smoke else sweep
    runs = open_runs(request.runs)
    tracking_uri = tracking_uri_for(runs, request.tracking_uri)
    home = runs / sweep.name
    with Lease.acquire(home, sweep.name) as lease:
        planned, moved = clear_the_way(
            plan(sweep, runs, lease.holder.owner), runs, request.rerun, request.retry_failed
        )
        for line in moved:
            say(f"moved aside: {line}")
        if left_out := _left_out(runs, planned):
            say(f"in the earlier plan of {sweep.name} only: {count(left_out, 'trial')}; what it found stays")
        _write_snapshot(home, planned)
        outcome = _launch(planned, runs, request, tracking_uri, say) if planned.missing else None
        if lease.lost:
            raise LeaseHeld(f"this driver stopped: {lease.lost}")
        after = plan(sweep, runs, lease.holder.owner) if planned.missing else planned
        if after.studies and outcome is not None and outcome.stopped != "storage":
            _write_snapshot(home, after)  # in plan order, with all that was asked for
        writable = outcome is None or outcome.stopped != "storage"
        report = home / "report" if request.report and writable else None
        trials = (runs / "trials" / trial.trial_id for trial in after.trials)
        table = publish_unless_current(home, report, trials) if report else ""
    if report is not None and outcome is not None:
        from orchestrator.tracking.tracker import mirror_report

        mirror_report(tracking_uri, runs, sweep, report)
    ran = len(after.trials) - len(after.missing) - (len(planned.trials) - len(planned.missing))
    seconds = outcome.seconds if outcome else 0.0
    stopped = outcome.stopped if outcome else ""
    reason = outcome.reason if outcome else ""
    return Finished(
        _exit_code(after, outcome), after, ran, seconds, tracking_uri, report, table, stopped, reason
    )


def open_runs(location: str) -> Folder:
    """The runs folder, made if it is not there, with a file written to it and deleted again.

    Raises SpecError when it is relative inside a Ray job, cannot be written, or has no space.
    """
    if JOB_VARIABLE in os.environ and "://" not in location and not os.path.isabs(location):
        raise SpecError(
            f"--runs: found {location}, a relative path inside a Ray job, whose working directory is a "
            "temporary copy that Ray deletes; allowed: an absolute path, or a URI such as s3://bucket/runs"
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(?!//)", location):
        raise SpecError(f"--runs: found {location}; allowed: a folder, or a URI with :// in it")
    if Path(location).is_file():
        raise SpecError(f"--runs: {location} is a file; allowed: a folder, or a URI")
    try:
        runs = Folder.open(location)
    except SpecError as error:
        raise SpecError(f"--runs: {error}") from None
    probe = f".probe-{uuid.uuid4().hex}"
    try:
        runs.write(probe, b"circuit-sweep can write here\n")
        runs.delete(probe)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise SpecError(f"--runs: {runs.location} cannot be written: {reason}") from None
    if runs.is_local and (free := shutil.disk_usage(runs.path).free) < MIN_FREE_BYTES:
        raise SpecError(
            f"--runs: {runs.location}: found {free / 2**20:.0f} MiB of free disk space; "
            f"allowed: at least {MIN_FREE_BYTES / 2**20:.0f} MiB"
        )
    return runs


def tracking_uri_for(runs: Folder, given: str | None) -> str:
    """--tracking-uri, else MLFLOW_TRACKING_URI, else a SQLite file in a local runs folder.

    Raises SpecError for a runs folder behind a URI when neither is given.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    if not runs.is_local:
        raise SpecError(
            f"--tracking-uri: required (or MLFLOW_TRACKING_URI), as the runs folder {runs.location} is not "
            "a local one that could hold an MLflow database"
        )
    return f"sqlite:///{runs.path}/mlflow.db"


def _left_out(runs: Folder, planned: Plan) -> int:
    """Begun trials of the plan that stands in the folder now, but not in the new one."""
    from orchestrator.status import trial_ids

    try:
        before = set(trial_ids(runs / planned.sweep.name))
    except SpecError:  # none, or one that a crash cut short
        return 0
    begun = before & set((runs / "trials").names())
    return len(begun - {trial.trial_id for trial in planned.trials})


def _write_snapshot(home: Folder, planned: Plan) -> None:
    trial_ids = [trial.trial_id for trial in planned.trials]
    try:
        home.write("sweep.yaml", write_yaml(planned.sweep.plain()).encode())
        write_trials(home, trial_ids, planned.studies)
    except OSError as error:
        raise SpecError(f"--runs: {home.location} cannot be written: {error.strerror or error}") from None


def _launch(
    planned: Plan, runs: Folder, request: Request, tracking_uri: str, say: Callable[[str], None]
) -> "Outcome":
    from orchestrator.cluster import launch
    from orchestrator.control import CONTROL
    from orchestrator.observers.alerts import Alerts
    from orchestrator.observers.display import Display
    from orchestrator.observers.events import EventLog
    from orchestrator.tracking.tracker import Tracker

    sweep, home = planned.sweep, runs / planned.sweep.name
    home.delete(CONTROL)  # what was asked of an earlier driver
    observers: list[Observer] = [*Alerts.from_environment(sweep.name, sweep.faults), EventLog(home)]
    if request.metrics_port is not None:
        from orchestrator.observers.prometheus import Metrics

        metrics = Metrics(planned, request.metrics_port)
        say(f"Prometheus metrics: {metrics.url}")
        observers.append(metrics)
    observers += [Display(planned), Tracker(tracking_uri, sweep, runs)]
    return launch.run(
        planned, runs, request.address, observers, request.max_hours, request.wait, request.verbose
    )


def _exit_code(after: Plan, outcome: "Outcome | None") -> int:
    if outcome is not None and outcome.stopped == "interrupted":
        return INTERRUPTED
    if outcome is not None and outcome.reason:
        return STOPPED
    return SOME_FAILED if after.missing or after.unasked or after.counts["failed"] else OK
