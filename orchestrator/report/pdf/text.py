"""Text for paged output: faces, measured widths, lines that fit. All lengths in points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font, LoadFlags

LEADING = 1.28  # of the size, from one baseline to the next
_SIZE = 100  # in points, at which letters are measured
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
    """The sum of its letters' advances: kerning, which brings some nearer to each other, is left out."""
    return sum(_advance(letter, face.family, face.bold, face.italic) for letter in text) * face.size


@lru_cache(maxsize=10_000)
def _advance(letter: str, family: str, bold: bool, italic: bool) -> float:
    """Of a face of size 1."""
    font = _file(family, bold, italic)
    return font.load_char(ord(letter), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / _SIZE


@lru_cache
def _file(family: str, bold: bool, italic: bool) -> FT2Font:
    """A font of our own: those of matplotlib's cache keep what was last set, by whoever used them."""
    font = FT2Font(findfont(Face(family, 10, bold, italic).font))
    font.set_size(_SIZE, 72)
    return font


@lru_cache
def _glyphs(family: str, bold: bool, italic: bool) -> frozenset[int]:
    return frozenset(_file(family, bold, italic).get_charmap())


def printable(text: str, face: Face) -> str:
    """One line, with � for every character that the font lacks."""
    known = _glyphs(face.family, face.bold, face.italic)
    missing = "�" if ord("�") in known else "?"
    return "".join(letter if ord(letter) in known else missing for letter in " ".join(text.split()))


def missing(text: str, face: Face) -> set[str]:
    """The characters in whose stead `printable` writes � (or ?)."""
    return set("".join(text.split())) - set(map(chr, _glyphs(face.family, face.bold, face.italic)))


def lines(text: str, face: Face, room: float) -> list[str]:
    """The text broken between words, and within a word only where it alone is wider than `room`."""
    found, used, space = [""], 0.0, width(" ", face)
    for word in printable(text, face).split(" "):
        wide = width(word, face)
        if found[-1] and used + space + wide <= room:
            found[-1] += f" {word}"
            used += space + wide
            continue
        *full, rest = _pieces(word, face, room)
        found[len(found) - (not found[-1]) :] = [*full, rest]
        used = width(rest, face)
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
