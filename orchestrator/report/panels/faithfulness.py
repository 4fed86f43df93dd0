"""How faithful with how many edges: smallest budgets and MIB's areas."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import Block, Column, Details, Heading, Paragraph, Table
from orchestrator.report.scenes import Curve
from orchestrator.statistics.budgets import TOLERANCES, FaithfulFrom, faithful_from
from orchestrator.statistics.pareto import best_within
from orchestrator.wording import count, spread
from trainers.evaluation.curves import AREAS, mib_budgets

Areas = dict[str, list[dict[str, float]]]  # by metric: one {name in AREAS: value} per trial

F = "faithfulness_"
AREA_WORDS = {"cpr": "CPR", "cmd": "CMD", "cpr_log": "CPR, log", "cmd_log": "CMD, log"}

KEY = (
    "Cells: the median over seeds, of CPR and CMD over trials (lowest – highest). never: at the largest "
    "evaluated budget f is still outside. at most: already the smallest evaluated budget is within. not "
    "evaluated: f is not defined, as the full model and the empty circuit agree, or was not measured."
)
AREA_KEY = (
    "CPR is the area under f and CMD the area between f and 1 over MIB's ten shares of the edges "
    "(0.001 to 1), on the test examples (Mueller et al. 2025); log: over the logarithm of the share. f = 1 "
    "throughout has CPR 0.999, log CPR 6.91 and CMD 0. Only rankings evaluated at all ten have them."
)


def has_faithfulness(findings: Findings) -> bool:
    return any(metrics_with_faithfulness(group) for group in findings.scenes.values())


def faithfulness(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = [Paragraph(KEY, quiet=True), Paragraph(AREA_KEY, quiet=True)]
    for scene, group in findings.scenes.items():
        blocks.append(Heading(findings.titles[scene]))
        metrics = metrics_with_faithfulness(group)
        areas = {curve.method: curve_areas(findings, curve) for curve in group}
        for metric in metrics[:1]:
            blocks += _of_metric(findings, group, metric, areas)
        reasons: dict[str, list[str]] = {}
        for curve in group:
            if not areas[curve.method]:
                reasons.setdefault(_unmeasured(curve), []).append(curve.method)
        if reasons:
            told = (f"{reason}: {', '.join(methods)}" for reason, methods in reasons.items())
            blocks.append(Paragraph(f"No CPR and CMD; {'; '.join(told)}.", quiet=True))
        if len(metrics) > 1:
            others = [block for metric in metrics[1:] for block in _of_metric(findings, group, metric, areas)]
            blocks.append(Details(f"Other metrics: {', '.join(map(words, metrics[1:]))}", others))
    return blocks


def _of_metric(
    findings: Findings, group: Sequence[Curve], metric: str, areas: Mapping[str, Areas]
) -> list[Block]:
    told = f"Edges from which on the circuits are faithful, by {words(metric)}:"
    blocks: list[Block] = [Paragraph(told), _smallest(findings, group, metric)]
    measured = _areas(findings, group, metric, areas)
    if measured.rows:
        blocks += [Paragraph(f"CPR and CMD of {words(metric)}:"), measured]
    return blocks


def metrics_with_faithfulness(group: Sequence[Curve]) -> list[str]:
    """Metrics with a normalised faithfulness, the scene's divergence first."""
    found = {name.removeprefix(F) for curve in group for name in curve.rows[0] if name.startswith(F)}
    measured = [name for name in found if any(row[F + name] is not None for c in group for row in c.rows)]
    return sorted(measured, key=lambda name: (name != group[0].scene.divergence, name))


def smallest_budgets(curve: Curve, metric: str) -> dict[float, list[FaithfulFrom]]:
    """By tolerance and for each seed: from how many edges on the curve is within it of f = 1.

    The evaluated budgets are the sizes of the seed's circuits; at each, as in every band, the seed's best
    circuit on validation with at most that many edges counts, by its f on the test examples.
    """
    f = np.array([np.nan if row[F + metric] is None else row[F + metric] for row in curve.rows], dtype=float)
    found: dict[float, list[FaithfulFrom]] = {tolerance: [] for tolerance in TOLERANCES}
    for seed in curve.all_seeds:
        own = np.flatnonzero((curve.seeds == seed) & np.isfinite(curve.validation))
        budgets = np.unique(curve.num_edges[own])
        best = own[best_within(curve.num_edges[own], curve.validation[own], budgets, curve.rounding)]
        for tolerance in TOLERANCES:
            found[tolerance].append(faithful_from(budgets, f[best], tolerance))
    return found


def _smallest(findings: Findings, group: Sequence[Curve], metric: str) -> Table:
    columns = [
        *(Column("Metric"), Column("Method"), Column("Seeds", numeric=True)),
        Column("Evaluated at (edges)", numeric=True),
        *(Column(f"|1 − f| ≤ {tolerance:.2f} from (edges)", numeric=True) for tolerance in TOLERANCES),
    ]
    rows = []
    for curve in group:
        low, high = int(curve.num_edges.min()), int(curve.num_edges.max())
        sizes = count(low) if low == high else f"{count(low)} – {count(high)}"
        told = [words(metric), curve.method, count(len(curve.all_seeds)), sizes]
        rows.append([*told, *map(_told, smallest_budgets(curve, metric).values())])
    title = f"Smallest faithful edge budgets by {words(metric)}, {findings.titles[group[0].scene]}"
    return Table(title, columns, rows)


def _told(found: Sequence[FaithfulFrom]) -> str:
    """`94 (62 – 120)`, with how many seeds never get there; censored answers are told as such."""
    sure = [one.edges for one in found if one.edges is not None]
    states = [one.state for one in found]
    if not sure:
        evaluated = [state for state in states if state != "not evaluated"]
        return "never" if evaluated else "not evaluated"
    least = "at most " if states.count("everywhere") == len(sure) else ""
    told = [least + spread(sure)]
    some = states.count("everywhere")
    if some and not least:
        told.append(f"at most that on {some}")
    for state in ("never", "not evaluated"):
        if number := states.count(state):
            told.append(f"{state} on {number} of {len(states)}")
    return ", ".join(told)


def ranked(curve: Curve) -> list[str]:
    """Ids of the trials whose circuits in this curve are tops of a ranking: areas are theirs."""
    kinds = ("budget", "ranking")
    return list(dict.fromkeys(str(row["trial_id"]) for row in curve.rows if row["kind"] in kinds))


def curve_areas(findings: Findings, curve: Curve) -> Areas:
    """By metric, the areas of each trial on the test examples."""
    found: dict[str, list[dict[str, float]]] = {}
    for trial_id in ranked(curve):
        areas = json.loads(findings.trials[trial_id]["areas"] or "{}").get("test", {})
        for metric, values in areas.items():
            if values is not None:
                found.setdefault(metric, []).append(values)
    return found


def _areas(findings: Findings, group: Sequence[Curve], metric: str, areas: Mapping[str, Areas]) -> Table:
    columns = [
        *(Column("Metric"), Column("Method"), Column("Trials", numeric=True)),
        *(Column(f"{AREA_WORDS[name]}, median", numeric=True) for name in AREAS),
    ]
    rows = [
        [
            words(metric),
            curve.method,
            f"{len(measured)} of {len(ranked(curve))}",
            *(spread([float(one[name]) for one in measured]) for name in AREAS),
        ]
        for curve in group
        if (measured := areas[curve.method].get(metric))
    ]
    return Table(f"CPR and CMD of {words(metric)}, {findings.titles[group[0].scene]}", columns, rows)


def _unmeasured(curve: Curve) -> str:
    """Why a curve has no areas."""
    if not ranked(curve):
        return "no ranking"
    grid = set(mib_budgets(curve.scene.num_edges_total)) - {0, curve.scene.num_edges_total}
    lacking = len(grid - set(curve.num_edges.tolist()))
    if not lacking:
        return "no trial has the whole grid, or full model and empty circuit agree"
    return f"{lacking} of the grid's {len(grid)} budgets not evaluated"
