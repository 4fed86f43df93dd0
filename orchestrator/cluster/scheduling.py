"""Scheduling: what Ray Tune is told and what it tells, in terms of trials, failures and ends."""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

from orchestrator import faults
from orchestrator.cluster.rank import Place
from orchestrator.cluster.relay import Relay
from orchestrator.faults import Failure
from orchestrator.planning.plan import PlannedTrial
from trainers.progress import Progress
from trainers.resources import Resources

Why = Literal["", "interrupted", "max_hours", "storage", "failing"]
POLL_SECONDS = 2.0


class Stop(tune.Stopper):
    """Tells Tune when to end trials; lanes end at their next step.

    `why` ends the sweep, `replan` only this round: the trials that are left are scheduled anew, from
    their checkpoints. `cancelled` are trial ids. `poll` is called every two seconds, on Tune's thread.
    """

    def __init__(self, max_hours: float | None) -> None:
        self._deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
        self._polled = 0.0
        self.why: Why = ""
        self.text = ""  # `why` in words, where it needs some
        self.replan = False
        self.cancelled: frozenset[str] = frozenset()
        self.poll: Callable[[], None] = lambda: None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its stopper for a restore that we never ask for."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return result["trial"] in self.cancelled

    def stop_all(self) -> bool:
        if not self.why and self._deadline is not None and time.monotonic() > self._deadline:
            self.why = "max_hours"
        if not self.why and time.monotonic() - self._polled > POLL_SECONDS:
            self._polled = time.monotonic()
            self.poll()
        return bool(self.why) or self.replan


class PlanOrder(Searcher):
    """Hands trials to Tune in plan order, so that a lane seldom has to load another model. A trial that its
    lane gave back is handed out next, with what is `excluded` (Ray node ids) by then."""

    def __init__(
        self, trials: Sequence[PlannedTrial], resources: Resources, excluded: Collection[str]
    ) -> None:
        super().__init__()
        self.left = deque(trials)
        self._out: dict[str, PlannedTrial] = {}  # by Tune's id
        self._resources = resources.plain()
        self._excluded = excluded
        self.asking = False  # what is with Tune now may bring more

    def suggest(self, trial_id: str) -> Any:
        if not self.left:
            return None
        trial = self._out[trial_id] = self.left.popleft()
        told = {"resources": self._resources, "excluded": sorted(self._excluded)}
        return {"trial_id": trial.trial_id, "spec": trial.spec.plain()} | told

    @property
    def may_grow(self) -> bool:
        return bool(self.left) or (self.asking and bool(self._out))

    def put(self, trial: PlannedTrial) -> None:
        """Adds a trial, unless Tune has it: one that was given up is still with Tune when it could be
        tried again, and runs when a lane finds no result of it."""
        if trial.trial_id not in {one.trial_id for one in (*self.left, *self._out.values())}:
            self.left.append(trial)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The order does not depend on results."""
        trial = self._out.pop(trial_id)
        if not error and result and result.get("given_back"):
            self.left.appendleft(trial)

    def save(self, checkpoint_path: str) -> None:
        """The trial folders are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a sweep goes on from its trial folders, never from Tune's own state")


class Queue(SearchGenerator):
    """Is finished whenever no trial is left to hand out, and none that is out may bring more: lanes that are
    out of work then end. It goes on when a trial comes back."""

    def __init__(self, order: PlanOrder, lanes: int) -> None:
        super().__init__(ConcurrencyLimiter(order, max_concurrent=lanes))
        self._order = order

    def is_finished(self) -> bool:
        return self._finished or not self._order.may_grow


class Watch(tune.Callback):
    """Hands what Tune hears from lanes to the relay, and failures to `on_failure`; tells lanes which nodes
    are `excluded`."""

    def __init__(
        self, relay: Relay, on_failure: Callable[[str, Failure], None], excluded: Collection[str]
    ) -> None:
        self._relay = relay
        self._on_failure = on_failure
        self._excluded = excluded

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell_lane(trial)
        if set(self._excluded) <= set(trial.config["excluded"]):  # else its lane may be on such a node
            self._relay.start(trial.config["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        trial_id = trial.config["trial_id"]
        self._tell_lane(trial)
        if result["given_back"]:
            self._relay.given_back(trial_id, "its node was drained or excluded")
        if "places" in result:
            self._relay.start(trial_id)
            self._relay.placed(trial_id, result["attempt"], [Place(**place) for place in result["places"]])
        for report in result["reports"]:
            self._relay.progress(trial_id, Progress(**report))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._relay.over(trial.config["trial_id"], here=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._on_failure(trial.config["trial_id"], _failure(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._on_failure(trial.config["trial_id"], _failure(trial))

    def _tell_lane(self, trial: Any) -> None:
        """Before its next step: an actor does what it is told in order."""
        if self._excluded:
            trial.temporary_state.ray_actor.avoid.remote(sorted(self._excluded))


def _failure(trial: Any) -> Failure:
    """What the lane said when it ended, without Tune's and Ray's frames around it."""
    path = trial.error_file
    text = Path(path).read_text() if path and Path(path).exists() else ""
    last = text.rpartition("Failure # ")[2].partition("\n")[2]  # without its number and time
    return faults.parse(last.rpartition("orchestrator.cluster.lane.LaneError: ")[2] or last)
