"""Observer: who is told how a sweep goes (the display, the MLflow mirror)."""

from typing import Protocol

from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.trial import TrialSpec


class Observer(Protocol):
    """Called on the driver, one call at a time; must return at once and must not raise.

    After a crash `on_retry` says why, `on_start` comes again for the same trial, and steps may
    repeat. `on_result` also comes for a trial that another driver ran, without `on_start`.
    """

    def on_start(self, trial_id: str, spec: TrialSpec) -> None: ...

    def on_retry(self, trial_id: str, reason: str) -> None: ...

    def on_progress(self, trial_id: str, progress: Progress) -> None: ...

    def on_result(self, trial_id: str, result: TrialResult) -> None: ...

    def close(self) -> None: ...
