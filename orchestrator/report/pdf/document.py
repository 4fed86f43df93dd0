"""report.pdf: what the page says, on paper. The same findings give the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from orchestrator.report.figures import Drawn
from orchestrator.report.figures.layout import lay_out
from orchestrator.report.figures.style import styled
from orchestrator.report.panels.blocks import Block, CircuitsView, Details, Heading, Paragraph, Section, Table
from orchestrator.report.pdf.blocks import Numbered, section_boxes
from orchestrator.report.pdf.boxes import (
    BETWEEN,
    HEIGHT,
    LEFT,
    ROOM,
    WIDTH,
    Box,
    Placed,
    Rule,
    Text,
    gap,
    is_wide,
    paginate,
    paragraph,
    shown_height,
)
from orchestrator.report.pdf.text import (
    BODY,
    CAPTION,
    GREY,
    HEADING,
    QUIET,
    TITLE,
    Face,
    clipped,
    missing,
    printable,
)
from orchestrator.wording import count

# Questions and scenes listed on the first page, each.
COVERED = 8
_FOOT = HEIGHT - 36.0
_HEADLINE = 38.0


@dataclass(frozen=True)
class Cover:
    """The first page. `facts` are `(number, what it counts)`; `banner` is what a reader must know first."""

    title: str
    questions: Sequence[str]
    facts: Sequence[tuple[str, str]]
    scenes: Sequence[str]
    banner: str = ""
    lacking: int = 0  # different characters that the fonts have no glyphs for


def write_pdf(path: Path, cover: Cover, sections: Sequence[Section], drawn: Drawn) -> None:
    """Of the sections whose point is a view that needs a screen, the figures alone."""
    sections = [one for section in sections if (one := _on_paper(section, drawn)) is not None]
    cover = replace(cover, lacking=_lacking(cover, sections))
    boxes = _body(sections, drawn)
    pages = paginate(boxes)
    starts = {
        placed.box.key: number for number, page in enumerate(pages, 2) for placed in page if placed.box.key
    }
    front = paginate(_cover(cover, [(section.title, starts[section.key]) for section in sections]))
    shift = len(front) - 1
    if shift:
        front = paginate(_cover(cover, [(s.title, starts[s.key] + shift) for s in sections]))
    metadata = {"Title": cover.title, "CreationDate": None, "Creator": None, "Producer": None}
    with styled(), PdfPages(path, metadata=metadata) as document:
        for number, page in enumerate([*front, *pages], 1):
            document.savefig(_page(page, number, "" if number == 1 else cover.title))


def _on_paper(section: Section, drawn: Drawn) -> Section | None:
    if not any(isinstance(block, CircuitsView) for block in section.blocks):
        return section
    if not any(kind.panel == section.key for kind, _ in drawn.plots):
        return None
    lead = "Some of the circuits on the fronts; report.html shows them all, and what changes along a front."
    return replace(section, lead=lead, blocks=[])


def _body(sections: Sequence[Section], drawn: Drawn) -> list[Box]:
    by_panel = sorted(drawn.plots, key=lambda one: _place(sections, one[0].panel))
    figures = [Numbered(number, kind, plot) for number, (kind, plot) in enumerate(by_panel, 1)]
    boxes: list[Box] = []
    for section in sections:
        own = [one for one in figures if one.kind.panel == section.key]
        boxes += section_boxes(section, own)
        lacking = sum(kind.panel == section.key for kind, _ in drawn.left_out)
        if lacking:
            told = f"{lacking} more figures are not drawn; report.html and points.parquet hold all."
            boxes += paragraph(told, QUIET)
    return boxes


def _lacking(cover: Cover, sections: Sequence[Section]) -> int:
    """How many different characters of the document's words there are no glyphs for."""
    found = missing(" ".join((cover.title, cover.banner, *cover.questions, *cover.scenes)), BODY)
    waiting: list[Block] = [block for section in sections for block in section.blocks]
    while waiting:
        match waiting.pop():
            case Details(blocks=blocks, summary=text):
                waiting += blocks
                found |= missing(text, BODY)
            case Paragraph(text=text) | Heading(text=text):
                found |= missing(text, BODY)
            case Table(rows=rows):
                found |= missing(" ".join(cell for row in rows for cell in row), BODY)
    return len(found)


def _place(sections: Sequence[Section], key: str) -> int:
    return next((place for place, section in enumerate(sections) if section.key == key), len(sections))


def _cover(cover: Cover, contents: Sequence[tuple[str, int]]) -> list[Box]:
    boxes = [Box(120, rules=[Rule(0, ROOM, 118, 1.2)]), gap(16)]
    boxes += paragraph(clipped(cover.title, 160), TITLE, after=4)
    boxes += paragraph("Report of circuit-sweep: faithfulness against sparsity of circuits", QUIET, after=22)
    for question in cover.questions[:COVERED]:
        boxes += paragraph(clipped(question, 400), Face(size=12.5, italic=True), after=8)
    if cover.banner:
        told = paragraph(cover.banner, Face(size=10.5, bold=True), after=7)
        boxes += [gap(6), Box(9, rules=[Rule(0, ROOM, 0, 1.2)], keep=True), *told]
        boxes.append(Box(4, rules=[Rule(0, ROOM, 0, 1.2)]))
    if cover.lacking:
        told = (
            f"{count(cover.lacking, 'character')} without a glyph in this document's fonts: � or ? stands in "
        )
        boxes += [gap(6), *paragraph(f"{told}their places; report.html shows them.", QUIET)]
    boxes.append(gap(14))
    for value, what in cover.facts:
        boxes.append(
            Box(19, [Text(86, 12, value, Face(size=13, bold=True), "right"), Text(96, 12, what, BODY)])
        )
    if cover.scenes:
        boxes += [gap(16), *paragraph("Scenes", HEADING, after=3, keep=True)]
        for scene in cover.scenes[:COVERED]:
            boxes += paragraph(clipped(scene, 300), CAPTION, after=1)
        if len(cover.scenes) > COVERED:
            boxes += paragraph(f"… and {len(cover.scenes) - COVERED} more", CAPTION)
    boxes += [gap(16), *paragraph("Contents", HEADING, after=3, keep=True)]
    for title, page in contents:
        texts = [Text(0, 11, title, BODY), Text(ROOM, 11, str(page), BODY, "right")]
        boxes.append(Box(15, texts, [Rule(0, ROOM, 14, 0.2)]))
    return boxes


def _page(placed: Sequence[Placed], number: int, headline: str) -> Figure:
    page = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
    if headline:
        _text(page, Text(0, 0, clipped(headline, 100), QUIET), _HEADLINE)
        _rule(page, Rule(0, ROOM, 0, 0.3), _HEADLINE + 6)
    _text(page, Text(ROOM / 2, 0, str(number), QUIET, "center"), _FOOT)
    for one in placed:
        for text in one.box.texts:
            _text(page, text, one.top)
        for rule in one.box.rules:
            _rule(page, rule, one.top)
    _plots(page, [one for one in placed if one.box.plots])
    return page


def _text(page: Figure, text: Text, top: float) -> None:
    page.text(
        (LEFT + text.x) / WIDTH,
        1 - (top + text.y) / HEIGHT,
        printable(text.text, text.face),
        fontproperties=text.face.font,
        color=text.face.colour,
        ha=text.align,
        va="baseline",
        parse_math=False,
    )


def _rule(page: Figure, rule: Rule, top: float) -> None:
    ends, y = ((LEFT + rule.start) / WIDTH, (LEFT + rule.end) / WIDTH), 1 - (top + rule.y) / HEIGHT
    page.add_artist(Line2D(ends, (y, y), linewidth=rule.thickness, color=rule.colour or GREY))


def _plots(page: Figure, rows: Sequence[Placed]) -> None:
    """Figures as parts of the page: a grid, in points, with a row for each pair and one for what is between
    pairs."""
    if not rows:
        return
    edges = [0.0]
    for one in rows:
        edges += [one.top, one.top + max(map(shown_height, one.box.plots))]
    heights = [below - above for above, below in pairwise([*edges, HEIGHT])]
    wide = (ROOM - BETWEEN) / 2
    widths = (LEFT, wide, BETWEEN, wide, WIDTH - LEFT - ROOM)
    grid = GridSpec(len(heights), len(widths), figure=page, width_ratios=widths, height_ratios=heights)
    for number, one in enumerate(rows):
        for place, plot in enumerate(one.box.plots):
            columns = slice(1, 4) if is_wide(plot) else 2 * place + 1
            part = page.add_subfigure(grid[2 * number + 1, columns])
            plot.draw(part, plot.rows)
            lay_out(part)
