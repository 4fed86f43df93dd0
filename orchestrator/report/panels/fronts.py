"""The Pareto fronts as tables, with their hypervolume."""

from collections.abc import Sequence

import numpy as np

from orchestrator.report.certainty import KneeCertainty, hypervolume_certainty, knee_certainty
from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import Block, Column, Details, Heading, Paragraph, Table
from orchestrator.report.scenes import Curve
from orchestrator.statistics.bootstrap import Interval
from orchestrator.wording import count, interval, percent, shortest, significant, spread

# Fronts of up to this many circuits are shown open.
SHORT = 6

KNEE_COLUMNS = (
    "Knee: edges",
    "Knee: edges, 95 % over seeds",
    "Knee: divergence",
    "Knee: divergence, 95 % over seeds",
)
VOLUMES = (
    "Hypervolume of a seed: of its own circuits alone, mean over seeds; the table above takes all seeds "
    "together, which is the best of them. 95 % bootstrap intervals: over seeds, other seeds on these "
    "examples; over examples, other test examples for these circuits; both at once. With few seeds an "
    "interval over them is too narrow: with 2 or 3 it is at most their range."
)
KNEES = (
    "Knee: the circuit of the front farthest below the chord between its ends, log10 of the edges against "
    "validation divergence, both scaled to the front's range (Kneedle, Satopää et al. 2011); none where the "
    "front has fewer than three circuits or does not bend that way. Its divergence is that on the test "
    "examples; its interval: the fronts of seeds drawn anew."
)


def fronts(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = [_summary(findings), *_certainty(findings)]
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
        for curve in _largest_first(group):
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


def _largest_first(group: Sequence[Curve]) -> list[Curve]:
    return sorted(group, key=lambda curve: -np.nan_to_num(curve.hypervolume, nan=-1.0))


def _certainty(findings: Findings) -> list[Block]:
    """Hypervolume per seed and the knee, with intervals."""
    both = [Column("Scene", long=True), Column("Method", long=True), Column("Seeds", numeric=True)]
    volume_columns = [*both, Column("Hypervolume of a seed, mean", numeric=True)]
    volume_columns += [Column(f"95 % over {what}", numeric=True) for what in ("seeds", "examples", "both")]
    knee_columns = [*both, *(Column(name, numeric=True) for name in KNEE_COLUMNS)]
    volumes, knees, reasons, unsteady = [], [], dict[str, None](), []
    for scene, group in findings.scenes.items():
        for curve in _largest_first(group):
            sure, bend = hypervolume_certainty(findings, curve), knee_certainty(curve)
            if sure.why:
                reasons[sure.why] = None
            if bend is not None and bend.without:
                unsteady.append(f"{curve.method} ({percent(bend.without)})")
            told = [findings.titles[scene], curve.method, count(len(curve.all_seeds))]
            intervals = [_box(ends) for ends in (sure.seeds, sure.examples, sure.both)]
            volumes.append([*told, _share(sure.mean), *intervals])
            knees.append(told + _knee(curve, bend))
    remarks, bends = [VOLUMES], [KNEES]
    if reasons:
        remarks.append(f"No interval over examples: {'; '.join(reasons)}.")
    if unsteady:
        bends.append(f"Resamples of the seeds whose front has no knee: {', '.join(unsteady)}.")
    return [
        Table("Hypervolume per seed, with intervals", volume_columns, volumes),
        Paragraph(" ".join(remarks), quiet=True),
        Table("Knee of each front, with intervals", knee_columns, knees),
        Paragraph(" ".join(bends), quiet=True),
    ]


def _knee(curve: Curve, bend: KneeCertainty | None) -> list[str]:
    if bend is None:
        return ["none", "–", "–", "–"]
    return [
        count(int(curve.num_edges[bend.row])),
        "–" if bend.edges is None else interval(int(bend.edges.low), int(bend.edges.high)),
        significant(float(curve.test[bend.row])),
        _ends(bend.divergence),
    ]


def _box(ends: Interval | None) -> str:
    return "–" if ends is None else f"[{_share(ends.low)}, {_share(ends.high)}]"


def _ends(ends: Interval | None) -> str:
    return "–" if ends is None else interval(ends.low, ends.high)


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
