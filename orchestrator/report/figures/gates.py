"""How binary the gates are, for print: edges by expected gate, one figure per group."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure, SubFigure

from orchestrator.report.figures.plot import Plot, Row
from orchestrator.report.figures.style import ONE_COLUMN, label, log_ticks, title
from orchestrator.report.findings import Findings
from orchestrator.report.panels.gates import DRAWN, FLOOR
from orchestrator.report.thinning import evenly
from orchestrator.wording import count

# Up to so many settings are named in a legend.
NAMED = 6

COLUMNS = ("settings", "low", "high", "share", "trials")
_GROUP = ("model", "task", "test_set", "ablation", "edge_convention", "method")


def by_expected_gate(findings: Findings) -> list[Plot]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in findings.trials.values():
        if row["gate_histogram"]:
            groups.setdefault(tuple(str(row[name] or "") for name in _GROUP), []).append(row)
    return [_plot(findings, key, groups[key]) for key in sorted(groups)]


def _plot(findings: Findings, group: tuple[str, ...], trials: Sequence[Mapping[str, Any]]) -> Plot:
    shares: dict[str, list[np.ndarray]] = {}
    for trial in sorted(
        trials, key=lambda row: (findings.settings.get(row["trial_id"], ""), row["trial_id"])
    ):
        counts = np.asarray(json.loads(trial["gate_histogram"]), dtype=np.float64)
        settings = findings.settings.get(trial["trial_id"]) or "all"
        shares.setdefault(settings, []).append(counts / max(counts.sum(), 1.0))
    drawn = evenly(list(shares), DRAWN)
    rows = [row for name in drawn for row in _bars(name, shares[name])]
    model, task, *_, method = group
    told = f"{method}, {findings.scene_title(trials[0])}"
    return Plot(
        kind="gates",
        about=f"{method} {model} {task}",
        identity=group,
        title=told,
        details=f"{told} · {count(len(trials), 'trial')}, {len(drawn)} of {count(len(shares), 'setting')}",
        columns=COLUMNS,
        rows=rows,
        size=(ONE_COLUMN, 2.3 + (0.1 + 0.155 * len(drawn) if len(drawn) <= NAMED else 0)),
        draw=partial(_draw, told),
    )


def _bars(name: str, shares: Sequence[np.ndarray]) -> list[Row]:
    mean = np.mean(shares, axis=0)
    ends = np.linspace(0, 1, len(mean) + 1).tolist()
    return [
        {"settings": name, "low": low, "high": high, "share": float(share), "trials": len(shares)}
        for low, high, share in zip(ends, ends[1:], mean, strict=False)
    ]


def _draw(about: str, canvas: Figure | SubFigure, rows: Sequence[Row]) -> None:
    axes = canvas.subplots()
    names = list(dict.fromkeys(str(row["settings"]) for row in rows))
    ramp = colormaps["viridis"](np.linspace(0, 0.88, len(names)))
    handles = []
    for tint, name in zip(ramp, names, strict=True):
        own = [row for row in rows if row["settings"] == name]
        ends = [float(row["low"] or 0) for row in own] + [1.0]
        share = np.maximum([float(row["share"] or 0) for row in own], FLOOR)
        handles.append(axes.stairs(share, ends, color=tint, linewidth=1.1, baseline=FLOOR))
    axes.set_yscale("log")
    axes.set_ylim(FLOOR / 1.5, 1.5)
    log_ticks(axes, floor=FLOOR)
    title(axes, about)
    axes.set_xlabel("expected gate at the end of training")
    axes.set_ylabel("share of edges")
    if len(names) <= NAMED:
        canvas.legend(handles, [label(name) for name in names], loc="lower center", handlelength=1.5)
