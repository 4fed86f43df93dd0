"""The page: findings -> HTML with style, scripts and data inside."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from orchestrator.report.codes import MARKS, mark
from orchestrator.report.findings import Findings
from orchestrator.report.panels import PANELS
from orchestrator.report.panels.blocks import Block, Chart, Details, Section
from orchestrator.report.panels.circuits import circuits
from orchestrator.report.panels.trouble import num_warnings
from orchestrator.report.room import used
from orchestrator.wording import count, duration, printable

# Joined, in this order, into one scope of the page; a new chart form is one file and one name here.
SCRIPTS = (
    "reader",
    "narrow",
    "core",
    "pareto",
    "targets",
    "gates",
    "training",
    "codes",
    "layers",
    "drawing",
    "dense",
    "camera",
    "circuits",
    "controls",
    "explorer",
    "live",
    "main",
)
_TIME = re.compile(r"(?<=\d) (?=(?:s|min|h|d)\b)")
# plotly.js's bundle of scatter, bar and pie charts; `make plotly` says where it comes from.
PLOTLY = "plotly-basic.min.js"
STYLES = ("report", "circuits", "live")


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page. `link` names the section that tells more."""

    value: str
    label: str
    link: str = ""
    alarming: bool = False


def sections_of(findings: Findings) -> list[Section]:
    """What the page consists of, before it becomes HTML. The circuits come last: they take what room the
    other sections leave."""
    asked = [panel for panel in PANELS if panel.applies(findings)]
    found = {panel.key: panel.section(findings) for panel in asked if panel.render is not circuits}
    others = list(found.values())
    used(findings, lambda: len(page(findings, sections=others)))
    found |= {panel.key: panel.section(findings) for panel in asked if panel.render is circuits}
    return [found[panel.key] for panel in asked]


def page(findings: Findings, refresh_seconds: int = 0, sections: Sequence[Section] | None = None) -> str:
    """The whole page as HTML: style, scripts and data inside, no address outside. The page of an
    unfinished sweep reloads itself every `refresh_seconds`, if they are not 0. `sections`: what
    `sections_of` gives, if it has been called already."""
    assets = files("orchestrator.report") / "assets"
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["plain"] = plain
    environment.filters["broken"] = broken
    template = environment.from_string((assets / "report.html.jinja").read_text("utf-8"))
    sections = sections_of(findings) if sections is None else sections
    charts = {chart.chart_id: {"form": chart.form, "data": plain(chart.data)} for chart in _charts(sections)}
    sweeps = findings.results.sweeps
    return template.render(
        title=", ".join(sweep.name for sweep in sweeps) or "Circuits",
        questions=list(dict.fromkeys(sweep.question for sweep in sweeps if sweep.question)),
        unfinished=len(findings.with_status("unfinished")),
        refresh_seconds=refresh_seconds,
        tiles=tiles(findings),
        sections=sections,
        charts=charts,
        marks=[mark(slot) for slot in range(MARKS * MARKS)],
        style="\n".join((assets / f"{name}.css").read_text("utf-8") for name in STYLES),
        script=_script(assets),
        plotly=(assets / PLOTLY).read_text("utf-8") if charts else "",
    )


def _shown(value: Any) -> Any:
    """What the template writes: names from outside must not turn the text after them round."""
    return printable(value) if type(value) is str else value


def broken(cell: str) -> Markup:
    """A cell of a table whose lines end where a reader would end them: a number keeps its unit of time, a
    name in a narrow column breaks after its underscores."""
    timed = _TIME.sub("\u00a0", printable(cell))
    return Markup(str(escape(timed)).replace("_", "_<wbr>"))


def _script(assets: Traversable) -> str:
    parts = [(assets / f"{name}.js").read_text("utf-8") for name in SCRIPTS]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();"


def tiles(findings: Findings) -> list[Tile]:
    """The numbers at the top."""
    complete = len(findings.with_status("complete"))
    failed = len(findings.with_status("failed", "unreadable"))
    warned = num_warnings(findings)
    cpu = sum(row["cpu_seconds"] or 0.0 for row in findings.trials.values())
    shown = [
        Tile(f"{complete:,} of {len(findings.trials):,}", "trials complete", "asked"),
        Tile(count(findings.results.points.num_rows), "circuits", "fronts" if findings.scenes else ""),
        Tile(duration(cpu), "CPU time", "asked"),
    ]
    if failed:
        shown.append(Tile(count(failed), "failed", "failures", alarming=True))
    if warned:
        shown.append(Tile(count(warned), "warning" if warned == 1 else "warnings", "warnings", alarming=True))
    return shown


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
    """Data of a chart or a view as JSON values: six significant digits, null for what is not finite, no
    characters that turn text round."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
