"""LaTeX tables: escaped, and read strictly."""

import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.latex import escape, latex_tables, tabular
from orchestrator.report.page import sections_of
from orchestrator.report.panels.blocks import Column, Table
from tests.run_folders import Runs, gated_sweep, hostile_sweep

# A strict reading of the LaTeX that is written: commands of a short list, balanced braces and
# environments, as many cells in every row as the tabular has columns.
COMMANDS = {
    *(
        "begin",
        "end",
        "toprule",
        "midrule",
        "bottomrule",
        "multicolumn",
        "textit",
        "raggedright",
        "parbox",
        "strut",
    ),
    *("textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar"),
    *("textquotesingle", "textasciigrave", "textperiodcentered", "ldots"),
    *("leq", "geq", "times", "pm", "infty", "emptyset", "rightarrow", "varepsilon", "Vert"),
    *("{", "}", "$", "&", "#", "%", "_", "\\", ","),
}


def tokens(text: str) -> Iterator[str]:
    """Commands and letters; raises for a command that is not in the list."""
    for match in re.finditer(r"\\([a-zA-Z]+|.)|(.)", text, re.DOTALL):
        if match[1] is not None and match[1] not in COMMANDS:
            raise AssertionError(f"\\{match[1]}")
        yield match[0]


def check_latex(text: str) -> None:
    comment, _, body = text.partition("\n")
    assert comment.startswith("% ")
    assert all(letter.isascii() or "À" <= letter <= "ÿ" for letter in body)
    stacked = r"\\begin\{tabular\}\[b\]\{@\{\}[lr]@\{\}\}(.*?)\\end\{tabular\}"
    body = re.sub(stacked, lambda match: match[1].replace(r" \\ ", " "), body)
    opening, *lines, last, end = body.splitlines()
    match = re.fullmatch(r"\\begin\{tabular\}\{@\{\}([lr]*)@\{\}\}", opening)
    assert match and (last, end) == (r"\bottomrule", r"\end{tabular}")
    columns = len(match[1])
    assert lines[0] == r"\toprule" and r"\midrule" in lines
    for line in lines:
        found = list(tokens(re.sub(r"\$\d\.\d+ \\times 10\^\{-?\d+\}\$", "", line)))
        depths = list(accumulate((token == "{") - (token == "}") for token in found))
        assert min(depths) >= 0 and depths[-1] == 0, line
        assert found.count("$") % 2 == 0 and not set(found) & set("%#~^_"), line
        if line not in (r"\toprule", r"\midrule"):
            assert found[-1] == "\\\\" and found.count("\\\\") == 1, line
            spans = line.startswith(rf"\multicolumn{{{columns}}}{{@{{}}l}}")
            assert found.count("&") == (0 if spans else columns - 1), line


def test_latex_is_escaped() -> None:
    assert escape("50 % of a_b & c$d #1 {x} ^ ~ \\") == (
        r"50 \% of a\_b \& c\$d \#1 \{x\} \textasciicircum{} \textasciitilde{} \textbackslash{}"
    )
    assert escape("a--b é ð 漢\n≤ ε") == r"a-{}-{}b é [U+00F0] [U+6F22] $\leq$ $\varepsilon$"


def test_small_numbers_are_powers_of_ten() -> None:
    cells = ["4.20e-08", "0.5 [5.20e-10, 1.2]", "4e-08", "a1.5e-10b", "-3.00e-12"]
    table = Table("Small", [Column("Number")] * len(cells), [cells])
    (line,) = (line for line in tabular(table).splitlines() if "times" in line)
    assert line.split(" & ") == [
        r"$4.20 \times 10^{-8}$",
        r"0.5 [$5.20 \times 10^{-10}$, 1.2]",
        r"4e-{}08",
        r"a1.5e-{}10b",
        r"-{}$3.00 \times 10^{-12}$ \\",
    ]


@pytest.mark.parametrize("sweep", [gated_sweep, hostile_sweep])
def test_every_table_can_be_read(sweep: Callable[[Path], Runs], tmp_path: Path) -> None:
    findings = Findings.of(Results.load([sweep(tmp_path).folder]))
    tables = latex_tables(sections_of(findings))
    assert "sparsest.tex" in tables and any(name.startswith("fronts-") for name in tables)
    for name, text in tables.items():
        assert re.fullmatch(r"[a-z0-9-]{1,100}\.tex", name)
        check_latex(text)


def test_a_latex_table_groups_rows_by_scene() -> None:
    columns = [Column("Scene"), Column("Method"), Column("Edges", numeric=True)]
    text = tabular(
        Table("A & B\nC", columns, [["s_1", "EAP", "3"], ["s_1", "random", "94"], ["s2", "EAP", "–"]])
    )
    assert text.splitlines() == [
        "% A & B C. Written by circuit-sweep; needs \\usepackage{booktabs}.",
        "\\begin{tabular}{@{}lr@{}}",
        "\\toprule",
        "Method & Edges \\\\",
        "\\midrule",
        "\\multicolumn{2}{@{}l}{\\textit{s\\_1}} \\\\",
        "EAP & 3 \\\\",
        "random & 94 \\\\",
        "\\midrule",
        "\\multicolumn{2}{@{}l}{\\textit{s2}} \\\\",
        "EAP & -- \\\\",
        "\\bottomrule",
        "\\end{tabular}",
    ]
