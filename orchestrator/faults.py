"""Faults: what can go wrong with an attempt at a trial, and what a sweep does about it."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from orchestrator.wording import headline
from trainers.folder import Folder
from trainers.spec import Spec

Kind = Literal["refused", "raised", "memory", "lost", "silent", "node", "storage"]
TRIAL_KINDS: tuple[Kind, ...] = (
    "refused",
    "raised",
    "memory",
)  # the trial's own doing; all else is the machine's
FAILURES = "failures.jsonl"  # in the trial's folder


class Failure(BaseModel):
    """Why an attempt at a trial ended without a result.

    kind: `refused` its spec cannot be met by its model or data, by this or another attempt; `raised`
    an error in a rank; `memory` ran out of it; `lost` a rank, its lane or its node died;
    `silent` a rank froze; `node` a rank could not start on its node; `storage` the runs folder cannot
    be written. `ranks` failed first, on the Ray node `node` of the machine `host` (empty: unknown).
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    cause: str
    ranks: tuple[int, ...] = ()
    node: str = ""
    host: str = ""
    attempt: int = 0
    time: str = ""  # UTC, ISO 8601

    @property
    def own(self) -> bool:
        """Is it the trial's doing rather than the machine's?"""
        return self.kind in TRIAL_KINDS

    @property
    def headline(self) -> str:
        return headline(self.cause)

    @property
    def likeness(self) -> str:
        """Equal for failures that are the same but for numbers and addresses."""
        return f"{self.kind}: {re.sub(r'0x[0-9a-f]+|[0-9a-f]{8,}|[0-9.]+', '#', self.headline)}"


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"found {pattern!r}, not a regular expression: {error}; allowed: one") from None
    return pattern


class LogRule(Spec):
    """What a line in a failed attempt's error or in its ranks' logs means."""

    pattern: Annotated[str, Field(min_length=1), AfterValidator(_compiles)] = Field(
        description="a regular expression, searched for in each line"
    )
    action: Literal["stop_retrying", "exclude_node"]


class Faults(Spec):
    """When to try again, when to give up, and whom to tell. Changes no circuit."""

    trial_retries: int = Field(default=1, ge=0, description="further attempts after a trial's own error")
    machine_retries: int = Field(
        default=5, ge=0, description="further attempts after a lost or frozen rank, lane or node"
    )
    stall_seconds: float | None = Field(
        default=None,
        gt=0,
        description="a rank silent for this long is lost; default max(120, 20 median reports)",
    )
    identical_failures: int = Field(
        default=5,
        ge=2,
        description="so many trials given up in a row, all for the same reason, stop the sweep",
    )
    node_failures: int = Field(
        default=3,
        ge=1,
        description="a node is excluded after so many failed trials, or so many failed starts",
    )
    log_rules: tuple[LogRule, ...] = ()
    recycle_trials: int | None = Field(
        default=None, ge=1, description="a lane's processes are replaced after so many trials"
    )
    recycle_growth_gib: float = Field(
        default=4, gt=0, description="and when a rank's memory has grown by so much between two trials"
    )
    alert_failures: int = Field(default=3, ge=1, description="so many failed trials call the webhook")
    alert_silent_minutes: float = Field(default=30, gt=0, description="and so long without any progress")


def failures(trial: Folder) -> list[Failure]:
    """Of all attempts since the trial was last asked for anew, oldest first; torn lines are skipped."""
    found = []
    for line in (trial.read(FAILURES) or b"").splitlines():
        try:
            found.append(Failure.model_validate_json(line))
        except ValidationError:
            continue
    return found


def record(trial: Folder, failure: Failure) -> None:
    """Adds to failures.jsonl. Raises OSError when the folder cannot be written."""
    trial.append(FAILURES, failure.model_dump_json().encode() + b"\n")


def parse(text: str) -> Failure:
    """What a lane said when it ended: a Failure as JSON, or, of a lane that was killed, any text."""
    for line in text.splitlines():
        start = line.find('{"kind":')
        if start >= 0:
            try:
                return Failure.model_validate(json.loads(line[start:]))
            except (ValueError, ValidationError):
                continue
    cause = " ".join(text.split())[:2000] or "Ray kept no error"
    return Failure(kind="lost", cause=f"the lane died: {cause}")


def ruled(rules: Sequence[LogRule], lines: Sequence[str]) -> set[str]:
    """The actions of the rules that some line matches."""
    return {rule.action for rule in rules if any(re.search(rule.pattern, line) for line in lines)}
