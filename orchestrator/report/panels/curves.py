"""Faithfulness against sparsity: one interactive figure per scene, and what its curves cost."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in, words
from orchestrator.report.panels.blocks import (
    Block,
    Chart,
    Choice,
    Column,
    Heading,
    Legend,
    Option,
    Paragraph,
    Switch,
    Table,
)
from orchestrator.report.panels.curve_data import FLOOR as FLOOR
from orchestrator.report.panels.curve_data import (
    described,
    drawn_per_curve,
    method_data,
    metrics_of,
    published_beside,
    published_data,
    trials_of,
)
from orchestrator.report.panels.curve_data import divergence_range as divergence_range
from orchestrator.report.scenes import Curve, Scene
from orchestrator.wording import count, duration

KEY = (
    "Lines: the median over seeds, thin where some seeds have no circuit that small. Large markers: the "
    "Pareto front. Small markers: the other circuits. A circuit without any edge is drawn at one edge on a "
    "log axis. Whatever is shown, circuits are chosen by their validation divergence. What the curves cost: "
    "sums over their trials; device time is a trial's wall time times its ranks, evaluation included, "
    "examples are those of the discovery alone."
)

VIEWS = (
    Choice("x", "Show", (Option("edges", "edges kept"), Option("sparsity", "sparsity"))),
    Choice("xscale", "x axis", (Option("log", "log"), Option("linear", "linear"))),
    Choice("yscale", "y axis", (Option("log", "log"), Option("linear", "linear"))),
)


def curves(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = [Paragraph(KEY, quiet=True)]
    for number, (scene, group) in enumerate(findings.scenes.items()):
        blocks += [Heading(findings.titles[scene]), Paragraph(scene.details, quiet=True)]
        chart, told = _chart(findings, number, scene, group)
        blocks.append(chart)
        for remarks in (told, _remarks(group, drawn_per_curve(findings))):
            if remarks:
                blocks.append(Paragraph(" ".join(remarks), quiet=True))
        blocks.append(_costs(findings, scene, group))
    return blocks


def _chart(findings: Findings, number: int, scene: Scene, group: Sequence[Curve]) -> tuple[Chart, list[str]]:
    """The figure, and what must be said beside it."""
    truth = next((t for t in map(findings.ground_truth, group) if t is not None), None)
    most = max(int(curve.num_edges.max()) for curve in group)
    names = metrics_of(scene, group)
    metrics = [described(findings, scene, group, name) for name in names]
    points, about_published = published_beside(findings, scene, group, names)
    overlaid = published_data(findings, points, names)
    data = {
        "total": scene.num_edges_total,
        "floor": FLOOR,
        "epsilon": findings.epsilon(scene),
        "known": None if truth is None else len(truth),
        "metrics": metrics,
        "methods": [method_data(findings, curve, names, most) for curve in group],
        "published": overlaid,
    }
    legend = [Legend(c.method, findings.slots[c.method], count(len(c.all_seeds), "seed")) for c in group]
    legend += [
        Legend(f"published: {points_of}", item["slot"], note, item["key"], hollow=True)
        for item in overlaid
        for points_of, note in [_published_legend(scene, item)]
    ]
    several = any(len(curve.all_seeds) > 1 for curve in group)
    controls = (
        _metric_choice(names, metrics),
        *VIEWS,
        _band_choice(data, several),
        Switch("front", "staircase front"),
    )
    description = (
        f"{measured_in(scene.divergence)} on the test examples against kept edges, {findings.titles[scene]}: "
        + ", ".join(curve.method for curve in group)
        + ". The tables of Pareto fronts hold the numbers."
    )
    chart = Chart(f"chart-curves-{number}", "pareto", description, data, legend, controls)
    hollow = ["Hollow markers: published circuits."] * bool(overlaid)
    return chart, [*_thinned_bands(data), *hollow, *about_published]


def _thinned_bands(data: Mapping[str, Any]) -> list[str]:
    bands = {drawn["name"]: (len(drawn["band"]["edges"]), drawn["band"]["of"]) for drawn in data["methods"]}
    return [
        f"{name}: the band changes at {drawn} of the {total:,} sizes at which a seed's circuit does."
        for name, (drawn, total) in bands.items()
        if drawn < total
    ]


def _published_legend(scene: Scene, item: Mapping[str, Any]) -> tuple[str, str]:
    """The method, and which edges its source counts where they are not the scene's."""
    method = str(item["name"]).removeprefix("published: ")
    sources = ", ".join(sorted(set(item["source"])))
    if item["of"] is None:
        return method, f"{sources}; of an unknown number of edges: against sparsity only"
    other = "" if item["of"] == scene.num_edges_total else f", here {scene.num_edges_total:,}"
    return method, f"{sources}; of {item['of']:,} edges{other}"


def _metric_choice(names: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> Choice:
    """By number; `f` before it: normalised."""
    options = [Option(str(at), measured_in(name), "On the test examples") for at, name in enumerate(names)]
    options += [
        Option(f"f{at}", f"f of {words(name)}", "Normalised: 0 empty circuit, 1 full model")
        for at, (name, metric) in enumerate(zip(names, metrics, strict=True))
        if metric["f"]
    ]
    return Choice("metric", "Metric", options, as_list=True)


def _band_choice(data: Mapping[str, Any], several: bool) -> Choice:
    """With one seed the interval over examples is the only band, but not the first thing to see."""
    values = [value for method in data["methods"] for value in method["band"]["values"] if value]
    over_seeds = [Option("quartiles", "quartiles", "Over seeds"), Option("range", "range", "Over seeds")]
    if any(np.isfinite(value["below"]).any() for value in values if "below" in value):
        over_seeds.append(Option("seeds", "95 % bootstrap over seeds", "Over seeds"))
    bars = [ends for method in data["methods"] for ends in method["points"]["ends"]]
    measured = any("from" in value for value in values) or any(ends is not None for ends in bars)
    told = "95 % bootstrap over examples"
    over_examples = [Option("examples", told, "Over test examples")] if measured else []
    none = [Option("none", "none")]
    options = [*over_seeds, *over_examples, *none] if several else [*none, *over_examples]
    return Choice("band", "Band", options, as_list=True)


def _costs(findings: Findings, scene: Scene, group: Sequence[Curve]) -> Table:
    """What the trials of each curve took to find their circuits."""
    columns = [
        Column("Method"),
        *(Column(name, numeric=True) for name in ("Seeds", "Trials", "Circuits", "Steps")),
        *(Column(name, numeric=True) for name in ("Examples forward", "Examples backward")),
        *(Column(name, numeric=True) for name in ("Device time", "CPU time")),
    ]
    rows = []
    for curve in group:
        trials = trials_of(findings, curve)
        rows.append(
            [
                curve.method,
                count(len(curve.all_seeds)),
                count(len(trials)),
                count(len(curve.rows)),
                count(sum(trial["steps"] or 0 for trial in trials)),
                *(_total(trials, name) for name in ("examples", "backward_examples")),
                duration(sum(device_seconds(trial) for trial in trials)),
                duration(sum(trial["cpu_seconds"] or 0.0 for trial in trials)),
            ]
        )
    return Table(f"What the curves cost, {findings.titles[scene]}", columns, rows)


def _total(trials: Sequence[Mapping[str, Any]], name: str) -> str:
    """The sum, or what is known of it."""
    known = [trial[name] for trial in trials if trial[name] is not None]
    if not known:
        return "–"
    return count(sum(known)) + (f" in {len(known)} of {len(trials)}" if len(known) < len(trials) else "")


def device_seconds(trial: Mapping[str, Any]) -> float:
    """Wall time of the trial's last attempt times its ranks, each of which holds a device; evaluation
    included."""
    ranks = json.loads(trial["execution"] or "{}").get("ranks")
    return (trial["seconds"] or 0.0) * (ranks if isinstance(ranks, int) else 1)


def _remarks(group: Sequence[Curve], limit: int) -> list[str]:
    """What is not drawn; methods of which the same is to be said together."""
    told: dict[str, list[str]] = {}
    for curve in group:
        lost = int((~np.isfinite(curve.test)).sum())
        if lost:
            text = f"{count(lost, 'circuit')} without a finite test divergence not drawn"
            told.setdefault(text, []).append(curve.method)
        if len(curve.rows) > limit:
            text = f"{limit} of {len(curve.rows):,} circuits drawn (and the front), all counted"
            told.setdefault(text, []).append(curve.method)
    return [f"{', '.join(methods)}: {text}." for text, methods in told.items()]
