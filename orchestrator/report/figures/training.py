"""Training curves for print: divergence and sparsity by step, one figure per group."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure, SubFigure

from orchestrator.report.figures.plot import Plot, Row
from orchestrator.report.figures.style import FAINT, ONE_COLUMN, label, log_ticks, title
from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in
from orchestrator.report.panels.curve_data import FLOOR
from orchestrator.report.thinning import evenly
from orchestrator.wording import count

# What is drawn of a group: this many trials, evenly over its settings, and steps of each.
TRIALS = 12
STEPS = 120
# Up to so many trials are named in a legend.
NAMED = 6

COLUMNS = ("trial_id", "trial", "step", "divergence", "sparsity", "target_sparsity")
_GROUP = ("model", "task", "test_set", "ablation", "edge_convention", "method", "divergence")

Trial = Mapping[str, Any]


def by_step(findings: Findings) -> list[Plot]:
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for row in findings.with_status("complete", "failed"):
        if (row["steps"] or 0) > 1 and row["method"] is not None:
            groups.setdefault(tuple(str(row[name] or "") for name in _GROUP), []).append(row)
    plots = (_plot(findings, key, groups[key]) for key in sorted(groups))
    return [plot for plot in plots if plot.rows]


def _plot(findings: Findings, group: tuple[str, ...], trials: Sequence[Trial]) -> Plot:
    drawn = evenly(sorted(trials, key=lambda row: _order(findings, row)), TRIALS)
    rows = [row for trial in drawn for row in _reports(findings, trial, divergence=group[-1])]
    named = dict.fromkeys(str(row["trial"]) for row in rows)
    model, task, *_, method, divergence = group
    told = f"{method}, {findings.scene_title(trials[0])}"
    shown = f"{len(named)} of {count(len(trials), 'trial')}"
    return Plot(
        kind="training",
        about=f"{method} {model} {task}",
        identity=group,
        title=told,
        details=f"{told} · {shown}",
        columns=COLUMNS,
        rows=rows,
        size=(ONE_COLUMN, 3.2 + (0.1 + 0.155 * len(named) if len(named) <= NAMED else 0)),
        draw=partial(_draw, told, measured_in(divergence or "divergence")),
    )


def _order(findings: Findings, row: Trial) -> tuple[str, int, str]:
    return (findings.settings.get(row["trial_id"], ""), row["seed"] or 0, row["trial_id"])


def _reports(findings: Findings, trial: Trial, divergence: str) -> Iterator[Row]:
    """What a trial reported, evenly thinned; a trial with a single report, or that
    reported neither, is no curve."""
    names = {"divergence": divergence, "sparsity": "sparsity", "target_sparsity": "target_sparsity"}
    reports = evenly(findings.results.progress(trial["trial_id"]), STEPS)
    failed = ", failed" if trial["status"] == "failed" else ""
    told = f"{trial['trial_id'][:8]}{failed}: {findings.about(trial)}"
    values = [{column: _finite(report.get(name)) for column, name in names.items()} for report in reports]
    if len(reports) > 1 and any(value is not None for of in values for value in of.values()):
        for report, own in zip(reports, values, strict=True):
            yield {"trial_id": trial["trial_id"], "trial": told, "step": int(report["step"]), **own}


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def _draw(about: str, divergence: str, canvas: Figure | SubFigure, rows: Sequence[Row]) -> None:
    above, below = canvas.subplots(2, 1, sharex=True)
    trials = list(dict.fromkeys(str(row["trial"]) for row in rows))
    ramp = colormaps["viridis"](np.linspace(0, 0.88, len(trials)))
    handles = []
    for tint, name in zip(ramp, trials, strict=True):
        own = [row for row in rows if row["trial"] == name]
        steps = _values(own, "step")
        line = above.plot(steps, np.maximum(_values(own, "divergence"), FLOOR), color=tint, linewidth=0.9)
        below.plot(
            steps, _values(own, "target_sparsity"), color=FAINT, linewidth=0.8, linestyle=(0, (1, 1.5))
        )
        below.plot(steps, _values(own, "sparsity"), color=tint, linewidth=0.9)
        handles += line
    if any(row["divergence"] is not None for row in rows):
        above.set_yscale("log")
    log_ticks(above)
    title(above, about)
    above.set_ylabel(label(divergence, 30))
    below.set_ylabel("sparsity")
    below.set_xlabel("step")
    if len(trials) <= NAMED:
        names = [label(name) for name in trials]
        canvas.legend(handles, names, loc="lower center", handlelength=1.5)


def _values(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
