"""Prometheus: the sweep's state as metrics on a port of this machine."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from orchestrator.faults import Failure
from orchestrator.observers import Notice, Observer
from orchestrator.planning.plan import Plan
from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.spec import SpecError
from trainers.trial import TrialSpec

LOOPBACK = "127.0.0.1"


class Metrics(Observer):
    """`circuit_sweep_trials{state}`, `circuit_sweep_failures_total{kind}`, `circuit_sweep_steps_total`,
    `circuit_sweep_last_progress_timestamp_seconds`, `circuit_sweep_nodes_excluded`; all carry the sweep."""

    def __init__(self, plan: Plan, port: int) -> None:
        """Raises SpecError when the port is taken."""
        self._sweep = plan.sweep.name
        self._registry = CollectorRegistry()
        self._trials = Gauge(
            "circuit_sweep_trials", "Trials by state", ["sweep", "state"], registry=self._registry
        )
        self._failures = Counter(
            "circuit_sweep_failures", "Attempts that ended without a result", ["sweep", "kind"],
            registry=self._registry,
        )  # fmt: skip
        labels = {"labelnames": ["sweep"], "registry": self._registry}
        self._steps = Counter("circuit_sweep_steps", "Steps that were reported", **labels).labels(self._sweep)
        self._last = Gauge(
            "circuit_sweep_last_progress_timestamp_seconds", "Unix time of the last report", **labels
        ).labels(self._sweep)
        self._excluded = Gauge(
            "circuit_sweep_nodes_excluded", "Nodes that get no more trials", **labels
        ).labels(self._sweep)
        self._at: dict[str, int] = {}  # the last step of trials that ran here
        self._states: dict[str, str] = {}
        self._unasked = 0
        for state in ("waiting", "running", "complete", "failed"):
            self._trials.labels(self._sweep, state).set(0)
        for trial in plan.trials:  # begun earlier and not running now: it waits, as far as this driver goes
            self._is(trial.trial_id, "waiting" if trial.result is None else trial.state)
        self._unasked = plan.unasked  # of the waiting ones, those that studies will ask for
        self._trials.labels(self._sweep, "waiting").inc(plan.unasked)
        try:
            self._server, self._thread = start_http_server(port, LOOPBACK, self._registry)
        except OSError as error:
            raise SpecError(f"--metrics-port: {LOOPBACK}:{port} cannot be used: {error.strerror}") from None

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/metrics"

    def on_start(self, trial_id: str, spec: TrialSpec) -> None:
        self._is(trial_id, "running")

    def on_failure(self, trial_id: str, failure: Failure, again: bool) -> None:
        self._failures.labels(self._sweep, failure.kind).inc()
        self._is(trial_id, "waiting")

    def on_again(self, trial_id: str) -> None:
        self._is(trial_id, "waiting")

    def on_given_back(self, trial_id: str, attempt: int, cause: str) -> None:
        self._is(trial_id, "waiting")

    def on_progress(self, trial_id: str, progress: Progress) -> None:
        self._steps.inc(max(0, progress.step - self._at.get(trial_id, 0)))
        self._at[trial_id] = progress.step
        self._last.set(time.time())

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        self._is(trial_id, result.status)

    def on_notice(self, notice: Notice) -> None:
        if notice.kind in ("excluded", "drained") and notice.node:
            self._excluded.inc()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _is(self, trial_id: str, state: str) -> None:
        before = self._states.get(trial_id)
        if before is None and self._unasked:
            self._unasked, before = self._unasked - 1, "waiting"
        if before is not None:
            self._trials.labels(self._sweep, before).dec()
        self._states[trial_id] = state
        self._trials.labels(self._sweep, state).inc()
