"""TrialRecord: a trial folder as it is now; read again only when its result has changed."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.records.trial_result import RESULT, read_result
from trainers.folder import Folder
from trainers.outside import MAX_JSON, parse_json
from trainers.result import TrialResult

Status = Literal["complete", "failed", "unreadable", "unfinished"]
BETTER: tuple[Status, ...] = ("complete", "failed", "unreadable", "unfinished")


@dataclass(frozen=True)
class TrialRecord:
    """A trial folder as it is now. `result` is there if status is complete or failed. `stamp` is the
    size and the time of change (ns) of its result's file; None while there is none."""

    trial_id: str
    status: Status
    folder: Folder
    result: TrialResult | None = None
    spec: Mapping[str, Any] | None = None
    error: str | None = None
    stamp: tuple[int, int] | None = None


Known = MutableMapping[str, TrialRecord]  # by the folder's location: what was read before


def read_trial(folder: Folder, trial_id: str, known: Known) -> TrialRecord:
    """The record in `known` if its result has not changed since, else a new one, which is noted there."""
    info = folder.filesystem.get_file_info(f"{folder.path}/{RESULT}")
    stamp = (info.size, info.mtime_ns) if info.is_file else None
    earlier = known.get(folder.location)
    if earlier is None or earlier.stamp is None or earlier.stamp != stamp:
        known[folder.location] = _read(folder, trial_id, stamp)
    return known[folder.location]


def _read(folder: Folder, trial_id: str, stamp: tuple[int, int] | None) -> TrialRecord:
    try:
        result, problem = read_result(folder)
    except OSError as error:
        problem, result = f"{RESULT}: {str(error).partition(chr(10))[0]}", None
    if result is not None:
        return TrialRecord(trial_id, result.status, folder, result, result.spec, result.error, stamp)
    spec = read_spec(folder)
    if problem:
        return TrialRecord(trial_id, "unreadable", folder, spec=spec, error=problem, stamp=stamp)
    return TrialRecord(trial_id, "unfinished", folder, spec=spec)


def read_spec(folder: Folder) -> dict[str, Any] | None:
    """What the folder says was asked; None when the trial has not been started."""
    try:
        spec = parse_json(folder.read("spec.json", MAX_JSON) or b"null")
    except (ValueError, OSError):
        return None
    return spec if isinstance(spec, dict) else None
