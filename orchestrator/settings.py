"""Settings: what tells the trials of a sweep apart that answer the same question the same way."""

from collections.abc import Hashable, Mapping
from typing import Any


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
