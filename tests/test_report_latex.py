"""LaTeX tables: escaped, and read strictly."""

import re
import shutil
import subprocess
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
        "allowbreak",
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
    if body.startswith(r"\begingroup"):
        first, *lines, last = body.splitlines()
        assert (first, last) == (r"\begingroup\footnotesize\setlength{\tabcolsep}{4pt}%", r"\endgroup")
        body = "\n".join(lines)
    for piece in body.split("\n\\par\\medskip\n"):
        check_tabular(piece)


def check_tabular(body: str) -> None:
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


WIDE = Table(
    "Pairs",
    [
        *(Column(name, long=True) for name in ("First", "Second", "Which is better")),
        *(Column(name, numeric=True) for name in ("p (corrected)", "Difference", "95 % over seeds")),
        *(Column(name, numeric=True) for name in ("95 % over examples", "95 % over both", "Edge budgets")),
    ],
    [
        ["edge pruning (log-alpha starts at 10)", "edge pruning", "cannot tell (2 seeds, 9 needed)",
         "0.50 (1.0)", "−0.0123", "[−0.0456, 0.0789]", "[−5.20e-10, 4.1e-08]", "too few", "1,937 – 23,306"],
        ["random", "a_name_of_one_word_that_is_longer_than_its_column_is_wide", "no difference", *["–"] * 6],
    ],
)  # fmt: skip


def test_a_wide_table_is_set_in_parts_that_each_name_their_rows() -> None:
    text = tabular(WIDE)
    check_latex(text)
    parts = text.split("\n\\par\\medskip\n")
    assert len(parts) > 1
    heads = [next(line for line in part.splitlines() if line.startswith("First")) for part in parts]
    assert all(head.startswith("First & Second & ") for head in heads)
    for column in WIDE.columns[2:]:
        word = column.title.split()[-1].strip("()")
        assert sum(word in head for head in heads) >= 1, column.title
    narrow = tabular(Table("Few", WIDE.columns[:2], [["a", "b"]]))
    assert "footnotesize" not in narrow and narrow.count(r"\begin{tabular}") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs Debian's texlive-latex-recommended")
def test_tables_fit_into_a_plain_article(tmp_path: Path) -> None:
    """Each in a float, as docs/report.md says; LaTeX itself says where a line is too long."""
    findings = Findings.of(Results.load([gated_sweep(tmp_path / "runs").folder]))
    tables = latex_tables(sections_of(findings)) | {"wide.tex": tabular(WIDE)}
    document = [r"\documentclass{article}\usepackage{booktabs}\begin{document}"]
    for name, text in tables.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        document.append(rf"\begin{{table}}[p]\input{{{name.removesuffix('.tex')}}}\end{{table}}\clearpage")
    (tmp_path / "paper.tex").write_text("\n".join([*document, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    said = made.stdout.decode("utf-8", "replace")
    assert made.returncode == 0, said[-2000:]
    assert "Overfull" not in said
