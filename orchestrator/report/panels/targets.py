"""Target and achieved sparsity: a target that does not bind is a known fault of edge pruning."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.aims import TOLERANCE, aimed, missed
from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Chart, Column, Legend, Table, chart_text, folded
from orchestrator.report.scenes import Curve
from orchestrator.report.thinning import evenly
from orchestrator.wording import count, percent, shortest, significant

DRAWN = 1000  # circuits of one method and scene, at most


def has_targets(findings: Findings) -> bool:
    return any(aimed(curve) for group in findings.scenes.values() for curve in group)


def targets(findings: Findings) -> Sequence[Block]:
    groups = [
        (findings.titles[scene], curve, rows)
        for scene, group in findings.scenes.items()
        for curve in group
        if (rows := aimed(curve))
    ]
    methods = sorted({curve.method for _, curve, _ in groups})
    data = {
        "groups": [
            {
                "name": chart_text(f"{curve.method}, {title}"),
                "method": chart_text(curve.method),
                "slot": findings.slots[curve.method],
                "target": [row["target_sparsity"] for row in rows],
                "sparsity": [row["sparsity"] for row in rows],
                "text": [chart_text(f"{title} · {findings.about(row)}") for row in rows],
            }
            for title, curve, all_rows in groups
            for rows in (_drawn(all_rows),)
        ]
    }
    legend = [Legend(method, findings.slots[method]) for method in methods]
    chart = Chart(
        "chart-targets",
        "targets",
        f"Achieved against target sparsity; {_left_out(groups)}the table below holds the numbers",
        data,
        legend,
    )
    return [chart, folded(_summary(groups))]


def _drawn(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Of many circuits some of each target: a browser takes seconds over ten thousand."""
    if len(rows) <= DRAWN:
        return rows
    return evenly(sorted(rows, key=lambda row: (row["target_sparsity"], row["sparsity"])), DRAWN)


def _left_out(groups: Sequence[tuple[str, Curve, Sequence[Mapping[str, Any]]]]) -> str:
    circuits, drawn = (sum(map(len, of)) for of in ([g[2] for g in groups], [_drawn(g[2]) for g in groups]))
    return f"{drawn:,} of {circuits:,} circuits are drawn; " * (drawn < circuits)


def _summary(groups: Sequence[tuple[str, Curve, Sequence[Mapping[str, Any]]]]) -> Table:
    columns = [
        Column("Scene", long=True),
        Column("Method"),
        Column("Target", numeric=True),
        Column("Circuits", numeric=True),
        Column("Lowest sparsity", numeric=True),
        Column("Highest sparsity", numeric=True),
        Column("Largest distance", numeric=True),
        Column(f"Off by more than {TOLERANCE} and at least an edge", numeric=True),
    ]
    rows = []
    for title, curve, finals in groups:
        for target in sorted({row["target_sparsity"] for row in finals}):
            own = [row for row in finals if row["target_sparsity"] == target]
            achieved = sorted(row["sparsity"] for row in own)
            distances = [abs(value - target) for value in achieved]
            off = sum(missed(row) for row in own)
            bound = target < 1
            rows.append(
                [
                    title,
                    curve.method,
                    shortest(target),
                    count(len(achieved)),
                    percent(achieved[0]),
                    percent(achieved[-1]),
                    significant(max(distances), 2) if bound else "–",
                    count(off) if bound else "–",
                ]
            )
    return Table("Achieved sparsity per target", columns, rows)
