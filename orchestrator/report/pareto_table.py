"""The Pareto fronts as text, for the end of a run and for a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence

import numpy as np

from orchestrator.records.results import Results
from orchestrator.report.metric_words import words
from orchestrator.report.scenes import Curve, curves, titles
from orchestrator.report.thinning import evenly
from orchestrator.statistics.pareto import leaders
from orchestrator.wording import count, headline, percent, significant

# Lines per method: the budgets at which the median over seeds improves, by more than rounding can, evenly
# thinned to these.
LINES = 6
WIDTH = 80
SHORTEST_NAME = 16  # columns that a method's name has at least; a longer one goes on in the next lines
LONGEST_NUMBER = 30  # columns of a number and of its heading
_GAP = "  "
_BAD = {"failed": "failed", "unreadable": "damaged", "unfinished": "not over"}


def pareto_table(results: Results) -> str:
    """Per scene and method: median and quartiles of the test divergence over seeds at edge budgets.

    At each budget a seed counts with its best circuit by validation of at most that many edges. No
    trailing newline; a sentence when there is no circuit yet.
    """
    scenes = curves(results)
    trouble = _trouble(results)
    if not scenes:
        return "\n".join(["No circuits yet.", *trouble])
    names = titles(scenes)
    lines: list[str] = []
    for scene, group in scenes.items():
        metric = f"test {words(scene.divergence)}"
        named = f"{metric}: median [quartiles]"
        value = named if len(named) <= LONGEST_NUMBER else "median [quartiles]"
        head = tuple(_clipped(cell, LONGEST_NUMBER) for cell in ("edges ≤", "sparsity", value, "seeds"))
        numbers = {curve.method: _numbers(curve) for curve in group}
        rows = [head, *(row for own in numbers.values() for row in own)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        room = max(SHORTEST_NAME, WIDTH - sum(widths) - len(_GAP) * len(widths))
        room = min(room, max(len("method"), *(len(_printable(method)) for method in numbers)))
        title = _clipped(f"{names[scene]}  ({scene.num_edges_total:,} edges)", WIDTH)
        lines += [
            "",
            title,
            *([_clipped(metric, WIDTH)] * (value != named)),
            _line("method", head, room, widths),
        ]
        for method, own in numbers.items():
            told = textwrap.wrap(_clipped(method, LINES * room), room) or [""]
            blank = ("",) * len(widths)
            for place in range(max(len(told), len(own))):
                cells = own[place] if place < len(own) else blank
                lines.append(_line(told[place] if place < len(told) else "", cells, room, widths))
    return "\n".join([*lines[1:], *([""] * bool(trouble)), *trouble])


def _trouble(results: Results) -> list[str]:
    """How many trials did not end well, and the first of their problems, in lines of a terminal."""
    rows = results.trials.select(["trial_id", "status", "error"]).to_pylist()
    by_status = {status: [row for row in rows if row["status"] == status] for status in _BAD}
    told = [f"{len(own)} {_BAD[status]}" for status, own in by_status.items() if own]
    asked = [problem for problem in results.problems if problem.asked]
    wrong = [problem for problem in results.problems if not problem.asked]
    others = len(wrong) - len(by_status["unreadable"])  # each of which is a problem, too
    if others > 0:
        told.append(count(others, "other problem") + " with the files")
    bad = [*by_status["failed"], *by_status["unreadable"]]
    first = ""
    if bad:
        first = f" First: {bad[0]['trial_id']}: {headline(bad[0]['error'])}"
    elif others > 0:
        first = f" First: {wrong[0].where}: {wrong[0].what}"
    text = f"Of {count(len(rows), 'trial')}: {', '.join(told)}.{first}"
    lines = textwrap.wrap(_clipped(text, 3 * WIDTH), WIDTH) if told else []
    for problem in asked:
        lines += textwrap.wrap(_clipped(f"{problem.where}: {problem.what}.", 2 * WIDTH), WIDTH)
    return lines


def _numbers(curve: Curve) -> list[Sequence[str]]:
    """Edges, sparsity, divergence and seeds at the chosen budgets, as text."""
    bands = curve.bands
    if not len(bands.budgets):
        return [("–", "–", "no finite divergence", "–")]
    places = evenly(leaders(bands.median, curve.rounding).tolist() or [0], LINES)
    rows = []
    for place in places:
        budget = int(bands.budgets[place])
        low, middle, high = (
            _told(float(values[place])) for values in (bands.quartile_1, bands.median, bands.quartile_3)
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


def _told(value: float) -> str:
    """Bands count a NaN as infinitely far: which of the two it was, they do not know."""
    return significant(value) if np.isfinite(value) else "not finite"


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
