"""Reported: the report of a sweep, written again only if another one would come out.

`reported.json` in the sweep's folder says what the report beside it was made from. A report counts as
current when that is what is there now, and when none of its files was changed or deleted since.
"""

import hashlib
import os
from collections.abc import Iterable
from typing import Self

from pyarrow import fs
from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.code_version import code_digest
from trainers.folder import Folder
from trainers.outside import MAX_JSON, parse_json
from trainers.spec import SpecError

REPORTED = "reported.json"
SUMMARY = "report.json"  # the report's file that lists all others, with their digests


class Reported(BaseModel):
    """`inputs` is `inputs_digest` when the report was written, `report` the SHA-256 of its report.json,
    `table` the Pareto table that came with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: str
    report: str
    table: str

    @classmethod
    def read(cls, home: Folder) -> Self | None:
        """None when there is none, or none that can be read: then the report is written anew."""
        try:
            return cls.model_validate_json(home.read(REPORTED, MAX_JSON) or b"")
        except (ValidationError, SpecError):
            return None


def publish_unless_current(home: Folder, report: Folder, trials: Iterable[Folder]) -> str:
    """Sees to it that `report` shows the sweep in `home` as it is now; returns the Pareto table.

    Only for a report on this one sweep with nothing left out. Raises SpecError like `publish_report`.
    """
    inputs = inputs_digest(home, trials)  # before anything is read: what changes from now on shows up
    told = Reported.read(home)
    if told is not None and told.inputs == inputs and _is_whole(report, told.report):
        return told.table
    from orchestrator.report.delivery import publish_report

    table = publish_report([home], report)
    written = hashlib.sha256(report.read(SUMMARY, MAX_JSON) or b"").hexdigest()
    home.write(REPORTED, Reported(inputs=inputs, report=written, table=table).model_dump_json().encode())
    return table


def inputs_digest(home: Folder, trials: Iterable[Folder]) -> str:
    """SHA-256 over all that a report on one sweep depends on: this code and its libraries, the content of
    sweep.yaml and trials.json, and a stamp of every file of every trial.

    A stamp is name, size, time of change and, on a local disk, the inode's own time of change, which no
    program can set. (Contents would be gigabytes: every circuit and every example's values.)
    """
    total = hashlib.sha256(code_digest().encode())
    for name in ("sweep.yaml", "trials.json"):
        total.update(hashlib.sha256(home.read(name, MAX_JSON) or b"").digest())
    for trial in trials:
        total.update(repr((trial.name, sorted(_stamps(trial)))).encode())
    return total.hexdigest()


def _stamps(trial: Folder) -> list[tuple[str, int, int, int]]:
    if not trial.is_local:
        found = trial.filesystem.get_file_info(fs.FileSelector(trial.path, allow_not_found=True))
        return [(one.base_name, one.size or 0, one.mtime_ns or 0, 0) for one in found]
    try:
        with os.scandir(trial.path) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except FileNotFoundError:
        return []
    return [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found]


def _is_whole(report: Folder, summary: str) -> bool:
    """Are report.json, by its SHA-256, and all files that it lists there as they were written?"""
    content = report.read(SUMMARY, MAX_JSON)
    if content is None or hashlib.sha256(content).hexdigest() != summary:
        return False
    files: dict[str, str] = parse_json(content)["files"]
    found = ((report.read(name), digest) for name, digest in files.items())
    return all(one is not None and hashlib.sha256(one).hexdigest() == digest for one, digest in found)
