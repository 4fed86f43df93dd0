"""Tables in paged output: three rules, heads on several lines, the head again on every page. Consecutive rows
of one scene stand under its name."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.report.panels.blocks import Column, Table
from orchestrator.report.pdf.boxes import ROOM, Box, Rule, Text, gap, paragraph
from orchestrator.report.pdf.text import (
    CELL,
    CODE,
    QUIET,
    Face,
    clipped,
    lines,
    longest_word,
    printable,
    width,
)

# Rows of a table in print; the page shows more, and the parquet files hold all.
ROWS = 60
CELL_LENGTH = 300  # characters of a cell
_GAP = 9.0  # between columns
_NARROW = 46.0  # what a column of text is not made narrower than
_EASY = 90.0  # the widest column of text, where it must wrap
_SCALES = (1.0, 0.88, 0.76)  # of the type, the first that gives text room


def table_boxes(table: Table) -> list[Box]:
    if not table.columns or not table.rows:
        return []
    grouped = len(table.columns) > 1 and table.columns[0].title == "Scene"
    columns, shown = table.columns[grouped:], table.rows[:ROWS]
    rows = [[clipped(cell, CELL_LENGTH) for cell in row[grouped:]] for row in shown]
    for scale in _SCALES:
        faces = [_scaled(CODE if column.code else CELL, scale) for column in columns]
        heads = replace(_scaled(CELL, scale), bold=True)
        room, eased = _widths(columns, rows, faces, heads)
        if eased:
            break
    end = sum(room) + _space(room) * (len(room) - 1)
    wrapped = [lines(column.title, heads, room[place]) for place, column in enumerate(columns)]
    head = _row(columns, wrapped, [heads] * len(room), room, at_bottom=True)
    head = replace(head, keep=True, rules=[Rule(0, end, 0, 0.9), Rule(0, end, head.height - 2.5, 0.5)])
    boxes, scene, above = [head], None, head
    for number, (row, cells) in enumerate(zip(shown, rows, strict=True), 1):
        if grouped and row[0] != scene:
            scene = row[0]
            named = _scene(scene, replace(heads, bold=False, italic=True))
            boxes += [replace(line, head=head) for line in named]
            above = _under(head, named)
        told = [lines(cell, face, space) for cell, face, space in zip(cells, faces, room, strict=True)]
        boxes.append(replace(_row(columns, told, faces, room), head=above, keep=number == len(rows) - 1))
    last = boxes[-1]
    boxes[-1] = replace(last, height=last.height + 4, rules=[Rule(0, end, last.height + 1, 0.9)])
    if len(table.rows) > ROWS:
        told = f"The first {ROWS} of {len(table.rows):,} rows; report.html shows more."
        boxes += paragraph(told, QUIET, after=2)
    return [*boxes, gap(9)]


def _scene(name: str, face: Face) -> list[Box]:
    """The name above a scene's rows, with a little room above it."""
    first, *others = paragraph(clipped(name, CELL_LENGTH), face, after=0, keep=True)
    lower = [replace(text, y=text.y + 3) for text in first.texts]
    return [replace(first, height=first.height + 3, texts=lower), *others]


def _under(head: Box, named: Sequence[Box]) -> Box:
    """A head with the name of the scene whose rows go on below it."""
    texts, height = list(head.texts), head.height
    for line in named:
        texts += [replace(text, y=text.y + height) for text in line.texts]
        height += line.height
    return replace(head, texts=texts, height=height)


def _scaled(face: Face, scale: float) -> Face:
    return replace(face, size=round(face.size * scale, 2))


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], faces: Sequence[Face], heads: Face
) -> tuple[list[float], bool]:
    """What each column needs; where that is more than there is, columns of text give way first. And
    whether text is left with enough room to be read with ease."""
    needed = []
    for place, (column, face) in enumerate(zip(columns, faces, strict=True)):
        cells = max(width(printable(row[place], face), face) for row in rows)
        needed.append(max(cells, longest_word([column.title], heads)) + 0.5)
    room = ROOM - _GAP * (len(columns) - 1)
    titles = [width(printable(column.title, heads), heads) + 0.5 for column in columns]
    for share in (1, 2):  # heads on one line, or about two
        better = [max(value, title / share) for value, title in zip(needed, titles, strict=True)]
        if sum(better) <= room:
            return better, True
    if sum(needed) <= room:
        return needed, True
    text = [place for place, column in enumerate(columns) if not column.numeric]
    spare = room - sum(value for place, value in enumerate(needed) if place not in text)
    if spare < _NARROW * len(text):
        return _capped(needed, room), False
    fitted = _capped([needed[place] for place in text], spare)
    for place, value in zip(text, fitted, strict=True):
        needed[place] = value
    return needed, max(fitted) >= _EASY


def _capped(needed: Sequence[float], room: float) -> list[float]:
    """The widths, with the widest ones cut down to a common width such that all take `room`."""
    left = room
    for number, value in enumerate(sorted(needed)):
        share = left / (len(needed) - number)
        if value > share:
            return [min(other, share) for other in needed]
        left -= value
    return list(needed)


def _row(
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]],
    faces: Sequence[Face],
    room: Sequence[float],
    at_bottom: bool = False,
) -> Box:
    """A row of wrapped cells. Numbers to the right; columns are spread over the text's width."""
    size = max(face.size for face in faces)
    leading = 1.2 * size
    most = max(map(len, cells))
    space = _space(room)
    texts, x = [], 0.0
    for column, told, face, wide in zip(columns, cells, faces, room, strict=True):
        down = (most - len(told)) * leading if at_bottom else 0.0
        for number, line in enumerate(told):
            y = 2.5 + 0.95 * size + down + number * leading
            if column.numeric:
                texts.append(Text(x + wide, y, line, face, "right"))
            else:
                texts.append(Text(x, y, line, face))
        x += wide + space
    return Box(most * leading + 4.0 + (1.5 if at_bottom else 0), texts)


def _space(room: Sequence[float]) -> float:
    """Between columns: the table is as wide as the text where that does not tear it apart."""
    return min((ROOM - sum(room)) / max(1, len(room) - 1), 3 * _GAP)
