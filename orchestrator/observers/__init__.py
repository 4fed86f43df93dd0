"""Observers: who is told how a sweep goes (the display, events.jsonl, Prometheus, the webhook, MLflow)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from orchestrator.faults import Failure
from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.trial import TrialSpec

if TYPE_CHECKING:
    from orchestrator.cluster.rank import Place
    from orchestrator.planning.plan import PlannedTrial

NoticeKind = Literal[
    "started", "waiting", "excluded", "drained", "paused", "resumed", "retried", "stopped", "ended"
]


@dataclass(frozen=True)
class Notice:
    """Something that happened to the whole sweep; `node` is a Ray node id where it concerns one."""

    kind: NoticeKind
    text: str
    node: str = ""


class Observer:
    """Called on the driver, one call at a time; must return at once and must not raise.

    An observer overrides what it cares for. After a failure that is tried `again` the trial waits until
    `on_start` comes again for it, and steps may repeat. `on_result` also comes for a trial that another
    driver ran, without `on_start`.
    """

    def on_asked(self, trials: "Sequence[PlannedTrial]") -> None:
        """A study asks for trials beyond those of the plan that the sweep was started with."""

    def on_start(self, trial_id: str, spec: TrialSpec) -> None:
        """A lane has taken the trial."""

    def on_place(self, trial_id: str, attempt: int, places: "Sequence[Place]") -> None:
        """The trial's ranks, by rank, have begun it."""

    def on_failure(self, trial_id: str, failure: Failure, again: bool) -> None:
        """An attempt ended without a result."""

    def on_again(self, trial_id: str) -> None:
        """People ask for a failed trial anew: it waits."""

    def on_given_back(self, trial_id: str, attempt: int, cause: str) -> None:
        """Its lane left the trial at a checkpoint: its nodes are not to be used, or the sweep stops."""

    def on_progress(self, trial_id: str, progress: Progress) -> None:
        """Rank 0 reports."""

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        """The trial is over, complete or failed."""

    def on_notice(self, notice: Notice) -> None:
        """Something happened to the sweep."""

    def close(self) -> None:
        """The sweep ends; nothing comes after this."""
