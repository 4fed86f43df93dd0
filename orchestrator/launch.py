"""Runs the trials of a plan that are still missing, on Ray Tune, and says how it went."""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ray import tune
from ray.tune.search import Searcher

from orchestrator.attempt import Owner
from orchestrator.cluster import cluster, gangs, live_nodes
from orchestrator.code_version import code_version
from orchestrator.lane import Gang, Lane, bundles
from orchestrator.lease import elsewhere
from orchestrator.observer import Observer
from orchestrator.plan import Plan, PlannedTrial
from orchestrator.relay import Relay
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.resources import Resources

TERM_SECONDS = 20.0  # after SIGTERM
POLL_SECONDS = 2.0  # how often trials that other drivers run are looked at


@dataclass(frozen=True)
class Outcome:
    """How a launch ended. `complete` and `failed` were run here; `skipped` were over already or were
    run by another driver meanwhile; `unfinished` go on when the same command runs again."""

    complete: int
    failed: int
    skipped: int
    unfinished: int
    seconds: float
    stopped: Literal["", "interrupted", "max_hours"] = ""

    @property
    def exit_code(self) -> int:
        """0: every trial asked for is over and none failed here; 1: some failed; 130: interrupted."""
        if self.stopped == "interrupted":
            return 130
        return 1 if self.failed else 0


class Stop(tune.Stopper):
    """Tells Tune when to end all trials; lanes end at their next step."""

    def __init__(self, max_hours: float | None) -> None:
        self._deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
        self.why: Literal["", "interrupted", "max_hours"] = ""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self.why and self._deadline is not None and time.monotonic() > self._deadline:
            self.why = "max_hours"
        return bool(self.why)


class PlanOrder(Searcher):
    """Hands trials to Tune in plan order, so that a lane seldom has to load another model."""

    def __init__(self, trials: Sequence[PlannedTrial]) -> None:
        super().__init__()
        self._left = deque(trials)

    def suggest(self, trial_id: str) -> Any:
        if not self._left:
            return Searcher.FINISHED
        trial = self._left.popleft()
        return {"trial_id": trial.trial_id, "spec": trial.spec.plain()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass  # the trial folders are the truth

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a sweep goes on from its trial folders, never from Tune's own state")


class Watch(tune.Callback):
    """Hands what Tune hears from lanes to the relay."""

    def __init__(self, relay: Relay, resources: Resources) -> None:
        self._relay = relay
        self._resources = resources

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._relay.start(trial.config["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        for report in result["reports"]:
            self._relay.progress(trial.config["trial_id"], Progress(**report))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._relay.over(trial.config["trial_id"], here=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._relay.retry(trial.config["trial_id"], _reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._relay.give_up(trial.config["trial_id"], _reason(trial), self._resources)


def run(
    plan: Plan,
    runs: Folder,
    resources: Resources,
    address: str | None = None,
    observers: Sequence[Observer] = (),
    max_hours: float | None = None,
    work: str = "trainers.worker:Worker",
) -> Outcome:
    """Runs every trial of the plan that is not over, in order, on as many lanes as fit.

    A trial that another driver is running is left to it, waited for at the end, and run here if that
    driver vanishes. On SIGINT, SIGTERM or after `max_hours` lanes end at their next step. `work`
    names the class that ranks run ("module:class").

    Raises SpecError before anything starts when the cluster cannot be reached or is too small.
    """
    started = time.monotonic()
    stop = Stop(max_hours)
    todo = plan.missing
    relay = Relay(runs, {trial.trial_id: trial.spec for trial in todo}, observers)
    owner = Owner(sweep=plan.sweep.name, host=socket.gethostname(), pid=os.getpid())
    gang = Gang(runs.location, resources, owner, os.getcwd(), work, code_version())
    with contextlib.ExitStack() as stack:
        stack.callback(relay.close)
        if todo:
            stack.enter_context(cluster(address))
            lanes = min(gangs(resources, live_nodes()), resources.lanes or sys.maxsize)
            stack.enter_context(_signals(stop))
            _run_all(todo, gang, lanes, relay, stop)
    return Outcome(
        complete=relay.complete,
        failed=relay.failed,
        skipped=len(plan.trials) - len(todo) + relay.elsewhere,
        unfinished=len(todo) - len(relay.ended),
        seconds=time.monotonic() - started,
        stopped=stop.why if len(relay.ended) < len(todo) else "",
    )


def _run_all(todo: Sequence[PlannedTrial], gang: Gang, lanes: int, relay: Relay, stop: Stop) -> None:
    """Runs what is free, then whatever other drivers left behind, until all is over."""
    runs = Folder.open(gang.runs)
    left = {trial.trial_id: trial for trial in todo}
    while left and not stop.stop_all():
        free = [
            trial
            for trial in left.values()
            if not elsewhere(runs / "trials" / trial.trial_id, runs, gang.owner)
        ]
        if free:
            _fit(free, gang, min(lanes, len(free)), relay, stop)
        else:
            time.sleep(POLL_SECONDS)
        for trial_id in list(left):
            if relay.over(trial_id, here=False):
                del left[trial_id]


def _fit(trials: list[PlannedTrial], gang: Gang, lanes: int, relay: Relay, stop: Stop) -> None:
    """One Ray Tune run; its own record of it is thrown away."""
    with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
        tune.run(
            tune.with_parameters(Lane, gang=gang),
            resources_per_trial=bundles(gang.resources),
            search_alg=PlanOrder(trials),
            num_samples=len(trials),
            max_concurrent_trials=lanes,
            reuse_actors=True,
            max_failures=gang.resources.max_retries,
            raise_on_failed_trial=False,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[Watch(relay, gang.resources)],
            stop=stop,
            storage_path=scratch,
            name="sweep",
            trial_dirname_creator=lambda trial: trial.trial_id,
            verbose=0,
        )


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """SIGINT and SIGTERM end the sweep at the next step; the second one ends this process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        if stop.why == "interrupted":
            _end_at_once()
        if number == signal.SIGTERM:  # who sends it kills soon, and may have sent it to all of Ray, too
            limit = threading.Timer(TERM_SECONDS, _end_at_once)
            limit.daemon = True
            limit.start()
        stop.why = "interrupted"
        text = "Stopping when the running steps end; the same command goes on from there."
        os.write(2, f"\n{text} Ctrl-C once more stops at once.\n".encode())

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once() -> None:
    """Leaves the rest to Ray, whose processes end with this one; trials keep their checkpoints."""
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # the cursor, which the display hid
    os._exit(130)


def _reason(trial: Any) -> str:
    """What the lane said when it was lost, without Tune's and Ray's frames around it."""
    path = trial.error_file
    text = Path(path).read_text() if path and Path(path).exists() else "Ray Tune kept no error"
    last = text.rpartition("Failure # ")[2]
    return last.rpartition("orchestrator.lane.LaneError: ")[2]
