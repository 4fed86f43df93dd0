"""The knee of a front: where keeping more edges stops to pay.

Kneedle's offline rule (Satopää, Albrecht, Irwin & Raghavan 2011, "Finding a 'Kneedle' in a Haystack",
section III): both axes are normalised to the front's own range, and the knee is the point farthest below
the chord between the front's ends. Which point that is does not depend on the scale of either axis, but on
their being logarithmic or not: here log10 of the kept fraction, and the divergence as it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.statistics.bootstrap import ENUMERATED, Floats, draws
from orchestrator.statistics.pareto import Ints, front

RESAMPLES = 500  # of seeds too many to enumerate: each has a front of its own
STRAIGHT = 1e-9  # closer to the chord than this is on it


@dataclass(frozen=True)
class Knee:
    """`index` into the front; `distance` below the chord in the normalised box, 0 to 1."""

    index: int
    distance: float


@dataclass(frozen=True)
class KneesOverSeeds:
    """Knees of the fronts of resampled seeds: rows of the circuits and their weights, and the weight of
    the resamples whose front has no knee. Weights and `without` sum to 1."""

    rows: Ints
    weights: Floats
    without: float


def knee(x: ArrayLike, y: ArrayLike) -> Knee | None:
    """Of a front with costs x [n] upwards and y [n] downwards; of equal distances the first.

    None with fewer than three circuits, and when none lies below the chord (a straight or bulging front).
    """
    across, down = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(across) < 3:
        return None
    across = (across - across[0]) / (across[-1] - across[0])
    down = (down - down[-1]) / (down[0] - down[-1])
    distance = 1 - across - down
    index = int(np.argmax(distance))
    return Knee(index, float(distance[index])) if distance[index] > STRAIGHT else None


def knees_over_seeds(costs: Floats, seeds: Ints) -> KneesOverSeeds:
    """Knees when the seeds are drawn anew (bootstrap.py): a resample's front is that of all circuits of
    the seeds in it, so only which seeds occur matters. `costs` [circuits, 2]: log10 kept, divergence."""
    names = np.unique(seeds)
    fronts = [own[front(costs[own])] for own in (np.flatnonzero(seeds == name) for name in names)]
    resamples = draws(len(names))
    some = slice(None if len(names) <= ENUMERATED else RESAMPLES)
    present, which = np.unique(resamples.counts[some] > 0, axis=0, return_inverse=True)
    weights = np.bincount(which.ravel(), weights=resamples.weights[some])
    weights /= weights.sum()
    rows, kept, without = [], [], 0.0
    for there, weight in zip(present, weights, strict=True):
        pool = np.sort(np.concatenate([own for own, drawn in zip(fronts, there, strict=True) if drawn]))
        best = pool[front(costs[pool])]
        found = knee(costs[best, 0], costs[best, 1])
        if found is None:
            without += float(weight)
        else:
            rows.append(best[found.index])
            kept.append(weight)
    return KneesOverSeeds(np.array(rows, dtype=np.int64), np.array(kept, dtype=np.float64), without)
