"""Relay: passes what lanes say on to the observers, and records the trials that lanes gave up on."""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.attempt import Attempt, Owner
from orchestrator.faults import Failure, record
from orchestrator.observers import Notice, Observer
from orchestrator.records.trial_result import read_result
from orchestrator.wording import ANSI, RANK, masked, printable
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.resources import Resources
from trainers.result import TrialResult
from trainers.trial import TrialSpec

if TYPE_CHECKING:
    from orchestrator.cluster.rank import Place
    from orchestrator.planning.plan import PlannedTrial

ERROR_LINES = 40
ERROR_CHARACTERS = 6000
log = logging.getLogger(__name__)


class Relay:
    """Counts trials as they end: `complete` and `failed` here, `elsewhere` run by another driver."""

    def __init__(
        self, runs: Folder, specs: Mapping[str, TrialSpec], owner: Owner, observers: Sequence[Observer] = ()
    ) -> None:
        self._trials = runs / "trials"
        self._owner = owner
        self._specs = dict(specs)
        self.observers = list(observers)
        self.complete = self.failed = self.elsewhere = 0
        self.ended: set[str] = set()
        self.running: set[str] = set()  # on lanes of ours

    def start(self, trial_id: str) -> None:
        if trial_id in self.ended:  # given up; Tune hands it to a lane once more, which finds its result
            return
        if trial_id in self.running:
            return
        self.running.add(trial_id)
        self._tell(lambda observer: observer.on_start(trial_id, self._specs[trial_id]))

    def asked(self, trials: "Sequence[PlannedTrial]") -> None:
        """A study asks for more trials."""
        self._specs |= {trial.trial_id: trial.spec for trial in trials}
        self._tell(lambda observer: observer.on_asked(trials))

    def progress(self, trial_id: str, progress: Progress) -> None:
        self._tell(lambda observer: observer.on_progress(trial_id, progress))

    def placed(self, trial_id: str, attempt: int, places: "Sequence[Place]") -> None:
        self._tell(lambda observer: observer.on_place(trial_id, attempt, places))

    def given_back(self, trial_id: str, cause: str) -> None:
        """Its lane left it at a checkpoint; nothing is told of a trial that no lane has begun."""
        if trial_id not in self.running:
            return
        self.running.remove(trial_id)
        folder, attempt = self._trials / trial_id, None
        try:
            attempt = Attempt.give_back(folder, self._owner)
        except OSError as error:
            log.warning("%s: that it was given back could not be written down: %s", folder.location, error)
        number = attempt.attempt if attempt else 0
        self._tell(lambda observer: observer.on_given_back(trial_id, number, cause))

    def failure(self, trial_id: str, failure: Failure, again: bool) -> None:
        """Writes the failure down, and that a trial which is tried again waits, and tells of it."""
        self.running.discard(trial_id)
        folder = self._trials / trial_id
        try:
            record(folder, failure)
            if again:
                Attempt.give_back(folder, self._owner)
        except OSError as error:
            log.warning("%s: a failure could not be written down: %s", folder.location, error)
        self._tell(lambda observer: observer.on_failure(trial_id, failure, again))

    def notice(self, notice: Notice) -> None:
        self._tell(lambda observer: observer.on_notice(notice))

    def again(self, trial_id: str) -> None:
        """A failed trial is asked for anew."""
        if trial_id in self.ended:
            self.ended.remove(trial_id)
            self.failed -= 1
        self._tell(lambda observer: observer.on_again(trial_id))

    def over(self, trial_id: str, here: bool) -> bool:
        """Tells of the trial's result.json, once; False when there is none yet."""
        self.running.discard(trial_id)
        if trial_id in self.ended:
            return True
        result, problem = read_result(self._trials / trial_id)
        if result is None and not problem:
            return False
        self.ended.add(trial_id)
        if result is None:
            log.error("%s/%s/%s", self._trials.location, trial_id, problem)
            self.failed += 1
            return True
        self._count(result, here)
        self._tell(lambda observer: observer.on_result(trial_id, result))
        return True

    def give_up(self, trial_id: str, error: str, why: str, resources: Resources, ran: bool = True) -> None:
        """Records the trial as failed, unless a result is there already: that one wins. `ran`: its last
        attempt ends now, so it took the time since it began."""
        folder = self._trials / trial_id
        last = Attempt.last(folder)
        result = failed_result(trial_id, self._specs[trial_id], shorten(error), why, resources, last)
        if ran and last is not None:
            taken = datetime.now(UTC) - datetime.fromisoformat(last.started)
            result = result.model_copy(update={"seconds": max(0.0, taken.total_seconds())})
        folder.create("result.json", result.model_dump_json(indent=2).encode())
        self.over(trial_id, here=True)

    def close(self) -> None:
        self._tell(lambda observer: observer.close())

    def _count(self, result: TrialResult, here: bool) -> None:
        if not here:
            self.elsewhere += 1
        elif result.status == "complete":
            self.complete += 1
        else:
            self.failed += 1

    def _tell(self, call: Callable[[Observer], None]) -> None:
        """An observer that fails is dropped, with a warning: watching must not cost a trial."""
        for observer in list(self.observers):
            try:
                call(observer)
            except Exception as error:
                log.warning(
                    "%s is not told of the sweep any more: %s: %s", type(observer).__name__,
                    type(error).__name__, error, exc_info=not isinstance(error, OSError),
                )  # fmt: skip
                self.observers.remove(observer)


def shorten(error: str) -> str:
    """The last lines of what each rank said, without terminal colours and Python's underlining."""
    told = RANK.split(ANSI.sub("", error).strip())
    return "\n\n".join(_end(text, ERROR_CHARACTERS // len(told)) for text in told)


def _end(error: str, characters: int) -> str:
    lines = [line for line in error.splitlines() if line.strip(" ^~")]
    text = "\n".join(printable(masked(line)) for line in lines[-ERROR_LINES:])
    return text if len(text) <= characters else "…" + text[-characters:]


def failed_result(
    trial_id: str, spec: TrialSpec, error: str, why: str, resources: Resources, last: Attempt | None
) -> TrialResult:
    """The result of a trial that is not tried again."""
    execution: dict[str, Any] = {
        "attempt": last.attempt if last else 0,
        "ranks": resources.ranks,
        "host": socket.gethostname(),
        "given_up": why,
    }
    return TrialResult(
        trial_id=trial_id,
        status="failed",
        error=error,
        spec=spec.plain(),
        seed=spec.seed,
        execution=execution,
        started=last.started if last else "",
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
