"""report.json: the report for scripts. docs/report.md documents every key."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.records.tables import TABLES_SCHEMA
from orchestrator.report.certainty import (
    CommonHypervolumes,
    common_hypervolumes,
    hypervolume_certainty,
    knee_certainty,
)
from orchestrator.report.comparisons import Pair, comparisons
from orchestrator.report.figures import Drawn
from orchestrator.report.figures.plot import FORMATS
from orchestrator.report.findings import Findings
from orchestrator.report.panels.comparison import verdict
from orchestrator.report.panels.faithfulness import curve_areas, metrics_with_faithfulness, smallest_budgets
from orchestrator.report.panels.trouble import warned
from orchestrator.report.scenes import Curve, Scene

# Raise when a key changes its name, type or meaning, or goes. A new key leaves it as it is.
REPORT_SCHEMA = 4

_CIRCUIT = (
    *("num_edges", "num_edges_connected", "sparsity", "divergence_validation", "divergence_test"),
    *("truth_precision", "truth_recall", "seed", "trial_id", "point", "circuit"),
)
_SUMS = ("steps", "examples", "backward_examples", "seconds", "cpu_seconds")

Json = dict[str, Any]


def summary(findings: Findings, drawn: Drawn) -> Json:
    """Plain JSON values; what is not known or not finite is None."""
    results = findings.results
    states = Counter(row["status"] for row in findings.trials.values())
    return _plain(
        {
            "format": "circuit-sweep/report",
            "schema": REPORT_SCHEMA,
            "tables_schema": TABLES_SCHEMA,
            "sweeps": [
                {
                    "name": sweep.name,
                    "question": sweep.question,
                    "epsilon": sweep.epsilon,
                    "faithfulness": sweep.faithfulness,
                    "trials": len(sweep.trial_ids),
                }
                for sweep in results.sweeps
            ],
            "trials": {
                "all": len(findings.trials),
                **{name: states[name] for name in ("complete", "failed", "unreadable", "unfinished")},
            },
            "circuits": results.points.num_rows,
            "scenes": [_scene(findings, scene, group) for scene, group in findings.scenes.items()],
            "failures": [
                {"trial_id": row["trial_id"], "status": row["status"], "error": row["error"]}
                for row in findings.with_status("failed", "unreadable")
            ],
            "warnings": _warnings(findings),
            "versions": _versions(findings),
            "figures": _figures(drawn),
            "figures_left_out": [f"{kind.title}: {plot.title}" for kind, plot in drawn.left_out],
        }
    )


def summary_text(content: Json) -> str:
    """Sorted keys, no NaN (which is not JSON): the same content gives the same text."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _scene(findings: Findings, scene: Scene, group: Sequence[Curve]) -> Json:
    truth = next((known for known in map(findings.ground_truth, group) if known is not None), None)
    shared = common_hypervolumes(group)
    return vars(scene) | {
        "title": findings.titles[scene],
        "epsilon": findings.epsilon(scene),
        "divergence_empty": group[0].empty,
        "num_edges_truth": None if truth is None else len(truth),
        "methods": [_method(findings, curve, shared) for curve in group],
        "common_budgets": [int(budget) for budget in shared.budgets[[0, -1]]]
        if shared.budgets.size
        else None,
        "comparisons": [_comparison(pair) for pair in comparisons(findings, group)] if len(group) > 1 else [],
    }


def _method(findings: Findings, curve: Curve, shared: CommonHypervolumes) -> Json:
    sparsest = curve.sparsest(findings.epsilon(curve.scene))
    return {
        "method": curve.method,
        "seeds": curve.all_seeds,
        "seeds_run": findings.seeds_run(curve),
        "circuits": len(curve.rows),
        "front": [_circuit(findings, curve.rows[int(index)]) for index in curve.front],
        "hypervolume": curve.hypervolume,
        "hypervolume_over_common_budgets": shared.mean(curve.method),
        "hypervolume_over_seeds": _hypervolume(findings, curve),
        "knee": None if curve.knee is None else _circuit(findings, curve.rows[curve.knee]),
        "knee_over_seeds": None if (found := knee_certainty(findings, curve)) is None else asdict(found),
        "areas": curve_areas(findings, curve),
        "faithful_from": _faithful_from(curve),
        "sparsest": [_circuit(findings, curve.rows[index]) for index in sparsest.values()],
        "cost": _cost(findings, curve),
    }


def _circuit(findings: Findings, row: Mapping[str, Any]) -> Json:
    settings = findings.settings.get(row["trial_id"], "")
    return {name: row[name] for name in _CIRCUIT} | {"settings": settings}


def _hypervolume(findings: Findings, curve: Curve) -> Json:
    """The mean over seeds with its intervals: null where there are none, with the reason."""
    return asdict(hypervolume_certainty(findings, curve))


def _faithful_from(curve: Curve) -> Json:
    """By metric and tolerance, each seed's smallest budget from which on it is faithful."""
    return {
        metric: {
            f"{tolerance:.2f}": [
                {"seed": seed, **asdict(one)} for seed, one in zip(curve.all_seeds, found, strict=True)
            ]
            for tolerance, found in smallest_budgets(curve, metric).items()
        }
        for metric in metrics_with_faithfulness([curve])
    }


def _comparison(pair: Pair) -> Json:
    """Two methods of a scene; where they cannot be compared, only their names and why."""
    told: Json = {
        "first": pair.one.method,
        "second": pair.other.method,
        "better": pair.winner and pair.winner.method,
        "verdict": verdict(pair),
    }
    compared = pair.comparison
    if compared is None:
        return told
    ends = {name: getattr(compared, name) for name in ("seeds", "examples", "both")}
    test = compared.significance
    return told | {
        "edge_budgets": [int(budget) for budget in pair.budgets[[0, -1]]],
        "seeds": [None if sample.fixed else len(sample.seeds) for sample in pair.samples],
        "paired": compared.paired,
        "mean_difference": compared.mean,
        "first_better_share": compared.better,
        **{f"interval_{name}": one and asdict(one) for name, one in ends.items()},
        "why_no_examples": pair.no_examples,
        "p": test and test.p,
        "p_corrected": pair.p,
        "p_smallest": test and test.smallest,
    }


def _cost(findings: Findings, curve: Curve) -> Json:
    """Sums over the trials behind a curve's circuits; null where a trial did not count."""
    trials = [findings.trials[trial_id] for trial_id in {row["trial_id"]: None for row in curve.rows}]
    sums = {
        name: None if any(row[name] is None for row in trials) else sum(row[name] for row in trials)
        for name in _SUMS
    }
    peaks = [row["peak_memory_bytes"] for row in trials if row["peak_memory_bytes"] is not None]
    return {"trials": len(trials), "peak_memory_bytes": max(peaks, default=None)} | sums


def _warnings(findings: Findings) -> list[Json]:
    told: dict[tuple[str, str], list[str]] = {}
    for where, what, trial_ids in warned(findings):
        told.setdefault((where, what), []).extend(trial_ids)
    return [{"where": where, "what": what, "trials": ids} for (where, what), ids in told.items()]


def _versions(findings: Findings) -> Json:
    """Name -> value -> how many of the trials that ended had it."""
    counted: dict[str, Counter[str]] = {}
    for row in findings.with_status("complete", "failed"):
        own = json.loads(row["versions"] or "{}") | {"circuit-sweep": row["code"] or "not recorded"}
        for name, value in own.items():
            counted.setdefault(name, Counter())[str(value)] += 1
    return {name: dict(values) for name, values in counted.items()}


def _figures(drawn: Drawn) -> list[Json]:
    return [
        {
            "kind": kind.key,
            "title": plot.title,
            "caption": f"{kind.caption} {plot.details}",
            "data": f"figures/{plot.slug}.csv",
            "files": [f"figures/{plot.slug}.{ending}" for ending in FORMATS],
        }
        for kind, plot in drawn.plots
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
