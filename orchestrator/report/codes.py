"""Codes: numbers as short texts, so that thousands of edges fit into a page. assets/codes.js reads them.

A number is written as base-64 digits of five bits, the lowest first; a digit of 32 or more says that
another follows (the unsigned variable-length quantity of source maps).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from orchestrator.statistics.pareto import Floats

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
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
