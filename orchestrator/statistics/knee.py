"""The knee of a front: where keeping more edges stops to pay.

Kneedle's offline rule (Satopää, Albrecht, Irwin & Raghavan 2011, "Finding a 'Kneedle' in a Haystack",
section III): both axes are normalised to the front's own range, and the knee is the point farthest below
the chord between the front's ends. Which point that is does not depend on the scale of either axis, but on
their being logarithmic or not: here log10 of the kept fraction, and the divergence as it is. What rounding
can do to a divergence neither makes a knee nor moves it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

STRAIGHT = 1e-9  # closer to the chord than this is on it: the arithmetic's own rounding


@dataclass(frozen=True)
class Knee:
    """`index` into the front; `distance` below the chord in the normalised box, 0 to 1."""

    index: int
    distance: float


def knee(x: ArrayLike, y: ArrayLike, rounding: float = 0.0) -> Knee | None:
    """Of a front with costs x [n] upwards and y [n] downwards; of equal distances the first. Distances are
    equal when a difference of y of at most `rounding` makes them so.

    None with fewer than three circuits, and when none lies below the chord (a straight or bulging front).
    """
    across, down = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(across) < 3:
        return None
    across = (across - across[0]) / (across[-1] - across[0])
    straight = max(STRAIGHT, rounding / (down[0] - down[-1]))
    down = (down - down[-1]) / (down[0] - down[-1])
    distance = 1 - across - down
    if distance.max() <= straight:
        return None
    index = int(np.flatnonzero(distance >= distance.max() - straight)[0])
    return Knee(index, float(distance[index]))
