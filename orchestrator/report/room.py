"""Room: of which circuits on the fronts the page holds what, so that it stays small.

The edges of every circuit on a curve's front come first. Of what is left, half is for what is known about
each of their edges, and half for the fronts of single seeds; what these leave goes to the former. Circuits
are given what fits one by one, the smallest first: a large one, though it be on the front of all seeds, does
not take the scores of a hundred small ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve
from orchestrator.report.thinning import evenly

# Characters of the page: it may have 6 MB, of which one stays spare.
BUDGET = 5_000_000
PER_CIRCUIT, PER_SUMMARY, PER_SCORE, PER_SEEDS = 300, 1500, 2, 1
ON_FRONT, ON_SEED_FRONT = 40, 12

Ref = tuple[str, str, int]  # method, trial, point: one circuit of one curve


class Held(IntEnum):
    """What the page holds of a circuit."""

    SUMMARY = 0
    EDGES = 1
    DETAIL = 2  # its edges, with scores and stability


@dataclass(frozen=True, order=True)
class Size:
    """Of a circuit its edges, those of the full model, and whether its method has several seeds."""

    edges: int
    total: int
    several: bool

    def cost(self, held: Held) -> int:
        """About how many characters it takes: two per edge, or six edges of the model in one; with detail,
        two for a score and one for the seeds of each edge, unless all seeds keep all edges."""
        told = PER_CIRCUIT + min(2 * self.edges, self.total // 6)
        if held == Held.SUMMARY:
            return min(PER_SUMMARY, told)
        seeds = PER_SEEDS * (self.several and self.edges < self.total)
        return told + (PER_SCORE + seeds) * self.edges * (held == Held.DETAIL)


@dataclass(frozen=True)
class View:
    """Circuits of one curve, fewest edges first: row indices on the front of all seeds (`seed` None) or
    of one; `on_front` of them were there before some were left out."""

    curve: Curve
    seed: int | None
    rows: tuple[int, ...]
    on_front: int

    @property
    def sizes(self) -> dict[Ref, Size]:
        total, several = self.curve.scene.num_edges_total, len(self.curve.all_seeds) > 1
        return {
            ref(self.curve, row): Size(int(self.curve.num_edges[row]), total, several) for row in self.rows
        }


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
    left = (BUDGET - used(findings) if budget is None else budget) - _cost(sizes)
    left = _raised(held, sizes, left, Held.EDGES)
    spare = max(0, left) // 2
    left = _raised(held, sizes, left - spare, Held.DETAIL) + spare
    of_seeds: dict[Ref, Size] = {}
    left_out: list[View] = []
    for view in _of_seeds(curves):
        new = {one: size for one, size in view.sizes.items() if one not in held}
        if _cost(new) > left:
            left_out.append(view)
            continue
        left -= _cost(new)
        held |= dict.fromkeys(new, Held.SUMMARY)
        of_seeds |= new
        views.append(view)
    left = _raised(held, of_seeds, left, Held.EDGES)
    left = _raised(held, of_seeds, left, Held.DETAIL)
    _raised(held, sizes, left, Held.DETAIL)
    return Room(tuple(view for view in views if view.rows), held, tuple(left_out))


def _cost(sizes: Mapping[Ref, Size]) -> int:
    return sum(size.cost(Held.SUMMARY) for size in sizes.values())


def _raised(held: dict[Ref, Held], sizes: Mapping[Ref, Size], left: int, wanted: Held) -> int:
    """Gives those of these circuits that lack only that as much as `wanted` in `held`, the smallest first,
    while there is room. Returns what is left of `left`."""
    for one, size in sorted(sizes.items(), key=lambda item: item[1]):
        more = size.cost(wanted) - size.cost(held[one])
        if more <= left and held[one] == wanted - 1:
            left -= more
            held[one] = wanted
    return left


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
