"""Induction: repeated random tokens."""

from typing import ClassVar, Literal

from pydantic import Field

from trainers.tasks.base import Task


class InductionTask(Task):
    version: ClassVar[int] = 1
    name: Literal["induction"] = "induction"
    train: int = Field(64, ge=1)
