"""What may be wrong with a curve's seeds: tried unequally often, or at odds about the edges."""

from collections.abc import Iterator, Sequence

import numpy as np

from orchestrator.report.doubt import Doubt
from orchestrator.report.kept import KeptEdges
from orchestrator.report.scenes import Curve
from orchestrator.report.thinning import evenly
from orchestrator.statistics.consensus import iou_by_chance, iou_matrix
from orchestrator.statistics.pareto import Ints
from orchestrator.wording import count, significant

# Mean IoU of the seeds' circuits below which they disagree, and the largest circuits that are compared.
AGREEING_IOU = 0.5
COMPARED_EDGES = 5_000
# Edge budgets looked at, evenly over the curve's sizes; of a budget are circuits of at least half of it.
LOOKED_AT = 5


def unequal_tries(curve: Curve, where: str) -> Iterator[Doubt]:
    """A seed stands for itself with the best of its trials: of more trials that is better by itself."""
    tries = {
        seed: len({row["trial_id"] for row in curve.rows if row["seed"] == seed}) for seed in curve.all_seeds
    }
    low, high = min(tries.values()), max(tries.values())
    if low == high:
        return
    few = [str(seed) for seed, number in tries.items() if number == low]
    named = f"seed{'s' * (len(few) > 1)} {', '.join(few[:5])}{' …' * (len(few) > 5)}"
    text = (
        f"Seeds had unequal tries: {low} to {high} trials with circuits each; fewest: {named}. The best of "
        "more trials is better by itself, so bands and tests over seeds are of unlike things."
    )
    yield Doubt(where, text, "Run the missing trials, or report one setting (or sweep) at a time.")


def overlap_of_faithful(curve: Curve, where: str, kept: KeptEdges, epsilon: float) -> Iterator[Doubt]:
    """Seeds whose sparsest faithful circuits have few edges in common."""
    rows = [curve.rows[index] for index in curve.sparsest(epsilon).values()]
    found = (kept.edges(row) for row in rows if row["num_edges"] <= COMPARED_EDGES)
    circuits = [edges for edges in found if edges is not None and len(edges)]
    mean = _mean_overlap(circuits, kept)
    if mean < AGREEING_IOU:
        size = int(np.median([len(edges) for edges in circuits]))
        chance = iou_by_chance(size, size, curve.scene.num_edges_total)
        text = (
            f"Seeds disagree on the edges: the sparsest faithful circuits of {len(circuits)} seeds overlap "
            f"by {significant(mean, 2)} on average (IoU; circuits of {size:,} random edges: "
            f"{significant(chance, 2)})."
        )
        ids = sorted({row["trial_id"] for row in rows})
        yield Doubt(where, text, "Go by the edges that most seeds keep, not by one circuit.", ids)


def _mean_overlap(circuits: Sequence[Ints], kept: KeptEdges) -> float:
    """The mean IoU of all pairs; 1 where there is none."""
    if len(circuits) < 2:
        return 1.0
    members = np.zeros((len(circuits), len(kept.names)), dtype=bool)
    for number, edges in enumerate(circuits):
        members[number, edges] = True
    return float(iou_matrix(members)[np.triu_indices(len(circuits), 1)].mean())


def overlap_by_size(curve: Curve, where: str, kept: KeptEdges, epsilon: float) -> Iterator[Doubt]:
    """Seeds whose circuits of one size have few edges in common, at other sizes than those of the sparsest
    faithful circuits."""
    told_already = [curve.num_edges[row] for row in curve.sparsest(epsilon).values()]
    total = curve.scene.num_edges_total
    sizes = np.unique(curve.num_edges[np.isfinite(curve.validation)])
    sizes = sizes[(sizes > 0) & (sizes <= COMPARED_EDGES) & (sizes < total) & ~np.isin(sizes, told_already)]
    told: dict[str, None] = {}
    for budget in evenly(sizes.tolist(), LOOKED_AT):
        rows = [curve.best_of_seed(seed, budget) for seed in curve.all_seeds]
        near = [row for row in rows if row is not None and 2 * curve.num_edges[row] >= budget]
        circuits = [
            edges for row in near if (edges := kept.edges(curve.rows[row])) is not None and len(edges)
        ]
        mean = _mean_overlap(circuits, kept)
        if mean < AGREEING_IOU:
            size = int(np.median([len(edges) for edges in circuits]))
            chance = significant(iou_by_chance(size, size, total), 2)
            told[f"{significant(mean, 2)} at {count(budget, 'edge')} (by chance {chance})"] = None
    if told:
        text = f"Seeds disagree on the edges of circuits of one size: mean IoU {', '.join(told)}."
        yield Doubt(where, text, "Go by the edges that most seeds keep (Consensus), not by one circuit.")
