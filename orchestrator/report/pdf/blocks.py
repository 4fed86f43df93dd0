"""The sections of the page as boxes: the same words and numbers, figures where the page has charts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.report.figures import FigureKind
from orchestrator.report.figures.plot import Plot
from orchestrator.report.panels.blocks import (
    Block,
    Chart,
    Column,
    Details,
    Edges,
    Heading,
    Matrix,
    Paragraph,
    Section,
    Table,
)
from orchestrator.report.pdf.boxes import (
    BETWEEN,
    ROOM,
    Box,
    Rule,
    Text,
    gap,
    is_wide,
    paragraph,
    shown_height,
)
from orchestrator.report.pdf.tables import table_boxes
from orchestrator.report.pdf.text import BODY, CAPTION, CODE, HEADING, QUIET, SECTION, clipped, lines

# Letters of a figure's caption: as many as published points and their sources take.
CAPTIONED = 800


@dataclass(frozen=True)
class Numbered:
    """A figure with its number in the document."""

    number: int
    kind: FigureKind
    plot: Plot


def section_boxes(section: Section, figures: Sequence[Numbered]) -> list[Box]:
    """`figures` are those that stand for the section's charts."""
    title = Box(
        SECTION.leading + 6, [Text(0, SECTION.size, section.title, SECTION)], keep=True, key=section.key
    )
    rule = Box(6, rules=[Rule(0, ROOM, 0, 0.6)], keep=True)
    boxes = [gap(14), title, rule, *paragraph(section.lead, BODY, after=8, keep=bool(figures))]
    for kind in {one.kind.key: one.kind for one in figures}.values():
        boxes += _figures(kind, [one for one in figures if one.kind.key == kind.key])
    for block in section.blocks:
        boxes += _block(block, bool(figures))
    return boxes


def _figures(kind: FigureKind, figures: Sequence[Numbered]) -> Iterator[Box]:
    yield from paragraph(kind.title, HEADING, after=3, keep=True)
    yield from paragraph(kind.caption, QUIET, after=6, keep=True)
    for pair in _pairs(figures):
        wide = ROOM if is_wide(pair[0].plot) else (ROOM - BETWEEN) / 2
        high = max(shown_height(one.plot) for one in pair)
        texts, deepest = [], 0.0
        for place, one in enumerate(pair):
            told = clipped(f"Figure {one.number}. {one.plot.details}.", CAPTIONED)
            for row, line in enumerate(lines(told, CAPTION, wide)):
                y = high + 6 + (row + 1) * CAPTION.leading
                texts.append(Text(place * (wide + BETWEEN), y, line, CAPTION))
                deepest = max(deepest, y)
        yield Box(deepest + 14, texts, plots=[one.plot for one in pair])


def _pairs(figures: Sequence[Numbered]) -> Iterator[list[Numbered]]:
    """Two beside each other; one that is wider than a column alone."""
    pair: list[Numbered] = []
    for one in figures:
        if pair and (len(pair) == 2 or is_wide(one.plot) or is_wide(pair[0].plot)):
            yield pair
            pair = []
        pair.append(one)
    if pair:
        yield pair


def _block(block: Block, has_figures: bool) -> list[Box]:
    match block:
        case Paragraph(text, quiet):
            return paragraph(clipped(text, 2000), QUIET if quiet else BODY)
        case Heading(text):
            return [gap(4), *paragraph(clipped(text, 200), HEADING, after=4, keep=True)]
        case Table():
            return [*(_caption(block.caption) if block.rows else []), *table_boxes(block)]
        case Matrix():
            return [*_caption(block.caption), *table_boxes(_as_table(block))]
        case Edges():
            edges = ", ".join(_edge(*edge) for edge in block.edges)
            return paragraph(clipped(edges, 4000), CODE, x=10, room=ROOM - 10)
        case Details():
            return _details(block, has_figures)
        case _:
            return []  # figures stand for charts


def _caption(text: str) -> list[Box]:
    return paragraph(clipped(text, 200), CAPTION, after=3, keep=True)


def _details(block: Details, has_figures: bool) -> list[Box]:
    """What is folded on the page stays there; only what it holds is said."""
    if has_figures and all(isinstance(inner, Chart) for inner in block.blocks):
        return []
    if not block.open:
        return paragraph(f"{clipped(block.summary, 300)} (folded in report.html)", QUIET, after=3)
    boxes = paragraph(clipped(block.summary, 300), HEADING, after=3, keep=True)
    for inner in block.blocks:
        boxes += _block(inner, has_figures)
    return boxes


def _as_table(matrix: Matrix) -> Table:
    columns = [Column(matrix.corner), *(Column(name, numeric=True) for name in matrix.columns)]
    return Table(
        matrix.caption, columns, [[name, *(text for text, _ in cells)] for name, cells in matrix.rows]
    )


def _edge(name: str, state: str) -> str:
    return name if state in ("known", "plain") else f"{name} ({state})"
