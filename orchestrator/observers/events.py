"""Events: events.jsonl in the sweep's folder, one line for whatever happens to a trial or the sweep."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.faults import Failure
from orchestrator.observers import Notice, Observer
from trainers.folder import Folder
from trainers.result import TrialResult

if TYPE_CHECKING:
    from orchestrator.cluster.rank import Place

EVENTS = "events.jsonl"
log = logging.getLogger(__name__)


class EventLog(Observer):
    """Keys: time (UTC), event, and what applies of trial, attempt, ranks (node, host, pid, gpus by rank),
    kind, rank, node, host, cause, again, status, text. What a store that is away refuses is written with the
    next event."""

    def __init__(self, home: Folder) -> None:
        self._home = home
        self._unwritten = b""

    def on_place(self, trial_id: str, attempt: int, places: "Sequence[Place]") -> None:
        self._write(
            "trial_started", trial=trial_id, attempt=attempt, ranks=[asdict(place) for place in places]
        )

    def on_failure(self, trial_id: str, failure: Failure, again: bool) -> None:
        self._write("attempt_failed", trial=trial_id, again=again, **failure.model_dump(exclude={"time"}))

    def on_given_back(self, trial_id: str, attempt: int, cause: str) -> None:
        self._write("trial_given_back", trial=trial_id, attempt=attempt or None, cause=cause)

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        execution = result.execution
        self._write(
            f"trial_{result.status}", trial=trial_id, attempt=execution.get("attempt"),
            seconds=result.seconds, host=execution.get("host"), cause=(result.error or "").strip(),
        )  # fmt: skip

    def on_notice(self, notice: Notice) -> None:
        self._write(f"sweep_{notice.kind}", text=notice.text, node=notice.node)

    def _write(self, event: str, **values: Any) -> None:
        told = {name: value for name, value in values.items() if value not in ("", None)}
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event} | told
        self._unwritten += json.dumps(line).encode() + b"\n"
        try:
            self._home.append(EVENTS, self._unwritten)
        except OSError as error:
            log.warning("%s/%s could not be written: %s", self._home.location, EVENTS, error)
        else:
            self._unwritten = b""
