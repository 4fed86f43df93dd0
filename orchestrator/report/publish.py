"""The report: run folders -> one self-contained page, and everything that is taken from it elsewhere.

The same run folders give the same bytes: nothing here knows the time or its own whereabouts.

All files are written to a folder of their own first and then moved into place one by one, report.json
last. So an error (an error is never skipped, whichever file it is about) leaves the report that was there
as it was, and a reader never finds half a file. Other files in the folder are not touched.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as parquet

from orchestrator.records.results import Results
from orchestrator.report.figures import Drawn, figures_of
from orchestrator.report.figures.overview import write_overview
from orchestrator.report.findings import Findings
from orchestrator.report.front_csv import front_csv
from orchestrator.report.latex import latex_tables
from orchestrator.report.page import page, sections_of, tiles
from orchestrator.report.pdf.document import Cover, write_pdf
from orchestrator.report.summary import summary, summary_text
from trainers.folder import Folder
from trainers.spec import SpecError

SUMMARY = "report.json"
# The files that not every report has.
_NOT_ALWAYS = r"report\.pdf|figures/[a-z0-9-]+\.(csv|pdf|png|svg)|tables/[a-z0-9-]+\.tex"


@dataclass(frozen=True)
class ReportFiles:
    """What a report consists of, in the folder `out`; `html` is the one to open. `names` are all files,
    relative to it."""

    out: Path
    names: tuple[str, ...]

    @property
    def html(self) -> Path:
        return self.out / "report.html"

    @property
    def trials(self) -> Path:
        return self.out / "trials.parquet"

    @property
    def points(self) -> Path:
        return self.out / "points.parquet"

    @property
    def png(self) -> Path:
        return self.out / "pareto.png"

    @property
    def pdf(self) -> Path:
        return self.out / "pareto.pdf"

    @property
    def csv(self) -> Path:
        return self.out / "pareto.csv"

    @property
    def paged(self) -> Path:
        return self.out / "report.pdf"

    @property
    def summary(self) -> Path:
        return self.out / SUMMARY


def write_report(runs: Sequence[Folder], out: Path) -> ReportFiles:
    """Writes the report on one or several runs or sweep folders into the folder `out`.

    Raises SpecError for a folder that holds no runs, or when `out` cannot be written.
    """
    return write_files(Results.load(runs), out)


def write_files(results: Results, out: Path, refresh_seconds: int = 0, figures: bool = True) -> ReportFiles:
    """Writes the report on results that are loaded already. With `refresh_seconds` the page of an
    unfinished sweep reloads itself that often. Without `figures` the figures, LaTeX tables and report.pdf,
    which take most of the time, are left for the report that follows. Raises SpecError like `write_report`.
    """
    if out.exists() and not out.is_dir():
        raise SpecError(f"{out}: found a file; allowed: a folder for the report, there or to be made")
    findings = Findings.of(results)
    try:
        with _part(out) as part:
            _write(findings, part, refresh_seconds, figures)
            return _into_place(part, out)
    except OSError as error:
        raise SpecError(f"{out}: the report cannot be written: {error.strerror or error}") from None


@contextmanager
def _part(out: Path) -> Iterator[Path]:
    """A folder in `out` for a report that is being written, gone afterwards; those that processes which
    died left behind are removed. A lock, which ends with its process, tells whose are still written."""
    for other in out.glob(".*.part"):
        with suppress(OSError), _locked(other):
            shutil.rmtree(other, ignore_errors=True)
    part = out / f".{uuid.uuid4().hex[:8]}.part"
    part.mkdir(parents=True)
    try:
        with _locked(part):
            yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError if another process holds the folder."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def _write(findings: Findings, folder: Path, refresh_seconds: int, figures: bool) -> None:
    sections = sections_of(findings)
    drawn = figures_of(findings) if figures else Drawn()
    parquet.write_table(findings.results.trials, folder / "trials.parquet", compression="zstd")
    parquet.write_table(findings.results.points, folder / "points.parquet", compression="zstd")
    (folder / "pareto.csv").write_text(front_csv(findings), encoding="utf-8", newline="")
    html = page(findings, refresh_seconds, sections)
    (folder / "report.html").write_text(html, encoding="utf-8", newline="\n")
    write_overview(findings, folder / "pareto.png", folder / "pareto.pdf")
    if figures:
        for _, plot in drawn.plots:
            (folder / "figures").mkdir(exist_ok=True)
            plot.write(folder / "figures")
        for name, text in latex_tables(sections).items():
            (folder / "tables").mkdir(exist_ok=True)
            (folder / "tables" / name).write_text(text, encoding="utf-8", newline="\n")
        write_pdf(folder / "report.pdf", _cover(findings), sections, drawn)
    content = summary(findings, drawn) | {"files": _digests(folder)}
    (folder / SUMMARY).write_text(summary_text(content), encoding="utf-8", newline="\n")


def _cover(findings: Findings) -> Cover:
    sweeps = findings.results.sweeps
    left = len(findings.with_status("unfinished"))
    are = "is" if left == 1 else "are"
    return Cover(
        title=", ".join(sweep.name for sweep in sweeps) or "Circuits",
        questions=list(dict.fromkeys(sweep.question for sweep in sweeps if sweep.question)),
        facts=[(tile.value, tile.label) for tile in tiles(findings)],
        scenes=[scene.details for scene in findings.scenes],
        banner=f"Unfinished: {left:,} of the trials {are} not over; curves, fronts and tables will change."
        * bool(left),
    )


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name: whether files belong to one report can be checked."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _into_place(part: Path, out: Path) -> ReportFiles:
    """Moves the files over, and deletes those of the report before that this one does not have."""
    names = [path.relative_to(part).as_posix() for path in sorted(part.rglob("*")) if path.is_file()]
    names.sort(key=lambda name: name == SUMMARY)
    before = (out / SUMMARY).read_bytes() if (out / SUMMARY).is_file() else None
    for name in names:
        (out / name).parent.mkdir(exist_ok=True)
        (part / name).replace(out / name)
    for name in left_behind(before, names):
        (out / name).unlink(missing_ok=True)
    for folder in ("figures", "tables"):
        if (out / folder).is_dir() and not any((out / folder).iterdir()):
            (out / folder).rmdir()
    return ReportFiles(out, tuple(sorted(names)))


def left_behind(summary: bytes | None, names: Collection[str]) -> list[str]:
    """What the report with this report.json consists of, as far as this module may have written it, that is
    not among `names`; nothing if it cannot be read."""
    try:
        listed = json.loads(summary or b"")["files"]
    except (ValueError, KeyError, TypeError):
        return []
    return sorted({str(name) for name in listed if re.fullmatch(_NOT_ALWAYS, str(name))} - set(names))
