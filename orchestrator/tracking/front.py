"""What a sweep's run in MLflow is told of its front, as plain values. No MLflow here.

Metrics `hypervolume/SCENE/METHOD` and `sparsest_faithful_edges/SCENE/METHOD` (median over seeds), at the
step that is the number of trials that were over; `front.json`, the circuits on the fronts, as a table in
MLflow's own format; and the report.
"""

import hashlib
import json
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve
from orchestrator.tracking.values import Metric, metric_name
from trainers.folder import Folder

FRONT = "front.json"
REPORT = ("report.html", "report.json", "pareto.png")
COLUMNS = (
    "scene", "method", "num_edges", "divergence_test", "divergence", "divergence_validation", "sparsity",
    "settings", "seed", "trial_id",
)  # fmt: skip


@dataclass(frozen=True)
class Front:
    """`fingerprint` tells whether MLflow has it already: it is of all trials and circuits read, and
    of the table."""

    metrics: Sequence[Metric]
    table: bytes  # FRONT
    fingerprint: str

    @classmethod
    def of(cls, results: Results) -> "Front":
        findings = Findings.of(results)
        over = len(findings.trials) - len(findings.with_status("unfinished"))
        found: list[Metric] = []
        rows: list[list[Any]] = []
        for scene, group in findings.scenes.items():
            for curve in group:
                name = f"{findings.titles[scene]}/{curve.method}"
                found += [
                    (metric_name(f"{what}/{name}"), value, over) for what, value in _values(curve, findings)
                ]
                rows += [_row(findings, curve, int(index)) for index in curve.front]
        table = json.dumps({"columns": COLUMNS, "data": rows}).encode()
        return cls(found, table, _fingerprint(results, table))


def report_files(results: Results) -> dict[str, bytes]:
    """The report without its figures, made anew; takes seconds. Name -> content of what MLflow gets."""
    from orchestrator.report.publish import write_files

    with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
        write_files(results, Path(scratch, "report"), figures=False)
        return read_report(Folder.open(Path(scratch, "report")))


def read_report(folder: Folder) -> dict[str, bytes]:
    """The same of a report that was written to `folder`."""
    contents = {name: folder.read(name) for name in REPORT}
    return {name: content for name, content in contents.items() if content is not None}


def _values(curve: Curve, findings: Findings) -> list[tuple[str, float]]:
    values = [("hypervolume", curve.hypervolume)] if math.isfinite(curve.hypervolume) else []
    sparsest = [float(curve.num_edges[row]) for row in curve.sparsest(findings.epsilon(curve.scene)).values()]
    return values + ([("sparsest_faithful_edges", statistics.median(sparsest))] if sparsest else [])


def _row(findings: Findings, curve: Curve, index: int) -> list[Any]:
    row: Mapping[str, Any] = curve.rows[index]
    added = {
        "scene": findings.titles[curve.scene],
        "settings": findings.settings.get(row["trial_id"], ""),
    }
    return [_plain(added.get(name, row.get(name))) for name in COLUMNS]


def _plain(value: Any) -> Any:
    """A cell of the table: six significant digits, nothing for what is not finite."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _fingerprint(results: Results, table: bytes) -> str:
    content = json.dumps([results.trials.to_pylist(), results.points.to_pylist()], default=str)
    return hashlib.sha256(content.encode() + table).hexdigest()[:16]
