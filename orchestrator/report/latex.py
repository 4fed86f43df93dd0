"""LaTeX: the tables of the page, and the sparsest faithful circuits, as booktabs tabulars.

A file holds one `tabular`, to be given to \\input inside a float of yours; it needs \\usepackage{booktabs}.
"""

import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count as count_up
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import Column, Section, Table
from orchestrator.wording import percent, shortest, spread

# Sections whose tables are about the run, not for a paper.
LEFT_OUT = frozenset({"failures", "warnings", "versions"})
# Letters per line of a column's head, and above which a text column is set as a paragraph.
HEAD, LONG = 16, 44
_PARAGRAPH = "paragraph"
NAME = 70  # characters of a file's name, before a digest

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''{}",  # \textquotedbl needs T1 fonts
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "-{}",  # two in a row would become a dash
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "·": r"\textperiodcentered{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "∅": r"$\emptyset$",
    "→": r"$\rightarrow$",
    "ε": r"$\varepsilon$",
    "‖": r"$\Vert$",
}

# Latin letters and signs that LaTeX's default fonts lack.
_NEED_T1 = "ÐÞðþ×÷"


def latex_tables(findings: Findings, sections: Sequence[Section]) -> dict[str, str]:
    """File name -> content: every table that the page shows unfolded, and `sparsest.tex`."""
    named: dict[str, str] = {}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Table) and section.key not in LEFT_OUT and block.rows:
                named[_file_name(section.key, block.caption, named)] = tabular(block)
    if findings.scenes:
        named["sparsest.tex"] = tabular(sparsest(findings))
    return named


def sparsest(findings: Findings) -> Table:
    """Per method the sparsest circuit of each seed with validation divergence <= epsilon: median over
    seeds (range), with the test metrics it has."""
    curves = [(findings.titles[scene], curve) for scene, group in findings.scenes.items() for curve in group]
    found = [
        (title, curve, [curve.rows[row] for row in curve.sparsest(findings.epsilon).values()])
        for title, curve in curves
    ]
    known = any(row["truth_recall"] is not None for _, _, rows in found for row in rows)
    columns = [
        *(Column("Scene", long=True), Column("Method")),
        Column(f"Seeds within ε = {shortest(findings.epsilon)}", numeric=True),
        *(Column(name, numeric=True) for name in ("Edges", "Sparsity", "Divergence (test)")),
        *(Column(name, numeric=True) for name in ("Precision", "Recall") if known),
    ]
    rows = []
    for title, curve, circuits in found:
        shares = [row["sparsity"] for row in circuits]
        cells = [title, curve.method, f"{len(circuits)} of {findings.seeds_run(curve)}"]
        cells.append(spread([row["num_edges"] for row in circuits]))
        cells.append(percent(sorted(shares)[len(shares) // 2]) if shares else "–")
        cells.append(f"{_spread(circuits, 'divergence_test')} ({words(curve.scene.divergence)})")
        cells += [_spread(circuits, f"truth_{name}") for name in ("precision", "recall") if known]
        rows.append(cells)
    return Table("Sparsest faithful circuit per method", columns, rows)


def _spread(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    return spread([row[name] for row in rows if row[name] is not None])


def tabular(table: Table) -> str:
    """The table as a booktabs tabular. Consecutive rows of one scene stand under its name."""
    grouped = bool(table.columns) and table.columns[0].title == "Scene"
    columns, rows = table.columns[grouped:], table.rows
    kinds = [_kind(column, [row[place + grouped] for row in rows]) for place, column in enumerate(columns)]
    head = " & ".join(_head(column.title, kind) for column, kind in zip(columns, kinds, strict=True))
    layout = "".join("r" if kind == "r" else "l" for kind in kinds)
    lines = [
        f"% {_one_line(table.caption)}. Written by circuit-sweep; needs \\usepackage{{booktabs}}.",
        rf"\begin{{tabular}}{{@{{}}{layout}@{{}}}}",
        r"\toprule",
        rf"{head} \\",
    ]
    scene = None
    if not grouped:
        lines.append(r"\midrule")
    for row in rows:
        if grouped and row[0] != scene:
            scene = row[0]
            lines += [
                r"\midrule",
                rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{escape(scene)}}}}} \\",
            ]
        cells = (_cell(cell, kind) for cell, kind in zip(row[grouped:], kinds, strict=True))
        lines.append(rf"{' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """Text from outside as LaTeX that prints it: Latin letters as they are, what LaTeX knows by name, and
    any other character by its number, `[U+4E2D]`, so that every file compiles."""
    spaced = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(_letters(" ".join(spaced.split())))


def _letters(text: str) -> Iterator[str]:
    for letter in text:
        if letter in _ESCAPED:
            yield _ESCAPED[letter]
        elif letter.isascii() or ("À" <= letter <= "ÿ" and letter not in _NEED_T1):
            yield letter
        else:
            yield f"[U+{ord(letter):04X}]"


def _kind(column: Column, cells: Sequence[str]) -> str:
    if column.numeric:
        return "r"
    return _PARAGRAPH if max(map(len, cells), default=0) > LONG else "l"


def _head(title: str, kind: str) -> str:
    """Long heads on several lines, above each other."""
    lines = textwrap.wrap(" ".join(title.split()), HEAD) or [""]
    if len(lines) == 1:
        return escape(lines[0])
    side = "r" if kind == "r" else "l"
    stacked = r" \\ ".join(map(escape, lines))
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"


def _cell(text: str, kind: str) -> str:
    told = re.sub(r"(?<=\d) \\%", r"\\,\\%", escape(text))
    return rf"\parbox[t]{{4cm}}{{\raggedright {told}\strut}}" if kind == _PARAGRAPH else told


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _file_name(key: str, caption: str, taken: Collection[str]) -> str:
    """The caption's words; with a digest where they are too many, and a number where they are taken."""
    full = "-".join(re.findall(r"[a-z0-9]+", f"{key} {caption}".lower()))
    stem = (
        full if len(full) <= NAME else f"{full[:NAME].strip('-')}-{sha256(caption.encode()).hexdigest()[:8]}"
    )
    number = next(number for number in count_up(1) if _numbered(stem, number) not in taken)
    return _numbered(stem, number)


def _numbered(stem: str, number: int) -> str:
    return f"{stem}.tex" if number == 1 else f"{stem}-{number}.tex"
