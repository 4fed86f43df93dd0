"""The page: findings -> HTML with style, scripts and data inside."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
import numpy as np
from plotly.offline import get_plotlyjs

from orchestrator.report.findings import Findings
from orchestrator.report.panels import PANELS
from orchestrator.report.panels.blocks import Block, Chart, Details, Section
from orchestrator.report.panels.trouble import num_warnings
from orchestrator.wording import count, duration

# Joined, in this order, into one scope of the page; a new chart form is one file and one name here.
SCRIPTS = ("core", "pareto", "targets", "training", "main")


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page. `link` names the section that tells more."""

    value: str
    label: str
    link: str = ""
    alarming: bool = False


def page(findings: Findings) -> str:
    """The whole page as HTML: style, scripts and data inside, no address outside."""
    assets = files("orchestrator.report") / "assets"
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
        script=_script(assets),
        plotly=get_plotlyjs() if charts else "",
    )


def _script(assets: Traversable) -> str:
    parts = [(assets / f"{name}.js").read_text("utf-8") for name in SCRIPTS]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();"


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
