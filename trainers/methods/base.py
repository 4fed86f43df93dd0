"""Method: the one interface of every discovery method."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field

from model_patches.circuit import Circuit
from trainers.progress import Progress
from trainers.spec import Spec

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from trainers.session import Session


GATE_BINS = 20
# Of writer states: how many of an attribution's runs share a forward and backward pass.
PASS_BYTES = 2**27


class PlannedPass(NamedTuple):
    """The largest pass of a kind that a backward follows: runs of the examples side by side (of an
    attribution, as many as PASS_BYTES allow), and examples of all ranks; None: as many as evaluation's."""

    runs: int
    examples: int | None


@dataclass(frozen=True)
class Found:
    """A circuit that a method found, and how.

    kind: `final` the method's own; `path` passed on the way to it; `refined` without the edges it can
    spare; `threshold` what a greedy search left at its `threshold`; `budget` the top of a ranking
    method's ranking; `ranking` the top of a ranking at a size that the method was not run for.
    """

    circuit: Circuit
    kind: Literal["final", "path", "refined", "threshold", "budget", "ranking"]
    target_sparsity: float | None = None
    step: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Discovery:
    """What a method returns: circuits to evaluate, each a point; what they cost; warnings told in the
    result and the report.

    steps: of the optimiser, or runs of an attribution. examples: examples that went forward, over all
    ranks, once per sample of gates, and once each for the full model's and the corrupted run's
    reference passes; backward_examples: those of them that a backward pass followed. Evaluating the
    found circuits is not in it. signed: the scores [writers, readers] behind a ranking, with their
    sign, which a ranking by magnitude loses in its circuits' scores; float64. gate_histogram: how many
    edges have a final E[gate] in each of GATE_BINS equal bins of [0, 1], of a method that trains gates.
    """

    found: list[Found]
    steps: int
    examples: int
    backward_examples: int
    warnings: tuple[str, ...] = ()
    signed: Float[Tensor, "writers readers"] | None = None
    gate_histogram: tuple[int, ...] | None = None


class Diverged(ArithmeticError):
    """A value is not finite, on all ranks alike: the trial fails, the ranks stay in step."""


class Method(Spec):
    """A discovery method. Its fields ARE its YAML block.

    `version` goes into every trial id: raise it when the same fields give other circuits.
    `uses_seed` is False for a method whose circuits do not depend on the trial's seed; the plan
    then runs it once instead of once per seed. `chance` is True for a floor whose circuits the seed alone
    decides; `trains_gates` for a method that leaves a histogram of its gates; `cuts_single_edges` is False
    for one that cuts many together.
    """

    version: ClassVar[int]
    label: ClassVar[str]  # the word in plots and tables
    uses_seed: ClassVar[bool] = True
    chance: ClassVar[bool] = False
    trains_gates: ClassVar[bool] = False
    cuts_single_edges: ClassVar[bool] = True
    smoke: ClassVar[Mapping[str, Any]] = {}  # see Spec.cut: for a run that only shows that all parts work

    variant: str = Field(
        "", max_length=60, description="a name for these settings, for comparing a method with itself"
    )

    @property
    def title(self) -> str:
        """The method in plots and tables; different titles are different curves."""
        return f"{self.label} ({self.variant})" if self.variant else self.label

    def asked(self) -> dict[str, Any]:
        """What a user had to write for this method: the fields that differ from their defaults."""
        return self.canonical()

    def discover(self, session: Session) -> Generator[Progress, None, Discovery]:
        """Yields progress between steps (nothing is in flight then) and returns what it found."""
        raise TypeError(f"{type(self).__name__} does not implement discover")

    def check(self, metrics: tuple[str, ...]) -> None:
        """Raises Misfit (by the path in the trial) when the method cannot work with these metrics."""

    def steps_planned(self) -> int:
        """Optimiser or attribution steps, for cost estimates."""
        return 1

    def points_planned(self) -> int:
        """At most so many circuits come out of a trial."""
        return 1

    def passes_planned(self, examples: int) -> tuple[PlannedPass, ...]:
        """What decides a trial's memory, of so many training examples; none where no backward follows."""
        del examples
        return ()


Returned = TypeVar("Returned")


def told_as(
    steps: Generator[Progress, None, Returned], told: Progress
) -> Generator[Progress, None, Returned]:
    """Runs `steps` to its end and tells `told` wherever it tells something."""
    try:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            yield told
    finally:
        steps.close()
