"""Edge lists that other programs write: JSON and text, in any of the known forms, by name.

JSON: a list of `[writer, reader]`, `[writer, reader, score]`, `"writer->reader"`,
`{"from": writer, "to": reader}`, or ACDC's `[receiver, index, sender, index]`, alone or beside an
effect size (`[[...], 0.01]`); or one of these lists under `edges`, or under `original` and `extra`.
Text: one edge a line, or ACDC's log ("Node: cur_parent=... so keeping connection").
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from orchestrator.circuits.names import End, end_of, ends_in
from trainers.outside import parse_json
from trainers.spec import SpecError

Edge = tuple[str, str]
LISTS = ("edges", "original", "extra")
WRITERS, READERS = ("from", "writer", "source", "src"), ("to", "reader", "target", "dest")
NODE = re.compile(r"(?:cur_parent|self\.current_node)=TLACDCInterpNode\((.*?),\s*(\[.*?\])\)")
SHOWN = 20  # problems told in one message


@dataclass
class EdgeList:
    """Edges by name. `scores` holds every edge that is spoken of, `kept` those of the circuit.

    An edge told twice takes its higher score. `embeds` is the writer's name where the embeddings are
    one writer. With `ungrouped` heads, `k` and `v` are told for each query head.

    What is not understood waits in `wrong` until the graph is known, so that all is told at once.
    """

    scores: dict[Edge, float] = field(default_factory=dict)
    kept: set[Edge] = field(default_factory=set)
    ungrouped: bool = False
    inside: int = 0  # steps inside a head or an MLP (ACDC's placeholders), which are left out
    wrong: dict[str, list[str]] = field(default_factory=dict)  # a problem and the places that have it
    loose: list[End] = field(default_factory=list)  # known ends of wrong edges: they may be out of range

    def add(self, writer: str, reader: str, score: float = 1.0, kept: bool = True) -> list[str]:
        """What is wrong with the edge. Receiver-first pairs of hook names are turned round."""
        first, second = end_of(writer), end_of(reader)
        problems = self._added(writer, first, reader, second, score, kept)
        if problems:
            self.loose += [end for end in (first, second) if end is not None]
        return problems

    def _added(
        self, writer: str, first: End | None, reader: str, second: End | None, score: float, kept: bool
    ) -> list[str]:
        if first is None or second is None:
            unknown = [name for name, end in ((writer, first), (reader, second)) if end is None]
            return [f"unknown name {name!r}" for name in dict.fromkeys(unknown)]
        if _inside(first, second):
            self.inside += 1
            return []
        if first.role == "reader" and second.role in ("writer", "either"):
            first, second = second, first
        if first.role == "reader" or second.role == "writer":
            return [f"{writer} -> {reader} does not lead from a writer to a reader"]
        edge = (first.name, second.name)
        if not math.isfinite(score):
            return [f"{writer} -> {reader} has the score {score}"]
        self.scores[edge] = max(float(score), self.scores.get(edge, -math.inf))
        if kept:
            self.kept.add(edge)
        return []

    def note(self, place: str, problems: list[str]) -> None:
        for problem in problems:
            self.wrong.setdefault(problem, []).append(place)

    def told(self) -> list[str]:
        """A line per problem, with the first place that has it."""
        lines = []
        for problem, places in self.wrong.items():
            more = f" (and {len(places) - 1:,} more)" if len(places) > 1 else ""
            lines.append(f"{places[0]}{more}: {problem}")
        return lines


def read_edge_list(content: bytes, name: str) -> EdgeList:
    """Entries that are not understood are in `wrong`, for `place` to tell with what is not of the graph.

    Raises SpecError when nothing is understood.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise SpecError(f"{name}: neither a circuit file nor text") from None
    if text.lstrip()[:1] not in ("[", "{", '"'):
        return _from_text(text, name)
    try:
        return from_json(parse_json(text), name)
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{name}: not JSON: {error}") from None


def from_json(data: Any, name: str) -> EdgeList:
    """As read_edge_list. Raises SpecError when nothing is understood."""
    found = EdgeList()
    for place, entry in _entries(data, name):
        found.note(place, _add(found, entry))
    _refuse_nothing(name, found)
    return found


def _entries(data: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(data, dict):
        lists = [key for key in LISTS if isinstance(data.get(key), list)]
        if not lists and data and all(isinstance(key, str) and ends_in(key) for key in data):
            return [(key, [key, value]) for key, value in data.items()]
        if not lists:
            keys = ", ".join(list(map(str, data))[:6]) or "none"
            raise SpecError(f"{name}: found a mapping with the keys {keys}; allowed: a list of edges")
        return [(f"{key}[{i}]", entry) for key in lists for i, entry in enumerate(data[key])]
    if not isinstance(data, list):
        raise SpecError(f"{name}: found {type(data).__name__}; allowed: a list of [writer, reader]")
    return [(f"[{i}]", entry) for i, entry in enumerate(data)]


def _add(found: EdgeList, entry: Any) -> list[str]:
    """Adds one entry of a JSON list; what is wrong with it."""
    if isinstance(entry, dict):
        ends = [next((entry[key] for key in keys if key in entry), None) for keys in (WRITERS, READERS)]
        if not all(isinstance(end, str) for end in ends):
            return [f"found {entry!r:.80}; a mapping needs from and to"]
        writer, reader = map(str, ends)
        if entry.get("head_num") is not None:  # Edge Pruning's ACDC script: an edge inside this head
            index = f"[:, :, {entry['head_num']}]"
            writer, reader = writer + index, reader + index
        return _scored(found, writer, reader, entry.get("score"))
    if isinstance(entry, str):
        ends = ends_in(entry)
        return _scored(found, *ends, None) if ends else [f"found {entry!r:.80}; allowed: 'writer->reader'"]
    if not isinstance(entry, list):
        return [f"found {entry!r:.80}; allowed: [writer, reader]"]
    match entry:
        case [str(writer), str(reader)]:
            return _scored(found, writer, reader, None)
        case [str(writer), str(reader), int() | float() as value]:
            return _scored(found, writer, reader, value)
        case [str(receiver), list(to), str(sender), list(source), *rest] if len(rest) <= 1:
            return _scored(found, _hook(sender, source), _hook(receiver, to), rest[0] if rest else None)
        case [str(edge), (bool() | int() | float() | None) as value] if ends_in(edge):
            return _scored(found, *(ends_in(edge) or ("", "")), value)
        case [list(edge), (bool() | int() | float() | None) as value]:
            return _add(found, [*edge, value])
    return [f"found {entry!r:.80}; allowed: [writer, reader]"]


def _scored(found: EdgeList, writer: str, reader: str, value: object) -> list[str]:
    """True and False say whether the edge is kept, a number is its score."""
    if isinstance(value, bool) or value is None:
        return found.add(writer, reader, float(value is not False), value is not False)
    if isinstance(value, int | float):
        return found.add(writer, reader, float(value))
    return [f"found {value!r:.40} as the score of {writer} -> {reader}; allowed: a number"]


def _hook(name: str, index: list[Any]) -> str:
    return f"{name}[{', '.join(':' if part is None else str(part) for part in index)}]"


def _inside(first: End, second: End) -> bool:
    """A step inside a head (input → q → result) or inside an MLP (in → out): no edge of the graph."""
    if "inner" in (first.role, second.role):
        return True
    if {first.role, second.role} != {"reader", "writer"}:
        return False
    return first.name == second.name or f"{second.name}." == first.name[:-1]


def _from_text(text: str, name: str) -> EdgeList:
    found = EdgeList()
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    if any(NODE.search(line) for _, line in lines):
        return _from_log(lines, name)
    for number, line in lines:
        if not line or line.startswith("#"):
            continue
        parts = line.split()
        ends = ends_in(line) or ((parts[0], parts[1]) if len(parts) == 2 else None)
        problems = found.add(*ends) if ends else [f"found {line!r:.80}; allowed: writer->reader"]
        found.note(f"line {number}", problems)
    _refuse_nothing(name, found)
    return found


def _from_log(lines: list[tuple[int, str]], name: str) -> EdgeList:
    """What ACDC prints while it runs: each edge it looked at, then whether it keeps it."""
    found = EdgeList()
    asked: tuple[int, str, str] | None = None
    for number, line in lines:
        nodes = NODE.findall(line)
        if len(nodes) == 2:
            writer, reader = (f"{hook}{index.replace('COL', ':')}" for hook, index in nodes)
            asked = (number, writer, reader)
        kept = "so keeping connection" in line
        if asked and (kept or "so removing connection" in line):
            at, writer, reader = asked
            found.note(f"line {at}", found.add(writer, reader, float(kept), kept))
            asked = None
    if not found.scores and not found.wrong:
        raise SpecError(f"{name}: not a list of edges\n  no edge that ACDC kept or removed")
    _refuse_nothing(name, found)
    return found


def _refuse_nothing(name: str, found: EdgeList) -> None:
    """Only what is no edge list at all is refused before its graph is known."""
    if found.wrong and not found.scores and not found.loose:
        raise SpecError(capped(f"{name}: not a list of edges", found.told()))


def capped(head: str, lines: list[str]) -> str:
    """One message of many problems: the first ones, then how many more there are."""
    more = [f"... and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return "\n  ".join([head, *lines[:SHOWN], *more])
