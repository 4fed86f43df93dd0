"""How wide LaTeX sets a text, about: what a table of a plain article has room for.

Computer Modern at 10 pt (cmr10.afm of the AMS fonts), rounded up by classes of letters; at \\footnotesize
(8 pt) letters are 0.85 as wide, as the smaller design is wider for its size.
"""

import re
import textwrap
from collections.abc import Sequence

LINE = 345.0  # points: \\textwidth of the article class at 10 pt
SMALL = 0.85
BETWEEN, BETWEEN_SMALL = 12.0, 8.0  # points between two columns: twice \\tabcolsep
PARAGRAPH, PARAGRAPH_SMALL = 113.8, 85.4  # points: 4 cm and 3 cm
HEAD, HEAD_SMALL = 16, 12  # letters per line of a column's head
LONG, LONG_SMALL = 44, 20  # letters above which a text column is set as a paragraph

_CLASSES = (("il|!'.,:;j", 2.9), (" ftrsIJ()[]/-·", 4.0), ("mw%MW", 8.4), ("×±−≤≥→∞‖", 7.8))
_WIDTHS = {letter: width for letters, width in _CLASSES for letter in letters}
_POWER = re.compile(r"\d\.\d+e[-+]\d{2,3}")  # set as a number times a power of ten


def width(text: str) -> float:
    """In points, at 10 pt. Letters that are set as their number, `[U+4E2D]`, take eight."""
    powers = len(_POWER.findall(text))
    return 20.0 * powers + sum(map(_letter, text))


def _letter(letter: str) -> float:
    if letter in _WIDTHS:
        return _WIDTHS[letter]
    if letter.isdigit() or letter.islower() or letter in "–…":
        return 5.6 if letter in "bdghknpquvxyz" else 5.1
    return 7.6 if letter.isascii() or "À" <= letter <= "ÿ" else 50.0


def column_width(title: str, cells: Sequence[str], paragraph: bool, small: bool) -> float:
    """Of a column with its stacked head, in points at its own size."""
    head = max(map(width, textwrap.wrap(" ".join(title.split()), HEAD_SMALL if small else HEAD)), default=0.0)
    scale = SMALL if small else 1.0
    if paragraph:
        return max(head * scale, PARAGRAPH_SMALL if small else PARAGRAPH)
    return max([head, *map(width, cells)]) * scale


def pieces(widths: Sequence[float], keys: int, room: float, between: float) -> list[list[int]]:
    """Columns sorted into tabulars no wider than `room` points: each has the first `keys` columns, and of the
    others as many as fit, at least one."""
    found: list[list[int]] = []
    start = list(range(keys))
    now, used = start, sum(widths[:keys]) + between * max(0, keys - 1)
    base = used
    for place in range(keys, len(widths)):
        more = widths[place] + between * bool(now)
        if len(now) > keys and used + more > room:
            found.append(now)
            now, used = start, base
            more = widths[place] + between * bool(now)
        now, used = [*now, place], used + more
    return [*found, now]
