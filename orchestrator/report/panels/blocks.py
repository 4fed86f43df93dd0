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

    @property
    def naming(self) -> int:
        """How many of the first columns name the rows, as a scene and a method do: of the words before the
        first number at most two, where there is none one."""
        numbers = [place for place, column in enumerate(self.columns) if column.numeric]
        return min(numbers[0], 2) if numbers else 1


@dataclass(frozen=True)
class Edges:
    """An edge list; each edge is `(name, state)`, state one of known, other, missing, plain."""

    edges: Sequence[tuple[str, str]]
    kind: Literal["edges"] = "edges"


@dataclass(frozen=True)
class Legend:
    """One entry of a chart's legend; `slot` decides colour, marker and dashes. `key` is what the script
    finds in `state.hidden` when the reader switches it off: the slot unless it says otherwise. `hollow`:
    a marker without a line, for what was measured elsewhere."""

    name: str
    slot: int
    note: str = ""
    key: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Option:
    """`value` goes to the script, `text` to the reader; options of a list with one `group` stand together
    under that name."""

    value: str
    text: str
    group: str = ""


@dataclass(frozen=True)
class Choice:
    """A control: one of several options, the first at the start. As a row of buttons, or as a list."""

    name: str  # state[name] in the script
    label: str
    options: Sequence[Option]
    as_list: bool = False
    kind: Literal["choice"] = "choice"


@dataclass(frozen=True)
class Switch:
    """A control: on or off (state[name] is true or false), off at the start."""

    name: str
    label: str
    kind: Literal["switch"] = "switch"


@dataclass(frozen=True)
class Chart:
    """An interactive chart: `data` is given to the page's script that draws charts of this `form`."""

    chart_id: str
    form: Literal["pareto", "targets", "training", "gates"]
    description: str
    data: Mapping[str, Any]
    legend: Sequence[Legend] = ()
    controls: Sequence[Choice | Switch] = ()
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Details:
    """A section that opens on a click."""

    summary: str
    blocks: Sequence["Block"]
    open: bool = False
    kind: Literal["details"] = "details"


@dataclass(frozen=True)
class Matrix:
    """A table of numbers with shaded cells. Each cell is `(text, shade)`, shade from 0 (none) to 1."""

    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]
    kind: Literal["matrix"] = "matrix"


@dataclass(frozen=True)
class CircuitsView:
    """The drawing of circuits with its controls (assets/circuits.js); for `data` see panels/circuits.py."""

    view_id: str
    title: str
    data: Mapping[str, Any]
    kind: Literal["circuits"] = "circuits"


def folded(table: Table, most: int = 12) -> "Table | Details":
    """The table itself, or behind its caption if it has more rows than that."""
    return table if len(table.rows) <= most else Details(table.caption, [table])


Block = Paragraph | Heading | Table | Edges | Matrix | Chart | CircuitsView | Details


@dataclass(frozen=True)
class Section:
    """A rendered panel. `lead` says in a sentence what it shows and how it was computed."""

    key: str
    title: str
    lead: str
    blocks: Sequence[Block] = field(default=())
