"""Plot: one figure with the data it is drawn from, and its files."""

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure, SubFigure

from orchestrator.report.figures.layout import lay_out
from orchestrator.report.figures.style import styled
from orchestrator.wording import inert

Value = str | int | float | None
Row = Mapping[str, Value]

FORMATS = ("pdf", "png", "svg")
_METADATA = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
# Characters of a file name before its digest.
_READABLE = 70


@dataclass(frozen=True)
class Plot:
    """One figure. `draw` puts it on a canvas from `rows` alone, so that the rows, written as CSV, are
    exactly what is seen.

    `about` is the readable part of its file name; `identity`, with the kind, tells it from every other
    figure and never changes with what else is in the report. `details` end its caption. `size` is in
    inches.
    """

    kind: str
    about: str
    identity: tuple[str, ...]
    title: str
    details: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    size: tuple[float, float]
    draw: Callable[[Figure | SubFigure, Sequence[Row]], None]

    @property
    def slug(self) -> str:
        """A file name without its ending: letters, digits and hyphens, at most 100."""
        return slug(f"{self.kind} {self.about}", (self.kind, *self.identity))

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([_cell(row.get(name)) for name in self.columns] for row in self.rows)
        return text.getvalue()

    def figure(self) -> Figure:
        """The drawn figure, laid out. To be called and saved within `styled()`."""
        figure = Figure(figsize=self.size)
        self.draw(figure, self.rows)
        lay_out(figure)
        return figure

    def write(self, folder: Path) -> list[Path]:
        """Writes `<slug>.pdf|png|svg|csv` into `folder`. The same plot gives the same bytes."""
        with styled():
            figure = self.figure()
            for ending in FORMATS:
                save(figure, folder / f"{self.slug}.{ending}")
        (folder / f"{self.slug}.csv").write_text(self.csv(), encoding="utf-8", newline="")
        return [folder / f"{self.slug}.{ending}" for ending in ("csv", *FORMATS)]


def save(figure: Figure, path: Path) -> None:
    """In the format that the file's name ends in, without a date."""
    ending = path.suffix.removeprefix(".")
    figure.savefig(path, format=ending, dpi=300, metadata=_METADATA[ending])


def slug(readable: str, identity: Sequence[str]) -> str:
    """A safe file name: what is readable of a name, and a digest of what it stands for."""
    ascii_only = unicodedata.normalize("NFKD", readable).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:_READABLE].strip("-")
    digest = hashlib.sha256("\0".join(identity).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{words or 'figure'}-{digest[:8]}"


def _cell(value: Value) -> str:
    """Floats in full, so that the file gives back what was drawn; empty = not known."""
    if value is None:
        return ""
    return inert(value) if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
