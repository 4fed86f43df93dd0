"""The Pareto fronts as CSV."""

import csv
import io
import math

from orchestrator.report.findings import Findings
from orchestrator.wording import inert

FRONT_COLUMNS = (
    "model",
    "task",
    "test_set",
    "ablation",
    "edge_convention",
    "method",
    "divergence",
    "hypervolume",
    "num_edges",
    "num_edges_total",
    "num_edges_connected",
    "sparsity",
    "divergence_validation",
    "divergence_test",
    "divergence_empty",
    "truth_precision",
    "truth_recall",
    "seed",
    "trial_id",
    "point",
    "circuit",
    "settings",
)


def front_csv(findings: Findings) -> str:
    """All fronts, one circuit a line, fewest edges first within a group; empty = not known."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FRONT_COLUMNS)
    for curve in (curve for group in findings.scenes.values() for curve in group):
        for index in curve.front:
            row = dict(curve.rows[int(index)])
            row["hypervolume"] = curve.hypervolume if math.isfinite(curve.hypervolume) else None
            row["settings"] = findings.settings.get(row["trial_id"])
            cells = ("" if (value := row[name]) is None else value for name in FRONT_COLUMNS)
            writer.writerow(inert(cell) if isinstance(cell, str) else cell for cell in cells)
    return text.getvalue()
