"""Results: run folders -> one table of trials, one table of points. Reads, never writes.

`Results.load` takes runs folders (`runs/`, all sweeps in it) and sweep folders (`runs/<sweep>`, that
one). A sweep's trials are those in its `trials.json`, in plan order. In a runs folder without any
sweep, every trial counts (they were run by hand).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from orchestrator.records.rows import tables
from orchestrator.records.sweep_record import (
    OWN_DIVERGENCE,
    Problem,
    SweepRecord,
    short_names,
    sweeps_in,
    told_apart,
)
from orchestrator.records.trial_record import BETTER, Known, TrialRecord, read_trial
from orchestrator.records.trial_result import EPSILON
from orchestrator.wording import count
from trainers.folder import Folder
from trainers.outside import parse_json
from trainers.spec import SpecError

if TYPE_CHECKING:
    from orchestrator.records.frames import Frames

Source = Folder | Path | str


@dataclass(frozen=True)
class Results:
    """Everything a report shows. `trials` and `points`: see orchestrator/records/tables.py; as pandas frames:
    `frames`."""

    trials: pa.Table
    points: pa.Table
    sweeps: tuple[SweepRecord, ...]
    problems: tuple[Problem, ...]
    folders: Mapping[str, Folder]  # trial id -> its folder

    def __new__(cls, *tables: object, **named: object) -> Self:
        """Raises TypeError where folders are given instead of the tables read from them."""
        folders = [one for one in tables if isinstance(one, Folder | Path | str | list)]
        if folders:
            raise TypeError(
                f"Results: found {folders[0]!r}; allowed: the tables that {cls.__name__}.load(folder, ...) "
                "reads from runs folders and sweep folders"
            )
        return super().__new__(cls)

    @classmethod
    def load(cls, *sources: Source | Sequence[Source], known: Known | None = None) -> Self:
        """Reads runs folders and sweep folders, given as paths or URIs, one by one or in lists; each result
        once: `Results.load("runs")`, `Results.load("runs/a", "s3://bucket/runs")`.

        A file that cannot be read becomes a problem, not an exception. `known` remembers results
        between two calls: only what has changed is read again. A trial that is in several folders
        counts once, a complete one first, then the one that ended first. The order of the sources does not
        matter: trials come sweep by sweep, by the sweeps' names, in plan order; then the others by id.
        Raises SpecError for a folder that is neither a runs folder nor a sweep folder, and for no folder.
        """
        known = {} if known is None else known
        problems: list[Problem] = []
        sweeps: list[SweepRecord] = []
        places: dict[str, Folder] = {}  # runs folders by location
        found_in: dict[str, dict[str, TrialRecord]] = {}  # by trial and location
        records: dict[str, TrialRecord] = {}
        for folder in _opened(sources):
            found, runs = sweeps_in(folder, problems)
            places.setdefault(runs.location, runs)
            sweeps += found
            for trial_id in _asked_trials(found, runs, whole_runs=runs == folder, problems=problems):
                record = read_trial(runs / "trials" / trial_id, trial_id, known)
                found_in.setdefault(trial_id, {})[record.folder.location] = record
        for trial_id, alike in found_in.items():
            first, *others = sorted(alike.values(), key=_preference) if len(alike) > 1 else alike.values()
            records[trial_id] = first
            problems += [problem for other in others for problem in _contradiction(first, other)]
        problems += [
            Problem(record.folder.location, record.error or "")
            for record in records.values()
            if record.status == "unreadable"
        ]
        ordered, inside = told_apart(sweeps), _names_inside(list(places.values()))
        planned = [trial_id for sweep in ordered for trial_id in sweep.trial_ids if trial_id in records]
        in_order = [records[trial_id] for trial_id in dict.fromkeys([*planned, *sorted(records)])]
        listed = [replace(one, error=one.error and _placed(one.error, inside)) for one in in_order]
        trials, points = tables(listed, ordered, _asked_metrics(records, ordered, problems))
        told = {Problem(_placed(one.where, inside), _placed(one.what, inside)) for one in problems}
        homes = {record.trial_id: record.folder for record in listed}
        return cls(trials, points, ordered, tuple(sorted(told, key=lambda one: (one.where, one.what))), homes)

    @cached_property
    def frames(self) -> "Frames":
        """Tidy pandas frames for notebooks."""
        from orchestrator.records.frames import Frames

        return Frames(self)

    @property
    def epsilon(self) -> float:
        """The strictest epsilon of the sweeps read."""
        return min((sweep.epsilon for sweep in self.sweeps), default=EPSILON)

    def progress(self, trial_id: str) -> list[dict[str, Any]]:
        """The training reports of a trial by step; the later of two lines for one step wins.

        A line torn by a crash is skipped.
        """
        content = self.folders[trial_id].read("progress.jsonl") or b""
        by_step: dict[int, dict[str, Any]] = {}
        for line in content.splitlines():
            try:
                report = parse_json(line)
                if report.get("phase", "train") == "train":
                    by_step[int(report["step"])] = report
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                continue
        return [by_step[step] for step in sorted(by_step)]

    def edges(self, trial_id: str, circuit: str) -> list[tuple[str, str]] | None:
        """(writer, reader) names of a circuit; None when its edge list cannot be read."""
        stem = circuit.removesuffix(".safetensors").replace("circuit", "edges", 1)
        content = self.folders[trial_id].read(f"{stem}.json")
        try:
            return [(str(writer), str(reader)) for writer, reader in parse_json(content or b"")]
        except (ValueError, TypeError):
            return None


def _opened(sources: Sequence[Source | Sequence[Source]]) -> list[Folder]:
    """Folders in the order given, each once."""
    one_or_many = (
        (one,) if isinstance(one, str) or not isinstance(one, Sequence) else one for one in sources
    )
    listed = [one for some in one_or_many for one in some]
    for one in listed or [None]:
        if not isinstance(one, Folder | Path | str):
            found = "no folder" if one is None else repr(one)
            raise SpecError(
                f"Results.load: found {found}; allowed: paths or URIs of runs folders or sweep folders"
            )
    opened = [one if isinstance(one, Folder) else Folder.open(one) for one in listed]
    for folder in opened:
        if folder.filesystem.get_file_info(folder.path).is_file:
            raise SpecError(
                f"{folder.location}: found a file; allowed: a runs folder, or the folder of one sweep in it"
            )
        for inside in (folder, folder.parent):
            if PurePosixPath(inside.path).name == "trials" and not {"trials", "trials.json"} & {
                *folder.names()
            }:
                raise SpecError(
                    f"{folder.location}: found a folder inside a runs folder; allowed: a runs folder, "
                    f"or the folder of one sweep in it; did you mean {inside.parent.location}?"
                )
    return list({folder.location: folder for folder in opened}.values())


def _asked_trials(
    sweeps: Sequence[SweepRecord], runs: Folder, whole_runs: bool, problems: list[Problem]
) -> list[str]:
    """Trial ids in plan order. Trials that no sweep asks for are told when a whole folder is read."""
    planned = list(dict.fromkeys(trial_id for sweep in sweeps for trial_id in sweep.trial_ids))
    if not whole_runs:
        return planned
    present = (runs / "trials").names()
    if not sweeps:
        return present
    others = set(present) - set(planned)
    if others:
        count = f"{len(others)} trial{'s' if len(others) > 1 else ''}"
        problems.append(Problem(f"{runs.location}/trials", f"{count} left out: in no sweep's current plan"))
    return planned


def _contradiction(first: TrialRecord, second: TrialRecord) -> list[Problem]:
    """A trial that ended in two folders with different circuits."""
    results = (first.result, second.result)
    found = [[(point.num_edges, point.metrics) for point in one.points] for one in results if one]
    if first.status != second.status or len(found) < 2 or found[0] == found[1]:
        return []
    what = f"other numbers than the same trial has in {first.folder.location}, which is the one used"
    return [Problem(second.folder.location, what)]


def _preference(record: TrialRecord) -> tuple[int, str, str]:
    """Which of several records of one trial counts: by what they say, not by where or in which order they
    were found."""
    ended = "" if record.result is None else record.result.finished or ""
    content = "" if record.result is None else record.result.model_dump_json()
    return BETTER.index(record.status), ended, content


def _names_inside(runs: Sequence[Folder]) -> list[tuple[str, str]]:
    """What to put for the whereabouts of the runs folders, so that a report does not depend on where they
    lie: nothing for a single one, else as much of their names as tells them apart."""
    names = [""] if len(runs) == 1 else [f"{name}/" for name in short_names(runs)]
    told = []
    for folder, name in zip(runs, names, strict=True):
        base, mark, query = folder.location.partition("?")  # s3://bucket/runs?endpoint_override=...
        if "://" not in base:
            base, mark, query = folder.location, "", ""
        told += [(f"{base}/", name), (f"{folder.path}/", name), *([(f"{mark}{query}", "")] * bool(mark))]
    return sorted((pair for pair in told if len(pair[0]) > 1), key=lambda pair: -len(pair[0]))


def _placed(text: str, inside: Sequence[tuple[str, str]]) -> str:
    for whereabouts, name in inside:
        text = text.replace(whereabouts, name)
    return text


def _asked_metrics(
    records: Mapping[str, TrialRecord], sweeps: Sequence[SweepRecord], problems: list[Problem]
) -> dict[str, str]:
    """Trial id -> the metric its circuits are judged by, where a sweep asks for another than the
    trial's own divergence. A trial that did not measure it keeps its own."""
    asked: dict[str, str] = {}
    for sweep in sweeps:
        if sweep.faithfulness == OWN_DIVERGENCE:
            continue
        lacking = 0
        for trial_id in sweep.trial_ids:
            result = records[trial_id].result if trial_id in records else None
            if result is None or not result.points:
                continue
            if all(sweep.faithfulness in point.metrics.get("test", {}) for point in result.points):
                asked[trial_id] = sweep.faithfulness
            else:
                lacking += 1
        if lacking:
            what = f"not measured by {count(lacking, 'trial')}, judged by their own divergence instead"
            problems.append(Problem(f"sweep {sweep.name}", f"faithfulness {sweep.faithfulness}: {what}"))
    return asked
