"""Templates such as `{prefix}<predict> {pronoun}</predict>`: from the columns of a row to a text."""

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

# A column, parts of structs after dots, and in brackets another such path, whose value is an index.
PATH = re.compile(r"(\w+(?:\.\w+)*)(?:\[(\w+(?:\.\w+)*)\])?")


def columns(template: str) -> set[str]:
    """The columns that a template needs. Raises ValueError for what is no template."""
    needed: set[str] = set()
    for _, path, _, conversion in Formatter().parse(template):
        if path is None:
            continue
        match = PATH.fullmatch(path)
        if match is None or conversion is not None:
            found = path + (f"!{conversion}" if conversion else "")
            raise ValueError(f"found {{{found}}}; allowed: {{column}}, {{struct.part}}, {{list[column]}}")
        needed |= {part.partition(".")[0] for part in match.groups() if part}
    return needed


def fill(template: str, row: Mapping[str, Any]) -> str:
    """The text of a row; values lose surrounding white space. Raises ValueError for a value that is
    not there or is neither text nor number."""
    texts: list[str] = []
    for literal, path, form, _ in Formatter().parse(template):
        texts.append(literal)
        if path is not None:
            value = _value(path, row)
            texts.append(format(value.strip() if isinstance(value, str) else value, form or ""))
    return "".join(texts)


def _value(path: str, row: Mapping[str, Any]) -> str | int | float:
    match = PATH.fullmatch(path)
    assert match is not None, "checked by columns()"
    whole, key = match.groups()
    value = _part(whole, row)
    if key is not None:
        index = _part(key, row)
        if not isinstance(value, list) or not isinstance(index, int) or not 0 <= index < len(value):
            raise ValueError(f"{{{path}}}: found no entry {index!r} of {whole}")
        value = value[index]
    if not isinstance(value, str | int | float):
        raise ValueError(f"{{{path}}}: found {value!r:.60}; allowed: a text or a number")
    return value


def _part(path: str, row: Mapping[str, Any]) -> Any:
    value: Any = row
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise ValueError(f"{{{path}}}: found no {name}")
        value = value[name]
    return value
