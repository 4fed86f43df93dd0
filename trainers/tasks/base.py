"""Task: the one interface of every task."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from trainers.data import Example
from trainers.spec import Spec

if TYPE_CHECKING:
    from trainers.model import Loaded, ModelSpec

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Task(Spec):
    """A behaviour with clean and corrupted prompts. Its fields ARE its YAML block.

    `version` goes into every trial id: raise it when the same fields give other examples.
    """

    version: ClassVar[int]
    data_seed: int = Field(0, ge=0, lt=2**63, description="decides the examples; the trial's seed never does")

    @property
    def test_set(self) -> str:
        """What the test metrics were measured on; results on other test sets share no axis."""
        raise TypeError(f"{type(self).__name__} does not say test_set")

    @property
    def in_sample(self) -> bool:
        """True when the test examples are also trained on."""
        return False

    def check(self, model: "ModelSpec") -> None:
        """Raises ValueError when the task cannot be asked of the model."""

    def examples(self, split: Split, loaded: "Loaded") -> list[Example]:
        """The same list for the same fields, model and split, everywhere."""
        raise TypeError(f"{type(self).__name__} does not implement examples")

    def metrics(self, model: "ModelSpec") -> tuple[str, ...]:
        """Names in METRICS; the first is the divergence that training minimises."""
        raise TypeError(f"{type(self).__name__} does not say metrics")

    def attribution_metric(self, model: "ModelSpec") -> str:
        """The metric whose gradient scores edges: higher is better, not a divergence."""
        raise TypeError(f"{type(self).__name__} does not say attribution_metric")

    def readout(self, logits: Tensor) -> Tensor:
        """What metrics see of the model's logits [..., vocab]."""
        return logits

    def ground_truth(self, loaded: "Loaded") -> list[tuple[str, str]] | None:
        """(writer, reader) names of a circuit known to compute the task, if there is one."""
        del loaded
        return None
