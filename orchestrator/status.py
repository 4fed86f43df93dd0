"""Status: how the sweeps of a runs folder stand, from the folder alone."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.attempt import Attempt
from orchestrator.control import Control
from orchestrator.faults import failures
from orchestrator.lease import sweep_is_driven
from orchestrator.observers.events import EVENTS
from orchestrator.planning.estimate import estimate_trial
from orchestrator.planning.plan import STATES, PlannedTrial, State, look
from orchestrator.planning.probe import Probed
from orchestrator.records.trial_result import own_point, read_result
from orchestrator.search.record import known_trials, progress_of
from orchestrator.settings import named
from orchestrator.sweep import SweepSpec
from orchestrator.wording import headline, masked, printable
from orchestrator.yaml_source import parse_yaml
from trainers.folder import Folder
from trainers.outside import is_name, parse_json
from trainers.resources import Resources
from trainers.result import TrialResult
from trainers.spec import SpecError, nearest
from trainers.trial import TrialSpec

COUNTED = ("time", "step", "total")  # what every progress report has


@dataclass(frozen=True)
class TrialStatus:
    """`attempts` counts starts, after pauses too; `own_failures` and `machine_failures` those that ended
    without a result, by whose doing. `last` holds the values of the latest progress report, `seconds_left`
    the time to the end of this trial; None is unknown. `error` is a failed trial's; of another, why its last
    attempt ended, or what is wrong with its files."""

    trial_id: str
    state: State
    what: str = ""  # model, task, method, and what tells it from the sweep's other trials
    attempts: int = 0
    phase: str = ""
    step: int | None = None
    total: int | None = None
    last: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None  # a complete trial's
    seconds_left: float | None = None
    error: str = ""
    own_failures: int = 0
    machine_failures: int = 0


@dataclass(frozen=True)
class SweepStatus:
    """`driver` is who runs the sweep now: `host (process pid)`, or empty; then `ended` says how the last
    one ended. `location` is the sweep's folder."""

    name: str
    location: str
    driver: str
    paused: bool
    ended: str
    counts: Mapping[State, int]
    own_failures: int
    machine_failures: int
    seconds_left: float | None
    trials: Sequence[TrialStatus]
    unasked: int = 0  # trials that the studies of a search will still ask for


def status(runs: Folder, only: str | None = None) -> list[SweepStatus]:
    """Every sweep of a runs folder, or the one named `only`. Raises SpecError when there is none."""
    return [_sweep_status(name, runs) for name in sweep_names(runs, only)]


def sweep_names(runs: Folder, only: str | None = None) -> list[str]:
    """Of all sweeps in a runs folder, or just `only`. Raises SpecError when there is none."""
    names = [name for name in runs.names() if name != "trials" and (runs / name).exists("trials.json")]
    if not names:
        raise SpecError(f"{runs.location}: no sweep there; allowed: the folder that `run --runs` was given")
    if only is not None and only not in names:
        raise SpecError(f"--sweep: found {only}.{nearest(only, names)} Allowed: {', '.join(names)}")
    return [name for name in names if only in (None, name)]


def _sweep_status(name: str, runs: Folder) -> SweepStatus:
    driver, home = sweep_is_driven(runs, name), runs / name
    begun = set((runs / "trials").names())
    specs, resources, unasked = _snapshot(home)
    names = named([PlannedTrial(trial_id, spec, "waiting") for trial_id, spec in specs.items()])
    trials = [
        _trial_status(runs / "trials" / trial_id, trial_id, runs, names.get(trial_id, ""))
        if trial_id in begun
        else TrialStatus(trial_id, "waiting", names.get(trial_id, ""))
        for trial_id in trial_ids(home)
    ]
    counted = Counter(trial.state for trial in trials)
    return SweepStatus(
        name=name,
        location=masked(home.location),
        driver=f"{driver.host} (process {driver.pid})" if driver else "",
        paused=driver is not None and Control.read(home).paused,
        ended="" if driver else _ended(home),
        counts={state: counted[state] for state in STATES},
        own_failures=sum(trial.own_failures for trial in trials),
        machine_failures=sum(trial.machine_failures for trial in trials),
        seconds_left=_seconds_left(trials, _typical_seconds(trials, specs, resources, runs), unasked),
        trials=trials,
        unasked=unasked,
    )


def trial_ids(sweep: Folder) -> list[str]:
    """Of a sweep's folder. Raises SpecError when its trials.json cannot be read."""
    try:
        ids = parse_json(sweep.read("trials.json") or b"null")
    except ValueError:
        ids = None
    if not isinstance(ids, list) or not all(map(is_name, ids)):
        raise SpecError(f"{sweep.location}/trials.json: not a list of trial ids; run the sweep again")
    return [str(trial_id) for trial_id in ids]


def _trial_status(trial: Folder, trial_id: str, runs: Folder, what: str) -> TrialStatus:
    state, result, problem = look(trial, runs)
    attempt, failed = Attempt.last(trial), failures(trial)
    own = sum(failure.own for failure in failed)
    known = TrialStatus(
        trial_id, state, attempts=attempt.attempt if attempt else 0,
        own_failures=own, machine_failures=len(failed) - own,
    )  # fmt: skip
    if result is not None:
        error = headline(result.error) if state == "failed" else ""
        return replace(
            known, what=what or _what(result.spec), step=result.steps, total=result.steps,
            last=_final_values(result), seconds=result.seconds, seconds_left=0.0, error=error,
        )  # fmt: skip
    reports = _reports(trial)
    latest = reports[-1] if reports else {}
    numbers = {key: value for key, value in latest.items() if isinstance(value, int | float)}
    values = {key: value for key, value in numbers.items() if key not in ("time", "attempt", "step", "total")}
    return replace(
        known, what=what or _what(_read_json(trial, "spec.json")), phase=str(latest.get("phase", "")),
        step=latest.get("step"), total=latest.get("total"), last=values,
        seconds_left=None if problem else _trial_seconds_left(reports),
        error=problem or (failed[-1].headline if failed else ""),
    )  # fmt: skip


def _ended(home: Folder) -> str:
    """How the last driver ended, as far as it could say so."""
    last: dict[str, Any] = {}
    for event in _json_lines(home, EVENTS):
        if event.get("event") in ("sweep_started", "sweep_stopped", "sweep_ended"):
            last = event
    if not last:
        return ""
    when = str(last.get("time", ""))[:19].replace("T", " ")
    if last["event"] == "sweep_started":
        return f"the last one began {when} UTC and was killed or lost"
    how = "ended" if last["event"] == "sweep_ended" else "was stopped"
    return f"the last one {how} {when} UTC: {printable(str(last.get('text', '')))}"


def _json_lines(folder: Folder, name: str) -> Iterator[dict[str, Any]]:
    """Lines that a crash tore are skipped."""
    for line in (folder.read(name) or b"").splitlines():
        with suppress(ValueError):
            if isinstance(content := parse_json(line), dict):
                yield content


def _reports(trial: Folder) -> list[dict[str, Any]]:
    """Progress reports of the latest attempt."""
    reports = [
        report
        for report in _json_lines(trial, "progress.jsonl")
        if all(isinstance(report.get(name), int | float) for name in COUNTED)
    ]
    return [report for report in reports if report.get("attempt") == reports[-1].get("attempt")]


def _trial_seconds_left(reports: Sequence[Mapping[str, Any]]) -> float | None:
    steps = [report for report in reports if report.get("phase", "train") == "train"]
    if len(steps) < 2 or steps[-1]["step"] <= steps[0]["step"]:
        return None
    first, last = steps[0], steps[-1]
    per_step = (last["time"] - first["time"]) / (last["step"] - first["step"])
    return max(0.0, per_step * (last["total"] - last["step"]))


def _snapshot(home: Folder) -> tuple[dict[str, TrialSpec], Resources, int]:
    """The sweep's trials by id, what they run on, and how many more its studies will ask for; no trials
    when the snapshot or the models that it names cannot be read any more."""
    try:
        data = parse_yaml((home.read("sweep.yaml") or b"").decode(), "sweep.yaml").data
        sweep = SweepSpec.parse(data, "sweep.yaml")
        unasked = sum(study.unasked for study in progress_of(sweep, home))
        return known_trials(sweep, home), sweep.resources, unasked
    except (SpecError, UnicodeDecodeError):
        return {}, Resources(), 0


def _typical_seconds(
    trials: Sequence[TrialStatus], specs: Mapping[str, TrialSpec], resources: Resources, runs: Folder
) -> dict[str, float]:
    """By id of the trials that are not over: what complete trials of their kind took, else what unfinished
    ones that have come so far will take, if there are any."""
    over = [trial.trial_id for trial in trials if trial.state == "complete"]
    earlier = [result for trial_id in over if (result := read_result(runs / "trials" / trial_id)[0])]
    known = [trial for trial in trials if trial.trial_id in specs]
    planned = {one.trial_id: PlannedTrial(one.trial_id, specs[one.trial_id], one.state) for one in known}
    steps: dict[str, list[float]] = defaultdict(list)
    for trial in known:
        if trial.seconds_left and trial.step is not None and trial.total is not None:
            steps[planned[trial.trial_id].kind].append(trial.seconds_left / (trial.total - trial.step))
    under_way = {kind: Probed(0.0, statistics.median(seconds), 0.0) for kind, seconds in steps.items()}
    typical: dict[str, float] = {}
    for trial in known:
        if trial.state not in ("complete", "failed"):
            cost = estimate_trial(planned[trial.trial_id], resources, earlier, under_way)
            if cost.basis in ("measured", "probed") and cost.seconds is not None:
                typical[trial.trial_id] = cost.seconds
    return typical


def _seconds_left(trials: Sequence[TrialStatus], typical: Mapping[str, float], unasked: int) -> float | None:
    """Zero when all is over; None while there is a trial of which nothing is known. Those that are `unasked`
    take what complete ones took."""
    left = [
        typical.get(trial.trial_id) if trial.seconds_left is None else trial.seconds_left
        for trial in trials
        if trial.state not in ("complete", "failed")
    ]
    running = sum(trial.state == "running" for trial in trials)
    took = [trial.seconds for trial in trials if trial.state == "complete" and trial.seconds is not None]
    left += unasked * [sum(took) / len(took) if took else None]
    known = [seconds for seconds in left if seconds is not None]
    return sum(known) / max(1, running) if len(known) == len(left) else None


def _final_values(result: TrialResult) -> dict[str, float]:
    point = own_point(result)
    if point is None:
        return {"circuits": float(len(result.points))}
    values = {"sparsity": point.sparsity, "num_edges": float(point.num_edges)}
    divergence = point.metrics.get("validation", {}).get(result.divergence or "")
    return values if divergence is None else values | {str(result.divergence): divergence}


def _what(spec: object) -> str:
    """Model, task, method and seed of a trial's spec in a few words."""
    if not isinstance(spec, dict):
        return ""
    parts = (spec.get(name) for name in ("model", "task", "method"))
    model, task, method = (part if isinstance(part, dict) else {} for part in parts)
    name = model.get("builtin") or model.get("hub") or str(model.get("path", "")).rpartition("/")[2]
    return f"{name} {task.get('name', '')} {method.get('name', '')} seed {spec.get('seed', 0)}"


def _read_json(folder: Folder, name: str) -> object:
    try:
        return parse_json(folder.read(name) or b"null")
    except ValueError:
        return None
