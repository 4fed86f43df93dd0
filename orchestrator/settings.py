"""Settings: what tells the trials of a sweep apart that answer the same question the same way."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.planning.plan import PlannedTrial


def settings(trials: Sequence["PlannedTrial"]) -> dict[str, list[tuple[str, Any]]]:
    """By trial id: the dotted fields in which trials of one kind differ, with the trial's value. What a
    preset fills in, and what has no value, is left out."""
    told = varied(
        {
            trial.trial_id: (trial.kind, trial.spec.plain() | {"method": trial.spec.method.asked()})
            for trial in trials
        }
    )
    return {
        trial_id: [(path, value) for path, value in fields if value is not None]
        for trial_id, fields in told.items()
    }


def named(trials: Sequence["PlannedTrial"]) -> dict[str, str]:
    """By trial id: its kind, and what tells it from the others: `tracr-reverse tracr eap seed=3`."""
    told = settings(trials)
    return {
        trial.trial_id: " ".join(
            [trial.kind, *(f"{path.rpartition('.')[2]}={value}" for path, value in told[trial.trial_id])]
        )
        for trial in trials
    }


def varied(specs: Mapping[str, tuple[Hashable, Mapping[str, Any]]]) -> dict[str, list[tuple[str, Any]]]:
    """From trial id -> (group, plain spec) to trial id -> the dotted fields in which the trials of its
    group differ, with the trial's value (None where it has no such field)."""
    groups: dict[Hashable, dict[str, dict[str, Any]]] = {}
    for trial_id, (group, spec) in specs.items():
        groups.setdefault(group, {})[trial_id] = _flattened(spec)
    told: dict[str, list[tuple[str, Any]]] = {}
    for trials in groups.values():
        paths = list(dict.fromkeys(path for fields in trials.values() for path in fields))
        differing = [path for path in paths if len({repr(own.get(path)) for own in trials.values()}) > 1]
        for trial_id, own in trials.items():
            told[trial_id] = [(path, own.get(path)) for path in differing]
    return told


def _flattened(spec: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            flat |= _flattened(value, path)
        else:
            flat[path] = value
    return flat
