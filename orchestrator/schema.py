"""The JSON Schema of a sweep file, for editors: what may be written where, with its description."""

from collections.abc import Iterator
from typing import Any

from orchestrator.search.space import NOT_SEARCHED
from orchestrator.sweep import SweepSpec
from trainers.trial import TrialSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def sweep_schema() -> Schema:
    """Of what `SweepSpec.load` reads. It knows less than loading does: rules between fields, the trials
    that a grid makes and files are checked by `circuit-sweep plan`."""
    trial, sweep = TrialSpec.model_json_schema(), SweepSpec.model_json_schema()
    parts: Schema = {name: _partial(part) for name, part in trial.pop("$defs").items()}
    base = _partial(trial)
    del base["properties"]["seed"]  # a sweep has seeds
    definitions = parts | {name: part for name, part in sweep["$defs"].items() if name != "Block"}
    definitions |= {"Trial": base, "Grid": _grid(base, parts), "Set": _set(base, parts), "Block": _block()}
    told = sweep["properties"]
    properties = told | {
        "base": {"$ref": "#/$defs/Trial", "description": told["base"]["description"]},
        "vary": {
            "anyOf": [{"$ref": "#/$defs/Grid"}, {"type": "array", "items": {"$ref": "#/$defs/Block"}}],
            "description": told["vary"]["description"],
        },
        "search": {"anyOf": [{"$ref": "#/$defs/Search"}, {"type": "null"}], "default": None}
        | {"description": told["search"]["description"]},
        "seeds": {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            ],
            "description": told["seeds"]["description"],
        },
    }
    _only_searched(definitions["Search"], base, parts)
    return sweep | {
        "$schema": DIALECT,
        "title": "circuit-sweep",
        "properties": properties,
        "$defs": definitions,
    }


def _block() -> Schema:
    properties = {"set": {"$ref": "#/$defs/Set"}, "grid": {"$ref": "#/$defs/Grid"}}
    about = "the product of the lists in grid, each combination on top of the values in set"
    return {"type": "object", "additionalProperties": False, "properties": properties, "description": about}


def _set(base: Schema, parts: Schema) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(_paths(base, parts)),
        "description": "dotted path of the trial -> its value",
    }


def _grid(base: Schema, parts: Schema) -> Schema:
    lists = {path: {"type": "array", "items": value, "minItems": 1} for path, value in _paths(base, parts)}
    lists |= {"seed": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": lists,
        "description": "dotted path of the trial -> the values to try",
    }


def _only_searched(search: Schema, base: Schema, parts: Schema) -> None:
    """The space names fields of methods."""
    paths = [path for path, _ in _paths(base, parts) if path.startswith("method.")]
    allowed = {
        path: {"$ref": "#/$defs/Range"} for path in paths if path.partition(".")[2] not in NOT_SEARCHED
    }
    space = search["properties"]["space"]
    search["properties"]["space"] = space | {"properties": allowed, "additionalProperties": False}


def _paths(base: Schema, parts: Schema) -> Iterator[tuple[str, Schema]]:
    """Every dotted path that a grid may name, with what may stand there: a field that several methods
    or tasks have takes what any of them takes."""
    for name, part in base["properties"].items():
        yield name, part
        fields: dict[str, list[Schema]] = {}
        for member in _members(part, parts):
            for field, value in member.get("properties", {}).items():
                known = fields.setdefault(field, [])
                if value not in known:
                    known.append(value)
        for field, values in fields.items():
            yield f"{name}.{field}", values[0] if len(values) == 1 else {"anyOf": values}


def _members(part: Schema, parts: Schema) -> list[Schema]:
    """The models that a property may be."""
    references = [part, *part.get("oneOf", ()), *part.get("anyOf", ())]
    return [parts[item["$ref"].rpartition("/")[2]] for item in references if "$ref" in item]


def _partial(part: Schema) -> Schema:
    """What a base lacks, a grid may fill in: nothing is required, not even the name that tells which
    method or task it is."""
    told = {key: value for key, value in part.items() if key != "required"}
    properties = {
        name: {"anyOf" if key == "oneOf" else key: item for key, item in value.items()}
        for name, value in told.get("properties", {}).items()
    }
    return told | {"properties": properties} if properties else told
