"""How all figures look: one style, one colour, marker and dash per method, labels that stay plain text.

Colours are Okabe and Ito's palette, told apart by colour-blind readers; markers and dashes tell the
methods apart in grey. The order is that of report/assets/core.js.
"""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from orchestrator.report.codes import mark

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "X", "v", "*", "p")
DASHES = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (5, 2, 1, 2)),
    (0, (8, 2)),
    (0, (3, 2)),
    (0, (8, 2, 1, 2)),
    "-",
)
# Widths in inches of one and of two columns of a journal page.
ONE_COLUMN, TWO_COLUMNS = 3.4, 7.0
# Longest label; the data beside a figure hold every name in full.
LABEL = 60

PALE, FAINT = "#667085", "#98A2B3"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "normal",  # a second font would cost half of what a file of its own costs
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#E3E6EA",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "circuit-sweep",
}
NOTE: dict[str, Any] = {
    "textcoords": "offset points",
    "color": PALE,
    "size": 6.5,
    "bbox": {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6},
}


@contextmanager
def styled() -> Iterator[None]:
    """This style and matplotlib's defaults, whatever the machine's matplotlibrc or another part of the
    process has set: the same data give the same bytes."""
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        yield


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def colour(slot: int) -> str:
    return COLOURS[slot % len(COLOURS)]


def marker(slot: int) -> str:
    return MARKERS[mark(slot)]


def dash(slot: int) -> Any:
    return DASHES[mark(slot)]


def label(name: str, longest: int = LABEL) -> str:
    """A name as text of a figure: one line, no mathematics, no glyph that the font lacks."""
    known = _glyphs(FontProperties(family=STYLE["font.family"]))
    text = "".join(letter if ord(letter) in known else "�" for letter in " ".join(name.split()))
    text = text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"
    return text.replace("$", r"\$")


@lru_cache
def _glyphs(font: FontProperties) -> frozenset[int]:
    return frozenset(get_font(findfont(font)).get_charmap())


def methods_legend(
    canvas: Figure | SubFigure, slots: dict[str, int], width: float, hollow: Mapping[str, int] | None = None
) -> None:
    """The methods under a figure `width` inches wide, in as many columns as fit; `hollow`: what has a hollow
    marker and no line."""
    handles = [
        Line2D([], [], color=colour(s), marker=marker(s), linestyle=dash(s), markersize=4, linewidth=1.2)
        for s in slots.values()
    ]
    handles += [
        Line2D([], [], color=colour(s), marker=marker(s), linestyle="", markersize=4, markerfacecolor="none")
        for s in (hollow or {}).values()
    ]
    names = list(map(label, [*slots, *(hollow or {})]))
    canvas.legend(
        handles,
        names,
        loc="lower center",
        ncols=_columns(names, width),
        handlelength=2.6,
        columnspacing=1,
    )


def legend_height(slots: dict[str, int], width: float) -> float:
    """About how many inches `methods_legend` takes."""
    return 0.12 + 0.155 * -(-len(slots) // _columns(list(map(label, slots)), width))


def _columns(names: Sequence[str], width: float) -> int:
    """The most columns, filled one after the other, that are together at most `width` inches wide."""
    font = FontProperties(family=STYLE["font.family"], size=STYLE["legend.fontsize"])
    wide = [0.5 + text_to_path.get_text_width_height_descent(name, font, False)[0] / 72 for name in names]
    for columns in range(min(len(names), 4), 1, -1):
        rows, longer = divmod(len(names), columns)
        ends = [min(place, longer) + place * rows for place in range(columns + 1)]
        if sum(max(wide[start:end]) for start, end in pairwise(ends)) <= width - 0.1:
            return columns
    return 1


def title(axes: Axes, text: str, width: float = ONE_COLUMN) -> None:
    """Above the axes, on as many lines as a figure `width` inches wide takes."""
    axes.set_title(wrapped(text, int((width - 0.5) * 14.5), 3))


def wrapped(text: str, letters: int, lines: int) -> str:
    """A name on about that many lines of so many letters, broken between its parts where it can be."""
    done: list[str] = []
    for part in label(text, lines * letters).split(" · "):
        if done and len(done[-1]) + len(part) + 3 <= letters:
            done[-1] += f" · {part}"
        else:
            done += textwrap.wrap(part, letters)
    return "\n".join(done)


def log_ticks(axes: Axes, floor: float = 0.0) -> None:
    """Powers of ten as text (not mathematics, which takes a font of its own) on logarithmic axes; 1, 2
    and 5 in plain figures on one that spans less than 2.5 decades. The vertical axis says ≤ at its
    `floor`."""
    for axis, (start, end), scale in (
        (axes.xaxis, axes.get_xlim(), axes.get_xscale()),
        (axes.yaxis, axes.get_ylim(), axes.get_yscale()),
    ):
        if scale != "log":
            continue
        if end / start < 300:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        else:
            least = floor if axis is axes.yaxis else 0.0
            axis.set_major_formatter(FuncFormatter(partial(_power_of_ten, least)))
        axis.set_minor_formatter(NullFormatter())


def _power_of_ten(floor: float, value: float, _: int) -> str:
    if value <= 0:
        return ""
    return f"{'≤ ' * bool(value <= floor)}10" + f"{round(math.log10(value))}".translate(_SUPERSCRIPTS)


def share_axis(axes: Axes, num_edges_total: int) -> None:
    """The share of edges kept, in percent, along the top of a logarithmic axis of edges."""
    low, high = axes.get_xlim()
    shares = [10.0**power for power in range(-9, 3) if low <= 10.0**power / 100 * num_edges_total <= high]
    above = axes.secondary_xaxis("top")
    above.xaxis.set_major_locator(FixedLocator([share / 100 * num_edges_total for share in shares]))
    above.xaxis.set_minor_locator(NullLocator())
    above.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value / num_edges_total:.6g} %"))
    above.tick_params(labelsize=6.5, colors=PALE, length=2, pad=1)
    above.spines["top"].set_visible(False)
