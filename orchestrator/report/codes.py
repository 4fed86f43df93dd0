"""Codes: numbers as short texts, so that thousands of edges fit into a page. assets/codes.js reads them.

A number is written as base-64 digits of five bits, the lowest first; a digit of 32 or more says that
another follows (the unsigned variable-length quantity of source maps).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from orchestrator.statistics.pareto import Floats

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
MARKS = 8
LEVELS_PER_DECADE = 256  # of a score: one level is 0.9 %
LOWEST = 2047  # levels below the largest score: 8 decades


def numbers(values: Iterable[int]) -> str:
    """Whole numbers of at least 0."""
    digits: list[str] = []
    for value in values:
        while value >= 32:
            digits.append(DIGITS[32 + value % 32])
            value //= 32
        digits.append(DIGITS[value])
    return "".join(digits)


def rising(values: Iterable[int]) -> str:
    """Different whole numbers, upwards: the first, then by how much each exceeds the last, less one."""
    ordered = sorted(values)
    return numbers(high - low - 1 for low, high in zip([-1, *ordered], ordered, strict=False))


def members(values: Iterable[int], size: int) -> str:
    """Different whole numbers below `size`: `rising`, or, where that is shorter, a dot and digits of six
    bits each, the lowest first, that say of every number whether it is in."""
    found = np.unique(np.fromiter(values, dtype=np.int64))
    steps = rising(found.tolist())
    if len(steps) <= -(-size // 6):
        return steps
    inside = np.zeros((-(-size // 6), 6), dtype=np.int64)
    inside.ravel()[found] = 1
    return "." + "".join(DIGITS[digit] for digit in (inside @ (1 << np.arange(6))).tolist())


def same_or_numbers(values: Sequence[int]) -> int | str:
    """One number where all are the same."""
    return int(values[0]) if len(set(values)) == 1 else numbers(values)


def scores(values: Floats) -> dict[str, float | str]:
    """`top`, the largest magnitude, and `levels`: two digits per score, its sign and how far its
    magnitude lies below the top on a logarithmic scale. Scores that are all the same are `top` alone."""
    if not len(values):
        return {}
    if (values == values[0]).all():
        return {"top": float(f"{values[0]:.6g}")}
    top = float(np.abs(values).max())
    with np.errstate(divide="ignore"):
        below = np.rint(-LEVELS_PER_DECADE * np.log10(np.abs(values) / top))
    level = np.where(values == 0, 0, np.maximum(1, LOWEST - np.minimum(below, LOWEST))).astype(int)
    level += 2048 * (values < 0)
    text = "".join(DIGITS[value // 64] + DIGITS[value % 64] for value in level.tolist())
    return {"top": float(f"{top:.6g}"), "levels": text}


def mark(slot: int) -> int:
    """Which of the eight markers and dashes a method has, on the page and in print: past the last colour
    they go on by one, so that no two of 64 methods look the same."""
    return (slot + slot // MARKS) % MARKS
