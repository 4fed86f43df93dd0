"""Method: the one interface of every discovery method."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from model_patches.circuit import Circuit
from trainers.progress import Progress
from trainers.spec import Spec

if TYPE_CHECKING:
    from trainers.session import Session


@dataclass(frozen=True)
class Found:
    """A circuit that a method found, and how."""

    circuit: Circuit
    kind: Literal["final", "path", "refined", "budget"]
    target_sparsity: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class Discovery:
    """What a method returns: circuits to evaluate, each a point; the steps it took; warnings told
    in the result and the report."""

    found: list[Found]
    steps: int
    warnings: tuple[str, ...] = ()


class Diverged(ArithmeticError):
    """A value is not finite, on all ranks alike: the trial fails, the ranks stay in step."""


class Method(Spec):
    """A discovery method. Its fields ARE its YAML block.

    `version` goes into every trial id: raise it when the same fields give other circuits.
    `uses_seed` is False for a method whose circuits do not depend on the trial's seed; the plan
    then runs it once instead of once per seed.
    """

    version: ClassVar[int]
    label: ClassVar[str]  # the word in plots and tables
    uses_seed: ClassVar[bool] = True

    variant: str = Field(
        "", max_length=60, description="a name for these settings, for comparing a method with itself"
    )

    @property
    def title(self) -> str:
        """The method in plots and tables; different titles are different curves."""
        return f"{self.label} ({self.variant})" if self.variant else self.label

    def discover(self, session: "Session") -> Generator[Progress, None, Discovery]:
        """Yields progress between steps (nothing is in flight then) and returns what it found."""
        raise TypeError(f"{type(self).__name__} does not implement discover")

    def check(self, metrics: tuple[str, ...]) -> None:
        """Raises ValueError when the method cannot work on a task with these metrics."""

    def steps_planned(self) -> int:
        """Optimiser or attribution steps, for cost estimates."""
        return 1

    def points_planned(self) -> int:
        """At most so many circuits come out of a trial."""
        return 1
