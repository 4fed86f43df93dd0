"""Attempt: who tried a trial last, and how often it was tried (attempt.json in the trial's folder)."""

import json
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from trainers.folder import Folder


class Owner(BaseModel):
    """The driver on whose behalf a trial runs."""

    model_config = ConfigDict(frozen=True)

    sweep: str
    host: str
    pid: int


class Attempt(BaseModel):
    """`attempt` counts from 1; a rank of an earlier attempt that sees a higher number ends itself."""

    model_config = ConfigDict(frozen=True)

    attempt: int
    owner: Owner
    started: str  # UTC, ISO 8601
    given_back: str = ""  # UTC, when it left the trial, in order or not, for another attempt

    @classmethod
    def last(cls, trial: Folder) -> Self | None:
        """The latest attempt at a trial; None when there was none or its record cannot be read."""
        content = trial.read("attempt.json")
        if content is None:
            return None
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            return None

    @classmethod
    def begin(cls, trial: Folder, spec: dict[str, Any], owner: Owner) -> Self:
        """Counts one more attempt and writes it down, with spec.json if there is none."""
        if not trial.exists("spec.json"):
            trial.write("spec.json", json.dumps(spec, indent=2).encode())
        last = cls.last(trial)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        attempt = cls(attempt=last.attempt + 1 if last else 1, owner=owner, started=started)
        trial.write("attempt.json", attempt.model_dump_json().encode())
        return attempt

    @classmethod
    def give_back(cls, trial: Folder, owner: Owner) -> Self | None:
        """Writes down that the latest attempt ended without a result, so that the trial waits, and returns
        it; None when it is not `owner`'s: ours ended before it began, and another driver may be at it."""
        last = cls.last(trial)
        if last is None or last.owner != owner:
            return None
        ended = last.model_copy(update={"given_back": datetime.now(UTC).isoformat(timespec="seconds")})
        trial.write("attempt.json", ended.model_dump_json().encode())
        return ended
