"""Room: of which circuits on the fronts the page holds what, so that it stays small.

Every circuit on a curve's front comes first: its edges, then what is known about each of them, the smallest
circuits first; then the fronts of single seeds, as many as there is room for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve
from orchestrator.report.thinning import evenly

# Characters of the page: it may have 6 MB, of which one stays spare.
BUDGET = 5_000_000
PER_CIRCUIT, PER_SUMMARY, PER_DETAIL = 300, 1500, 3
ON_FRONT, ON_SEED_FRONT = 40, 12

Ref = tuple[str, str, int]  # method, trial, point: one circuit of one curve


class Held(IntEnum):
    """What the page holds of a circuit."""

    SUMMARY = 0
    EDGES = 1
    DETAIL = 2  # its edges, with scores and stability


@dataclass(frozen=True)
class View:
    """Circuits of one curve, fewest edges first: row indices on the front of all seeds (`seed` None) or
    of one; `on_front` of them were there before some were left out."""

    curve: Curve
    seed: int | None
    rows: tuple[int, ...]
    on_front: int

    @property
    def sizes(self) -> dict[Ref, tuple[int, int]]:
        """Of every circuit its edges and those of the full model."""
        total = self.curve.scene.num_edges_total
        return {ref(self.curve, row): (int(self.curve.num_edges[row]), total) for row in self.rows}


@dataclass(frozen=True)
class Room:
    """`left_out`: the fronts of single seeds there was no room for."""

    views: tuple[View, ...]
    held: Mapping[Ref, Held]
    left_out: tuple[View, ...]


def ref(curve: Curve, row: int) -> Ref:
    point = curve.rows[row]
    return curve.method, point["trial_id"], point["point"]


def used(findings: Findings, measure: Callable[[], int] = lambda: 0) -> int:
    """Characters of everything else on the page, as measured the first time."""
    return findings.once("characters of the page without circuits", measure)


def room(findings: Findings, budget: int | None = None) -> Room:
    """What there is room for, about, in `budget` characters: what is left of BUDGET unless given."""
    curves = [curve for group in findings.scenes.values() for curve in group]
    views = [_thinned(curve, None, curve.front.tolist(), ON_FRONT) for curve in curves]
    sizes = {one: size for view in views for one, size in view.sizes.items()}
    held = dict.fromkeys(sizes, Held.SUMMARY)
    left = (BUDGET - used(findings) if budget is None else budget) - sum(
        _cost(size, Held.SUMMARY) for size in sizes.values()
    )
    for wanted in (Held.EDGES, Held.DETAIL):
        for one, size in sorted(sizes.items(), key=lambda item: item[1]):
            more = _cost(size, wanted) - _cost(size, held[one])
            if more <= left and held[one] == wanted - 1:
                left -= more
                held[one] = wanted
    left_out: list[View] = []
    for view in _of_seeds(curves):
        new = {one: size for one, size in view.sizes.items() if one not in held}
        cost = {wanted: sum(_cost(size, wanted) for size in new.values()) for wanted in Held}
        fits = next((wanted for wanted in (Held.DETAIL, Held.EDGES) if cost[wanted] <= left), None)
        if fits is None:
            left_out.append(view)
        else:
            left -= cost[fits]
            held |= dict.fromkeys(new, fits)
            views.append(view)
    return Room(tuple(view for view in views if view.rows), held, tuple(left_out))


def _of_seeds(curves: list[Curve]) -> list[View]:
    """The first seed of every curve with several, then the second, ..."""
    most = max((len(curve.all_seeds) for curve in curves), default=0)
    return [
        _thinned(curve, seed, curve.seed_front(seed).tolist(), ON_SEED_FRONT)
        for place in range(most)
        for curve in curves
        if 1 < len(curve.all_seeds) > place
        for seed in (curve.all_seeds[place],)
    ]


def _thinned(curve: Curve, seed: int | None, rows: list[int], limit: int) -> View:
    return View(curve, seed, tuple(evenly(rows, limit)), len(rows))


def _cost(size: tuple[int, int], held: Held) -> int:
    """About how many characters a circuit takes: two per edge, or six edges of the model in one; with
    detail, two for a score and one for the seeds of each edge."""
    edges, total = size
    told = PER_CIRCUIT + min(2 * edges, total // 6)
    if held == Held.SUMMARY:
        return min(PER_SUMMARY, told)
    return told + PER_DETAIL * edges * (held == Held.DETAIL)
