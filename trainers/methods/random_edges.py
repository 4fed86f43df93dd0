"""Random edges: the floor that every method must clear."""

from typing import ClassVar, Literal

from trainers.methods.base import Method


class RandomEdges(Method):
    version: ClassVar[int] = 1
    label: ClassVar[str] = "random"
    name: Literal["random"] = "random"
