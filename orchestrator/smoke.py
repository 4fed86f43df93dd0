"""Smoke: a sweep cut down to a minute's run through every part of it."""

from collections.abc import Collection
from typing import Any

from orchestrator.search.space import Search
from orchestrator.sweep import SweepSpec
from trainers.trial import TrialSpec

ENDING = "-smoke"


def smoke(sweep: SweepSpec) -> SweepSpec:
    """One trial for each model, task, method and ablation of the sweep, with few steps and examples.

    A sweep of its own, by name and by trial ids, so that it never mixes with the real one. The models are
    the real ones: what they take to load is not cut.
    """
    first: dict[tuple[str, ...], TrialSpec] = {}
    for trial in sweep.trials():
        first.setdefault(_kind(trial), trial)
    search = None if sweep.search is None else _search(sweep.search, [*first.values()])
    blocks = [{"set": _parts(trial, search["space"] if search else {})} for trial in first.values()]
    content = sweep.plain() | {
        "name": sweep.name[: 64 - len(ENDING)] + ENDING,
        "question": f"Does every part work? {sweep.question}",
        "base": {},
        "vary": blocks,
        "search": search,
        "seeds": [next(iter(first.values())).seed],
    }
    return SweepSpec.parse(content, f"{sweep.name} --smoke")


def _kind(trial: TrialSpec) -> tuple[str, ...]:
    conventions = (trial.ablation, trial.output_bias, trial.embeddings)
    return (trial.model.label, trial.task.name, trial.method.name, trial.method.variant, *conventions)


def _search(search: Search, trials: list[TrialSpec]) -> dict[str, Any] | None:
    """Of the fields that are not cut: two trials for each kind, the second of which is asked for after the
    first."""
    cut = {f"method.{name}" for trial in trials for name in trial.method.smoke}
    space = {path: one.plain() for path, one in search.space.items() if path not in cut}
    return search.plain() | {"space": space, "trials": 2, "startup": 1, "round": 1} if space else None


def _parts(trial: TrialSpec, searched: Collection[str]) -> dict[str, object]:
    small = trial.model_copy(
        update={"task": trial.task.cut(trial.task.smoke), "method": trial.method.cut(trial.method.smoke)}
    )
    parts = small.plain()
    del parts["seed"]
    if not searched:
        return parts
    method = parts.pop("method")  # field by field, without those that are searched
    fields = {f"method.{name}": value for name, value in method.items()}
    return parts | {path: value for path, value in fields.items() if path not in searched}
