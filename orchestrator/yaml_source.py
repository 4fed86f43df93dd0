"""YAML read strictly, with the line of every value, so that a mistake can be pointed at."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trainers.spec import Location, SpecError, nearest, shortened, yaml_path

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
TAG = "tag:yaml.org,2002:"
NUMBER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"


def _core_schema() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """What an unquoted word is in YAML 1.2's core schema, by its first character. PyYAML's own
    rules (YAML 1.1) would read `1e-3` as text, `no` as false and `1:30` as 90."""
    kinds = (
        ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
        ("bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", NUMBER, "-+.0123456789"),
    )
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, pattern, firsts in kinds:
        for first in firsts:
            table.setdefault(first, []).append((f"{TAG}{kind}", re.compile(f"^{pattern}$")))
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _core_schema()


class _Dumper(yaml.SafeDumper):
    """Quotes every text that either YAML version would take for something else."""

    yaml_implicit_resolvers = {
        first: _core_schema().get(first, []) + yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])
        for first in {*_core_schema(), *yaml.SafeDumper.yaml_implicit_resolvers}
    }


@dataclass(frozen=True)
class Source:
    """Plain data and where each value of it was written."""

    name: str  # the file, as the user gave it
    data: Any
    lines: dict[Location, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return Path(self.name).resolve().parent

    def error(self, location: Location, message: str) -> str:
        """`file:line: path: message`; a location that is not in the file gets its nearest parent's line."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.lines:
                return f"{self.name}:{self.lines[location[:length]]}: {yaml_path(location)}: {message}"
        return f"{self.name}: {yaml_path(location)}: {message}"


def read_yaml(path: Path) -> Source:
    """Reads one file. Raises SpecError, one line with file, line and column, when it is missing,
    too large, not YAML, or uses what plain data does not need (duplicate keys, tags, anchors)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file.{_similar(path)}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise SpecError(f"{path}: found {len(content)} bytes; allowed: at most {MAX_BYTES}")
    try:
        return parse_yaml(content.decode(), str(path))
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text at byte {error.start}") from None


def parse_yaml(text: str, name: str) -> Source:
    """Like `read_yaml`, of text. An empty text is null."""
    reading = _Reading(name)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        data = reading.value(node, ()) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        context = f" {error.context}" if error.context else ""
        raise SpecError(f"{name}{where}: not YAML:{context} {error.problem}".replace("\n", " ")) from None
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: not YAML: {' '.join(str(error).split())[:200]}") from None
    except (RecursionError, MemoryError):
        raise SpecError(f"{name}: found values nested hundreds of levels deep") from None
    return Source(name, data, reading.lines)


def write_yaml(data: Any) -> str:
    """Plain data as YAML text that `parse_yaml` reads back equal."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Reading:
    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Location, int] = {}
        self.open: list[yaml.Node] = []

    def value(self, node: yaml.Node, location: Location) -> Any:
        self.lines.setdefault(location, node.start_mark.line + 1)
        if len(self.lines) > MAX_VALUES:
            raise self.refused(node, location, f"more than {MAX_VALUES} values")
        if any(node is parent for parent in self.open):
            raise self.refused(node, location, "an alias to a value that contains it")
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
                return dict(self.entries(node, location))
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
                return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
            return self.scalar(node, location)
        finally:
            self.open.pop()

    def entries(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refused(key_node, location, "a key that is not a word")
            key = key_node.value
            if key == "<<":
                raise self.refused(key_node, location, "a merge key (<<); write the keys out")
            if key in seen:
                raise self.refused(
                    key_node, (*location, key), f"the same key twice, first on line {seen[key]}"
                )
            seen[key] = key_node.start_mark.line + 1
            self.lines[(*location, key)] = seen[key]
            yield key, self.value(value_node, (*location, key))

    def scalar(self, node: yaml.Node, location: Location) -> Any:
        text = node.value
        match node.tag.removeprefix(TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
                return int(text)
            case "float" if re.fullmatch(NUMBER, text) and math.isfinite(float(text)):
                return float(text)
            case "int" | "float" | "bool" as kind:
                raise self.refused(node, location, f"{shortened(text)}, not usable as {kind}")
        raise self.refused(node, location, f"the tag {shortened(node.tag)}; allowed: plain values")

    def refused(self, node: yaml.Node, location: Location, found: str) -> SpecError:
        return SpecError(f"{self.name}:{node.start_mark.line + 1}: {yaml_path(location)}: found {found}")


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    return nearest(path.name, (file.name for file in path.parent.glob("*.y*ml")))
