"""Status: how the sweeps of a runs folder stand, from the folder alone."""

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.attempt import Attempt
from orchestrator.lease import sweep_is_driven
from orchestrator.plan import STATES, State, look
from trainers.folder import Folder
from trainers.result import TrialResult
from trainers.spec import SpecError, nearest


@dataclass(frozen=True)
class TrialStatus:
    """`attempts` counts starts, so `attempts - 1` retries. `last` holds the values of the latest
    progress report, `seconds_left` the time to the end of this trial; None is unknown."""

    trial_id: str
    state: State
    what: str = ""  # model, task, method, seed
    attempts: int = 0
    phase: str = ""
    step: int | None = None
    total: int | None = None
    last: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None  # a complete trial's
    seconds_left: float | None = None
    error: str = ""


@dataclass(frozen=True)
class SweepStatus:
    """`driver` is who runs the sweep now: `host (process pid)`, or empty."""

    name: str
    driver: str
    counts: Mapping[State, int]
    retries: int
    seconds_left: float | None
    trials: Sequence[TrialStatus]


def status(runs: Folder, only: str | None = None) -> list[SweepStatus]:
    """Every sweep of a runs folder, or the one named `only`. Raises SpecError when there is none."""
    names = [name for name in runs.names() if name != "trials" and (runs / name).exists("trials.json")]
    if not names:
        raise SpecError(f"{runs.location}: no sweep there; allowed: the folder that `run --runs` was given")
    if only is not None and only not in names:
        raise SpecError(f"--sweep: found {only}.{nearest(only, names)} Allowed: {', '.join(names)}")
    return [_sweep_status(name, runs) for name in names if only in (None, name)]


def _sweep_status(name: str, runs: Folder) -> SweepStatus:
    driver = sweep_is_driven(runs, name)
    begun = set((runs / "trials").names())
    trials = [
        _trial_status(runs / "trials" / trial_id, trial_id, runs)
        if trial_id in begun
        else TrialStatus(trial_id, "waiting")
        for trial_id in _trial_ids(runs / name)
    ]
    counted = Counter(trial.state for trial in trials)
    return SweepStatus(
        name=name,
        driver=f"{driver.host} (process {driver.pid})" if driver else "",
        counts={state: counted[state] for state in STATES},
        retries=sum(max(0, trial.attempts - 1) for trial in trials),
        seconds_left=_seconds_left(trials),
        trials=trials,
    )


def _trial_ids(sweep: Folder) -> list[str]:
    try:
        ids = json.loads(sweep.read("trials.json") or b"null")
    except ValueError:
        ids = None
    if not isinstance(ids, list):
        raise SpecError(f"{sweep.location}/trials.json: not a list of trial ids; run the sweep again")
    return [str(trial_id) for trial_id in ids]


def _trial_status(trial: Folder, trial_id: str, runs: Folder) -> TrialStatus:
    state, result, problem = look(trial, runs)
    attempt = Attempt.last(trial)
    attempts = attempt.attempt if attempt else 0
    if result is not None:
        error = (result.error or "").strip().splitlines()[-1:] if state == "failed" else []
        return TrialStatus(
            trial_id, state, _what(result.spec), attempts, "", result.steps, result.steps,
            _final_values(result), result.seconds, 0.0, "".join(error),
        )  # fmt: skip
    reports = _reports(trial)
    latest = reports[-1] if reports else {}
    numbers = {key: value for key, value in latest.items() if isinstance(value, int | float)}
    values = {key: value for key, value in numbers.items() if key not in ("time", "attempt", "step", "total")}
    return TrialStatus(
        trial_id, state, _what(_read_json(trial, "spec.json")), attempts, str(latest.get("phase", "")),
        latest.get("step"), latest.get("total"), values, None, _trial_seconds_left(reports), problem,
    )  # fmt: skip


def _reports(trial: Folder) -> list[dict[str, Any]]:
    """Progress reports of the latest attempt; lines that a crash tore are skipped."""
    reports: list[dict[str, Any]] = []
    for line in (trial.read("progress.jsonl") or b"").splitlines():
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict):
            reports.append(report)
    return [report for report in reports if report.get("attempt") == reports[-1].get("attempt")]


def _trial_seconds_left(reports: Sequence[Mapping[str, Any]]) -> float | None:
    steps = [report for report in reports if report.get("phase", "train") == "train"]
    if len(steps) < 2 or steps[-1]["step"] <= steps[0]["step"]:
        return None
    first, last = steps[0], steps[-1]
    per_step = (last["time"] - first["time"]) / (last["step"] - first["step"])
    return max(0.0, per_step * (last["total"] - last["step"]))


def _seconds_left(trials: Sequence[TrialStatus]) -> float | None:
    """Zero when all is over; None while no trial has shown how long one takes."""
    running = [trial.seconds_left for trial in trials if trial.state == "running"]
    ahead = sum(trial.state in ("waiting", "orphaned") for trial in trials)
    taken = [trial.seconds for trial in trials if trial.state == "complete" and trial.seconds]
    if not running and not ahead:
        return 0.0
    if ahead and not taken:
        return None
    typical = statistics.median(taken) if taken else 0.0
    now = sum(typical if left is None else left for left in running)
    return (now + ahead * typical) / max(1, len(running))


def _final_values(result: TrialResult) -> dict[str, float]:
    final = [point for point in result.points if point.kind == "final"] or result.points
    if not final:
        return {}
    point = final[-1]
    values = {"sparsity": point.sparsity, "num_edges": float(point.num_edges)}
    divergence = point.metrics.get("validation", {}).get(result.divergence or "")
    return values if divergence is None else values | {str(result.divergence): divergence}


def _what(spec: object) -> str:
    """Model, task, method and seed of a trial's spec in a few words."""
    if not isinstance(spec, dict):
        return ""
    model, task, method = (spec.get(part) or {} for part in ("model", "task", "method"))
    name = model.get("builtin") or model.get("hub") or str(model.get("path", "")).rpartition("/")[2]
    return f"{name} {task.get('name', '')} {method.get('name', '')} seed {spec.get('seed', 0)}"


def _read_json(folder: Folder, name: str) -> object:
    try:
        return json.loads(folder.read(name) or b"null")
    except ValueError:
        return None
