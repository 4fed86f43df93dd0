"""The Pareto fronts as tables, with their hypervolume."""

from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from orchestrator.report.certainty import (
    CommonHypervolumes,
    KneeCertainty,
    common_hypervolumes,
    hypervolume_certainty,
    knee_certainty,
)
from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import Block, Column, Details, Heading, Paragraph, Table
from orchestrator.report.scenes import Curve
from orchestrator.statistics.bootstrap import FEWEST_SEEDS, Interval
from orchestrator.statistics.pareto import Ints
from orchestrator.wording import count, interval, percent, shortest, significant, spread

# Fronts of up to this many circuits are shown open.
SHORT = 6
SPARSEST = "Sparsest circuit per method"  # how the caption of that table begins

KNEE_COLUMNS = (
    "Knee of the front: edges",
    "Seeds with a knee",
    "Edges, median over seeds",
    "Edges, 95 % over seeds",
    "Divergence, median over seeds",
    "Divergence, 95 % over seeds",
    "Divergence, 95 % over examples",
)
SHARED = (
    "The hypervolume also counts where a method was evaluated. Over common budgets it does not: it is taken "
    "over the edge budgets at which every seed of every method of the scene has a circuit, up to the largest "
    "size that all were evaluated at, with each seed's best circuit by validation within each budget; mean "
    "over seeds. A test value that is not known (NaN) is left out, with its seed: –."
)
VOLUMES = (
    "Hypervolume of a seed: of its own circuits alone, mean over seeds; the first table takes all seeds "
    "together, which is the best of them. 95 % bootstrap intervals: over seeds, other seeds on these "
    "examples; over examples, other test examples for these circuits; both at once. With few seeds an "
    f"interval over them is too narrow, so there is none of fewer than {FEWEST_SEEDS}."
)
KNEES = (
    "Knee: the circuit of the front farthest below the chord between its ends, log10 of the edges against "
    "validation divergence, both scaled to the front's range (Kneedle, Satopää et al. 2011); none where the "
    "front has fewer than three circuits or does not bend that way. The first column is of the front of all "
    "seeds together; the others are of each seed's own front. 95 % bootstrap intervals of the medians: over "
    "seeds, other seeds on these examples; over examples, the same circuits' divergence on other test "
    "examples. Where a knee lies is settled on the validation examples, so test examples do not move it."
)


def fronts(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = [_volumes(findings), Paragraph(SHARED, quiet=True), sparsest(findings)]
    blocks += _certainty(findings)
    for scene, group in findings.scenes.items():
        blocks.append(Heading(findings.titles[scene]))
        for curve in group:
            size = len(curve.front)
            summary = f"{curve.method}: {count(size, 'circuit')} on the front"
            summary += f", hypervolume {_share(curve.hypervolume)}"
            blocks.append(Details(summary, [_front(findings, curve)], open=size <= SHORT))
    return blocks


def _volumes(findings: Findings) -> Table:
    columns = [Column("Scene", long=True), Column("Method"), Column("Seeds", numeric=True)]
    columns += [Column(name, numeric=True) for name in ("Circuits", "On the front")]
    columns += [Column(name, numeric=True) for name in ("Hypervolume over common budgets", "Common budgets")]
    columns.append(Column("Hypervolume", numeric=True))
    columns.append(Column("Empty circuit's divergence", numeric=True))
    rows = []
    for scene, group in findings.scenes.items():
        shared = common_hypervolumes(group)
        for curve in _largest_first(group):
            rows.append(
                [
                    findings.titles[scene],
                    curve.method,
                    count(len(curve.all_seeds)),
                    count(len(curve.rows)),
                    count(len(curve.front)),
                    _of_known(shared, curve.method),
                    between(shared.budgets),
                    _share(curve.hypervolume),
                    significant(curve.empty),
                ]
            )
    return Table("Hypervolume per method", columns, rows)


def _of_known(shared: CommonHypervolumes, method: str) -> str:
    """The mean over seeds, with how many of them it is of where some are not known."""
    volumes = shared.by_method.get(method, np.empty(0))
    known = int((~np.isnan(volumes)).sum())
    of = f" ({known} of {count(len(volumes), 'seed')})" if 0 < known < len(volumes) else ""
    return _share(shared.mean(method)) + of


def between(budgets: Ints) -> str:
    """The ends of some budgets: `1,937 – 23,306`."""
    if not budgets.size:
        return "none"
    first, last = (count(int(budget)) for budget in budgets[[0, -1]])
    return first if first == last else f"{first} – {last}"


def sparsest(findings: Findings) -> Table:
    """Per method the sparsest circuit of each seed with validation divergence <= epsilon: median over
    seeds (range), with the validation divergence that chose it and the test metrics it has."""
    found = [
        (findings.titles[scene], curve, [curve.rows[row] for row in chosen.values()])
        for scene, group in findings.scenes.items()
        for curve in group
        for chosen in [curve.sparsest(findings.epsilon(scene))]
    ]
    epsilons = {shortest(findings.epsilon(scene)) for scene in findings.scenes}
    one = epsilons.pop() if len(epsilons) == 1 else ""
    known = any(row["truth_recall"] is not None for _, _, rows in found for row in rows)
    told = ["divergence_validation", "divergence_test", *(["truth_precision", "truth_recall"] * known)]
    divergences = {words(scene.divergence) for scene in findings.scenes}
    what = divergences.pop() if len(divergences) == 1 else "divergence"
    names = (f"Validation {what}", f"Test {what}", *(("Precision", "Recall") * known))
    columns = [Column("Scene", long=True), Column("Method")]
    columns.append(Column(f"Seeds with validation {what} ≤ {one or 'ε'}", numeric=True))
    columns += [Column(name, numeric=True) for name in ("Edges", "Sparsity", *names)]
    rows = []
    for title, curve, circuits in found:
        values = {name: [row[name] for row in circuits if row[name] is not None] for name in told}
        own = "" if one else f" (ε = {shortest(findings.epsilon(curve.scene))})"
        cells = [title, curve.method, f"{len(circuits)} of {findings.seeds_run(curve)}{own}"]
        edges = [row["num_edges"] for row in circuits]
        share = 1 - median(edges) / curve.scene.num_edges_total if edges else None
        cells += [spread(edges), percent(share)]
        for name, some in values.items():
            metric = f" ({words(curve.scene.divergence)})" if some and name.startswith("divergence") else ""
            cells.append(spread(some) + metric * (what == "divergence"))
        rows.append(cells)
    limit = f"ε = {one}" if one else "the ε of its sweeps"
    caption = f"{SPARSEST} whose validation divergence is at most {limit}, median over seeds (range)"
    return Table(caption, columns, rows)


def _largest_first(group: Sequence[Curve]) -> list[Curve]:
    """Over common budgets, where there are any."""
    shared = common_hypervolumes(group)

    def key(curve: Curve) -> tuple[float, float]:
        return -np.nan_to_num(shared.mean(curve.method), nan=-1.0), -np.nan_to_num(
            curve.hypervolume, nan=-1.0
        )

    return sorted(group, key=key)


def _certainty(findings: Findings) -> list[Block]:
    """Hypervolume per seed and the knee, with intervals."""
    both = [Column("Scene", long=True), Column("Method", long=True), Column("Seeds", numeric=True)]
    volume_columns = [*both, Column("Hypervolume of a seed, mean", numeric=True)]
    volume_columns += [Column(f"95 % over {what}", numeric=True) for what in ("seeds", "examples", "both")]
    knee_columns = [*both, *(Column(name, numeric=True) for name in KNEE_COLUMNS)]
    volumes, knees, reasons = [], [], dict[str, None]()
    for scene, group in findings.scenes.items():
        for curve in _largest_first(group):
            sure, bend = hypervolume_certainty(findings, curve), knee_certainty(findings, curve)
            if sure.why:
                reasons[sure.why] = None
            told = [findings.titles[scene], curve.method, count(len(curve.all_seeds))]
            seeds = len(curve.all_seeds)
            over = [_over_seeds(sure.seeds, seeds), _box(sure.examples), _over_seeds(sure.both, seeds)]
            volumes.append([*told, _share(sure.mean), *over])
            knees.append(told + _knee(curve, bend))
    remarks = [VOLUMES]
    if reasons:
        remarks.append(f"No interval over examples: {'; '.join(reasons)}.")
    return [
        Table("Hypervolume per seed, with intervals", volume_columns, volumes),
        Paragraph(" ".join(remarks), quiet=True),
        Table("Knee of each front, with intervals", knee_columns, knees),
        Paragraph(KNEES, quiet=True),
    ]


def _knee(curve: Curve, bend: KneeCertainty | None) -> list[str]:
    of_all = "none" if curve.knee is None else count(int(curve.num_edges[curve.knee]))
    if bend is None:
        return [of_all, "none", *["–"] * 5]
    edges, test, by_examples = bend.num_edges_seeds, bend.divergence_test_seeds, bend.divergence_test_examples
    return [
        of_all,
        f"{bend.seeds} of {len(curve.all_seeds)}",
        f"{bend.num_edges:,.10g}",
        _over_seeds(edges, bend.seeds, lambda ends: f"[{ends.low:,.10g}, {ends.high:,.10g}]"),
        significant(bend.divergence_test),
        _over_seeds(test, bend.seeds, lambda ends: interval(ends.low, ends.high)),
        "–" if by_examples is None else interval(by_examples.low, by_examples.high),
    ]


def _box(ends: Interval | None) -> str:
    return "–" if ends is None else f"[{_share(ends.low)}, {_share(ends.high)}]"


def _over_seeds(ends: Interval | None, seeds: int, told: Callable[[Interval], str] = _box) -> str:
    """One seed cannot be drawn anew, and a few say too little."""
    if ends is None:
        return "too few seeds" if 1 < seeds < FEWEST_SEEDS else "–"
    return told(ends)


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
