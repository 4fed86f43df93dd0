"""Paged output: lines that fit, pages that hold."""

from orchestrator.report.panels.blocks import Column, Table
from orchestrator.report.pdf.boxes import DEPTH, ROOM, TOP, Box, Text, paginate, paragraph
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
