"""Results: run folders -> one table of trials, one table of points. Reads, never writes.

`Results.load` takes runs folders (`runs/`, all sweeps in it) and sweep folders (`runs/<sweep>`, that
one). A sweep's trials are those in its `trials.json`, in plan order. In a runs folder without any
sweep, every trial counts (they were run by hand).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import pyarrow as pa
import yaml

from orchestrator.tables import POINT_COLUMNS, TRIAL_COLUMNS, table
from orchestrator.trial_result import EPSILON, RESULT, read_result
from trainers.evaluation.faithfulness import faithfulness_by_metric
from trainers.folder import Folder
from trainers.result import Point, TrialResult
from trainers.spec import SpecError

OWN_DIVERGENCE = "divergence"

Status = Literal["complete", "failed", "unreadable", "unfinished"]
_BETTER: tuple[Status, ...] = ("complete", "failed", "unreadable", "unfinished")


@dataclass(frozen=True)
class Problem:
    """Something that could not be read or does not fit: where it is and what is wrong."""

    where: str
    what: str


@dataclass(frozen=True)
class SweepRecord:
    """What a sweep folder says: its question and its trials in plan order."""

    name: str
    question: str
    epsilon: float
    faithfulness: str  # the metric to minimise; OWN_DIVERGENCE means each trial's own
    trial_ids: tuple[str, ...]


@dataclass(frozen=True)
class TrialRecord:
    """A trial folder as it is now. `result` is there if status is complete or failed."""

    trial_id: str
    status: Status
    folder: Folder
    result: TrialResult | None = None
    spec: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Results:
    """Everything a report shows. `trials` and `points`: see orchestrator/tables.py."""

    trials: pa.Table
    points: pa.Table
    sweeps: tuple[SweepRecord, ...]
    problems: tuple[Problem, ...]
    folders: Mapping[str, Folder]  # trial id -> its folder

    @classmethod
    def load(cls, folders: Sequence[Folder]) -> Self:
        """Reads each result once. A file that cannot be read becomes a problem, not an exception.

        Raises SpecError for a folder that is neither a runs folder nor a sweep folder.
        """
        problems: list[Problem] = []
        sweeps: dict[str, SweepRecord] = {}
        records: dict[str, TrialRecord] = {}
        for folder in folders:
            found, runs = _sweeps_in(folder, problems)
            for sweep in found:
                sweeps[sweep.name] = _joined(sweeps.get(sweep.name), sweep)
            for trial_id in _asked_trials(found, runs, whole_runs=runs == folder, problems=problems):
                record = _read_trial(runs / "trials" / trial_id, trial_id)
                known = records.get(trial_id)
                if known is None or _BETTER.index(record.status) < _BETTER.index(known.status):
                    records[trial_id] = record
        for record in records.values():
            if record.status == "unreadable":
                problems.append(Problem(record.folder.location, record.error or ""))
        ordered = tuple(sweeps[name] for name in sorted(sweeps))
        trials, points = _tables(records.values(), ordered, _asked_metrics(records, ordered, problems))
        homes = {trial_id: record.folder for trial_id, record in records.items()}
        return cls(trials, points, ordered, tuple(problems), homes)

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
                report = json.loads(line)
                if report.get("phase", "train") == "train":
                    by_step[int(report["step"])] = report
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return [by_step[step] for step in sorted(by_step)]

    def edges(self, trial_id: str, circuit: str) -> list[tuple[str, str]] | None:
        """(writer, reader) names of a circuit; None when its edge list cannot be read."""
        stem = circuit.removesuffix(".safetensors").replace("circuit", "edges", 1)
        content = self.folders[trial_id].read(f"{stem}.json")
        try:
            return [(str(writer), str(reader)) for writer, reader in json.loads(content or b"")]
        except (ValueError, TypeError):
            return None


def parent(folder: Folder) -> Folder:
    """The folder above."""
    above = (text.rpartition("/")[0] or "/" for text in (folder.path, folder.location))
    return Folder(folder.filesystem, *above)


def _sweeps_in(folder: Folder, problems: list[Problem]) -> tuple[list[SweepRecord], Folder]:
    """The sweeps that `folder` stands for, and its runs folder."""
    names = folder.names()
    if "trials.json" in names or "sweep.yaml" in names:
        return [_read_sweep(folder, problems)], parent(folder)
    sweeps = []
    for name in names:
        inside = folder / name
        if name != "trials" and (inside.exists("trials.json") or inside.exists("sweep.yaml")):
            sweeps.append(_read_sweep(inside, problems))
    if not sweeps and "trials" not in names:
        state = "an empty or missing folder" if not names else f"a folder with {', '.join(names[:4])}"
        raise SpecError(
            f"{folder.location}: found {state}; allowed: a runs folder (it holds trials/ and one "
            "folder per sweep) or the folder of one sweep"
        )
    return sweeps, folder


def _read_sweep(folder: Folder, problems: list[Problem]) -> SweepRecord:
    name = folder.path.rpartition("/")[2]
    try:
        snapshot = yaml.safe_load(folder.read("sweep.yaml") or b"") or {}
        if not isinstance(snapshot, dict):
            raise ValueError("not a mapping")
    except (yaml.YAMLError, ValueError) as error:
        problems.append(Problem(f"{folder.location}/sweep.yaml", f"cannot be read: {_first_line(error)}"))
        snapshot = {}
    objectives = snapshot.get("objectives")
    objectives = objectives if isinstance(objectives, dict) else {}
    epsilon = objectives.get("epsilon", EPSILON)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float):
        problems.append(Problem(f"{folder.location}/sweep.yaml", f"objectives.epsilon: found {epsilon!r}"))
        epsilon = EPSILON
    faithfulness = str(objectives.get("faithfulness", OWN_DIVERGENCE))
    question = str(snapshot.get("question") or "")
    return SweepRecord(name, question, float(epsilon), faithfulness, _planned(folder, problems))


def _planned(folder: Folder, problems: list[Problem]) -> tuple[str, ...]:
    where = f"{folder.location}/trials.json"
    try:
        planned = json.loads(folder.read("trials.json") or b"null")
    except ValueError as error:
        problems.append(Problem(where, f"cannot be read: {_first_line(error)}"))
        return ()
    if isinstance(planned, list) and all(isinstance(item, str) for item in planned):
        return tuple(dict.fromkeys(planned))
    state = "is missing" if planned is None else "is not a list of trial ids"
    problems.append(Problem(where, f"{state}: the sweep's trials are not known; run the sweep again"))
    return ()


def _joined(known: SweepRecord | None, new: SweepRecord) -> SweepRecord:
    """One sweep read from two runs folders: its trials are the trials of both."""
    if known is None:
        return new
    trial_ids = tuple(dict.fromkeys(known.trial_ids + new.trial_ids))
    return replace(new, epsilon=min(known.epsilon, new.epsilon), trial_ids=trial_ids)


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


def _read_trial(folder: Folder, trial_id: str) -> TrialRecord:
    spec = _read_spec(folder)
    try:
        result, problem = read_result(folder)
    except OSError as error:
        return TrialRecord(trial_id, "unreadable", folder, spec=spec, error=f"{RESULT}: {_first_line(error)}")
    if problem:
        return TrialRecord(trial_id, "unreadable", folder, spec=spec, error=problem)
    if result is None:
        return TrialRecord(trial_id, "unfinished", folder, spec=spec)
    return TrialRecord(trial_id, result.status, folder, result, result.spec, result.error)


def _read_spec(folder: Folder) -> dict[str, Any] | None:
    """What the folder says was asked; None when the trial has not been started."""
    try:
        spec = json.loads(folder.read("spec.json") or b"null")
    except (ValueError, OSError):
        return None
    return spec if isinstance(spec, dict) else None


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
            what = f"not measured by {lacking} trial(s), judged by their own divergence instead"
            problems.append(Problem(f"sweep {sweep.name}", f"faithfulness {sweep.faithfulness}: {what}"))
    return asked


def _tables(
    records: Iterable[TrialRecord], sweeps: Sequence[SweepRecord], metrics: Mapping[str, str]
) -> tuple[pa.Table, pa.Table]:
    asked: dict[str, list[str]] = {}
    for sweep in sweeps:
        for trial_id in sweep.trial_ids:
            asked.setdefault(trial_id, []).append(sweep.name)
    trial_rows, point_rows = [], []
    for record in records:
        trial_rows.append(_trial_row(record, asked.get(record.trial_id, [])))
        if record.result is not None:
            metric = metrics.get(record.trial_id, record.result.divergence)
            point_rows += [_point_row(record.result, point, metric) for point in record.result.points]
    plain = {column.name for column in POINT_COLUMNS}
    measured = sorted({name for row in point_rows for name in row} - plain)
    return (
        table(trial_rows, TRIAL_COLUMNS, [], "trials"),
        table(point_rows, POINT_COLUMNS, measured, "points"),
    )


def _trial_row(record: TrialRecord, sweeps: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "trial_id": record.trial_id,
        "status": record.status,
        "error": record.error,
        "sweeps": sweeps,
        "num_points": 0,
    }
    if record.spec is not None:
        seed = record.spec.get("seed")
        row |= {"spec": _json(record.spec), "seed": seed if isinstance(seed, int) else None}
    result = record.result
    if result is None:
        return row
    same = (
        "seed divergence num_edges_total in_sample steps examples backward_examples seconds cpu_seconds "
        "peak_memory_bytes started finished warnings result_schema"
    )
    nested = ("full", "empty", "areas", "num_examples", "execution", "versions", "ground_truth")
    truth, code = result.ground_truth, result.execution.get("code")
    return (
        row
        | {name: getattr(result, name) for name in same.split()}
        | {name: None if (value := getattr(result, name)) is None else _json(value) for name in nested}
        | (result.group.model_dump() if result.group else {})
        | {
            "num_points": len(result.points),
            "num_edges_truth": None if truth is None else len(truth),
            "code": None if code is None else str(code),
        }
    )


def _point_row(result: TrialResult, point: Point, metric: str | None) -> dict[str, Any]:
    row = point.model_dump(exclude={"metrics", "intervals"})
    row |= {"trial_id": result.trial_id, "seed": result.seed, "divergence": metric}
    row |= result.group.model_dump() if result.group else {}
    if point.kind == "ranking" and result.group:
        row["method"] = f"{result.group.method} (ranking)"  # sizes it was not run for: a curve of its own
    for split, metrics in point.metrics.items():
        row |= {f"{split}_{name}": value for name, value in metrics.items()}
    for split, ends in point.intervals.items():
        row |= {f"low_{split}_{name}": low for name, (low, _) in ends.items()}
        row |= {f"high_{split}_{name}": high for name, (_, high) in ends.items()}
    normalised = faithfulness_by_metric(
        *(of.get("test", {}) for of in (point.metrics, result.full, result.empty))
    )
    row |= {f"faithfulness_{name}": value for name, value in normalised.items()}
    if metric is not None:
        row["divergence_validation"] = point.metrics.get("validation", {}).get(metric)
        row["divergence_test"] = point.metrics.get("test", {}).get(metric)
        row["divergence_empty"] = result.empty.get("test", {}).get(metric)
    return row


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
