"""Faithfulness against sparsity: one interactive figure per scene."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in
from orchestrator.report.panels.blocks import Block, Chart, Heading, Legend, Paragraph, chart_text
from orchestrator.report.scenes import Curve, Scene
from orchestrator.statistics.pareto import Bands
from orchestrator.wording import count

# Divergences below this are drawn at it: exact circuits have 0, and a logarithm has no place for it.
FLOOR = 1e-6
# Circuits drawn per curve and in the whole report; the others are in points.parquet.
DRAWN = 500
DRAWN_IN_ALL = 6000

KEY = (
    "Lines: the median over seeds, thin where some seeds have no circuit that small. Bands: the quartiles. "
    "Large markers: the Pareto front. Small markers: the other circuits. A circuit without any edge is drawn "
    "at one edge on a log axis."
)

Item = TypeVar("Item")


def curves(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = [Paragraph(KEY, quiet=True)]
    for number, (scene, group) in enumerate(findings.scenes.items()):
        blocks += [Heading(findings.titles[scene]), Paragraph(scene.details, quiet=True)]
        blocks.append(_chart(findings, number, scene, group))
        remarks = [text for curve in group for text in _remarks(curve, _limit(findings))]
        full = any((curve.num_edges >= scene.num_edges_total).any() for curve in group)
        if full and divergence_range(group)[0] > FLOOR:
            remarks.append("The circuit with all edges, which is the full model, lies below the y axis.")
        if remarks:
            blocks.append(Paragraph(" ".join(remarks), quiet=True))
    return blocks


def _chart(findings: Findings, number: int, scene: Scene, group: Sequence[Curve]) -> Chart:
    truth = next((t for t in map(findings.ground_truth, group) if t is not None), None)
    most = max(int(curve.num_edges.max()) for curve in group)
    empty = next((curve.empty for curve in group if np.isfinite(curve.empty)), None)
    data = {
        "divergence": chart_text(measured_in(scene.divergence)),
        "total": scene.num_edges_total,
        "floor": FLOOR,
        "epsilon": findings.epsilon,
        "empty": empty,
        "known": None if truth is None else len(truth),
        "ends": divergence_range(group),
        "methods": [_method(findings, curve, most) for curve in group],
    }
    legend = [Legend(c.method, findings.slots[c.method], count(len(c.all_seeds), "seed")) for c in group]
    description = (
        f"{scene.divergence} on the test examples against kept edges, {findings.titles[scene]}: "
        + ", ".join(curve.method for curve in group)
        + ". The table of Pareto fronts below holds the numbers."
    )
    return Chart(f"chart-curves-{number}", "pareto", description, data, legend)


def divergence_range(group: Sequence[Curve]) -> tuple[float, float]:
    """What a divergence axis shows: every circuit but those with all edges (the full model, at 0),
    and the empty circuit."""
    shown = np.concatenate([curve.test[curve.num_edges < curve.scene.num_edges_total] for curve in group])
    shown = np.append(shown, [curve.empty for curve in group])
    shown = shown[np.isfinite(shown)]
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (FLOOR, 1.0)
    return low, high


def _method(findings: Findings, curve: Curve, most: int) -> dict[str, Any]:
    on_front = [int(index) for index in curve.front]
    by_size = np.argsort(curve.num_edges, kind="stable").tolist()
    chosen = sorted({*on_front, *evenly(by_size, _limit(findings))})
    drawn = [index for index in chosen if np.isfinite(curve.test[index])]
    return {
        "name": chart_text(curve.method),
        "slot": findings.slots[curve.method],
        "seeds": len(curve.all_seeds),
        "band": _band(curve.bands, most),
        "points": {
            "edges": curve.num_edges[drawn],
            "test": curve.test[drawn],
            "validation": curve.validation[drawn],
            "text": [chart_text(_told(findings, curve, index)) for index in drawn],
            "front": [number for number, index in enumerate(drawn) if index in set(on_front)],
        },
    }


def _told(findings: Findings, curve: Curve, index: int) -> str:
    row = curve.rows[index]
    return f"{findings.about(row)} · trial {row['trial_id'][:8]}"


def _band(bands: Bands, most: int) -> dict[str, Any]:
    """The band up to `most` edges, without the budgets at which nothing changes; the last stays."""
    values = np.column_stack((bands.median, bands.quartile_1, bands.quartile_3, bands.num_seeds))
    keep = bands.budgets <= most
    keep[1:-1] &= (values[1:-1] != values[:-2]).any(axis=1) | (bands.budgets[1:-1] == most)
    return {
        "edges": bands.budgets[keep],
        "median": bands.median[keep],
        "low": bands.quartile_1[keep],
        "high": bands.quartile_3[keep],
        "seeds": bands.num_seeds[keep],
    }


def evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` (2 or more) of the items, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(place * (len(items) - 1) / (limit - 1))] for place in range(limit)]


def _limit(findings: Findings) -> int:
    """Circuits drawn per curve (besides its front), so that the page stays small."""
    curves = sum(len(group) for group in findings.scenes.values())
    return min(DRAWN, max(2, DRAWN_IN_ALL // curves))


def _remarks(curve: Curve, limit: int) -> list[str]:
    remarks = []
    lost = int((~np.isfinite(curve.test)).sum())
    if lost:
        told = f"{count(lost, 'circuit')} without a finite test divergence not drawn"
        remarks.append(f"{curve.method}: {told}.")
    if len(curve.rows) > limit:
        told = f"{limit} of {len(curve.rows):,} circuits drawn (and the front), all counted"
        remarks.append(f"{curve.method}: {told}.")
    return remarks
