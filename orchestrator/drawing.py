"""Drawing: a circuit as a picture, one row per layer, from the embeddings up to the output."""

import io
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

MAX_EDGES = 250  # beyond this a picture shows nothing
NODE = re.compile(r"(?P<kind>[am])(?P<layer>\d+)(\.h(?P<head>\d+))?")
OUTPUT = "resid_post"
BENDS = {"q": 0.09, "k": -0.09, "v": 0.0, "": 0.05}  # so that edges between the same two nodes part
COLOURS = {"q": "#4477aa", "k": "#228833", "v": "#cc6633", "": "#777777"}  # by the reader's input
Edge = tuple[str, str]


def draw_circuit(edges: Sequence[Edge], title: str) -> bytes:
    """A PNG of the nodes that kept edges touch. `edges`: (writer, reader) names.

    Of a circuit with more than MAX_EDGES edges, the ones closest to the output are drawn, and the
    title says so.
    """
    shown = closest_to_output(edges, MAX_EDGES)
    if len(shown) < len(edges):
        title += f"\nthe {len(shown):,} of {len(edges):,} edges that are closest to the output"
    rows: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name in sorted({node_of(end) for edge in shown for end in edge}, key=_place):
        rows[_row(name)].append(name)
    widest = max((len(row) for row in rows.values()), default=1)
    width = min(24.0, max(4.0, 1.1 * widest))
    figure = Figure(figsize=(width, max(2.5, 0.75 * len(rows) + 1.0)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
    if not shown:
        axes.text(0.5, 0.5, "no edges", ha="center", va="center", transform=axes.transAxes)
        return _png(figure)
    spots = _spots(rows)
    for writer, reader in shown:
        colour, bend = COLOURS[_input_of(reader)], BENDS[_input_of(reader)]
        start, end = spots[node_of(writer)], spots[node_of(reader)]
        if start[0] == end[0] and end[1] - start[1] > 1:
            bend += 0.25  # around the nodes between, not through them
        style = {"arrowstyle": "-|>", "color": colour, "lw": 0.9, "alpha": 0.8, "shrinkA": 9, "shrinkB": 9}
        arc = f"arc3,rad={bend}"
        axes.annotate("", xy=end, xytext=start, arrowprops=style | {"connectionstyle": arc})
    for name, (x, y) in spots.items():
        box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "#333333", "lw": 0.7}
        axes.text(x, y, name, ha="center", va="center", fontsize=7, bbox=box)
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    for name, colour in COLOURS.items():
        axes.plot([], [], color=colour, lw=1.5, label={"": "MLP or output"}.get(name, f"{name} input"))
    axes.legend(loc="upper right", fontsize=6, frameon=False, bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def closest_to_output(edges: Iterable[Edge], limit: int) -> list[Edge]:
    """At most `limit` edges, by their distance from the output; edges without a path to it last."""
    into: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        into[node_of(edge[1])].append(edge)
    ordered: list[Edge] = []
    queue, seen = deque([OUTPUT]), {OUTPUT}
    while queue:
        for edge in into.pop(queue.popleft(), []):
            ordered.append(edge)
            writer = node_of(edge[0])
            if writer not in seen:
                seen.add(writer)
                queue.append(writer)
    ordered += [edge for rest in into.values() for edge in rest]
    return ordered[:limit]


def node_of(name: str) -> str:
    """The node behind a writer or a reader: `a3.h2.q` and `a3.h2` are one, `a3.h2`."""
    return name.rpartition(".")[0] if _input_of(name) else name


def _input_of(name: str) -> str:
    last = name.rpartition(".")[2]
    return last if last in ("q", "k", "v") else ""


def _row(node: str) -> tuple[int, int]:
    """(layer, 0 for attention and 1 for the MLP); embeddings first, the output last."""
    if node == OUTPUT:
        return (10**6, 0)
    match = NODE.fullmatch(node)
    return (int(match["layer"]), int(match["kind"] == "m")) if match else (-1, 0)


def _place(node: str) -> tuple[tuple[int, int], int, str]:
    match = NODE.fullmatch(node)
    return (_row(node), int(match["head"] or 0) if match else 0, node)


def _spots(rows: dict[tuple[int, int], list[str]]) -> dict[str, tuple[float, float]]:
    spots = {}
    for height, row in enumerate(sorted(rows)):
        names = rows[row]
        for number, name in enumerate(names):
            spots[name] = ((number + 1) / (len(names) + 1), float(height))
    return spots


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=130)
    return target.getvalue()
