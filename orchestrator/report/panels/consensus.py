"""Consensus: which edges the seeds of a method agree on, and how much seeds, methods and tasks overlap."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from orchestrator.circuits.paths import Edge
from orchestrator.report.findings import Findings
from orchestrator.report.kept import KeptEdges
from orchestrator.report.panels.blocks import Block, Column, Details, Heading, Matrix, Paragraph, Table
from orchestrator.report.panels.circuits import graph_key
from orchestrator.report.scenes import Curve, Scene
from orchestrator.report.thinning import evenly
from orchestrator.statistics.consensus import (
    Bools,
    agreement,
    iou_by_chance,
    iou_matrix,
    mean_iou,
    times_kept,
)
from orchestrator.statistics.pareto import Floats, Ints
from orchestrator.wording import count, spread

# Common edge budgets per scene, edges listed per method, seeds in a matrix, methods looked at closely.
BUDGETS, LISTED, SEEDS, CLOSE = 6, 15, 20, 24
UNEVEN = 2  # circuits so many times larger than others overlap little whatever they keep
GREY = "–"

KEY = (
    "Budgets are common to all methods of a scene. At a budget, a seed stands for itself with its best "
    "circuit by validation among those with at most that many edges; a seed without one is left out. IoU: "
    "edges that both circuits keep over edges that either keeps. By chance: its mean over circuits of the "
    "same sizes with edges drawn at random."
)


BY_CHANCE = "In brackets: by chance, of random circuits of the same median sizes."


@dataclass(frozen=True)
class Seeds:
    """The circuits of one curve's seeds at one edge budget; `kept` [seeds, edges] over the edges that
    any of them keeps, numbered `numbers`."""

    curve: Curve
    budget: int
    seeds: tuple[int, ...]
    circuits: tuple[Ints, ...]

    @cached_property
    def sizes(self) -> list[int]:
        return [len(circuit) for circuit in self.circuits]

    @property
    def numbers(self) -> Ints:
        return np.unique(np.concatenate(self.circuits)) if self.circuits else np.array([], dtype=np.int64)

    @property
    def kept(self) -> Bools:
        return membership(self.circuits)


def membership(circuits: Sequence[Ints]) -> Bools:
    """[circuits, edges] over the edges that any of the circuits keeps, by rising number."""
    everything = np.unique(np.concatenate([np.array([], dtype=np.int64), *circuits]))
    kept = np.zeros((len(circuits), len(everything)), dtype=bool)
    for row, circuit in enumerate(circuits):
        kept[row, np.searchsorted(everything, circuit)] = True
    return kept


def consensus(findings: Findings) -> Sequence[Block]:
    kept = KeptEdges(findings.results)
    blocks: list[Block] = [Paragraph(KEY, quiet=True)]
    close = CLOSE
    for scene, group in findings.scenes.items():
        truth = next((t for t in map(findings.ground_truth, group) if t is not None), None)
        budgets = edge_budgets_of(group, None if truth is None else len(truth))
        if not budgets:
            continue
        found = {budget: [s for c in group if (s := at_budget(c, budget, kept)).seeds] for budget in budgets}
        if not any(found.values()):
            blocks += [Heading(findings.titles[scene]), Paragraph("No circuit's edge list can be read.")]
            continue
        chosen = reference_budget(group, found, None if truth is None else len(truth))
        blocks.append(Heading(findings.titles[scene]))
        blocks += _scene(scene, found, chosen, kept, truth or frozenset(), close)
        close -= sum(len(one.seeds) > 1 for one in found[chosen])
    blocks += _between_tasks(findings, kept)
    if len(blocks) == 1:
        blocks.append(Paragraph("No circuit has a finite validation divergence and fewer than all edges."))
    return blocks


def edge_budgets_of(group: Sequence[Curve], known: int | None) -> list[int]:
    """At most BUDGETS common budgets: round numbers (1, 2, 5 times a power of ten) at which some seed has
    a circuit with fewer than all edges, and the known circuit's size."""
    total = group[0].scene.num_edges_total
    usable = [curve.num_edges[np.isfinite(curve.validation)] for curve in group]
    sizes = np.concatenate([edges[edges < total] for edges in usable])
    if not sizes.size:
        return []
    low, high = int(sizes.min()), int(sizes.max())
    series = [digit * 10**power for power in range(len(str(total)) + 1) for digit in (1, 2, 5)]
    enough = next((budget for budget in series if budget >= high), high)
    found = [budget for budget in series if max(low, 1) <= budget <= enough and budget < total]
    found = found or [max(high, 1)]
    if known is not None and low <= known < total:
        return sorted({*evenly(found, BUDGETS - 1), known})
    return evenly(found, BUDGETS)


def at_budget(curve: Curve, budget: int, kept: KeptEdges) -> Seeds:
    seeds: list[int] = []
    circuits: list[Ints] = []
    for seed in curve.all_seeds:
        row = curve.best_of_seed(seed, budget)
        edges = None if row is None else kept.edges(curve.rows[row])
        if edges is not None:
            seeds.append(seed)
            circuits.append(edges)
    return Seeds(curve, budget, tuple(seeds), tuple(circuits))


def reference_budget(group: Sequence[Curve], found: Mapping[int, Sequence[Seeds]], known: int | None) -> int:
    """The budget looked at closely: the known circuit's size, else the smallest at which as many seeds
    of as many methods as anywhere have a circuit."""
    if known is not None and known in found:
        return known
    covered = {budget: sum(len(one.seeds) for one in seeds) for budget, seeds in found.items()}
    return min(budget for budget, seeds in covered.items() if seeds == max(covered.values()))


def _scene(
    scene: Scene,
    found: Mapping[int, Sequence[Seeds]],
    chosen: int,
    kept: KeptEdges,
    truth: frozenset[Edge],
    close: int,
) -> Iterable[Block]:
    at = found[chosen]
    yield _agreement(f"Agreement between seeds, at most {count(chosen, 'edge')}", at, scene)
    others = [one for budget, seeds in found.items() if budget != chosen for one in seeds]
    if others:
        ordered = sorted(others, key=lambda one: (one.curve.method, one.budget))
        yield Details("At other edge budgets", [_agreement("Agreement at other budgets", ordered, scene)])
    if len(at) > 1:
        yield _between_methods(at, chosen)
    several = [one for one in at if len(one.seeds) > 1]
    for one in several[: max(0, close)]:
        yield _method(one, kept, truth)
    if len(several) > max(0, close):
        yield Paragraph(
            f"{count(len(several) - max(0, close), 'more method')} not listed in detail.", quiet=True
        )


def _agreement(caption: str, found: Sequence[Seeds], scene: Scene) -> Table:
    columns = [
        Column("Method"),
        *(Column(title, numeric=True) for title in ("At most", "Seeds", "Edges kept", "On all seeds")),
        *(Column(title, numeric=True) for title in ("On more than half", "On any", "Mean IoU", "By chance")),
    ]
    return Table(caption, columns, [_agreement_row(one, scene.num_edges_total) for one in found])


def _agreement_row(one: Seeds, total: int) -> list[str]:
    times, seeds = times_kept(one.kept), len(one.seeds)
    first = [one.curve.method, f"{one.budget:,}", f"{seeds} of {len(one.curve.all_seeds)}", spread(one.sizes)]
    if seeds < 2:
        return [*first, GREY, GREY, f"{len(times):,}", GREY, GREY]
    pairs = np.triu_indices(seeds, 1)
    of_sizes = lru_cache(maxsize=None)(iou_by_chance)  # few sizes, many pairs of seeds
    chance = [of_sizes(one.sizes[a], one.sizes[b], total) for a, b in zip(*pairs, strict=True)]
    return [
        *first,
        f"{(times == seeds).sum():,}",
        f"{(2 * times > seeds).sum():,}",
        f"{len(times):,}",
        f"{iou_matrix(one.kept)[pairs].mean():.2f}",
        f"{np.mean(chance):.2f}",
    ]


def _between_methods(found: Sequence[Seeds], budget: int) -> Matrix:
    groups = [one.circuits for one in found]
    means, chance = mean_between(groups), by_chance(groups, found[0].curve.scene.num_edges_total)
    names = [_sized(one.curve.method, one.sizes) for one in found]
    caption = (
        f"IoU between methods at {count(budget, 'edge')}: the mean over pairs of seeds; within a method, of "
        f"different seeds. {BY_CHANCE}{_uneven(groups)}"
    )
    return _matrix(caption, "IoU", names, means, chance)


def mean_between(groups: Sequence[Sequence[Ints]], left_out: Bools | None = None) -> Floats:
    """[groups, groups] mean IoU over the pairs of different circuits, one of each group; without the pairs
    `left_out`, [circuits, circuits] over the circuits of all groups in order."""
    circuits = [circuit for group in groups for circuit in group]
    numbered = np.array([place for place, group in enumerate(groups) for _ in group], dtype=np.int64)
    return mean_iou(iou_matrix(membership(circuits)), numbered, len(groups), left_out)


def by_chance(groups: Sequence[Sequence[Ints]], num_edges_total: int) -> Floats:
    """[groups, groups] expected IoU of two random circuits of each two groups' median sizes."""
    sizes = [int(np.median([len(circuit) for circuit in group])) for group in groups]
    known = {
        (one, other): iou_by_chance(one, other, num_edges_total)
        for one in set(sizes)
        for other in set(sizes)
        if one <= other
    }
    return np.array([[known[min(one, other), max(one, other)] for other in sizes] for one in sizes])


def _method(one: Seeds, kept: KeptEdges, truth: frozenset[Edge]) -> Details:
    """The most stable edges of a method, how many edges how many seeds keep, and the seeds' IoU."""
    seeds = len(one.seeds)
    times = times_kept(one.kept)
    counts = agreement(one.kept).tolist()
    most = max([1, *counts])
    cells = [(f"{number:,}", number / most) for number in counts]
    histogram = Matrix(
        f"Edges by how many of the {seeds} seeds keep them", "Seeds", [str(k + 1) for k in range(seeds)],
        [("Edges", cells)],
    )  # fmt: skip
    order = np.lexsort((one.numbers, -times))[:LISTED]
    rows = [
        _stable_row(kept.names[int(one.numbers[place])], int(times[place]), seeds, truth) for place in order
    ]
    left = len(times) - len(rows)
    title = f"Most stable edges{f' ({left:,} more are kept on some seed)' if left else ''}"
    columns = [Column("Edge", code=True), Column("Kept on seeds", numeric=True)]
    columns += [Column("In the known circuit")] if truth else []
    table = Table(title, columns, rows)
    shown = min(seeds, SEEDS)
    limited = f" (the first {shown} of {seeds} seeds)" if shown < seeds else ""
    names = [str(seed) for seed in one.seeds[:shown]]
    overlap = _matrix(f"IoU between seeds{limited}", "Seed", names, iou_matrix(one.kept)[:shown, :shown])
    same = int((times == seeds).sum())
    budget = count(one.budget, "edge")
    told = f"{one.curve.method}: {count(same, 'edge')} kept on all {seeds} seeds at {budget}"
    if same == len(times):
        return Details(told, [Paragraph("All seeds keep the same edges:"), table])
    return Details(told, [histogram, overlap, Paragraph(f"{title}:"), table])


def _stable_row(edge: Edge, times: int, seeds: int, truth: frozenset[Edge]) -> list[str]:
    row = [" → ".join(edge), f"{times} of {seeds}"]
    return [*row, "✓ yes" if edge in truth else "no"] if truth else row


def _between_tasks(findings: Findings, kept: KeptEdges) -> Iterable[Block]:
    """Scenes that share a graph, by method, at the largest of their reference budgets."""
    graphs: dict[tuple[str, str, int], list[Scene]] = {}
    for scene in findings.scenes:
        graphs.setdefault(graph_key(scene), []).append(scene)
    for (model, _, _), scenes in graphs.items():
        if len(scenes) < 2:
            continue
        methods = {curve.method: None for scene in scenes for curve in findings.scenes[scene]}
        blocks = [block for method in methods for block in _tasks_of(findings, scenes, method, kept)]
        if blocks:
            yield Heading(f"Between tasks and settings of {model}")
            yield from blocks


def _tasks_of(findings: Findings, scenes: Sequence[Scene], method: str, kept: KeptEdges) -> Iterable[Block]:
    curves = [c for scene in scenes for c in findings.scenes[scene] if c.method == method]
    if len(curves) < 2:
        return
    budgets = edge_budgets_of(curves, None)
    if not budgets:
        return
    found = {budget: [s for c in curves if (s := at_budget(c, budget, kept)).seeds] for budget in budgets}
    budget = reference_budget(curves, found, None)
    if len(found[budget]) > 1:
        names = [_sized(findings.titles[one.curve.scene], one.sizes) for one in found[budget]]
        groups = [one.circuits for one in found[budget]]
        seeds = np.array([seed for one in found[budget] for seed in one.seeds])
        blind = all(_saw_nothing(findings, curve) for curve in curves)
        means = mean_between(groups, seeds[:, None] == seeds if blind else None)
        told = " (of different seeds: it sees no task)" * blind
        size = f"{count(budget, 'edge')}: mean IoU over pairs of seeds{told}"
        caption = f"{method} at {size}. {BY_CHANCE}{_uneven(groups)}"
        chance = by_chance(groups, curves[0].scene.num_edges_total)
        yield _matrix(caption, "IoU", names, means, chance)


def _saw_nothing(findings: Findings, curve: Curve) -> bool:
    """Whether a curve's circuits were found without any example: those of one seed are the same for every
    task."""
    trials = [findings.trials[trial_id] for trial_id in {row["trial_id"] for row in curve.rows}]
    return all(trial["examples"] == 0 and not trial["backward_examples"] for trial in trials)


def _sized(name: str, sizes: Sequence[int]) -> str:
    """A name with the edges that its circuits have: their median and range."""
    return f"{name}: {spread(sizes)} edge{'' if set(sizes) == {1} else 's'}"


def _uneven(groups: Sequence[Sequence[Ints]]) -> str:
    """Two circuits of n and m edges, n < m, cannot overlap by more than n / m."""
    sizes = [float(np.median([len(circuit) for circuit in group])) for group in groups]
    low, high = min(sizes), max(sizes)
    if high < UNEVEN * low or high == 0:
        return ""
    return (
        f" Sizes differ much: circuits of {low:,.10g} and of {high:,.10g} edges (medians) cannot overlap by "
        f"more than {low / high:.2f}; compare a value with the one by chance, and with others of like sizes."
    )


def _matrix(
    caption: str, corner: str, names: Sequence[str], values: Floats, chance: Floats | None = None
) -> Matrix:
    """With what each value would be by `chance` in brackets behind it, where that is given."""
    beside = np.full(values.shape, np.nan) if chance is None else chance
    rows = [
        (name, [_cell(*pair) for pair in zip(line.tolist(), own.tolist(), strict=True)])
        for name, line, own in zip(names, values, beside, strict=True)
    ]
    return Matrix(caption, corner, names, rows)


def _cell(value: float, chance: float) -> tuple[str, float]:
    if not np.isfinite(value):
        return GREY, 0.0
    return f"{value:.2f}{f' ({chance:.2f})' if np.isfinite(chance) else ''}", value
