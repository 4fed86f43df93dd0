"""Display: how a sweep goes, live on a terminal, as occasional lines in a log file."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.faults import Failure, Kind
from orchestrator.observers import Notice, Observer
from orchestrator.planning.plan import Plan, PlannedTrial
from orchestrator.records.trial_result import own_point
from orchestrator.settings import named
from orchestrator.wording import count, duration, headline, percent, significant
from trainers.progress import Progress
from trainers.result import IN_SAMPLE, TrialResult
from trainers.trial import TrialSpec

LINE_SECONDS = 10.0  # between two lines about running trials in a log file, at first,
LINE_LIMIT = 60.0  # and in a sweep that has run for long
WARNING_CHARACTERS = 120  # shown of a warning when its trial ends
SHOWN = 8  # running trials shown by name
FIXED_STEPS = 50  # what loading and evaluating costs a trial, in training steps, about

ENDED: dict[Kind, str] = {
    "refused": "refused",
    "raised": "failed",
    "memory": "ran out of memory",
    "lost": "lost",
    "silent": "frozen",
    "node": "could not start",
    "storage": "could not write",
}


@dataclass
class Running:
    """A trial under way."""

    started: float
    attempt: int = 1
    progress: Progress | None = None


class Display(Observer):
    """On a terminal one block that is redrawn; in a file one line when a trial ends and
    one every 10 s, later every minute, in between. Writes to standard error unless given a console."""

    def __init__(
        self, plan: Plan, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trials = list(plan.trials)
        self._names = _names(plan.trials)
        self._divergences = {trial.trial_id: _divergence(trial) for trial in plan.missing}
        self._work = {
            trial.trial_id: FIXED_STEPS + trial.spec.method.steps_planned() for trial in plan.missing
        }
        self._work_done = 0.0  # of trials that ended here
        self._unasked = plan.unasked
        self._total = len(plan.trials) + plan.unasked
        self._states = {trial.trial_id: trial.state for trial in plan.trials if trial.result is not None}
        self._todo = len(plan.missing) + plan.unasked
        self._running: dict[str, Running] = {}
        self._attempts = Counter[str]()  # that failed
        self._told: set[str] = set()  # warnings
        self._retries = 0
        self._paused = False
        self._clock = clock
        self._first = self._last_line = clock()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        if self._todo:
            self._begin()

    def on_asked(self, trials: Sequence[PlannedTrial]) -> None:
        with self._lock:
            self._trials += trials
            self._names = _names(self._trials)
            self._unasked -= len(trials)
            for trial in trials:
                self._divergences[trial.trial_id] = _divergence(trial)
                self._work[trial.trial_id] = FIXED_STEPS + trial.spec.method.steps_planned()

    def on_start(self, trial_id: str, spec: TrialSpec) -> None:
        with self._lock:
            if not self._running and self._finished_here == self._retries == 0:
                self._first = self._clock()  # time left counts from the first trial, not from Ray's start
            self._running[trial_id] = Running(self._clock(), self._attempts[trial_id] + 1)

    def on_failure(self, trial_id: str, failure: Failure, again: bool) -> None:
        if not again:
            return  # its result is told
        with self._lock:
            self._retries += 1
            self._attempts[trial_id] += 1
            self._running.pop(trial_id, None)
        text = f"{ENDED[failure.kind]}, will be tried again: {failure.headline[:200]}"
        self._line(f"↻ {self._name(trial_id)}: {text}", "yellow")

    def on_again(self, trial_id: str) -> None:
        with self._lock:
            self._states.pop(trial_id, None)

    def on_given_back(self, trial_id: str, attempt: int, cause: str) -> None:
        with self._lock:
            self._running.pop(trial_id, None)

    def on_notice(self, notice: Notice) -> None:
        if notice.kind in ("paused", "resumed"):
            with self._lock:
                self._running.clear()
                self._paused = notice.kind == "paused"
        if notice.kind not in ("started", "ended"):
            self._line(f"! {notice.kind}: {notice.text}" if notice.text else f"! {notice.kind}", "yellow")

    def on_progress(self, trial_id: str, progress: Progress) -> None:
        with self._lock:
            self._running.setdefault(trial_id, Running(self._clock())).progress = progress
        for warning in progress.warnings:
            if warning not in self._told:  # a sweep's trials share their task: one line for all
                self._told.add(warning)
                self._line(f"! {self._name(trial_id)}: {warning}", "yellow")
        self._line_if_due()

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        with self._lock:
            running = self._running.pop(trial_id, None)
            self._states[trial_id] = result.status
            work = self._work.pop(trial_id, 0.0)
            self._work_done += work if running else 0.0
            seconds = self._clock() - running.started if running else None
        number = f"{len(self._states)}/{self._total}"
        if result.status == "complete":
            time_taken = f", {duration(seconds)}" if seconds is not None else ", run by another driver"
            warned = _warned(result.warnings)
            text = f"✓ {number} {self._name(trial_id)}: {_found(result)}{time_taken}{warned}"
            self._line(text, "yellow" if warned else "green")
        else:
            reason = headline(result.error)[:200]
            self._line(f"✗ {number} {self._name(trial_id)}: failed: {reason}", "red")

    def close(self) -> None:
        self._closed.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _begin(self) -> None:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._block,
                console=self._console,
                refresh_per_second=2,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        else:
            self._line(f"{count(self._todo, 'trial')} to run; starting the first lanes")
            threading.Thread(target=self._beat, name="display", daemon=True).start()

    def _beat(self) -> None:
        """Trials that load report nothing for minutes; the log shall show that the sweep is alive."""
        while not self._closed.wait(LINE_SECONDS / 2):
            self._line_if_due()

    def _line_if_due(self) -> None:
        with self._lock:
            now = self._clock()
            due = min(max(LINE_SECONDS, (now - self._first) / 10), LINE_LIMIT)
            if self._live is not None or now - self._last_line < due:
                return
            self._last_line = now
        self._line(self._summary_line())

    @property
    def _finished_here(self) -> int:
        return len(self._states) - (self._total - self._todo)

    def _name(self, trial_id: str) -> str:
        return self._names.get(trial_id, trial_id)

    def _line(self, text: str, style: str = "") -> None:
        self._last_line = self._clock()
        stamp = time.strftime("%H:%M:%S")
        self._console.print(Text(f"{stamp} {text}", style), soft_wrap=True, highlight=False)

    def _summary(self) -> str:
        failed = sum(state == "failed" for state in self._states.values())
        parts = [f"{len(self._states) - failed}/{self._total} done", f"{len(self._running)} running"]
        if failed:
            parts.append(f"{failed} failed")
        if self._retries:
            parts.append(count(self._retries, "repeated attempt"))
        if not self._running:
            waiting = "waiting for a lane" if self._finished_here or self._retries else "starting"
            parts.append("paused" if self._paused else waiting)
        left = self._seconds_left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _summary_line(self) -> str:
        with self._lock:
            trials = [
                f"{self._name(trial_id)}: {self._state(trial_id, running)}"
                for trial_id, running in list(self._running.items())[:SHOWN]
            ]
            return "; ".join([self._summary(), *trials])

    def _seconds_left(self) -> float | None:
        """From the steps done so far; None before there is enough to go by."""
        begun = [self._work.get(i, 0) * _share(running.progress) for i, running in self._running.items()]
        done = self._work_done + sum(begun)
        left = sum(self._work.values()) - sum(begun)
        if self._unasked:
            left += self._unasked * (FIXED_STEPS + max(t.spec.method.steps_planned() for t in self._trials))
        elapsed = self._clock() - self._first
        if elapsed < 1 or done < 0.03 * (done + left):
            return None
        return elapsed * left / done

    def _block(self) -> RenderableType:
        with self._lock:
            table = Table.grid(padding=(0, 2))
            for trial_id, running in list(self._running.items())[:SHOWN]:
                share = _share(running.progress)
                table.add_row(
                    ProgressBar(total=1.0, completed=share, width=16),
                    Text(self._name(trial_id)),
                    Text(self._state(trial_id, running), "dim"),
                )
            hidden = len(self._running) - SHOWN
            if hidden > 0:
                table.add_row("", Text(f"and {hidden} more", "dim"), "")
            return Group(Text(self._summary(), "bold"), table)

    def _state(self, trial_id: str, running: Running) -> str:
        again = f", attempt {running.attempt}" if running.attempt > 1 else ""
        progress = running.progress
        if progress is None:
            return f"loading{again}"
        values = progress.values
        parts = [f"{progress.phase} {progress.step}/{progress.total}"]
        if "sparsity" in values:
            target = f" (target {percent(values['target_sparsity'])})" if "target_sparsity" in values else ""
            parts.append(f"sparsity {percent(values['sparsity'])}{target}")
        divergence = self._divergences.get(trial_id, "")
        if divergence in values:
            parts.append(f"{divergence} {significant(values[divergence])}")
        return ", ".join(parts) + again


def _names(trials: Sequence[PlannedTrial]) -> dict[str, str]:
    """What tells a trial from the others of its sweep: `3f2a9c01 reverse edge_pruning seed=3`."""
    return {trial_id: f"{trial_id[:8]} {name}" for trial_id, name in named(trials).items()}


def _divergence(trial: PlannedTrial) -> str:
    """The name under which a trial reports what it minimises."""
    return trial.spec.task.metrics(trial.spec.model)[0]


def _share(progress: Progress | None) -> float:
    if progress is None or progress.total <= 0:
        return 0.0
    return min(1.0, progress.step / progress.total)


def _found(result: TrialResult) -> str:
    """The trial's own circuit, or how many it left."""
    if not result.points:
        return "no circuit"
    point = own_point(result)
    if point is None:
        return count(len(result.points), "circuit")
    text = f"{count(point.num_edges, 'edge')} of {point.num_edges_total:,}"
    value = point.metrics.get("test", {}).get(result.divergence or "")
    seen = IN_SAMPLE if result.tested_in_sample else ""
    return text if value is None else f"{text}, test {result.divergence} {significant(value)}{seen}"


def _warned(warnings: Sequence[str]) -> str:
    """The first warning in short, and how many there are."""
    if not warnings:
        return ""
    first = " ".join(warnings[0].split())
    first = first if len(first) <= WARNING_CHARACTERS else first[: WARNING_CHARACTERS - 1] + "…"
    return f"; warning{f' 1 of {len(warnings)}' if len(warnings) > 1 else ''}: {first}"
