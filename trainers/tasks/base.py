"""Task: the one interface of every task."""

from typing import ClassVar, Literal

from pydantic import Field

from trainers.spec import Spec

Split = Literal["train", "validation", "test"]


class Task(Spec):
    version: ClassVar[int]
    data_seed: int = Field(0, ge=0, description="decides the examples; the trial's seed never does")
