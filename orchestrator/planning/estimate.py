"""What trials cost: measured on earlier trials of their kind where there are any, else guessed from sizes."""

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.cluster.room import Node, fits
from orchestrator.planning.capacity import room
from orchestrator.planning.disk import predicted_disk
from orchestrator.planning.memory import PROCESS_BYTES, fitting, predict
from orchestrator.planning.plan import Plan, PlannedTrial
from orchestrator.planning.probe import Probed
from orchestrator.planning.weights import BYTES, parameter_count, sizes
from orchestrator.records.trial_result import read_result
from orchestrator.wording import size
from trainers.folder import Folder
from trainers.resources import Resources
from trainers.result import TrialResult
from trainers.spec import SpecError
from trainers.trial import TrialSpec

Basis = Literal["measured", "probed", "guessed from the model's size", "unknown"]
# Of a tiny model on a CPU: nearly all of it is the engine's own time.
TRIAL_SECONDS = 2.0
STEP_SECONDS = 0.03
TINY_PARAMETERS = 1_000_000
MAX_RESULTS = 1000  # earlier results read for measurements


@dataclass(frozen=True)
class Estimate:
    """Seconds of one trial and bytes of one rank; None is unknown. A guess is good to a factor of a few."""

    basis: Basis
    seconds: float | None
    memory_bytes: int | None
    memory_told: str = ""


@dataclass(frozen=True)
class PlanEstimate:
    """Of the trials of a plan that have no result yet, and of those that studies will still ask for: these
    count as the average of the others.

    `seconds` is what they take one after another, without the `unknown` ones; divide it by `lanes`
    (as many as fit, if the sweep does not say; no more than trials). `node_hours` count `nodes` for
    that long. `memory_bytes` is of the largest rank, and `memory_told` says what is in it; `too_much` is what
    to change where that is more than a rank has. `disk_bytes` what the results will add,
    `record_bytes` what the report and the mirror in MLflow will, and `checkpoint_bytes` what running trials
    take beside that, at most; None is unknown.
    """

    seconds: float
    unknown: int
    bases: tuple[Basis, ...]
    lanes: int | None
    nodes: int
    memory_bytes: int | None
    memory_told: str
    too_much: tuple[str, ...]
    disk_bytes: int | None
    record_bytes: int | None
    checkpoint_bytes: int | None

    @property
    def wall_seconds(self) -> float:
        return self.seconds / (self.lanes or 1)

    @property
    def node_hours(self) -> float:
        return self.nodes * self.wall_seconds / 3600


def estimate(
    plan: Plan,
    runs: Folder,
    nodes: Sequence[Node] | None = None,
    probed: Mapping[str, Probed] | None = None,
) -> PlanEstimate:
    """Reads earlier results in the runs folder; starts nothing, loads no model. `nodes` are those of a
    cluster; without them, this machine."""
    resources = plan.sweep.resources
    earlier = list(_complete_results(plan, runs))
    each = [estimate_trial(trial, resources, earlier, probed or {}) for trial in plan.missing]
    known = [one.seconds for one in each if one.seconds is not None]
    lanes = _lanes(resources, len(each), nodes)
    largest = max(each, key=lambda one: one.memory_bytes or 0, default=Estimate("unknown", None, None))
    disk = predicted_disk(plan.missing, runs, earlier, lanes or 1)
    more = 1 + plan.unasked / max(1, len(each))
    return PlanEstimate(
        seconds=sum(known) * more,
        unknown=round((len(each) - len(known)) * more),
        bases=tuple(sorted({one.basis for one in each})),
        lanes=lanes,
        nodes=1 if nodes is None else len(nodes),
        memory_bytes=largest.memory_bytes,
        memory_told=largest.memory_told,
        too_much=_too_much(plan.missing[each.index(largest)], resources, largest, nodes) if each else (),
        disk_bytes=disk and round(disk.results * more),
        record_bytes=disk and round(disk.records * more),
        checkpoint_bytes=disk and disk.checkpoints,
    )


def estimate_trial(
    trial: PlannedTrial,
    resources: Resources,
    earlier: Sequence[TrialResult],
    probed: Mapping[str, Probed] | None = None,
) -> Estimate:
    """Measured: the median seconds per planned step of complete trials with the same model, task,
    method and ranks, times this trial's steps; the peak memory of those with steps of the same size."""
    steps = max(1, trial.spec.method.steps_planned())
    parameters = parameter_count(trial.spec.model)
    base, told = _memory(trial.spec, resources, parameters)
    alike = [result for result in earlier if _is_alike(result, trial, resources)]
    if alike:
        per_step = statistics.median(result.seconds / _steps_planned(result) for result in alike)
        peaks = [result.peak_memory_bytes for result in alike if _takes_alike(result, trial, resources)]
        if peaks and parameters is not None:
            beside = 0 if resources.gpus_per_rank else PROCESS_BYTES
            base = beside + _weight_bytes(trial, parameters, resources) + max(peaks)
            told = "measured"
        return Estimate("measured", per_step * steps, base, told)
    if probed and trial.kind in probed:
        return Estimate("probed", probed[trial.kind].seconds(steps), base, told)
    if parameters is None or parameters > TINY_PARAMETERS or resources.gpus_per_rank:
        return Estimate("unknown", None, base, told)
    return Estimate("guessed from the model's size", TRIAL_SECONDS + steps * STEP_SECONDS, base, told)


def _memory(spec: TrialSpec, resources: Resources, parameters: int | None) -> tuple[int | None, str]:
    """Bytes of a rank, and what is in them."""
    if parameters is None:
        return None, ""
    known, tokens = sizes(spec.model), spec.task.tokens_planned()
    memory = None if known is None else predict(spec, resources, known, parameters)
    if memory is None or tokens is None:
        share = resources.ranks if resources.zero_stage == 3 else 1
        beside = 0 if resources.gpus_per_rank else PROCESS_BYTES
        return beside + parameters * BYTES[
            spec.model.dtype
        ] // share, "without the trial: its prompts' length is unknown"
    parts = f"{size(memory.weights)} weights, {size(memory.trial)} for prompts of {tokens[0]} tokens"
    return memory.total, parts + f", {size(memory.process)} Python" * bool(memory.process)


def _too_much(
    trial: PlannedTrial, resources: Resources, found: Estimate, nodes: Sequence[Node] | None
) -> tuple[str, ...]:
    """What to change where a rank takes more than it has; nothing where either is unknown."""
    limit, parameters, known = (
        room(resources, nodes),
        parameter_count(trial.spec.model),
        sizes(trial.spec.model),
    )
    if limit is None or not found.memory_bytes or found.memory_bytes <= limit:
        return ()
    if parameters is None or known is None:
        return (f"more than the {size(limit)} that a rank has",)
    fits = fitting(trial.spec, resources, known, parameters, lambda asked: room(asked, nodes))
    told = [f"{change.told} ({size(change.memory.total)})" for change in fits]
    return (f"more than the {size(limit)} that a rank has", *(told or ["nothing tried here fits"]))


def _weight_bytes(trial: PlannedTrial, parameters: int, resources: Resources) -> int:
    total = parameters * BYTES[trial.spec.model.dtype]
    return total // resources.ranks if resources.zero_stage == 3 else total


def _lanes(resources: Resources, missing: int, nodes: Sequence[Node] | None) -> int | None:
    """A lane without a trial is never started; None is unknown, 0 too little for one."""
    room: int | None = None
    if nodes is not None:
        room = fits(resources, nodes)
    elif not resources.gpus_per_rank:
        here = int((os.cpu_count() or 1) / (resources.ranks * resources.cpus_per_rank))
        if not here:
            return 0
        room = here if resources.lanes is None else None
    counts = [count for count in (resources.lanes, room, missing) if count is not None]
    return max(1, min(counts)) if resources.lanes or room is not None else None


def _complete_results(plan: Plan, runs: Folder) -> Iterator[TrialResult]:
    known = {trial.trial_id: trial.result for trial in plan.trials}
    for trial_id in (runs / "trials").names()[:MAX_RESULTS]:
        result = known[trial_id] if trial_id in known else read_result(runs / "trials" / trial_id)[0]
        if result is not None and result.status == "complete":
            yield result


def _steps_planned(result: TrialResult) -> int:
    """Of the trial as it was asked for then: what it counted as steps may be something else."""
    try:
        return max(1, TrialSpec.parse(result.spec, "result.json").method.steps_planned())
    except SpecError:  # written under an older schema
        return max(1, result.steps)


def _takes_alike(result: TrialResult, trial: PlannedTrial, resources: Resources) -> bool:
    """Of a result that is alike: in memory, too."""
    method, ran = trial.spec.plain()["method"], result.spec.get("method", {})
    recomputed = result.execution.get("recompute_blocks", False)
    steps_alike = all(ran.get(name) == method.get(name) for name in ("batch_size", "gate_samples"))
    return steps_alike and recomputed == resources.recompute_blocks


def _is_alike(result: TrialResult, trial: PlannedTrial, resources: Resources) -> bool:
    spec = trial.spec.plain()
    return (
        all(result.spec.get(part) == spec[part] for part in ("model", "task"))
        and result.spec.get("method", {}).get("name") == trial.spec.method.name
        and result.execution.get("ranks", resources.ranks) == resources.ranks
    )
