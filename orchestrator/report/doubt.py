"""Doubt: one thing that a reader of the report should know before believing it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Doubt:
    """`where` it arises: a method, a curve, a file; `advice` may be empty; `trials` by id."""

    where: str
    what: str
    advice: str = ""
    trials: Sequence[str] = ()
