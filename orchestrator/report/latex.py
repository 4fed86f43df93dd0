"""LaTeX: the tables of the page as booktabs tabulars.

A file holds one `tabular`, to be given to \\input inside a float of yours; it needs \\usepackage{booktabs}.
"""

import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from itertools import count as count_up

from orchestrator.report.panels.blocks import Column, Section, Table
from orchestrator.report.panels.fronts import SPARSEST

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

# As `orchestrator.wording.significant` writes small numbers; a trial's id holds no point.
_SMALL = re.compile(r"(?<![\w.])(\d\.\d+)e([-+]\d{2,3})(?![\w.])")
# Latin letters and signs that LaTeX's default fonts lack.
_NEED_T1 = "ÐÞðþ×÷"


def latex_tables(sections: Sequence[Section]) -> dict[str, str]:
    """File name -> content: every table that the page shows unfolded. That of the sparsest faithful circuits
    is `sparsest.tex`."""
    named: dict[str, str] = {}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Table) and section.key not in LEFT_OUT and block.rows:
                known = block.caption.startswith(SPARSEST)
                named["sparsest.tex" if known else _file_name(section.key, block.caption, named)] = tabular(
                    block
                )
    return named


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
    told = re.sub(r"(?<=\d) \\%", r"\\,\\%", _powers(text))
    return rf"\parbox[t]{{4cm}}{{\raggedright {told}\strut}}" if kind == _PARAGRAPH else told


def _powers(text: str) -> str:
    """`4.20e-08` as 4.20 times a power of ten; all else escaped."""
    parts = _SMALL.split(text)
    told = [escape(parts[0])]
    for digits, power, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        told += [rf"${digits} \times 10^{{{int(power)}}}$", escape(rest)]
    return "".join(told)


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
