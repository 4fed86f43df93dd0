"""Drawing: a circuit as a picture, layers as rows, from the embeddings up to the output.

Each writer is one trunk that rises through the rows; a branch leaves it for each reader, in the
colour of the reader's kind. Serves `circuit draw`, the pictures in MLflow and the
report's figures.
"""

import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.text import Text

from model_patches.circuit import Circuit
from orchestrator.circuits.layout import NODE_WIDTH, Item, Layout, layered
from orchestrator.circuits.paths import (
    NODE,
    OUTPUT,
    OUTPUT_LAYER,
    PORTS,
    Edge,
    closest_to_output,
    kind_of,
    level_of,
    node_of,
    on_paths,
    place_of,
    served,
)
from orchestrator.wording import count

MAX_EDGES = 1000  # beyond this a picture shows nothing
MAX_PIXELS = 20_000  # either way
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {"q": "#0072B2", "k": "#E69F00", "v": "#009E73", "mlp": "#D55E00", "output": "#CC79A7"}
SHORT = {"tok_embeds": "tok", "pos_embeds": "pos"}
TRUNK, INSIDE = "#9a9a9a", "#c8c8c8"
UNIT = 0.56  # inches per node width
BOX = 0.24  # a node's height, inches
Format = Literal["png", "svg", "pdf"]
FORMATS: dict[str, Format] = {".pdf": "pdf", ".svg": "svg", ".png": "png"}


@dataclass(frozen=True)
class Piece:
    """A curve between two neighbouring rows: from (x, y) to (x, y) in inches."""

    start: tuple[float, float]
    end: tuple[float, float]
    colour: str
    width: float


def draw(circuit: Circuit, title: str, form: Format = "png") -> bytes:
    """The edges on kept paths, as wide as their scores are large; the title tells how many kept edges
    are not drawn. The same circuit is the same bytes."""
    shape, connected = circuit.graph.shape, circuit.connected()
    scores = connected.scores[connected.kept].tolist()
    shared = shape.query_heads // shape.key_value_heads
    if undrawn := left_out(circuit):
        title += f"\n{undrawn}"
    return draw_circuit(connected.edges, title, scores, shared, form)


def left_out(circuit: Circuit) -> str | None:
    """Says how many kept edges a picture leaves out: those on no path from input to output, and of the
    others what is beyond MAX_EDGES. None when all are drawn."""
    kept, connected = circuit.num_edges, circuit.connected().num_edges
    missing = kept - min(connected, MAX_EDGES)
    if not missing:
        return None
    verb = "lies" if connected == 1 else "lie"
    return (
        f"{connected:,} of {count(kept, 'kept edge')} {verb} on a path; "
        f"{missing:,} {'is' if missing == 1 else 'are'} not drawn"
    )


def draw_circuit(
    edges: Sequence[Edge],
    title: str,
    scores: Sequence[float] | None = None,
    heads_per_kv: int = 1,
    form: Format = "png",
) -> bytes:
    """A picture of (writer, reader) edges; those on no path to the output are left out, and, where an
    edge leaves an embedding, those on no path from one.

    Of a circuit with more than MAX_EDGES edges, the ones closest to the output are drawn, and the
    title says so.
    """
    with matplotlib.rc_context({"svg.hashsalt": "circuit-sweep", "pdf.fonttype": 42}):
        figure = Figure()
        figure.set_size_inches(_paint(figure, edges, title, scores, heads_per_kv))
        target = io.BytesIO()
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[form]
        dots = min(150.0, MAX_PIXELS / max(figure.get_size_inches()))
        figure.savefig(target, format=form, dpi=dots, metadata=undated)
        return target.getvalue()


def natural_size(
    edges: Sequence[Edge], title: str, scores: Sequence[float] | None = None, heads_per_kv: int = 1
) -> tuple[float, float]:
    """Width and height in inches at which `draw_circuit` draws a circuit."""
    return _paint(Figure(), edges, title, scores, heads_per_kv)


def draw_into(
    canvas: Figure | SubFigure,
    edges: Sequence[Edge],
    title: str,
    scores: Sequence[float] | None = None,
    heads_per_kv: int = 1,
) -> None:
    """The picture of `draw_circuit` in a figure or a part of one, letters and lines as small as it takes to
    fit."""
    wide, high = _paint(canvas, edges, title, scores, heads_per_kv)
    dots = canvas.get_figure(root=True).dpi
    scale = min(1.0, canvas.bbox.width / dots / wide, canvas.bbox.height / dots / high)
    axes = canvas.axes[-1]
    axes.set_aspect("equal")
    for text in axes.findobj(Text):
        text.set_parse_math(False)
        text.set_fontsize(scale * float(text.get_fontsize()))
    for patch in axes.findobj(Patch):
        patch.set_linewidth(scale * patch.get_linewidth())
    for line in axes.findobj(Line2D):
        line.set_linewidth(scale * line.get_linewidth())
        line.set_markersize(scale * line.get_markersize())


def _paint(
    canvas: Figure | SubFigure,
    edges: Sequence[Edge],
    title: str,
    scores: Sequence[float] | None,
    heads_per_kv: int,
) -> tuple[float, float]:
    """Draws over the whole canvas; returns the width and height in inches that the drawing is made for."""
    weight = dict(zip(edges, scores if scores is not None else [1.0] * len(edges), strict=True))
    useful = on_paths(edges, heads_per_kv)
    shown = closest_to_output(useful, MAX_EDGES)
    if len(shown) < len(useful):
        title += f"\nthe {len(shown):,} of {len(useful):,} edges that are closest to the output"
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    if shown:
        return _fill(axes, [(*edge, weight[edge]) for edge in shown], heads_per_kv, title)
    axes.text(0.5, 0.5, f"{title}\nno edges on a path", ha="center", va="center", fontsize=9)
    return 4.0, 2.0


def _fill(
    axes: Axes, edges: list[tuple[str, str, float]], heads_per_kv: int, title: str
) -> tuple[float, float]:
    links, ports = _links(edges, heads_per_kv)
    names = sorted({end for link in links for end in link[:2]}, key=place_of)
    levels = {level: row for row, level in enumerate(sorted({level_of(name) for name in names}))}
    layout = layered({name: levels[level_of(name)] for name in names}, [link[:2] for link in links])
    heights = _heights(layout)
    xs = [at * UNIT for at in layout.x.values()]
    left, right = min(xs) - UNIT * 0.75, max(xs) + UNIT * 0.75
    margin, top = 0.95, heights[-1] + 0.75 + 0.16 * title.count("\n")
    spare = max(0.0, 4.6 - margin - (right - left)) / 2
    left, right = left - spare, right + spare
    width = right - left + margin
    axes.set_xlim(left - margin, left - margin + width)
    axes.set_ylim(-0.62, top)
    _bands(axes, {level: heights[row] for level, row in levels.items()}, left, left - margin + width)
    for piece in _pieces(layout, links, ports, heights):
        axes.add_patch(_curve(piece))
    for items in layout.rows:
        for name, row in items:
            if layout.row_of[name] == row:
                _box(axes, name, layout.x[name, row] * UNIT, heights[row], (left, right))
            elif len(layout.branches[name, row]) > 1:
                _junction(axes, name, layout.x[name, row] * UNIT, heights[row])
    axes.text(left - margin + 0.1, top - 0.1, title, fontsize=8, va="top", fontweight="bold")
    _legend(axes, edges, heads_per_kv)
    return width, top + 0.62


def _links(
    edges: list[tuple[str, str, float]], heads_per_kv: int
) -> tuple[list[tuple[str, str, str, float]], dict[tuple[str, str], list[tuple[str, float]]]]:
    """(low node, high node, kind, score) for every line to draw, and the same by the two nodes. Key
    and value heads that several query heads share are nodes of their own, under them."""
    heads = {writer for writer, _, _ in edges}
    links: list[tuple[str, str, str, float]] = []
    for writer, reader, score in edges:
        kind, node = kind_of(reader), node_of(reader)
        if heads_per_kv > 1 and kind in ("k", "v"):
            node = node.replace(".h", ".kv")
            links += [(node, head, "", 0.0) for head in served(reader, heads_per_kv) if head in heads]
        links.append((writer, node, kind, score))
    ports: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for low, high, kind, score in dict.fromkeys(links):
        ports[low, high].append((kind, score))
    return list(dict.fromkeys(links)), ports


def _heights(layout: Layout) -> list[float]:
    """Inches from the bottom; the more lines run between two rows, the further apart they are."""
    heights = [0.0]
    for row in layout.rows[:-1]:
        spread = sum(
            min(abs(layout.x[item] - layout.x[end]), 4.0)
            for item in row
            for end in layout.branches.get(item, [])
        )
        heights.append(heights[-1] + 0.46 + min(0.7, 0.007 * spread))
    return heights


def _pieces(
    layout: Layout,
    links: list[tuple[str, str, str, float]],
    ports: dict[tuple[str, str], list[tuple[str, float]]],
    heights: list[float],
) -> list[Piece]:
    """All curves, thin ones last so that they stay visible on wide ones."""
    widths = _line_widths(score for _, _, kind, score in links if kind)
    ahead: dict[str, list[tuple[int, str, float]]] = defaultdict(list)
    for low, high, kind, score in links:
        ahead[low].append((layout.row_of[high], kind, score))
    pieces = []
    for (name, row), ends in layout.branches.items():
        lift = BOX / 2 if layout.row_of[name] == row else 0.0
        start = (layout.x[name, row] * UNIT, heights[row] + lift)
        for end in ends:
            x, y = layout.x[end] * UNIT, heights[end[1]]
            if end[0] == name:
                rest = [(kind, score) for level, kind, score in ahead[name] if level > end[1]]
                kinds = {kind for kind, _ in rest}
                colour = COLOURS[kinds.pop()] if len(kinds) == 1 and "" not in kinds else TRUNK
                wide = max(widths.get(score, 0.9) for _, score in rest)
                pieces.append(Piece(start, (x, y), colour, max(0.7, 0.7 * wide)))
                continue
            for kind, score in ports[name, end[0]]:
                offset = _port(kind, end) * UNIT * 0.86
                if end[0] == OUTPUT:
                    x = start[0]
                finish = (x + offset, y - BOX / 2)
                width = widths[score] if kind else 0.9
                pieces.append(Piece(start, finish, COLOURS.get(kind, INSIDE), width))
    return sorted(pieces, key=lambda piece: -piece.width)


def _port(kind: str, end: Item) -> float:
    """Where on the lower side of a node a line of this kind ends, in node widths."""
    return {"k": -0.2, "v": 0.2}.get(kind, 0.0) if ".kv" in end[0] else PORTS.get(kind, 0.0)


def _line_widths(scores: Iterable[float]) -> dict[float, float]:
    """Points by score: 0.6 to 2.8, with the square root of how high the score lies between 0, or the
    lowest if that is less, and the highest; 1.1 for scores that are all the same."""
    found = set(scores)
    low, high = min(0.0, *found) if found else 0.0, max(found, default=0.0)
    if len(found) < 2:
        return dict.fromkeys(found, 1.1)
    return {score: 0.6 + 2.2 * math.sqrt(max(0.0, score - low) / (high - low)) for score in found}


def _curve(piece: Piece) -> PathPatch:
    (x0, y0), (x1, y1) = piece.start, piece.end
    bend = 0.5 * (y1 - y0)
    points = [(x0, y0), (x0, y0 + bend), (x1, y1 - bend), (x1, y1)]
    codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]
    quiet = piece.colour in (TRUNK, INSIDE)
    return PathPatch(
        Outline(points, codes), fc="none", ec=piece.colour, lw=piece.width,
        alpha=0.8 if quiet else 0.9, zorder=1 if quiet else 2, capstyle="round",
    )  # fmt: skip


def _box(axes: Axes, name: str, x: float, y: float, span: tuple[float, float]) -> None:
    width = UNIT * NODE_WIDTH * 0.92
    if name == OUTPUT:
        x, width = (span[0] + span[1]) / 2, span[1] - span[0]
    face = {"m": "#fdeee4", "a": "#ffffff"}.get(name[0] if NODE.fullmatch(name) else "", "#ececec")
    corner = (x - width / 2, y - BOX / 2)
    outline = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch(corner, width, BOX, boxstyle=outline, fc=face, ec="#333333", lw=0.7, zorder=5)
    )
    axes.text(x, y, SHORT.get(name, name), ha="center", va="center_baseline", fontsize=6.5, zorder=6)


def _junction(axes: Axes, name: str, x: float, y: float) -> None:
    """Where branches leave a trunk: a dot, and whose trunk it is."""
    axes.plot([x], [y], ".", color="#333333", ms=2.4, zorder=4)
    halo = {"boxstyle": "square,pad=0.05", "fc": "white", "ec": "none", "alpha": 0.7}
    label = SHORT.get(name, name)
    axes.text(
        x + 0.012,
        y,
        label,
        rotation=90,
        ha="left",
        va="center",
        fontsize=4,
        color="#333333",
        zorder=3,
        bbox=halo,
    )


def _bands(axes: Axes, levels: dict[tuple[int, int], float], left: float, right: float) -> None:
    """Each row's name at the left, and a tint behind every second layer."""
    parts = {0: "key/value", 1: "heads", 2: "MLP"}
    layers: dict[int, list[float]] = defaultdict(list)
    for (layer, part), y in levels.items():
        label = {-1: "embeddings", OUTPUT_LAYER: "output"}.get(layer, f"{layer} {parts[part]}")
        axes.text(left - 0.85, y, label, fontsize=6.5, color="#555555", va="center")
        layers[layer].append(y)
    for layer in (layer for layer in layers if layer % 2 == 0 and layer != OUTPUT_LAYER):
        low, high = min(layers[layer]) - 0.24, max(layers[layer]) + 0.24
        axes.add_patch(Rectangle((left, low), right - left, high - low, fc="#f1f5f8", ec="none", zorder=0))


def _legend(axes: Axes, edges: list[tuple[str, str, float]], heads_per_kv: int) -> None:
    present = {kind_of(reader) for _, reader, _ in edges}
    named = {"q": "query", "k": "key", "v": "value", "mlp": "MLP", "output": "output"}
    lines = [Line2D([], [], color=COLOURS[k], lw=2, label=f"into {named[k]}") for k in named if k in present]
    lines.append(Line2D([], [], color=TRUNK, lw=1.5, label="a writer's trunk"))
    if heads_per_kv > 1:
        lines.append(Line2D([], [], color=INSIDE, lw=1.5, label="shared key/value head"))
    if len({score for _, _, score in edges}) > 1:
        lines.append(Line2D([], [], color="#555555", lw=2.5, label="wide: high score"))
    columns = len(lines) if axes.get_xlim()[1] - axes.get_xlim()[0] > 8 else 4
    axes.legend(
        handles=lines, loc="lower center", ncols=columns, fontsize=6.5, frameon=False,
        handlelength=1.6, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip
