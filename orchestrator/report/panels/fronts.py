"""The Pareto fronts as tables, with their hypervolume."""

from collections.abc import Sequence

import numpy as np

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import Block, Column, Details, Heading, Paragraph, Table
from orchestrator.report.scenes import Curve
from orchestrator.wording import count, percent, shortest, significant, spread

# Fronts of up to this many circuits are shown open.
SHORT = 6


def fronts(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = [_summary(findings)]
    for scene, group in findings.scenes.items():
        blocks.append(Heading(findings.titles[scene]))
        for curve in group:
            size = len(curve.front)
            summary = f"{curve.method}: {count(size, 'circuit')} on the front"
            summary += f", hypervolume {_share(curve.hypervolume)}"
            blocks.append(Details(summary, [_front(findings, curve)], open=size <= SHORT))
    return blocks


def _summary(findings: Findings) -> Table:
    epsilon = shortest(findings.epsilon)
    columns = [
        Column("Scene", long=True),
        Column("Method"),
        Column("Seeds", numeric=True),
        Column("Circuits", numeric=True),
        Column("On the front", numeric=True),
        Column("Hypervolume", numeric=True),
        Column(f"Sparsest with divergence ≤ {epsilon}: edges, median over seeds (range)", numeric=True),
        Column("Empty circuit's divergence", numeric=True),
    ]
    rows = []
    for scene, group in findings.scenes.items():
        for curve in sorted(group, key=lambda curve: -np.nan_to_num(curve.hypervolume, nan=-1.0)):
            sparsest = [int(curve.num_edges[index]) for index in curve.sparsest(findings.epsilon).values()]
            rows.append(
                [
                    findings.titles[scene],
                    curve.method,
                    count(len(curve.all_seeds)),
                    count(len(curve.rows)),
                    count(len(curve.front)),
                    _share(curve.hypervolume),
                    spread(sparsest) + f", on {len(sparsest)} of {findings.seeds_run(curve)}",
                    significant(curve.empty),
                ]
            )
    return Table("Hypervolume and sparsest faithful circuits per method", columns, rows)


def _front(findings: Findings, curve: Curve) -> Table | Paragraph:
    if not len(curve.front):
        return Paragraph("No circuit has a finite validation divergence.", quiet=True)
    divergence = words(curve.scene.divergence)
    measured = sorted({name for row in curve.rows for name in row if row[name] is not None})
    others = [name for name in measured if name.startswith("test_") and name not in _HIDDEN]
    others = [name for name in others if name != f"test_{curve.scene.divergence}"]
    columns = [
        *(Column(name, numeric=True) for name in ("Edges", "Connected", "Sparsity")),
        Column(f"{divergence}, validation", numeric=True),
        Column(f"{divergence}, test", numeric=True),
        *(Column(words(name.removeprefix("test_")), numeric=True) for name in others),
        Column("Settings", long=True),
        Column("Trial", code=True),
    ]
    rows = []
    for index in curve.front:
        row = curve.rows[int(index)]
        rows.append(
            [
                count(row["num_edges"]),
                count(row["num_edges_connected"]),
                percent(row["sparsity"]),
                significant(row["divergence_validation"]),
                significant(row["divergence_test"]),
                *(significant(row[name]) for name in others),
                findings.about(row),
                row["trial_id"],
            ]
        )
    return Table(f"Pareto front of {curve.method}", columns, rows)


_HIDDEN = frozenset({"test_set"})  # a group column, not a metric


def _share(hypervolume: float) -> str:
    return f"{hypervolume:.3f}" if np.isfinite(hypervolume) else "–"
