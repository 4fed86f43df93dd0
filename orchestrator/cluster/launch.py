"""Runs the trials of a plan that are still missing, on Ray Tune, and says how it went."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ray import tune

from orchestrator.attempt import Owner
from orchestrator.cluster.connection import cluster, live_nodes, missing, nodes_called
from orchestrator.cluster.lane import Lane, Shift
from orchestrator.cluster.relay import Relay
from orchestrator.cluster.room import fits, require_room
from orchestrator.cluster.scheduling import POLL_SECONDS, PlanOrder, Queue, Stop, Watch, Why
from orchestrator.cluster.supervisor import Decision, Supervisor
from orchestrator.code_version import code_version
from orchestrator.control import Control
from orchestrator.faults import Failure, failures
from orchestrator.lease import elsewhere
from orchestrator.observers import Notice, NoticeKind, Observer
from orchestrator.planning.plan import Plan, PlannedTrial, clear_the_way
from orchestrator.planning.snapshot import write_trials
from orchestrator.records.trial_result import read_result
from orchestrator.wording import count
from trainers.folder import Folder
from trainers.result import TrialResult

TERM_SECONDS = 20.0  # after SIGTERM
WAIT_SECONDS = 20.0  # without a running trial, before we say what is missing, and once a minute then
STOPPED_BY: dict[Why, str] = {"interrupted": "by Ctrl-C or SIGTERM", "max_hours": "by --max-hours"}
LOG_BYTES = 20_000  # from the end of each rank's log, for log rules


@dataclass(frozen=True)
class Outcome:
    """How a launch ended. `complete` and `failed` were run here; `skipped` were over already or were
    run by another driver meanwhile; `unfinished` go on when the same command runs again."""

    complete: int
    failed: int
    skipped: int
    unfinished: int
    seconds: float
    stopped: Why = ""
    reason: str = ""  # why it stopped by itself


def run(
    plan: Plan,
    runs: Folder,
    address: str | None = None,
    observers: Sequence[Observer] = (),
    max_hours: float | None = None,
    wait: bool = False,
    verbose: bool = False,
    work: str = "trainers.worker:Worker",
) -> Outcome:
    """Runs every trial of the plan that is not over, in order, on as many lanes as fit.

    A trial that another driver is running is left to it, waited for at the end, and run here if that
    driver vanishes. On SIGINT, SIGTERM or after `max_hours` lanes end at their next step. With `wait`, a
    cluster that is too small is waited for. `work` names the class that ranks run ("module:class").

    Raises SpecError before anything starts when the cluster cannot be reached or is too small.
    """
    started = time.monotonic()
    sweep, stop = plan.sweep, Stop(max_hours)
    owner = Owner(sweep=sweep.name, host=socket.gethostname(), pid=os.getpid())
    relay = Relay(runs, {trial.trial_id: trial.spec for trial in plan.trials}, owner)
    shift = Shift(
        runs.location, sweep.resources, sweep.faults, owner, os.getcwd(), work, code_version(), verbose
    )
    launch = Launch(plan, runs, shift, relay, stop, wait)
    relay.observers += [*observers, launch]
    with contextlib.ExitStack() as stack:
        stack.callback(relay.close)
        if launch.left:
            stack.enter_context(_signals(stop))  # first: a Ray that is cut off as it starts leaves processes
            stack.enter_context(cluster(address, verbose))
            stack.enter_context(_signals(stop))  # again: Ray's native code has taken SIGTERM
            launch.run_all()
    return Outcome(
        complete=relay.complete,
        failed=relay.failed,
        skipped=len(plan.trials) - len(plan.missing) + relay.elsewhere,
        unfinished=len(launch.left),
        seconds=time.monotonic() - started,
        stopped=stop.why if launch.left or stop.text else "",
        reason=stop.text,
    )


@dataclass
class Launch(Observer):
    """The rounds of one launch: each is a Ray Tune run over the trials that are left and free. A round ends
    early when people pause the sweep; lanes then leave their trials at a checkpoint."""

    plan: Plan
    runs: Folder
    shift: Shift
    relay: Relay
    stop: Stop
    wait: bool
    left: dict[str, PlannedTrial] = field(init=False)
    trials: dict[str, PlannedTrial] = field(init=False)  # all, with those that studies asked for since
    _supervisor: Supervisor = field(init=False)
    _order: PlanOrder | None = None  # of the present round
    _asked: Control = Control()
    _history: dict[str, list[Failure]] = field(default_factory=dict)
    _idle_since: float | None = None  # no trial ran since; monotonic
    _next_word: float = 0.0  # on what is missing

    def __post_init__(self) -> None:
        self.left = {trial.trial_id: trial for trial in self.plan.missing}
        self.trials = {trial.trial_id: trial for trial in self.plan.trials}
        self._supervisor = Supervisor(self.shift.faults)
        self.stop.poll = self._poll

    def run_all(self) -> None:
        """Runs what is free, then whatever other drivers left behind, until all is over.

        Raises SpecError when the cluster is too small at the start; later, missing nodes may come back.
        """
        if not self.wait and not self.stop.why:
            require_room(self.shift.resources, live_nodes())
        self._notice("started", f"{count(len(self.left), 'trial')} to run")
        while self.left and not self.stop.why:
            self.stop.replan = False
            if not self._may_start():
                self.stop.stop_all()  # looks at the clock, and polls
                time.sleep(POLL_SECONDS)
                continue
            free = [trial for trial in self.left.values() if not self._elsewhere(trial)]
            if free:
                self._round(free)
            else:
                time.sleep(POLL_SECONDS)
                self.stop.stop_all()
            for trial_id in list(self.left):
                if self.relay.over(trial_id, here=False):
                    del self.left[trial_id]
        if self.stop.why:
            self._notice("stopped", self._why_stopped())
        else:
            self._notice("ended", f"{self.relay.complete} complete, {self.relay.failed} failed in this run")

    def _why_stopped(self) -> str:
        return self.stop.text or STOPPED_BY.get(self.stop.why, self.stop.why)

    def _may_start(self) -> bool:
        """False while paused, or while the cluster is too small."""
        if self._asked.paused:
            return False
        if fits(self.shift.resources, live_nodes(self._supervisor.excluded)):
            return True
        self._say_what_is_missing()
        return False

    def _round(self, trials: list[PlannedTrial]) -> None:
        """One Ray Tune run; its own record of it is thrown away."""
        resources, faults, excluded = self.shift.resources, self.shift.faults, self._supervisor.excluded
        # No more lanes than trials, else as many as the cluster takes, now and when nodes join.
        most = len(trials) + sum(study.next_size for study in self.plan.studies)
        lanes = min(resources.lanes or most, most)
        self._order = PlanOrder(trials, resources, excluded)
        self._order.asking = any(study.unasked for study in self.plan.studies)
        with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
            tune.run(
                tune.with_parameters(Lane, shift=self.shift),
                search_alg=Queue(self._order, lanes),
                reuse_actors=True,
                max_failures=faults.trial_retries + faults.machine_retries + 1,
                raise_on_failed_trial=False,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Watch(self.relay, self._failed, excluded)],
                stop=self.stop,
                storage_path=scratch,
                name="sweep",
                trial_dirname_creator=lambda trial: trial.trial_id,
                verbose=0,
            )
        self._order = None
        stopped = f"stopped{', as' * bool(self.stop.text)} {self._why_stopped()}"
        cause = f"the sweep was {stopped if self.stop.why else 'paused'}"
        for trial_id in list(self.relay.running):
            self.relay.given_back(trial_id, cause)

    def _failed(self, trial_id: str, failure: Failure) -> None:
        """Decides what follows. A trial that is given up gets its result here: a lane that is handed it
        again finds it over."""
        folder = self.runs / "trials" / trial_id
        failure = failure.model_copy(update={"time": datetime.now(UTC).isoformat(timespec="seconds")})
        history = self._history.setdefault(trial_id, failures(folder))
        history.append(failure)
        decision = self._supervisor.failed(
            trial_id, history, _log_lines(folder), self._spare_nodes(failure.node)
        )
        self.relay.failure(trial_id, failure, again=not decision.give_up)
        if decision.give_up:
            self.relay.give_up(trial_id, failure.cause, decision.give_up, self.shift.resources)
        if decision.exclude:
            self._notice("excluded", _excluded(failure, decision.exclude), decision.exclude)
        self._stop_for(decision, failure)

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        """A trial that is complete shows that others can be. One that diverged shows nothing: that is its
        answer, and all seeds of a learning rate may give it."""
        if result.status == "complete":
            self._supervisor.complete()
        try:
            self._ask_on(trial_id)
        except Exception as error:  # an observer that raises would not be told of the next result
            self.stop.why = "failing"
            self.stop.text = f"no more trials could be asked for: {type(error).__name__}: {error}"

    def _ask_on(self, trial_id: str) -> None:
        """The next round of the trial's studies, when it was the last of its own: the lanes go on with it."""
        new: dict[str, PlannedTrial] = {}
        for study in self.plan.studies:
            if any(question.trial_id == trial_id for question in study.questions):
                for one in study.go_on(lambda trial_id: read_result(self.runs / "trials" / trial_id)[0]):
                    if one.trial_id not in self.trials:
                        new[one.trial_id] = PlannedTrial(one.trial_id, one.trial, "waiting")
        if not new:
            return
        self.trials |= new
        write_trials(self.runs / self.plan.sweep.name, list(self.trials), self.plan.studies)
        self.relay.asked(list(new.values()))
        for trial in new.values():
            self.left[trial.trial_id] = trial
            if self._order is not None:
                self._order.put(trial)
                self._order.asking = any(study.unasked for study in self.plan.studies)

    def _stop_for(self, decision: Decision, failure: Failure) -> None:
        if decision.stop and not self.stop.why:
            self.stop.why = "storage" if failure.kind == "storage" else "failing"
            self.stop.text = decision.stop

    def _spare_nodes(self, node: str) -> list[str]:
        """The live nodes, if trials still fit without `node`; none, so that it is kept, if they do not."""
        excluded = self._supervisor.excluded
        if not node or not fits(self.shift.resources, live_nodes(excluded | {node})):
            return []
        return [str(one["id"]) for one in live_nodes(excluded)]

    def _poll(self) -> None:
        """Does what people asked for since the last time."""
        before = self._asked
        with contextlib.suppress(OSError):  # of a store that is away; if it stays away, the lease is lost
            self._asked = Control.read(self.runs / self.plan.sweep.name)
        asked = self._asked
        if asked.paused != before.paused:
            self._notice(
                "paused" if asked.paused else "resumed", "by `circuit-sweep pause`" if asked.paused else ""
            )
        self._drain(asked.drained, asked.drained - before.drained)
        for trial_id in asked.cancelled - before.cancelled:
            if trial_id in self.left:
                why, ran = "cancelled by `circuit-sweep cancel`", trial_id in self.relay.running
                self.relay.give_up(trial_id, why, "cancelled", self.shift.resources, ran)
        self.stop.cancelled = asked.cancelled
        if asked.retries != before.retries:
            self._retry_failed()
        self.stop.replan = asked.paused
        self._say_what_is_missing()

    def _drain(self, names: frozenset[str], new: frozenset[str]) -> None:
        """A machine that was started again is another node of the same name: it stays drained, too."""
        for name in names:
            nodes = nodes_called(name)
            for node in nodes:
                if name in new or node not in self._supervisor.excluded:
                    self._supervisor.excluded.add(node)
                    self._notice("drained", f"node {name} gets no more trials", node)
            if name in new and not nodes:
                known = ", ".join(f"{one['name']} ({one['address']})" for one in live_nodes())
                self._notice("drained", f"nothing: no live node is called {name}; there are {known}")

    def _retry_failed(self) -> None:
        again, moved = clear_the_way(self._looked_again(), self.runs, retry_failed=True)
        for trial in again.missing:
            for study in self.plan.studies:
                study.forget(trial.trial_id)
            if trial.trial_id in self.relay.ended or trial.trial_id not in self.left:
                self.left[trial.trial_id] = trial
                self._history.pop(trial.trial_id, None)
                self.relay.again(trial.trial_id)
                if self._order is not None:
                    self._order.put(trial)
        self._supervisor.complete()
        self._notice("retried", f"{count(len(moved), 'failed trial')} asked for again")

    def _looked_again(self) -> Plan:
        from orchestrator.planning.plan import plan

        return plan(self.plan.sweep, self.runs, self.shift.owner)

    def _say_what_is_missing(self) -> None:
        """Nothing while a trial runs or starts quickly; else what the cluster lacks, once a minute."""
        now = time.monotonic()
        if self.relay.running or self._asked.paused:
            self._idle_since = None
            return
        self._idle_since = self._idle_since or now
        if now - self._idle_since < WAIT_SECONDS or now < self._next_word:
            return
        self._next_word = now + 60
        if text := missing(self.shift.resources, self._supervisor.excluded):
            self._notice("waiting", text)

    def _elsewhere(self, trial: PlannedTrial) -> bool:
        return elsewhere(self.runs / "trials" / trial.trial_id, self.runs, self.shift.owner)

    def _notice(self, kind: NoticeKind, text: str, node: str = "") -> None:
        self.relay.notice(Notice(kind, text, node))


def _excluded(failure: Failure, node: str) -> str:
    return (
        f"node {failure.host or node} gets no more trials, after {failure.headline[:200]} "
        "(trials that run there go on elsewhere, from their checkpoints)"
    )


def _log_lines(trial: Folder) -> list[str]:
    """The ends of the ranks' logs."""
    lines: list[str] = []
    for name in trial.names():
        if name.startswith("rank-") and name.endswith(".log"):
            lines += (trial.read(name) or b"")[-LOG_BYTES:].decode(errors="replace").splitlines()
    return lines


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
