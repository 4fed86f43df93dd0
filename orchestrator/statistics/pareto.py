"""Non-dominated fronts, hypervolume and seed bands. Arrays in, arrays out; numpy only.

A circuit has two costs, both to be minimised: log10 of the kept fraction of edges and the divergence
from the full model. The reference box is [log10(1/num_edges_total), 0] x [0, divergence of the empty
circuit]: the best corner keeps one edge at no divergence, the worst keeps all edges and is as far
from the full model as keeping none.

`rounding` is what counts as no difference of two divergences (0: only equal ones). "Within rounding" is no
equivalence, since many small steps add up to a large one; so along the edges upwards each circuit is
compared with the last one that was chosen (`leaders`). A circuit that is passed over is therefore better by
at most `rounding` than a chosen one with no more edges (the additive epsilon-dominance of Laumanns, Thiele,
Deb & Zitzler 2002, in the divergence alone), and what is chosen does not depend on the order of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Stands in for infinity where quantiles are interpolated (there infinity times zero is NaN).
_INFINITE = 1e300


def log_kept(num_edges: ArrayLike, num_edges_total: int) -> Floats:
    """log10 of the kept fraction.

    The empty circuit has no logarithm: it is put at one edge, where its divergence, the top of
    the reference box, gives it no hypervolume.
    """
    return np.log10(np.maximum(np.asarray(num_edges, dtype=np.float64), 1.0) / num_edges_total)


def leaders(values: Floats, rounding: float = 0.0) -> Ints:
    """Places of `values` [n] that are lower, by more than `rounding`, than the last such place before them,
    upwards. The first that is neither NaN nor infinite is one; other such are none."""
    best_before = np.minimum.accumulate(np.concatenate(([np.inf], np.nan_to_num(values, nan=np.inf))))[:-1]
    records = np.flatnonzero(values < best_before).tolist()  # whatever is no record cannot lead
    found: list[int] = []
    for place in records:
        if not found or values[place] < values[found[-1]] - rounding:
            found.append(place)
    return np.array(found, dtype=np.int64)


def front(costs: Floats, rounding: float = 0.0) -> Ints:
    """Indices of the rows of `costs` [n, 2] that no other row dominates, by the first cost upwards.

    A row dominates another that is nowhere lower and differs; a second cost that is lower by at most
    `rounding` is not lower (see above). Of equal rows the first stays; a row with a NaN or an infinite cost
    is on no front.
    """
    costs = np.asarray(costs, dtype=np.float64).reshape(-1, 2)
    usable = np.flatnonzero(np.isfinite(costs).all(axis=1))
    order = usable[np.lexsort((usable, costs[usable, 1], costs[usable, 0]))]
    return order[leaders(costs[order, 1], rounding)].astype(np.int64)


def hypervolume(costs: Floats, low: Sequence[float], high: Sequence[float]) -> float:
    """Share of the box [low, high] that a front dominates, in [0, 1]. `costs` [n, 2], first costs upwards.

    The front was chosen elsewhere (on validation): from its first cost to the next row's, a row's second
    cost counts even where an earlier row has a lower one, which only the test examples could tell. A row
    whose second cost is not known (NaN) is passed over. What lies outside the box does not count: a row
    beyond `high` adds nothing, a row below `low` counts as if it were on the edge of the box. NaN if the
    box has no area.
    """
    (low_x, low_y), (high_x, high_y) = low, high
    x, y = np.asarray(costs, dtype=np.float64).reshape(-1, 2).T
    return float(dominated_shares(x, y - low_y, low_x, high_x, high_y - low_y))


def dominated_shares(x: Floats, y: Floats, low_x: float, high_x: float, top: ArrayLike) -> Floats:
    """`hypervolume` of a front with first costs `x` [n], upwards, under many second costs `y` [..., n] at
    once, in the boxes [low_x, high_x] x [0, top], `top` [...]; [...]."""
    tops = np.asarray(top, dtype=np.float64)
    known = np.where(np.isnan(y), -1, np.arange(len(x)))
    last = np.maximum.accumulate(known, axis=-1)
    best = np.where(last < 0, np.inf, np.take_along_axis(y, np.maximum(last, 0), axis=-1))
    widths = np.diff(np.append(np.clip(x, low_x, high_x), high_x))
    with np.errstate(invalid="ignore", divide="ignore"):
        heights = np.clip(tops[..., None] - np.maximum(best, 0.0), 0.0, None)
        # Each width is rounded by itself: together they can exceed the box by the last digit.
        shares = np.minimum((heights * widths).sum(axis=-1) / ((high_x - low_x) * tops), 1.0)
    return np.where(np.isfinite(tops) & (tops > 0) & (high_x > low_x), shares, np.nan)


@dataclass(frozen=True)
class Bands:
    """Test divergence over seeds at common edge budgets; every array is [budgets].

    `num_seeds` of the seeds have a circuit within the budget; the statistics are over those.
    """

    budgets: Ints
    median: Floats
    quartile_1: Floats
    quartile_3: Floats
    minimum: Floats
    maximum: Floats
    num_seeds: Ints


def edge_budgets(num_edges_total: int, achieved: ArrayLike, per_decade: int = 10) -> Ints:
    """Edge budgets: a logarithmic grid over 1 ... num_edges_total and every achieved edge count."""
    count = max(2, 1 + int(np.ceil(per_decade * np.log10(max(num_edges_total, 2)))))
    grid = np.rint(np.geomspace(1, max(num_edges_total, 1), count))
    budgets = np.concatenate((grid, np.asarray(achieved, dtype=np.float64).ravel()))
    return np.unique(budgets[budgets >= 1].astype(np.int64))


def best_within(num_edges: Ints, validation: Floats, budgets: Ints, rounding: float = 0.0) -> Ints:
    """[budgets] index of the circuit with the lowest validation divergence that fits; -1 for none.

    Ties, also those up to `rounding` (see above), go to fewer edges, then to the lower divergence, then to
    the circuit that comes first. NaN is never chosen. These circuits are the front's.
    """
    usable = np.flatnonzero(np.isfinite(validation))
    order = usable[np.lexsort((usable, validation[usable], num_edges[usable]))]
    best = order[leaders(validation[order], rounding)]
    fits = np.searchsorted(num_edges[best], budgets, side="right")
    return np.append(best, -1)[fits - 1].astype(np.int64)


def seed_choices(
    num_edges: Ints, validation: Floats, seeds: Ints, budgets: Ints, rounding: float = 0.0
) -> Ints:
    """The row of each seed's best circuit by validation at each budget, [seeds, budgets]; -1 for none. All
    inputs but `budgets` and `rounding` are [circuits]."""
    rows = np.full((max(1, len(np.unique(seeds))), len(budgets)), -1, dtype=np.int64)
    for place, seed in enumerate(np.unique(seeds)):
        own = np.flatnonzero(seeds == seed)
        chosen = best_within(num_edges[own], validation[own], budgets, rounding)
        rows[place, chosen >= 0] = own[chosen[chosen >= 0]]
    return rows


def bands(test: Floats, choices: Ints, budgets: Ints) -> Bands:
    """At each budget, median, quartiles and extremes over seeds of the `test` divergence [circuits] of the
    circuits that `seed_choices` chose, `choices` [seeds, budgets].

    A seed without a circuit at a budget is left out there, and so is a budget without any seed. A
    chosen circuit whose test divergence is not finite counts as infinitely far.
    """
    values = values_at(np.where(np.isfinite(test), test, _INFINITE), choices)
    num_seeds = (~np.isnan(values)).sum(axis=0)
    some = num_seeds > 0
    quantiles = np.empty((5, 0))  # numpy has no quantiles over no columns
    if some.any():
        quantiles = np.nanquantile(values[:, some], [0, 0.25, 0.5, 0.75, 1], axis=0)
    low, first, middle, third, high = np.where(quantiles < _INFINITE / 1e9, quantiles, np.inf)
    return Bands(budgets[some], middle, first, third, low, high, num_seeds[some])


def values_at(values: Floats, choices: Ints) -> Floats:
    """Of `values` [circuits] those of the chosen circuits, [seeds, budgets]; NaN where there is none."""
    return np.where(choices >= 0, values[choices], np.nan) if values.size else np.full(choices.shape, np.nan)


def sparsest_within(num_edges: Ints, validation: Floats, epsilon: float) -> int | None:
    """Index of the circuit with the fewest edges whose validation divergence is at most `epsilon`.

    Ties go to the lower validation divergence, then to the circuit that comes first; None when
    there is none.
    """
    within = np.flatnonzero(np.isfinite(validation) & (validation <= epsilon))
    if not within.size:
        return None
    return int(within[np.lexsort((within, validation[within], num_edges[within]))[0]])
