"""Boxes: what a page is filled with, from top to bottom. All lengths in points, y downwards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.report.figures.plot import Plot
from orchestrator.report.figures.style import ONE_COLUMN
from orchestrator.report.pdf.text import BODY, GREY, Face, lines

WIDTH, HEIGHT = 595.28, 841.89  # A4
LEFT, TOP, BOTTOM = 56.0, 62.0, 64.0
ROOM = WIDTH - 2 * LEFT
BETWEEN = 16.0  # two figures side by side
DEPTH = HEIGHT - TOP - BOTTOM
MOST = 0.6  # of a page's depth, for one figure


@dataclass(frozen=True)
class Text:
    """`x` from the left margin, `y` of the baseline from the top of its box."""

    x: float
    y: float
    text: str
    face: Face
    align: Literal["left", "right", "center"] = "left"


@dataclass(frozen=True)
class Rule:
    start: float
    end: float
    y: float
    thickness: float = 0.4
    colour: str = GREY


@dataclass(frozen=True)
class Box:
    """`keep`: on the page of the box after it. `head` is set anew where a page begins with this box.
    `plots` stand side by side in the box. `key` names what begins here, for the contents."""

    height: float
    texts: Sequence[Text] = ()
    rules: Sequence[Rule] = ()
    plots: Sequence[Plot] = ()
    keep: bool = False
    head: "Box | None" = None
    key: str = ""


@dataclass(frozen=True)
class Placed:
    top: float  # from the top of the page
    box: Box


def is_wide(plot: Plot) -> bool:
    return plot.size[0] > ONE_COLUMN


def shown_height(plot: Plot) -> float:
    """Of a plot on the page, in points: one that is wider than a column has the page's width, and no more
    than part of its depth."""
    if not is_wide(plot):
        return 72 * plot.size[1]
    return min(72 * plot.size[1] * min(1.0, ROOM / (72 * plot.size[0])), MOST * DEPTH)


def gap(height: float) -> Box:
    return Box(height, keep=True)


def paragraph(
    text: str, face: Face = BODY, after: float = 6, x: float = 0, room: float = ROOM, keep: bool = False
) -> list[Box]:
    """A box per line, so that a page may end within the paragraph, but not after its first line or before
    its last."""
    told = lines(text, face, room)
    last = len(told) - 1
    return [
        Box(
            face.leading + (after if place == last else 0),
            [Text(x, 0.95 * face.size, line, face)],
            keep=keep or (last > 0 and place in (0, last - 1)),
        )
        for place, line in enumerate(told)
    ]


def paginate(boxes: Iterable[Box]) -> list[list[Placed]]:
    """Fills pages in order; boxes that belong together move to the next page together, unless they are
    more than a page."""
    pages: list[list[Placed]] = [[]]
    used = 0.0
    for group in _groups(boxes):
        if used and used + sum(box.height for box in group) > DEPTH:
            pages.append([])
            used = 0.0
        for box in group:
            if used and used + box.height > DEPTH:
                pages.append([])
                used = 0.0
            if not used and box.head is not None:
                pages[-1].append(Placed(TOP, box.head))
                used += box.head.height
            if used or box.texts or box.rules or box.plots:  # no gap at the top of a page
                pages[-1].append(Placed(TOP + used, replace(box, head=None)))
                used += box.height
    return pages


def _groups(boxes: Iterable[Box]) -> Iterable[list[Box]]:
    group: list[Box] = []
    for box in boxes:
        group.append(box)
        if not box.keep:
            yield group
            group = []
    if group:
        yield group
