"""Layout of a layered drawing: rows of nodes, edges bundled into one trunk per writer. Pure geometry.

After Sugiyama, Tagawa and Toda 1981: every edge is cut into pieces between neighbouring rows, with a
waypoint in each row it passes; here all edges of one writer share their waypoints, so that a writer
is one trunk from which branches leave. Rows are ordered by barycentres; places are the nearest to
the neighbours' mean that keep order and distance (isotonic regression).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

SWEEPS = 24
NODE_WIDTH, WAYPOINT_WIDTH = 1.0, 0.17
Item = tuple[str, int]  # a node's name and a row: the node itself in its own row, else its waypoint


@dataclass(frozen=True)
class Layout:
    """`x` of every item; `branches` maps each item to the items above that it leads to. Distances
    in widths of a node; `rows` from the bottom up, each from left to right."""

    x: dict[Item, float]
    rows: list[list[Item]]
    branches: dict[Item, list[Item]]
    row_of: dict[str, int]


def layered(row_of: dict[str, int], links: Iterable[tuple[str, str]]) -> Layout:
    """Places nodes that lie in `row_of` rows (0, 1, ... without gaps), linked upwards.

    The same input gives the same layout.
    """
    targets: dict[str, set[str]] = defaultdict(set)
    for low, high in links:
        targets[low].add(high)
    branches: dict[Item, list[Item]] = {}
    rows: list[list[Item]] = [[] for _ in range(max(row_of.values()) + 1)]
    for name, row in row_of.items():
        rows[row].append((name, row))
        reached = sorted(targets[name], key=lambda other: (row_of[other], other))
        if not reached:
            continue
        for step in range(row, row_of[reached[-1]]):
            ends = [(other, step + 1) for other in reached if row_of[other] == step + 1]
            if row_of[reached[-1]] > step + 1:
                ends.append((name, step + 1))
                rows[step + 1].append((name, step + 1))
            branches[name, step] = ends
    below: dict[Item, list[Item]] = defaultdict(list)
    for item, ends in branches.items():
        for end in ends:
            below[end].append(item)
    _order(rows, branches, below)
    return Layout(_places(rows, branches, below, row_of), rows, branches, row_of)


def _order(rows: list[list[Item]], above: dict[Item, list[Item]], below: dict[Item, list[Item]]) -> None:
    """Sorts each row by the mean place of its neighbours, up and down; the order with the fewest
    crossings stays."""
    best, fewest = [list(row) for row in rows], _crossings(rows, above)
    for sweep in range(SWEEPS):
        up = sweep % 2 == 0
        neighbours = below if up else above
        numbers = range(1, len(rows)) if up else range(len(rows) - 2, -1, -1)
        for number in numbers:
            other = rows[number - 1 if up else number + 1]
            place = {item: (at + 0.5) / len(other) for at, item in enumerate(other)}
            own = {item: (at + 0.5) / len(rows[number]) for at, item in enumerate(rows[number])}
            rows[number].sort(key=_barycentre(neighbours, place, own))
        crossings = _crossings(rows, above)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best


def _barycentre(
    neighbours: dict[Item, list[Item]], place: dict[Item, float], own: dict[Item, float]
) -> Callable[[Item], float]:
    def key(item: Item) -> float:
        near = [place[other] for other in neighbours.get(item, []) if other in place]
        return sum(near) / len(near) if near else own[item]

    return key


def _crossings(rows: Sequence[Sequence[Item]], above: dict[Item, list[Item]]) -> int:
    """Pairs of pieces that cross, over all gaps between rows."""
    total = 0
    for low, high in zip(rows, rows[1:], strict=False):
        place = {item: at for at, item in enumerate(high)}
        counts = [0] * (len(high) + 1)  # a Fenwick tree over the upper row
        seen = 0
        for item in low:
            ends = [place[end] for end in above.get(item, [])]
            for end in ends:
                total += seen - _prefix(counts, end + 1)
            for end in ends:
                _count(counts, end + 1)
            seen += len(ends)
    return total


def _prefix(counts: list[int], index: int) -> int:
    total = 0
    while index > 0:
        total += counts[index]
        index -= index & -index
    return total


def _count(counts: list[int], index: int) -> None:
    while index < len(counts):
        counts[index] += 1
        index += index & -index


def _places(
    rows: list[list[Item]],
    above: dict[Item, list[Item]],
    below: dict[Item, list[Item]],
    row_of: dict[str, int],
) -> dict[Item, float]:
    def half(item: Item) -> float:
        return NODE_WIDTH / 2 if row_of[item[0]] == item[1] else WAYPOINT_WIDTH / 2

    x: dict[Item, float] = {}
    gaps: list[list[float]] = []
    for row in rows:
        gap = [0.0]
        for left, right in zip(row, row[1:], strict=False):
            gap.append(gap[-1] + half(left) + half(right) + 0.06)
        gaps.append(gap)
        for item, at in zip(row, gap, strict=True):
            x[item] = at - gap[-1] / 2
    for sweep in range(SWEEPS):
        numbers = range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1)
        for number in numbers:
            row = rows[number]
            wanted, weights = [], []
            for item in row:
                near = [*below.get(item, []), *above.get(item, [])]
                pull = [(x[other], 6.0 if other[0] == item[0] else 1.0) for other in near]
                total = sum(weight for _, weight in pull)
                wanted.append(sum(at * weight for at, weight in pull) / total if pull else x[item])
                weights.append(total or 0.1)
            shifted = [at - gap for at, gap in zip(wanted, gaps[number], strict=True)]
            for item, at, gap in zip(row, _isotonic(shifted, weights), gaps[number], strict=True):
                x[item] = at + gap
    return x


def _isotonic(values: list[float], weights: list[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values` in weighted least squares (pool adjacent
    violators)."""
    blocks: list[list[float]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, heavy, length = blocks.pop()
            before = blocks[-1]
            together = before[1] + heavy
            before[0] = (before[0] * before[1] + mean * heavy) / together
            before[1], before[2] = together, before[2] + length
    return [mean for mean, _, length in blocks for _ in range(int(length))]
