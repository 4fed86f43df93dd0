"""Plan: the trials of a sweep in the order they run, and what the runs folder already knows of each."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.attempt import Attempt, Owner
from orchestrator.faults import FAILURES
from orchestrator.lease import elsewhere
from orchestrator.records.trial_result import RESULT, read_result
from orchestrator.search.record import progress_of
from orchestrator.search.study import Progress
from orchestrator.sweep import SweepSpec
from trainers.folder import Folder
from trainers.result import TrialResult
from trainers.spec import SpecError, nearest
from trainers.trial import TrialSpec

State = Literal["complete", "failed", "running", "waiting", "orphaned"]
STATES: tuple[State, ...] = ("complete", "failed", "running", "waiting", "orphaned")
REMAINS = ("checkpoint", "progress.jsonl", FAILURES)  # what an attempt goes on from


@dataclass(frozen=True)
class PlannedTrial:
    """`state`: complete and failed trials have a result; a running one has a live driver; an orphaned
    one was begun and its driver vanished; waiting is the rest, trials whose last attempt failed, or left
    them in order when the sweep was stopped or paused, included. Whatever was begun goes on from its last
    checkpoint.

    `problem` says what is wrong with the trial's files, if anything is.
    """

    trial_id: str
    spec: TrialSpec
    state: State
    result: TrialResult | None = None
    problem: str = ""

    @property
    def kind(self) -> str:
        """`gpt2 ioi edge_pruning`, with the variant's name if it has one."""
        variant = f" ({self.spec.method.variant})" if self.spec.method.variant else ""
        return f"{self.spec.model.label} {self.spec.task.name} {self.spec.method.name}{variant}"


@dataclass(frozen=True)
class Plan:
    """Trials of one model and dtype come together, expensive ones first, so that lanes seldom load
    and end at about the same time. Of a sweep that searches, `trials` are those asked for so far, and
    `studies` ask for more as they end."""

    sweep: SweepSpec
    trials: tuple[PlannedTrial, ...]
    studies: tuple[Progress, ...] = ()

    @property
    def counts(self) -> dict[State, int]:
        counted = Counter(trial.state for trial in self.trials)
        return {state: counted[state] for state in STATES}

    @property
    def missing(self) -> tuple[PlannedTrial, ...]:
        """Trials without a result."""
        return tuple(trial for trial in self.trials if trial.result is None)

    @property
    def unasked(self) -> int:
        """Trials that studies will still ask for."""
        return sum(study.unasked for study in self.studies)

    @property
    def points(self) -> int:
        """Circuits that complete trials have, and the others will have at most."""
        planned = [trial.spec.method.points_planned() for trial in self.trials]
        return self.unasked * max(planned, default=0) + sum(
            most if trial.result is None else len(trial.result.points)
            for trial, most in zip(self.trials, planned, strict=True)
        )

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(f"trials/{trial.trial_id}/{trial.problem}" for trial in self.trials if trial.problem)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the spec leaves to chance."""
        models = [trial.spec.model for trial in self.trials]
        moving = {model.hub: model.revision or "main" for model in models if model.moves}
        return tuple(
            f"model.hub: {name} is taken at {revision}, which may stand for another commit tomorrow; pin one "
            "(revision: its 40 hex digits)"
            for name, revision in moving.items()
        )


def plan(sweep: SweepSpec, runs: Folder, mine: Owner | None = None) -> Plan:
    """Reads the runs folder and changes nothing. Trials that `mine` runs count as orphaned, not running."""
    begun = set((runs / "trials").names())
    seen: dict[str, tuple[State, TrialResult | None, str]] = {}

    def found(trial_id: str) -> tuple[State, TrialResult | None, str]:
        if trial_id not in seen:
            folder = runs / "trials" / trial_id
            seen[trial_id] = look(folder, runs, mine) if trial_id in begun else ("waiting", None, "")
        return seen[trial_id]

    if sweep.search is None:
        specs, studies = sweep.trials_by_id(), []
    else:
        studies = progress_of(sweep, runs / sweep.name, lambda trial_id: found(trial_id)[1])
        specs = {one.trial_id: one.trial for study in studies for one in study.questions}
    planned = [PlannedTrial(trial_id, spec, *found(trial_id)) for trial_id, spec in specs.items()]
    return Plan(sweep, tuple(_ordered(planned)), tuple(studies))


def clear_the_way(
    plan: Plan, runs: Folder, rerun: Collection[str] = (), retry_failed: bool = False
) -> tuple[Plan, list[str]]:
    """Moves aside the results that must not count: unreadable ones, those of `rerun` (trial ids or
    `all`), failed ones when `retry_failed`. Those trials start again from their first step.

    Returns the plan as it is then, and one line per result moved. Nothing is deleted but
    checkpoints and progress. Raises SpecError for a trial id that the plan does not have.
    """
    known = [trial.trial_id for trial in plan.trials]
    for trial_id in rerun:
        if trial_id != "all" and trial_id not in known:
            hint = nearest(trial_id, known)
            raise SpecError(f"--rerun: found {trial_id}.{hint} Allowed: all, or a trial id of the sweep")
    moved: list[str] = []
    trials: list[PlannedTrial] = []
    for trial in plan.trials:
        why = _reason_to_move(trial, rerun, retry_failed)
        if why:
            folder = runs / "trials" / trial.trial_id
            moved.append(f"{folder.location}/{_move_aside(folder, why)}")
            for study in plan.studies:
                study.forget(trial.trial_id)
            trial = replace(trial, state="waiting", result=None, problem="")
        trials.append(trial)
    return replace(plan, trials=tuple(trials)), moved


def look(trial: Folder, runs: Folder, mine: Owner | None = None) -> tuple[State, TrialResult | None, str]:
    """State, result and problem of one trial's folder, as in PlannedTrial."""
    result, problem = read_result(trial)
    if result is not None:
        return result.status, result, ""
    if problem:
        return "waiting", None, problem
    last = Attempt.last(trial)
    if last is None or last.given_back:
        return "waiting", None, ""
    return ("running" if elsewhere(trial, runs, mine) else "orphaned"), None, ""


def _ordered(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    specs = dict.fromkeys(trial.spec.model for trial in trials)
    identities = {spec: frozenset(spec.identity().items()) for spec in specs}
    place = {identity: number for number, identity in enumerate(dict.fromkeys(identities.values()))}
    return sorted(
        trials,
        key=lambda trial: (place[identities[trial.spec.model]], -trial.spec.method.steps_planned()),
    )


def _reason_to_move(trial: PlannedTrial, rerun: Collection[str], retry_failed: bool) -> str:
    if trial.problem:
        return "corrupt"
    if trial.result is not None and ("all" in rerun or trial.trial_id in rerun):
        return "replaced"
    return "failed" if trial.state == "failed" and retry_failed else ""


def _move_aside(trial: Folder, why: str) -> str:
    names = set(trial.names())
    number = next(n for n in range(1, len(names) + 2) if f"{RESULT}.{why}-{n}" not in names)
    trial.rename(RESULT, f"{RESULT}.{why}-{number}")
    for name in REMAINS:
        trial.delete(name)
    return f"{RESULT}.{why}-{number}"
