"""Tracr tasks: every input of a compiled program's domain."""

from typing import ClassVar, Literal

from trainers.tasks.base import Task


class TracrTask(Task):
    version: ClassVar[int] = 1
    name: Literal["tracr"] = "tracr"
