"""LaTeX: the tables of the page as booktabs tabulars that fit into a plain article.

A file is to be given to \\input inside a float of yours; it needs \\usepackage{booktabs}.
"""

import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from itertools import count as count_up

from orchestrator.report.latex_width import (
    BETWEEN,
    BETWEEN_SMALL,
    HEAD,
    HEAD_SMALL,
    LINE,
    LONG,
    LONG_SMALL,
    SMALL,
    column_width,
    pieces,
    width,
)
from orchestrator.report.panels.blocks import Column, Section, Table
from orchestrator.report.panels.fronts import SPARSEST

# Sections whose tables are about the run, not for a paper.
LEFT_OUT = frozenset({"failures", "warnings", "versions"})
LONGEST_WORD = 12  # letters that surely fit into a paragraph's line
MOST_KEYS = 2  # columns that name the rows, which every part of a broken table has
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
    """The table as a booktabs tabular no wider than a line of an article (latex_width.py): one that is
    wider is set smaller, and one that still is in several tabulars below each other, each with the columns
    that name the rows. Consecutive rows of one scene stand under its name."""
    grouped = bool(table.columns) and table.columns[0].title == "Scene"
    whole = _set(table, grouped, small=False)
    lines = [f"% {_one_line(table.caption)}. Written by circuit-sweep; needs \\usepackage{{booktabs}}."]
    if len(whole) == 1:
        return "\n".join([*lines, *whole[0], ""])
    lines.append(r"\begingroup\footnotesize\setlength{\tabcolsep}{4pt}%")
    for number, piece in enumerate(_set(table, grouped, small=True)):
        lines += [r"\par\medskip"] * (number > 0) + piece
    return "\n".join([*lines, r"\endgroup", ""])


def _set(table: Table, grouped: bool, small: bool) -> list[list[str]]:
    """The tabulars it takes at this size, as lines."""
    columns = table.columns[grouped:]
    cells = [[row[place + grouped] for row in table.rows] for place in range(len(columns))]
    kinds = [_kind(column, own, small) for column, own in zip(columns, cells, strict=True)]
    widths = [
        column_width(column.title, own, kind == _PARAGRAPH, small)
        for column, own, kind in zip(columns, cells, kinds, strict=True)
    ]
    named = next((place for place, column in enumerate(columns) if column.numeric), len(columns))
    keys = min(named, MOST_KEYS, max(0, len(columns) - 1))
    found = pieces(widths, keys, LINE, BETWEEN_SMALL if small else BETWEEN)
    return [
        _piece(table, grouped, [columns[n] for n in some], [kinds[n] for n in some], some, small)
        for some in found
    ]


def _piece(
    table: Table,
    grouped: bool,
    columns: Sequence[Column],
    kinds: Sequence[str],
    places: Sequence[int],
    small: bool,
) -> list[str]:
    head = " & ".join(_head(column.title, kind, small) for column, kind in zip(columns, kinds, strict=True))
    layout = "".join("r" if kind == "r" else "l" for kind in kinds)
    lines = [rf"\begin{{tabular}}{{@{{}}{layout}@{{}}}}", r"\toprule", rf"{head} \\"]
    scene = None
    if not grouped:
        lines.append(r"\midrule")
    for row in table.rows:
        if grouped and row[0] != scene:
            scene = row[0]
            told = rf"\textit{{{escape(scene)}}}"
            if width(scene) * (SMALL if small else 1.0) > 0.9 * LINE:
                told = rf"\parbox[t]{{{0.95 * LINE:.0f}pt}}{{\raggedright {told}\strut}}"
            lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{{told}}} \\"]
        own = (_cell(row[n + grouped], kind, small) for n, kind in zip(places, kinds, strict=True))
        lines.append(rf"{' & '.join(own)} \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


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


def _kind(column: Column, cells: Sequence[str], small: bool) -> str:
    if column.numeric:
        return "r"
    return _PARAGRAPH if max(map(len, cells), default=0) > (LONG_SMALL if small else LONG) else "l"


def _head(title: str, kind: str, small: bool) -> str:
    """Long heads on several lines, above each other."""
    lines = textwrap.wrap(" ".join(title.split()), HEAD_SMALL if small else HEAD) or [""]
    if len(lines) == 1:
        return escape(lines[0])
    side = "r" if kind == "r" else "l"
    stacked = r" \\ ".join(map(escape, lines))
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"


def _cell(text: str, kind: str, small: bool) -> str:
    if kind != _PARAGRAPH:
        return _percents(_powers(text))
    told = _percents(" ".join(r"\allowbreak{}".join(map(_powers, _bits(word))) for word in text.split()))
    return rf"\parbox[t]{{{'3cm' if small else '4cm'}}}{{\raggedright {told}\strut}}"


def _percents(told: str) -> str:
    return re.sub(r"(?<=\d) \\%", r"\\,\\%", told)


def _bits(word: str) -> list[str]:
    """Parts of a long word between which a line may end: after `_` and `/`, and of what is left longer than
    that anywhere."""
    return re.findall(rf"[^_/]{{1,{LONGEST_WORD}}}[_/]?|[_/]", word) if len(word) > LONGEST_WORD else [word]


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
