"""What the commands print: plans and states, as text for people and as plain data for scripts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.cluster.room import amounts
from orchestrator.planning.estimate import PlanEstimate
from orchestrator.planning.plan import Plan
from orchestrator.search.space import Search
from orchestrator.settings import settings
from orchestrator.status import SweepStatus, TrialStatus
from orchestrator.wording import count, duration, percent, significant, size
from trainers.metrics import METRICS

LINES = 60  # trials listed on a terminal; --json lists all


def plan_text(plan: Plan, cost: PlanEstimate, upload_bytes: int | None = None) -> str:
    """The sweep, its trials with what tells them apart, and the cost of those that are missing."""
    told = settings(plan.trials)
    rows = [
        (trial.trial_id, trial.state, trial.kind, " ".join(f"{k}={v}" for k, v in told[trial.trial_id]))
        for trial in plan.trials[:LINES]
    ]
    lines = [f"{plan.sweep.name}: {plan.sweep.question}", "", *table(("trial", "state", "what", ""), rows)]
    if len(plan.trials) > LINES:
        lines.append(f"... and {len(plan.trials) - LINES} more (--json lists all)")
    methods = Counter(trial.spec.method.name for trial in plan.trials)
    kinds = ", ".join(f"{number} {method}" for method, number in methods.items())
    states = ", ".join(f"{number} {state}" for state, number in plan.counts.items() if number)
    lines += ["", f"trials    {len(plan.trials)} ({kinds}): {states}"]
    if plan.sweep.search is not None:
        lines.append(f"search    {_search_line(plan, plan.sweep.search)}")
    lines += [f"points    {plan.points:,}{' at most' * bool(plan.missing)}", *_cost_lines(plan, cost)]
    if upload_bytes is not None:
        lines.append(f"upload    {_size(upload_bytes)} with `submit`: the working directory")
    lines += [
        f"problem   {problem}; `run` moves it aside and runs the trial again" for problem in plan.problems
    ]
    lines += [f"note      {note}" for note in plan.notes]
    return "\n".join(lines)


def plan_json(plan: Plan, cost: PlanEstimate, upload_bytes: int | None = None) -> dict[str, Any]:
    return {
        "sweep": plan.sweep.name,
        "question": plan.sweep.question,
        "counts": plan.counts,
        "missing": len(plan.missing),
        "studies": len(plan.studies),
        "unasked": plan.unasked,
        "points": plan.points,
        "estimate": {
            "seconds": None if cost.unknown else cost.seconds,
            "seconds_of_known_trials": cost.seconds,
            "trials_unknown": cost.unknown,
            "basis": list(cost.bases),
            "lanes": cost.lanes,
            "waves": -(-(len(plan.missing) + plan.unasked) // cost.lanes) if cost.lanes else None,
            "nodes": cost.nodes,
            "node_hours": None if cost.unknown else cost.node_hours,
            "memory_bytes_per_rank": cost.memory_bytes,
            "memory": cost.memory_told,
            "memory_too_much": list(cost.too_much),
            "disk_bytes": cost.disk_bytes,
            "record_bytes": cost.record_bytes,
            "checkpoint_bytes": cost.checkpoint_bytes,
            "upload_bytes": upload_bytes,
        },
        "problems": list(plan.problems),
        "notes": list(plan.notes),
        "trials": [
            {"trial_id": trial.trial_id, "state": trial.state, "spec": trial.spec.plain()}
            for trial in plan.trials
        ],
    }


def status_text(sweeps: Sequence[SweepStatus]) -> str:
    """Each sweep with the trials that are not simply complete or waiting."""
    return "\n\n".join("\n".join(_sweep_lines(sweep)) for sweep in sweeps)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Left-aligned columns, two spaces apart; the heading first."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def _cost_lines(plan: Plan, cost: PlanEstimate) -> list[str]:
    missing = len(plan.missing) + plan.unasked
    if not missing:
        return ["time      nothing is missing"]
    resources = plan.sweep.resources
    lines = [f"trial     {count(resources.ranks, 'rank')}, each with {amounts(resources.rank_bundle)}"]
    if cost.lanes:
        waves = -(-missing // cost.lanes)
        lines.append(f"waves     {waves:,}, on {count(cost.lanes, 'lane')} ({count(cost.nodes, 'node')})")
    elif cost.lanes == 0:
        lines.append(
            "waves     none: a trial asks for more CPUs than this machine has (--address: a cluster's)"
        )
    known = missing - cost.unknown
    if known:
        basis = " and ".join(basis for basis in cost.bases if basis != "unknown")
        several = cost.lanes is not None and cost.lanes > 1
        lanes = f", {duration(cost.wall_seconds)} on {cost.lanes} lanes" * several
        more = f"; unknown for {count(cost.unknown, 'more trial')}" * bool(cost.unknown)
        lines.append(f"time      about {duration(cost.seconds)} on one lane{lanes} ({basis}){more}")
        lines.append(f"cost      about {significant(cost.node_hours)} node-hours")
    else:
        lines.append("time      unknown: no trial of this kind has run here yet (--probe measures)")
    return [
        *lines,
        *_memory_lines(cost),
        f"disk      {_size(cost.disk_bytes)} for results, {_size(cost.record_bytes)} for report and MLflow, "
        f"{_size(cost.checkpoint_bytes)} while trials run",
    ]


def _search_line(plan: Plan, search: Search) -> str:
    studies = f"{len(plan.studies)} {'study' if len(plan.studies) == 1 else 'studies'}"
    asked = sum(len(study.questions) for study in plan.studies)
    rounds = f"{search.sampler}, {search.startup} at first, then {search.round} at a time"
    state = f"{asked} asked for, {plan.unasked} to come as these end"
    return f"{studies} of {count(search.trials, 'trial')} ({rounds}): {state}"


def _memory_lines(cost: PlanEstimate) -> list[str]:
    told = f" ({cost.memory_told})" * bool(cost.memory_told)
    lines = [f"memory    {_size(cost.memory_bytes)} per rank{told}"]
    if cost.too_much:
        lines.append(f"          ! {cost.too_much[0]}; what fits:")
        lines += [f"          {change}" for change in cost.too_much[1:]]
    return lines


def _size(number: int | None) -> str:
    return "unknown" if number is None else f"about {size(number)}"


def _sweep_lines(sweep: SweepStatus) -> list[str]:
    driver = f"driver {sweep.driver}{', paused' * sweep.paused}" if sweep.driver else "no driver"
    driver += f" ({sweep.ended})" if sweep.ended else ""
    states = ", ".join(f"{number} {state}" for state, number in sweep.counts.items() if number)
    left = "unknown" if sweep.seconds_left is None else f"about {duration(sweep.seconds_left)}"
    more = f", {sweep.unasked} not asked for yet" * bool(sweep.unasked)
    lines = [f"{sweep.name}: {count(len(sweep.trials), 'trial')}: {states}{more}", driver]
    if sweep.own_failures or sweep.machine_failures:
        lost = count(sweep.machine_failures, "attempt")
        lines[-1] += f"; {lost} lost to machines, {sweep.own_failures} failed by themselves"
    if sweep.seconds_left != 0:
        lines[-1] += f"; time left: {left}"
    shown = [
        trial for trial in sweep.trials if trial.state != "waiting" or trial.error or trial.step is not None
    ]
    if shown:
        rows = [(trial.trial_id, trial.state, trial.what, _progress(trial)) for trial in shown[-LINES:]]
        lines += ["", *table(("trial", "state", "what", "progress"), rows)]
    if len(shown) > LINES:
        lines.append(f"... and {len(shown) - LINES} more (--json lists all)")
    return [*lines, *_what_next(sweep)]


def _what_next(sweep: SweepStatus) -> list[str]:
    """A hint at the end."""
    home = sweep.location
    if sweep.driver:
        do = "resume" if sweep.paused else "pause"
        return ["", f"Next: circuit-sweep report {home} --watch, or {do}, cancel, drain"]
    if sweep.counts["orphaned"] or sweep.counts["waiting"] or sweep.unasked:
        return ["", "Next: the same `circuit-sweep run` goes on with what is missing"]
    if sweep.counts["failed"]:
        return ["", "Next: `circuit-sweep run … --retry-failed` runs the failed trials again"]
    return ["", f"Next: circuit-sweep report {home}"]


def _progress(trial: TrialStatus) -> str:
    parts = []
    if trial.state in ("running", "orphaned", "waiting") and trial.step is not None:
        parts.append(f"{trial.phase} {trial.step}/{trial.total}")
    for name, value in trial.last.items():
        if name == "sparsity":
            parts.append(f"sparsity {percent(value)}")
        elif name in ("num_edges", "circuits"):
            parts.append(f"{value:g} {name.removeprefix('num_')}")
        elif name in METRICS:
            parts.append(f"{name} {significant(value)}")
    if trial.attempts > 1:
        parts.append(f"attempt {trial.attempts}")
    if trial.error:
        parts.append(trial.error[:100])
    return ", ".join(parts)
