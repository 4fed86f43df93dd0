"""Where axes go on a canvas: measured, not solved for, so that every canvas has an answer."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

PAD = 0.07  # inches: labels of several lines reach a little further than they measure
PASSES = 3  # which labels an axis has depends on its size
LEAST = 0.2  # of a row or a column: what its axes have, however much their labels take

Ends = tuple[float, float]


def lay_out(canvas: Figure | SubFigure, pad: float = PAD) -> None:
    """Gives the axes of `canvas.subplots()` all the room that their labels and titles, the canvas's legends
    (below) and its texts (above) leave: columns of one width, rows of one height. The same canvas is laid
    out the same, and nothing is drawn. `pad` in inches."""
    places = [(axes, axes.get_subplotspec()) for axes in canvas.axes]
    grid = [(axes, place.colspan.start, place.rowspan.start) for axes, place in places if place is not None]
    box = canvas.bbox
    space = pad * canvas.get_figure(root=True).dpi  # in pixels, like all below
    legends = [legend.get_window_extent().y1 for legend in canvas.legends]
    texts = [text.get_window_extent().y0 for text in canvas.texts]
    across = (box.x0 + space / 2, box.x1 - space / 2)
    upward = (max([box.y0, *legends]) + space / 2, min([box.y1, *texts]) - space / 2)
    for _ in range(PASSES):
        reach = [_reach(axes) for axes, _, _ in grid]
        columns = _spread(
            across, [(column, one[0]) for (_, column, _), one in zip(grid, reach, strict=True)], space
        )
        rows = _spread(upward, [(-row, one[1]) for (_, _, row), one in zip(grid, reach, strict=True)], space)
        for axes, column, row in grid:
            (left, right), (below, above) = columns[column], rows[-row]
            axes.set_position(
                (
                    (left - box.x0) / box.width,
                    (below - box.y0) / box.height,
                    (right - left) / box.width,
                    (above - below) / box.height,
                )
            )


def _reach(axes: Axes) -> tuple[Ends, Ends]:
    """How far labels and titles reach beyond the axes: to the left and right, to below and above. A title or
    a label that is longer than its axes is not counted."""
    whole, inner = axes.get_tightbbox(for_layout_only=True), axes.get_window_extent()
    if whole is None:
        return (0.0, 0.0), (0.0, 0.0)
    beside = (max(0.0, inner.x0 - whole.x0), max(0.0, whole.x1 - inner.x1))
    return beside, (max(0.0, inner.y0 - whole.y0), max(0.0, whole.y1 - inner.y1))


def _spread(room: Ends, reach: Sequence[tuple[int, Ends]], space: float) -> Mapping[int, Ends]:
    """The room divided among the numbered columns (or rows, upwards), `space` apart; of each where its axes
    begin and end."""
    order = sorted({number for number, _ in reach})
    before = {number: max(ends[0] for own, ends in reach if own == number) for number in order}
    after = {number: max(ends[1] for own, ends in reach if own == number) for number in order}
    whole = room[1] - room[0] - space * (len(order) - 1)
    size = (whole - sum(before.values()) - sum(after.values())) / max(1, len(order))
    size = max(size, LEAST * whole / max(1, len(order)))
    found, at = {}, room[0]
    for number in order:
        found[number] = (at + before[number], at + before[number] + size)
        at = found[number][1] + after[number] + space
    return found
