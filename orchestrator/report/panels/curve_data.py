"""What the figures of curves draw: every metric of a scene, bands and circuits of each method, few digits.

Whatever the metric, a circuit is chosen by its validation divergence and its test value is shown.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.certainty import examples_band
from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in, words
from orchestrator.report.panels.blocks import chart_text
from orchestrator.report.published import SOURCES, PublishedPoint, matching, unlike
from orchestrator.report.scenes import Curve, Scene
from orchestrator.report.slots import with_others
from orchestrator.report.thinning import evenly
from orchestrator.statistics.bootstrap import FEWEST_SEEDS, median_over_seeds
from orchestrator.statistics.pareto import Bands, Floats, Ints, bands, edge_budgets, values_at
from trainers.evaluation.faithfulness import faithfulness
from trainers.metrics import METRICS

# Divergences below this are drawn at it: exact circuits have 0, and a logarithm has no place for it.
FLOOR = 1e-6
# Circuits drawn per curve and in the whole report, and budgets of a band; all others are in points.parquet.
DRAWN = 300
DRAWN_IN_ALL = 5000
BUDGETS = 240
DIGITS = 4

_NOT_METRICS = frozenset({"test_set"})  # a group column


def metrics_of(scene: Scene, group: Sequence[Curve]) -> list[str]:
    """Every metric that some circuit of the scene has on the test examples: its divergence first, then in
    the order of METRICS, then by name."""
    columns = {name for curve in group for row in curve.rows[:1] for name in row if name.startswith("test_")}
    named = sorted(
        column.removeprefix("test_")
        for column in columns - _NOT_METRICS
        if any(row[column] is not None for curve in group for row in curve.rows)
    )
    order = {name: place for place, name in enumerate((scene.divergence, *METRICS))}
    found = sorted(named, key=lambda name: order.get(name, len(order)))
    return found if scene.divergence in found else [scene.divergence, *found]


def values_of(curve: Curve, metric: str, part: str = "test") -> Floats:
    """Test values of a curve's circuits; `low_test` and `high_test` are the ends of their intervals."""
    if metric == curve.scene.divergence and part == "test":
        return curve.test
    rows = (row.get(f"{part}_{metric}") for row in curve.rows)
    return np.array([np.nan if value is None else value for value in rows], dtype=np.float64)


def higher_is_better(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].higher_is_better


def described(findings: Findings, scene: Scene, group: Sequence[Curve], metric: str) -> dict[str, Any]:
    """A metric for the script: its name, direction and ends; `full` and `empty` are its values of the full
    model and the empty circuit, medians over the trials, which measure them each."""
    is_divergence = metric == scene.divergence or (metric in METRICS and METRICS[metric].divergence)
    full, empty = (_reference(findings, group, metric, which) for which in ("full", "empty"))
    if metric == scene.divergence:
        full, empty = 0.0, _median([curve.empty for curve in group])
    low, high = value_range(group, metric, [empty] if is_divergence else [full, empty])
    f = faithfulness(full, full, empty)
    return {
        "name": chart_text(measured_in(metric)),
        "short": chart_text(words(metric)),
        "better": "lower" if is_divergence else "higher" if higher_is_better(metric) else "",
        "log": is_divergence,
        "full": full,
        "empty": empty,
        "f": bool(np.isfinite(f)),
        "ends": (low, high),
    }


def _reference(findings: Findings, group: Sequence[Curve], metric: str, which: str) -> float:
    trials = {row["trial_id"]: None for curve in group for row in curve.rows}
    found = [
        json.loads(findings.trials[trial][which] or "{}").get("test", {}).get(metric) for trial in trials
    ]
    return _median([float(value) for value in found if value is not None])


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else float("nan")


def value_range(group: Sequence[Curve], metric: str, references: Sequence[float]) -> tuple[float, float]:
    """What an axis of the metric shows: the references, and every circuit but those with all edges, which
    are the full model."""
    shown = [values_of(curve, metric)[curve.num_edges < curve.scene.num_edges_total] for curve in group]
    values = np.concatenate([*shown, np.asarray(references, dtype=np.float64)])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (FLOOR, 1.0)


def divergence_range(group: Sequence[Curve]) -> tuple[float, float]:
    """What a divergence axis shows."""
    return value_range(group, group[0].scene.divergence, [curve.empty for curve in group])


def method_data(findings: Findings, curve: Curve, metrics: Sequence[str], most: int) -> dict[str, Any]:
    """A method's curve: a band, and circuits with their `values` by metric (None: not measured) and the ends
    of the intervals of those on the front. What is said of a trial is there once, by number."""
    on_front = [int(index) for index in curve.front]
    by_size = np.argsort(curve.num_edges, kind="stable").tolist()
    chosen = sorted({*on_front, *evenly(by_size, drawn_per_curve(findings))})
    drawn = [index for index in chosen if np.isfinite(curve.test[index])]
    front = [number for number, index in enumerate(drawn) if index in set(on_front)]
    trials = list(dict.fromkeys(curve.rows[index]["trial_id"] for index in drawn))
    number = {trial: at for at, trial in enumerate(trials)}
    best = [drawn[at] for at in front]
    measured = [values_of(curve, metric) for metric in metrics]
    return {
        "name": chart_text(curve.method),
        "slot": findings.slots[curve.method],
        "seeds": len(curve.all_seeds),
        "band": band_data(findings, curve, metrics, most),
        "trials": [chart_text(_told(findings, trial)) for trial in trials],
        "points": {
            "edges": curve.num_edges[drawn],
            "validation": short(curve.validation[drawn]),
            "trial": [number[curve.rows[index]["trial_id"]] for index in drawn],
            "front": front,
            "values": [short(own[drawn]) if np.isfinite(own).any() else None for own in measured],
            "ends": [
                [short(values_of(curve, metric, f"{end}_test")[best]) for end in ("low", "high")]
                if np.isfinite(values_of(curve, metric, "low_test")[best]).any()
                else None
                for metric in metrics
            ],
        },
    }


def _told(findings: Findings, trial_id: str) -> str:
    return f"{findings.about(findings.trials[trial_id])} · trial {trial_id[:8]}"


def band_data(findings: Findings, curve: Curve, metrics: Sequence[str], most: int) -> dict[str, Any]:
    """Bands of all metrics up to `most` edges, at the budgets at which some seed's circuit is another one
    (and the last), so that all else is constant from one to the next. Of more than BUDGETS such budgets as
    many, evenly spaced: `of` says how many there are.

    `values` holds, by metric, its median over seeds; with several seeds also `low`, `high` (quartiles),
    `min`, `max`; with FEWEST_SEEDS `below`, `above`: the ends of the 95 % bootstrap interval over seeds of
    the median, at budgets that so many seeds have; where the trials stored their values by example also
    `from`, `to`: the ends of the 95 % bootstrap interval over the test examples of the median. Of a single
    seed that is the interval its trial measured, which is there without stored values, too.
    """
    budgets = edge_budgets(curve.scene.num_edges_total, curve.num_edges)
    budgets = budgets[budgets <= most]
    by_metric = {metric: _bands(curve, values_of(curve, metric), metric, budgets) for metric in metrics}
    whole = by_metric[curve.scene.divergence]
    changes = _changes(curve.choices(whole.budgets))
    keep = np.array(evenly(changes, BUDGETS), dtype=np.int64)
    several = len(curve.all_seeds) > 1
    values: list[dict[str, Floats] | None] = []
    for metric, found in by_metric.items():
        if not np.isfinite(found.median).any():
            values.append(None)
            continue
        told = {"median": found.median}
        if several:
            told |= {"low": found.quartile_1, "high": found.quartile_3}
            told |= {"min": found.minimum, "max": found.maximum}
        told = {key: array[keep] for key, array in told.items()}
        if len(curve.all_seeds) >= FEWEST_SEEDS:
            told["below"], told["above"] = _over_seeds(curve, metric, found.budgets[keep])
        ends = _over_examples(findings, curve, metric, found.budgets[keep])
        if ends is not None and np.isfinite(ends[0]).any():
            told["from"], told["to"] = ends
        values.append({key: short(array) for key, array in told.items()})
    budget = {"edges": whole.budgets[keep], "of": len(changes), "seeds": whole.num_seeds[keep]}
    return budget | {"values": values}


def _bands(curve: Curve, values: Floats, metric: str, budgets: Ints) -> Bands:
    """Bands of any metric: a chosen circuit whose value is not finite is infinitely bad."""
    sign = -1.0 if higher_is_better(metric) else 1.0
    found = bands(sign * values, curve.choices(budgets), budgets)
    if sign > 0:
        return found
    return Bands(
        found.budgets,
        -found.median,
        -found.quartile_3,
        -found.quartile_1,
        -found.maximum,
        -found.minimum,
        found.num_seeds,
    )


def _over_seeds(curve: Curve, metric: str, budgets: Ints) -> tuple[Floats, Floats]:
    """Ends of the interval of the median; a chosen circuit whose value is not finite is infinitely bad."""
    values = values_of(curve, metric)
    values = np.where(np.isfinite(values), values, -np.inf if higher_is_better(metric) else np.inf)
    return median_over_seeds(values_at(values, curve.choices(budgets)))


def _over_examples(
    findings: Findings, curve: Curve, metric: str, budgets: Ints
) -> tuple[Floats, Floats] | None:
    """Ends of the interval over examples of the median over seeds; None where it is not known."""
    if len(curve.all_seeds) > 1:
        return examples_band(findings, curve, metric, budgets)
    rows = curve.choices(budgets)[0]
    low, high = (values_of(curve, metric, f"{end}_test") for end in ("low", "high"))
    return low[rows], high[rows]


def _changes(choices: Ints) -> list[int]:
    """Places in `choices` [seeds, budgets] at which some seed's choice changes, the first and the last."""
    changed = np.ones(choices.shape[1], dtype=bool)
    changed[1:-1] = (choices[:, 1:-1] != choices[:, :-2]).any(axis=0)
    return np.flatnonzero(changed).tolist()


def published_beside(
    findings: Findings, scene: Scene, group: Sequence[Curve], metrics: Sequence[str]
) -> tuple[list[PublishedPoint], list[str]]:
    """The published points of a scene that have some of these metrics, and what must be said beside them:
    how they differ from the scene's, and their sources."""
    spec = json.loads(trials_of(findings, group[0])[0]["spec"] or "{}")
    spec = spec if isinstance(spec, dict) else {}
    of_task = matching(scene, spec)
    points = [point for point in of_task if any(metric in point.metrics for metric in metrics)]
    if not points:
        return [], []
    sources = sorted({point.source for point in points})
    return points, [*unlike(scene, spec, points), *(f"{source}: {SOURCES[source]}." for source in sources)]


def published_data(
    findings: Findings, points: Sequence[PublishedPoint], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Published points by method and edge count, as the script draws them."""
    groups: dict[tuple[str, int | None], list[PublishedPoint]] = {}
    for point in points:
        groups.setdefault((point.method, point.num_edges_total), []).append(point)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -(item[0][1] or 0)))
    slots = published_slots(findings, [method for (method, _), _ in ordered])
    return [
        {
            "key": f"published-{number}",
            "name": chart_text(f"published: {method}"),
            "slot": slots[method],
            "of": total,
            "sparsity": [point.sparsity for point in group],
            "source": [point.source for point in group],
            "values": [
                [point.metrics.get(metric) for point in group]
                if any(metric in point.metrics for point in group)
                else None
                for metric in metrics
            ],
        }
        for number, ((method, total), group) in enumerate(ordered)
    ]


def published_slots(findings: Findings, methods: Sequence[str]) -> dict[str, int]:
    """The colour and marker of the method of that name, or else of none on the page."""
    return with_others(findings.slots, methods)


def drawn_per_curve(findings: Findings) -> int:
    """Circuits drawn per curve (besides its front), so that the page stays small."""
    curves = sum(len(group) for group in findings.scenes.values())
    return min(DRAWN, max(2, DRAWN_IN_ALL // curves))


def short(values: Floats) -> Floats:
    """Rounded to DIGITS significant digits: more than a figure shows."""
    return np.array([float(f"{value:.{DIGITS}g}") for value in values.tolist()], dtype=np.float64)


def trials_of(findings: Findings, curve: Curve) -> list[Mapping[str, Any]]:
    """The trials that a curve's circuits are of, as rows of the trials table."""
    return [findings.trials[trial] for trial in {row["trial_id"]: None for row in curve.rows}]
