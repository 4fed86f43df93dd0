"""Smoke: a sweep cut down to a minute's run through every part of it."""

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
    blocks = [{"set": _parts(trial)} for trial in first.values()]
    content = sweep.plain() | {
        "name": sweep.name[: 64 - len(ENDING)] + ENDING,
        "question": f"Does every part work? {sweep.question}",
        "base": {},
        "vary": blocks,
        "seeds": [next(iter(first.values())).seed],
    }
    return SweepSpec.parse(content, f"{sweep.name} --smoke")


def _kind(trial: TrialSpec) -> tuple[str, ...]:
    conventions = (trial.ablation, trial.output_bias, trial.embeddings)
    return (trial.model.label, trial.task.name, trial.method.name, trial.method.variant, *conventions)


def _parts(trial: TrialSpec) -> dict[str, object]:
    small = trial.model_copy(
        update={"task": trial.task.cut(trial.task.smoke), "method": trial.method.cut(trial.method.smoke)}
    )
    parts = small.plain()
    del parts["seed"]
    return parts
