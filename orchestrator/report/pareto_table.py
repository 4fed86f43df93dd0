"""The Pareto fronts as text, for the end of a run and for a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence

import numpy as np

from orchestrator.report.metric_words import words
from orchestrator.report.panels.curves import evenly
from orchestrator.report.scenes import Curve, curves, titles
from orchestrator.results import Results
from orchestrator.wording import percent, significant

# Lines per method: the budgets at which the median over seeds improves, evenly thinned to these.
LINES = 6
WIDTH = 80
SHORTEST_NAME = 16  # columns that a method's name has at least; a longer one goes on in the next lines
LONGEST_NUMBER = 30  # columns of a number and of its heading
_GAP = "  "


def pareto_table(results: Results) -> str:
    """Per scene and method: median and quartiles of the test divergence over seeds at edge budgets.

    At each budget a seed counts with its best circuit by validation of at most that many edges. No
    trailing newline; a sentence when there is no circuit yet.
    """
    scenes = curves(results)
    if not scenes:
        return "No circuits yet."
    names = titles(scenes)
    lines: list[str] = []
    for scene, group in scenes.items():
        value = f"test {words(scene.divergence)}: median [quartiles]"
        head = tuple(_clipped(cell, LONGEST_NUMBER) for cell in ("edges ≤", "sparsity", value, "seeds"))
        numbers = {curve.method: _numbers(curve) for curve in group}
        rows = [head, *(row for own in numbers.values() for row in own)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        room = max(SHORTEST_NAME, WIDTH - sum(widths) - len(_GAP) * len(widths))
        room = min(room, max(len("method"), *(len(_printable(method)) for method in numbers)))
        title = _clipped(f"{names[scene]}  ({scene.num_edges_total:,} edges)", WIDTH)
        lines += ["", title, _line("method", head, room, widths)]
        for method, own in numbers.items():
            told = textwrap.wrap(_clipped(method, LINES * room), room) or [""]
            blank = ("",) * len(widths)
            for place in range(max(len(told), len(own))):
                cells = own[place] if place < len(own) else blank
                lines.append(_line(told[place] if place < len(told) else "", cells, room, widths))
    return "\n".join(lines[1:])


def _numbers(curve: Curve) -> list[Sequence[str]]:
    """Edges, sparsity, divergence and seeds at the chosen budgets, as text."""
    bands = curve.bands
    if not len(bands.budgets):
        return [("–", "–", "no finite divergence", "–")]
    better = bands.median < np.minimum.accumulate(np.concatenate(([np.inf], bands.median)))[:-1]
    places = evenly(np.flatnonzero(better).tolist() or [0], LINES)
    rows = []
    for place in places:
        budget = int(bands.budgets[place])
        low, middle, high = (
            significant(float(values[place])) for values in (bands.quartile_1, bands.median, bands.quartile_3)
        )
        rows.append(
            (
                f"{budget:,}",
                percent(1 - budget / curve.scene.num_edges_total),
                middle if bands.num_seeds[place] == 1 else f"{middle} [{low}, {high}]",
                f"{bands.num_seeds[place]} of {len(curve.all_seeds)}",
            )
        )
    return rows


def _line(method: str, cells: Sequence[str], room: int, widths: Sequence[int]) -> str:
    """The method to the left, numbers to the right."""
    numbers = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return _GAP.join([f"{method:<{room}}", *numbers]).rstrip()


def _printable(text: str) -> str:
    """Control characters of a name do not get out."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _clipped(text: str, width: int) -> str:
    text = _printable(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"
