"""Spec: the strict, frozen base of everything a user writes in YAML."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class SpecError(ValueError):
    """A user's mistake. `str()` is the whole message: where, what was found, what is allowed."""


class Misfit(ValueError):
    """A value that does not go with another part of the spec. `field`: its path in the spec that raises."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Spec(BaseModel):
    """Frozen and strict: an unknown key, a wrong type or an impossible value is refused.

    The pydantic fields of a spec ARE its YAML block: a hyperparameter is declared, validated,
    documented (`Field(description=...)`) and used in the one file of the class that owns it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, data: object, source: str) -> Self:
        """Validates plain data (from YAML or JSON).

        Raises SpecError: one line per problem, each with `source`, the YAML path, what was found
        and what is allowed.
        """
        try:
            return cls.model_validate_json(json.dumps(data))
        except ValidationError as error:
            raise SpecError("\n".join(f"{source}: {problem}" for problem in problems(error, cls))) from None
        except (TypeError, ValueError) as error:
            raise SpecError(f"{source}: not plain YAML data: {error}") from None

    def plain(self) -> dict[str, Any]:
        """Every field as JSON types."""
        return self.model_dump(mode="json")

    def cut(self, small: Mapping[str, Any]) -> Self:
        """The same with these fields: numbers at most as given, anything else replaced."""
        changed = {}
        for name, value in small.items():
            old = getattr(self, name)
            changed[name] = min(old, value) if isinstance(old, int | float) else value
        return type(self).parse(self.plain() | changed, "cut short")

    def canonical(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as JSON types: what an id is made from."""
        return self.model_dump(mode="json", exclude_defaults=True)


def content_id(content: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of canonical JSON: same content, same id, on every machine."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for a near miss, else the empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{match[0]}'?" if match else ""


Location = tuple[str | int, ...]


def yaml_path(location: Location) -> str:
    """`method.steps`, `vary[1].grid.seed[2]`; the root is `(top level)`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "(top level)"


class Problem(NamedTuple):
    """One thing wrong with plain data: where in the YAML, and what was found and is allowed."""

    location: Location
    message: str

    def __str__(self) -> str:
        return f"{yaml_path(self.location)}: {self.message}"


def problems(error: ValidationError, spec: type[BaseModel]) -> list[Problem]:
    """Every problem of a pydantic error, at the place where the user wrote it."""
    return [_problem(dict(item), spec) for item in error.errors(include_url=False)]


def _problem(item: dict[str, Any], spec: type[BaseModel]) -> Problem:
    location, models = _walk(spec, item["loc"])
    context = item.get("ctx", {})
    match item["type"]:
        case "extra_forbidden":
            known = {name for model in models for name in model.model_fields}
            hint = nearest(str(location[-1]), known)
            return Problem(location, f"unknown key.{hint} Allowed: {', '.join(sorted(known))}")
        case "missing":
            return Problem(location, "required, but missing")
        case "union_tag_invalid":
            tags = context["expected_tags"].replace("'", "").split(", ")
            key = context["discriminator"].strip("'")
            hint = nearest(str(context["tag"]), tags)
            message = f"found {shortened(context['tag'])}.{hint} Allowed: {', '.join(tags)}"
            return Problem((*location, key), message)
        case "union_tag_not_found":
            tags = sorted(str(_tag(model)) for model in models)
            return Problem(location, f"needs the key {context['discriminator']}; allowed: {', '.join(tags)}")
        case "value_error":
            error = context["error"]
            field = error.field.split(".") if isinstance(error, Misfit) else ()
            return Problem((*location, *field), str(error))
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            hint = nearest(str(item["input"]), choices)
            return Problem(
                location, f"found {shortened(item['input'])}.{hint} Allowed: {context['expected']}"
            )
        case "too_short" | "string_too_short":
            found = f"found {shortened(item['input'])}"
            least = context["min_length"]
            return Problem(location, f"{found}; allowed: at least {least} entr{'y' if least == 1 else 'ies'}")
        case _:
            allowed = re.sub(r"^\w+ should (be )?(a valid )?", "", item["msg"])
            allowed = {"an object": "a mapping", "array": "a list"}.get(allowed, allowed)
            return Problem(location, f"found {shortened(item['input'])}; allowed: {allowed}")


def shortened(value: object, limit: int = 80) -> str:
    """`repr`, cut to at most `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _walk(spec: type[BaseModel], location: tuple[str | int, ...]) -> tuple[Location, set[type[BaseModel]]]:
    """The location without pydantic's union tags, and the models that own its last part (for a
    missing or unknown tag: the union's members)."""
    visible: list[str | int] = []
    owners: set[type[BaseModel]] = {spec}
    inside: set[type[BaseModel]] = {spec}
    for part in location:
        tagged = {model for model in inside if len(inside) > 1 and part == _tag(model)}
        if tagged:
            inside = tagged
            continue
        visible.append(part)
        owners = inside
        fields = [model.model_fields[str(part)] for model in inside if part in model.model_fields]
        if fields:
            inside = {model for field in fields for model in _models_in(field.annotation)}
    missing_tag = len(inside) > 1
    return tuple(visible), inside if missing_tag else owners


def _tag(model: type[BaseModel]) -> object:
    field = model.model_fields.get("name")
    return field.default if field is not None else None


def _models_in(annotation: object) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
