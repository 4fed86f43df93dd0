"""The report: run folders -> one self-contained page, a figure for papers, and the tables behind them.

The same run folders give the same bytes: nothing here knows the time or its own whereabouts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as parquet

from orchestrator.report.figures import write_figure
from orchestrator.report.findings import Findings
from orchestrator.report.front_csv import front_csv
from orchestrator.report.page import page
from orchestrator.results import Results
from trainers.folder import Folder
from trainers.spec import SpecError


@dataclass(frozen=True)
class ReportFiles:
    """What a report consists of; `html` is the one to open."""

    html: Path
    trials: Path
    points: Path
    png: Path
    pdf: Path
    csv: Path


def write_report(runs: Sequence[Folder], out: Path) -> ReportFiles:
    """Writes the report on one or several runs or sweep folders into the folder `out`.

    Raises SpecError for a folder that holds no runs, or when `out` cannot be written.
    """
    return write_files(Results.load(runs), out)


def write_files(results: Results, out: Path) -> ReportFiles:
    """Writes the report on results that are loaded already. Raises SpecError like `write_report`."""
    findings = Findings.of(results)
    named = ("report.html", "trials.parquet", "points.parquet", "pareto.png", "pareto.pdf", "pareto.csv")
    written = ReportFiles(*(out / name for name in named))
    try:
        out.mkdir(parents=True, exist_ok=True)
        parquet.write_table(results.trials, written.trials, compression="zstd")
        parquet.write_table(results.points, written.points, compression="zstd")
        write_figure(findings, written.png, written.pdf)
        written.csv.write_text(front_csv(findings), encoding="utf-8", newline="")
        written.html.write_text(page(findings), encoding="utf-8", newline="\n")
    except OSError as error:
        raise SpecError(f"{out}: the report cannot be written: {error}") from None
    return written
