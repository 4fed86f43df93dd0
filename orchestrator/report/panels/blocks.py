"""What a panel is made of: plain values that the page's template turns into HTML, escaping all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal


def chart_text(text: str) -> str:
    """Text that a chart shows as it is: no HTML, no TeX (the charting library knows both)."""
    return escape(text).replace("$", "&#36;")


@dataclass(frozen=True)
class Paragraph:
    text: str
    quiet: bool = False  # smaller and paler: a remark
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True)
class Heading:
    text: str
    kind: Literal["heading"] = "heading"


@dataclass(frozen=True)
class Column:
    """`numeric` columns are aligned to the right, `code` ones set in a fixed-width type; `long`
    text may wrap."""

    title: str
    numeric: bool = False
    code: bool = False
    long: bool = False


@dataclass(frozen=True)
class Table:
    """`caption` names the table for screen readers."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Edges:
    """An edge list; each edge is `(name, state)`, state one of known, other, missing, plain."""

    edges: Sequence[tuple[str, str]]
    kind: Literal["edges"] = "edges"


@dataclass(frozen=True)
class Legend:
    """One entry of a chart's legend; `slot` decides colour, marker and dashes."""

    name: str
    slot: int
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """An interactive chart: `data` is given to the page's script that draws charts of this `form`."""

    chart_id: str
    form: Literal["pareto", "targets", "training"]
    description: str
    data: Mapping[str, Any]
    legend: Sequence[Legend] = ()
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Details:
    """A section that opens on a click."""

    summary: str
    blocks: Sequence["Block"]
    open: bool = False
    kind: Literal["details"] = "details"


Block = Paragraph | Heading | Table | Edges | Chart | Details


@dataclass(frozen=True)
class Section:
    """A rendered panel. `lead` says in a sentence what it shows and how it was computed."""

    key: str
    title: str
    lead: str
    blocks: Sequence[Block] = field(default=())
