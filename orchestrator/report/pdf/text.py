"""Text for paged output: faces, measured widths, lines that fit. All lengths in points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags

LEADING = 1.28  # of the size, from one baseline to the next
INK, GREY = "#101828", "#667085"


@dataclass(frozen=True)
class Face:
    """A font of those that matplotlib brings along, at a size in points."""

    family: str = "STIXGeneral"
    size: float = 10.0
    bold: bool = False
    italic: bool = False
    colour: str = INK

    @property
    def font(self) -> FontProperties:
        return FontProperties(
            family=self.family,
            size=self.size,
            weight="bold" if self.bold else "normal",
            style="italic" if self.italic else "normal",
        )

    @property
    def leading(self) -> float:
        return LEADING * self.size


BODY = Face()
QUIET = Face(size=9.0, colour=GREY)
CAPTION = Face(size=8.5)
CELL = Face(size=8.5)
CODE = Face(family="DejaVu Sans Mono", size=6.8)
TITLE = Face(size=24, bold=True)
SECTION = Face(size=14, bold=True)
HEADING = Face(size=10.5, bold=True)


def width(text: str, face: Face) -> float:
    return _unit_width(text, face.family, face.bold, face.italic) * face.size


@lru_cache(maxsize=50_000)
def _unit_width(text: str, family: str, bold: bool, italic: bool) -> float:
    font = _file(family, bold, italic)
    font.set_size(100, 72)
    font.set_text(text, 0, flags=LoadFlags.NO_HINTING)
    return font.get_width_height()[0] / 64 / 100


@lru_cache
def _file(family: str, bold: bool, italic: bool) -> FT2Font:
    return get_font(findfont(Face(family, 10, bold, italic).font))


@lru_cache
def _glyphs(family: str, bold: bool, italic: bool) -> frozenset[int]:
    return frozenset(_file(family, bold, italic).get_charmap())


def printable(text: str, face: Face) -> str:
    """One line, with � for every character that the font lacks."""
    known = _glyphs(face.family, face.bold, face.italic)
    missing = "�" if ord("�") in known else "?"
    return "".join(letter if ord(letter) in known else missing for letter in " ".join(text.split()))


def lines(text: str, face: Face, room: float) -> list[str]:
    """The text broken between words, and within a word only where it alone is wider than `room`."""
    text, found = printable(text, face), [""]
    for word in text.split(" "):
        longer = f"{found[-1]} {word}" if found[-1] else word
        if width(longer, face) <= room:
            found[-1] = longer
            continue
        if found[-1]:
            found.append("")
        *full, rest = _pieces(word, face, room)
        found[-1:] = [*full, rest]
    return found


def clipped(text: str, longest: int) -> str:
    """The text, or its beginning with an ellipsis: what comes from outside may be long."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def longest_word(texts: Sequence[str], face: Face) -> float:
    return max((width(word, face) for text in texts for word in printable(text, face).split(" ")), default=0)


def _pieces(word: str, face: Face, room: float) -> list[str]:
    pieces = []
    while width(word, face) > room and len(word) > 1:
        fits = max(1, int(len(word) * room / width(word, face)))
        while fits > 1 and width(word[:fits], face) > room:
            fits -= 1
        pieces.append(word[:fits])
        word = word[fits:]
    return [*pieces, word]
