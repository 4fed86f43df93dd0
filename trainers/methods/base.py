"""Method: the one interface of every discovery method."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from model_patches.circuit import Circuit
from trainers.progress import Progress
from trainers.spec import Spec

if TYPE_CHECKING:
    from trainers.session import Session


@dataclass(frozen=True)
class Found:
    """A circuit that a method found, and how."""

    circuit: Circuit
    kind: Literal["final", "path", "budget"]
    target_sparsity: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class Discovery:
    """What a method returns.

    scores: float [writers, readers], higher is more important; evaluated at the method's edge
    budgets. found: circuits evaluated as they are. warnings: told in the result and the report.
    """

    found: list[Found]
    steps: int
    scores: Float[Tensor, "writers readers"] | None = None
    warnings: tuple[str, ...] = ()


class Method(Spec):
    """A discovery method. Its fields ARE its YAML block.

    `version` goes into every trial id: raise it when the same fields give other circuits.
    `uses_seed` is False for a method whose circuits do not depend on the trial's seed; the plan
    then runs it once instead of once per seed.
    """

    version: ClassVar[int]
    label: ClassVar[str]  # the word in plots and tables
    uses_seed: ClassVar[bool] = True

    def discover(self, session: "Session") -> Generator[Progress, None, Discovery]:
        """Yields progress between steps (nothing is in flight then) and returns what it found."""
        raise TypeError(f"{type(self).__name__} does not implement discover")

    def steps_planned(self) -> int:
        """Optimiser or attribution steps, for cost estimates."""
        return 1
