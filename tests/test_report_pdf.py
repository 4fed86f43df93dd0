"""Paged output: lines that fit, pages that hold."""

from typing import Any

from matplotlib import rc_context, rcParams
from matplotlib.font_manager import findfont, get_font

from orchestrator.report.figures.style import styled
from orchestrator.report.panels.blocks import Column, Details, Section, Table
from orchestrator.report.pdf import document, text
from orchestrator.report.pdf.boxes import DEPTH, ROOM, TOP, Box, Text, paginate, paragraph
from orchestrator.report.pdf.document import Cover
from orchestrator.report.pdf.tables import ROWS, table_boxes
from orchestrator.report.pdf.text import BODY, lines, printable, width


def test_lines_fit_and_lose_nothing() -> None:
    text = "one two three four five " * 9 + "x" * 500
    broken = lines(text, BODY, 120)
    assert all(width(line, BODY) <= 120 for line in broken)
    assert "".join(broken).replace(" ", "") == text.replace(" ", "")
    assert printable("a\n\t漢", BODY) in ("a ?", "a �")


def filled(height: float, key: str, keep: bool = False, head: Box | None = None) -> Box:
    return Box(height, texts=[Text(0, 10, key, BODY)], keep=keep, head=head, key=key)


def test_what_belongs_together_stays_on_one_page() -> None:
    pages = paginate([filled(DEPTH - 60, "text"), filled(30, "heading", keep=True), filled(40, "after")])
    assert [[one.box.key for one in page] for page in pages] == [["text"], ["heading", "after"]]


def test_the_head_of_a_table_stands_on_every_page() -> None:
    head = filled(10, "head")
    pages = paginate([filled(DEPTH - 50, "text"), *(filled(20, "row", head=head) for _ in range(100))])
    assert sum(one.box.key == "row" for page in pages for one in page) == 100
    assert len(pages) > 2 and all(page[0].box.key == "head" for page in pages[1:])
    assert all(one.top + one.box.height <= TOP + DEPTH for page in pages for one in page)


def test_no_page_begins_with_a_gap_and_a_paragraph_may_break() -> None:
    pages = paginate([filled(DEPTH - 20, "text"), Box(40), *paragraph("word " * 3000)])
    assert len(pages) > 2
    assert all(page[0].box.texts for page in pages)


def test_a_wide_table_fits_and_says_what_it_leaves_out() -> None:
    columns = [Column(f"A long head, number {n}", numeric=n % 2 == 0, long=True) for n in range(14)]
    boxes = table_boxes(Table("caption", columns, [["some text " * 3 + "x" * 60] * 14] * (ROWS + 1)))
    told = [text for box in boxes for text in box.texts]
    assert any(f"The first {ROWS} of {ROWS + 1} rows" in text.text for text in told)
    ends = [text.x + (width(text.text, text.face) if text.align == "left" else 0) for text in told]
    assert max(ends) <= ROOM + 0.5


def test_rows_of_a_scene_stand_under_its_name() -> None:
    columns = [Column("Scene"), Column("Method"), Column("Edges", numeric=True)]
    rows = [["one scene", "EAP", "3"], ["one scene", "random", "94"], ["another", "EAP", "5"]]
    told = [text.text for box in table_boxes(Table("caption", columns, rows)) for text in box.texts]
    assert told == ["Method", "Edges", "one scene", "EAP", "3", "random", "94", "another", "EAP", "5"]
    pages = paginate(table_boxes(Table("caption", columns, [rows[0]] * 40 + [rows[2]] * 20)))
    tops = [text.text for placed in pages[1][:1] for text in placed.box.texts]
    assert tops == ["Method", "Edges", "another"], "a page goes on under the head and the scene's name"


def test_widths_do_not_depend_on_who_used_the_fonts_before() -> None:
    """matplotlib's own fonts are shared by all who draw in a process, and keep what was last set."""
    before = width("A line of text", BODY)
    text._advance.cache_clear()
    shared = get_font(findfont(BODY.font))
    shared.set_size(3, 1000)
    shared.set_text("something else", 45)
    assert width("A line of text", BODY) == before


def test_the_style_does_not_depend_on_what_others_set() -> None:
    drawn = []
    others: dict[Any, Any] = {"axes.labelpad": 20.0, "path.simplify": False, "pdf.compression": 0}
    for changed in ({}, others):
        with rc_context(changed), styled():
            drawn.append({name: rcParams[name] for name in ("axes.labelpad", "path.simplify", "font.size")})
        assert rcParams["font.size"] != 7.5, "and it is put back"
    assert drawn[0] == drawn[1] and drawn[0]["font.size"] == 7.5


def test_the_cover_says_that_a_sweep_is_not_over() -> None:
    told = [Cover("t", [], [], [], banner) for banner in ("Unfinished: 6 of the trials are not over.", "")]
    texts = [[one.text for box in document._cover(cover, []) for one in box.texts] for cover in told]
    assert "Unfinished: 6 of the trials are not over." in texts[0] and len(texts[0]) == len(texts[1]) + 1


def test_the_cover_says_once_that_the_fonts_lack_letters() -> None:
    rows = [["中", "文 kl"], ["中", "x"]]
    section = Section("key", "title", "lead", [Details("文", [Table("caption", [Column("a")] * 2, rows)])])
    assert document._lacking(Cover("t", ["为什么?"], [], []), [section]) == 5
    assert document._lacking(Cover("Δ ≤ ε – “t”", ["why?"], [], []), []) == 0
    told = [text.text for box in document._cover(Cover("t", [], [], [], lacking=5), []) for text in box.texts]
    assert sum("5 characters without a glyph" in text for text in told) == 1
