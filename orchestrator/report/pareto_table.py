"""The Pareto fronts as text, for the end of a run and for a terminal of 100 columns."""

from collections.abc import Sequence

import numpy as np

from orchestrator.report.metric_words import words
from orchestrator.report.panels.curves import evenly
from orchestrator.report.scenes import Curve, curves, titles
from orchestrator.results import Results
from orchestrator.wording import percent, significant

# Lines per method: the budgets at which the median over seeds improves, evenly thinned to these.
LINES = 6

_WIDTHS = (22, 8, 9, 46, 7)


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
        head = (
            "method",
            "edges ≤",
            "sparsity",
            f"test {words(scene.divergence)}: median [quartiles]",
            "seeds",
        )
        lines += ["", _clipped(f"{names[scene]}  ({scene.num_edges_total:,} edges)", 100), _line(head)]
        for curve in group:
            lines += _curve_lines(curve)
    return "\n".join(lines[1:])


def _curve_lines(curve: Curve) -> list[str]:
    bands = curve.bands
    if not len(bands.budgets):
        return [_line((curve.method, "–", "–", "no circuit has a finite divergence", "–"))]
    better = bands.median < np.minimum.accumulate(np.concatenate(([np.inf], bands.median)))[:-1]
    places = evenly(np.flatnonzero(better).tolist() or [0], LINES)
    lines = []
    for number, place in enumerate(places):
        budget = int(bands.budgets[place])
        low, middle, high = (
            significant(float(values[place])) for values in (bands.quartile_1, bands.median, bands.quartile_3)
        )
        cells = (
            curve.method if number == 0 else "",
            f"{budget:,}",
            percent(1 - budget / curve.scene.num_edges_total),
            middle if bands.num_seeds[place] == 1 else f"{middle} [{low}, {high}]",
            f"{bands.num_seeds[place]} of {len(curve.all_seeds)}",
        )
        lines.append(_line(cells))
    return lines


def _line(cells: Sequence[str]) -> str:
    """The method to the left, numbers to the right; control characters of a name do not get out."""
    first, *others = (_clipped(cell, width) for cell, width in zip(cells, _WIDTHS, strict=True))
    parts = [f"{first:<{_WIDTHS[0]}}"]
    parts += [f"{cell:>{width}}" for cell, width in zip(others, _WIDTHS[1:], strict=True)]
    return "  ".join(parts).rstrip()


def _clipped(text: str, width: int) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= width else f"{text[: width - 1]}…"
