"""Rows: trial records -> the rows of the two tables (tables.py says what the columns mean)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from orchestrator.records.namesakes import told_apart
from orchestrator.records.sweep_record import SweepRecord
from orchestrator.records.tables import POINT_COLUMNS, TRIAL_COLUMNS, table
from orchestrator.records.trial_record import TrialRecord
from trainers.evaluation.faithfulness import faithfulness_by_metric
from trainers.result import Point, TrialResult


def tables(
    records: Sequence[TrialRecord],
    sweeps: Sequence[SweepRecord],
    metrics: Mapping[str, str],
) -> tuple[pa.Table, pa.Table]:
    """Trials and points. `metrics` names, by trial id, the metric that a trial's circuits are judged by,
    where it is not its own divergence."""
    asked: dict[str, list[str]] = {}
    for sweep in sweeps:
        for trial_id in sweep.trial_ids:
            asked.setdefault(trial_id, []).append(sweep.name)
    names = told_apart(records)
    trial_rows, point_rows = [], []
    for record in records:
        own = {"sweeps": asked.get(record.trial_id, [])}
        if record.result is None or record.result.group is None:
            group: dict[str, Any] = {}
        else:
            group = record.result.group.model_dump() | names.get(record.trial_id, {})
        trial_rows.append(_trial_row(record) | group | own)
        if record.result is not None:
            metric = metrics.get(record.trial_id, record.result.divergence)
            point_rows += [
                group | own | _point_row(record.result, point, metric) | _method(group, point)
                for point in record.result.points
            ]
    plain = {column.name for column in POINT_COLUMNS}
    measured = sorted({name for row in point_rows for name in row} - plain)
    return (
        table(trial_rows, TRIAL_COLUMNS, [], "trials"),
        table(point_rows, POINT_COLUMNS, measured, "points"),
    )


def _method(group: Mapping[str, Any], point: Point) -> dict[str, str]:
    """Sizes that a ranking was not run for are a curve of their own."""
    return {"method": f"{group['method']} (ranking)"} if point.kind == "ranking" and group else {}


def _trial_row(record: TrialRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "trial_id": record.trial_id,
        "status": record.status,
        "error": record.error,
        "num_points": 0,
    }
    if record.spec is not None:
        seed = record.spec.get("seed")
        row |= {"spec": _json(record.spec), "seed": seed if isinstance(seed, int) else None}
    result = record.result
    if result is None:
        return row
    same = (
        "seed divergence num_edges_total steps examples backward_examples seconds cpu_seconds "
        "peak_memory_bytes started finished warnings result_schema test_values"
    )
    nested = (
        *("full", "empty", "areas", "num_examples", "execution", "versions", "ground_truth"),
        "gate_histogram",
    )
    truth, code = result.ground_truth, result.execution.get("code")
    return (
        row
        | {name: getattr(result, name) for name in same.split()}
        | {name: None if (value := getattr(result, name)) is None else _json(value) for name in nested}
        | {
            "num_points": len(result.points),
            "in_sample": result.tested_in_sample,
            "num_edges_truth": None if truth is None else len(truth),
            "code": None if code is None else str(code),
        }
    )


def _point_row(result: TrialResult, point: Point, metric: str | None) -> dict[str, Any]:
    row = point.model_dump(exclude={"metrics", "intervals"})
    row |= {"trial_id": result.trial_id, "seed": result.seed, "divergence": metric}
    for split, metrics in point.metrics.items():
        row |= {f"{split}_{name}": value for name, value in metrics.items()}
    for split, ends in point.intervals.items():
        row |= {f"low_{split}_{name}": low for name, (low, _) in ends.items()}
        row |= {f"high_{split}_{name}": high for name, (_, high) in ends.items()}
    normalised = faithfulness_by_metric(
        *(of.get("test", {}) for of in (point.metrics, result.full, result.empty))
    )
    row |= {f"faithfulness_{name}": value for name, value in normalised.items()}
    if metric is not None:
        row["divergence_validation"] = point.metrics.get("validation", {}).get(metric)
        row["divergence_test"] = point.metrics.get("test", {}).get(metric)
        row["divergence_empty"] = result.empty.get("test", {}).get(metric)
    return row


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
