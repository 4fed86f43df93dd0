"""Namesakes: one name that stands for several models, tasks or methods gets told apart.

A group (model, task, test set, ablation, edge convention, method) is made of names. Within one sweep a
name means one thing; over several it may not: two checkpoints of one name, a branch of a hub model that
moved, a method whose version was raised. Then the names say which is meant, so that nowhere such results
share an axis or a curve.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.records.trial_record import TrialRecord
from trainers.result import TrialResult


def told_apart(records: Sequence[TrialRecord]) -> dict[str, dict[str, str]]:
    """Trial id -> the names of its group that must say more, e.g. `gpt2 (commit 607a30d783df)`.

    What did not record its identity (older results) keeps the plain name as long as all others of the
    name are the same.
    """
    results = [record.result for record in records if record.result and record.result.group]
    told: dict[str, dict[str, str]] = {}
    for part, identity in _IDENTITIES.items():
        found: dict[str, dict[str | None, list[str]]] = {}
        for result in results:
            name = getattr(result.group, part)
            found.setdefault(name, {}).setdefault(identity(result), []).append(result.trial_id)
        for name, by_identity in found.items():
            if len(by_identity.keys() - {None}) > 1:
                for known, trial_ids in by_identity.items():
                    for trial_id in trial_ids:
                        told.setdefault(trial_id, {})[part] = f"{name} ({known or 'not recorded which'})"
    return told


def model_identity(result: TrialResult) -> str | None:
    """The commit of a hub model, the digest of a local one; None when it was not recorded."""
    execution, model = result.execution, result.spec.get("model")
    revision = model.get("revision") if isinstance(model, Mapping) else None
    for word, value in (
        ("commit", execution.get("model_commit")),
        ("content", execution.get("model_digest")),
        ("revision", revision),
    ):
        if value:
            return f"{word} {str(value)[:12]}"
    return None


def _version(part: str) -> Callable[[TrialResult], str | None]:
    def identity(result: TrialResult) -> str | None:
        value: Any = result.execution.get(f"{part}_version")
        return None if value is None else f"version {value}"

    return identity


# By the field of a group: what a result says its name stands for.
_IDENTITIES: dict[str, Callable[[TrialResult], str | None]] = {
    "model": model_identity,
    "task": _version("task"),
    "method": _version("method"),
}
