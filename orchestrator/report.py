"""The report: run folders -> one self-contained page, a figure for papers, and the tables behind them.

The same run folders give the same bytes: nothing here knows the time or its own whereabouts.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow.parquet as parquet
from plotly.offline import get_plotlyjs

from orchestrator.figures import write_figure
from orchestrator.findings import Findings
from orchestrator.panels import PANELS
from orchestrator.panels.blocks import Block, Chart, Details, Section
from orchestrator.panels.trouble import num_warnings
from orchestrator.results import Results
from orchestrator.wording import count, duration
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


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page. `link` names the section that tells more."""

    value: str
    label: str
    link: str = ""
    alarming: bool = False


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


FRONT_COLUMNS = (
    "model",
    "task",
    "test_set",
    "ablation",
    "edge_convention",
    "method",
    "divergence",
    "hypervolume",
    "num_edges",
    "num_edges_total",
    "num_edges_connected",
    "sparsity",
    "divergence_validation",
    "divergence_test",
    "divergence_empty",
    "truth_precision",
    "truth_recall",
    "seed",
    "trial_id",
    "point",
    "circuit",
    "settings",
)


def front_csv(findings: Findings) -> str:
    """All fronts, one circuit a line, fewest edges first within a group; empty = not known."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FRONT_COLUMNS)
    for curve in (curve for group in findings.scenes.values() for curve in group):
        for index in curve.front:
            row = dict(curve.rows[int(index)])
            row["hypervolume"] = curve.hypervolume if math.isfinite(curve.hypervolume) else None
            row["settings"] = findings.settings.get(row["trial_id"])
            writer.writerow("" if (value := row[name]) is None else value for name in FRONT_COLUMNS)
    return text.getvalue()


def page(findings: Findings) -> str:
    """The whole page as HTML: style, scripts and data inside, no address outside."""
    assets = files("orchestrator") / "report_assets"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((assets / "report.html.jinja").read_text("utf-8"))
    sections = [panel.section(findings) for panel in PANELS if panel.applies(findings)]
    charts = {chart.chart_id: {"form": chart.form, "data": plain(chart.data)} for chart in _charts(sections)}
    sweeps = findings.results.sweeps
    return template.render(
        title=", ".join(sweep.name for sweep in sweeps) or "Circuits",
        questions=[sweep.question for sweep in sweeps if sweep.question],
        tiles=_tiles(findings),
        sections=sections,
        charts=charts,
        style=(assets / "report.css").read_text("utf-8"),
        script=(assets / "report.js").read_text("utf-8"),
        plotly=get_plotlyjs() if charts else "",
    )


def _tiles(findings: Findings) -> list[Tile]:
    complete = len(findings.with_status("complete"))
    failed = len(findings.with_status("failed", "unreadable"))
    warned = num_warnings(findings)
    cpu = sum(row["cpu_seconds"] or 0.0 for row in findings.trials.values())
    tiles = [
        Tile(f"{complete:,} of {len(findings.trials):,}", "trials complete", "asked"),
        Tile(count(findings.results.points.num_rows), "circuits", "fronts" if findings.scenes else ""),
        Tile(duration(cpu), "CPU time", "asked"),
    ]
    if failed:
        tiles.append(Tile(count(failed), "failed", "failures", alarming=True))
    if warned:
        tiles.append(Tile(count(warned), "warning" if warned == 1 else "warnings", "warnings", alarming=True))
    return tiles


def _charts(sections: Sequence[Section]) -> list[Chart]:
    found: list[Chart] = []
    waiting: list[Block] = [block for section in reversed(sections) for block in reversed(section.blocks)]
    while waiting:
        block = waiting.pop()
        if isinstance(block, Chart):
            found.append(block)
        elif isinstance(block, Details):
            waiting += reversed(block.blocks)
    return found


def plain(value: Any) -> Any:
    """A chart's data as JSON values: six significant digits, and null for what is not finite."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
