"""Task: the one interface of every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from trainers.data import Example
from trainers.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.model import Loaded, ModelSpec

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
# Test first: the test set stays the same when the number of training examples is varied.
DRAWN: tuple[Split, ...] = ("test", "validation", "train")


@dataclass(frozen=True)
class Dataset:
    """A task's examples by split; how many candidates were dropped, by reason; `in_sample` when the
    test examples are also trained on."""

    splits: Mapping[Split, list[Example]]
    dropped: Mapping[str, int] = field(default_factory=dict)
    in_sample: bool = False

    @property
    def same_splits(self) -> bool:
        """Train, validation and test are the same examples, in any order."""
        return len({frozenset(self.splits[split]) for split in SPLITS}) == 1

    @property
    def tests_trained_on(self) -> int:
        """How many test examples have a clean prompt, in tokens, that is also trained on."""
        trained = {example.clean for example in self.splits["train"]}
        return sum(example.clean in trained for example in self.splits["test"])


class Task(Spec):
    """A behaviour with clean and corrupted prompts. Its fields ARE its YAML block.

    `version` goes into every trial id: raise it when the same fields give other examples.
    """

    version: ClassVar[int]
    answer_is: ClassVar[str] = "answer"  # in what is printed for people: what an example's answer says
    smoke: ClassVar[Mapping[str, Any]] = {}  # see Spec.cut: for a run that only shows that all parts work
    data_seed: int = Field(0, ge=0, lt=2**63, description="decides the examples; the trial's seed never does")

    @property
    def test_set(self) -> str:
        """What the test metrics were measured on; results on other test sets share no axis."""
        raise TypeError(f"{type(self).__name__} does not say test_set")

    def test_set_of(self, dataset: Dataset) -> str:
        """`test_set`, once the examples are known."""
        del dataset
        return self.test_set

    def check(self, model: ModelSpec) -> None:
        """Raises ValueError when the task cannot be asked of the model."""

    def identity(self) -> dict[str, Any]:
        """What of the task goes into a trial id: fields that differ from their defaults, and the
        content of files instead of their paths."""
        return self.canonical() | {"name": getattr(self, "name"), "version": self.version}  # noqa: B009

    def dataset(self, loaded: Loaded) -> Dataset:
        """The same for the same fields and model, everywhere.

        Raises SpecError when the task cannot be asked of the model: what was dropped, and why.
        """
        raise TypeError(f"{type(self).__name__} does not implement dataset")

    def examples(self, split: Split, loaded: Loaded) -> list[Example]:
        return self.dataset(loaded).splits[split]

    def tokens_planned(self) -> tuple[int, int] | None:
        """Of the longest prompt, and scored ones of it, for estimates: exact where they are the same for
        every tokenizer, else those of SmolLM2's; None where only reading the data would tell."""

    def metrics(self, model: ModelSpec) -> tuple[str, ...]:
        """Names in METRICS; the first is the divergence that training minimises. Unless a task says
        otherwise, those of a right token against a distractor."""
        del model
        return ("kl", "logit_difference", "accuracy", "exact_match")

    def attribution_metric(self, model: ModelSpec) -> str:
        """The metric whose gradient scores edges: higher is better, not a divergence."""
        del model
        return "logit_difference"

    def readout(self, logits: Tensor, loaded: Loaded) -> Tensor:
        """What metrics see of the model's logits [..., vocab]: all of them, scaled ones, or those of
        the task's candidate tokens (then answers and distractors count candidates)."""
        del loaded
        return logits

    def candidates(self, loaded: Loaded) -> tuple[int, ...] | None:
        """The token ids that readout's columns stand for; None where they are the whole vocabulary."""
        del loaded

    def chance(self, model: ModelSpec) -> dict[str, float]:
        """By metric, the level of a model that knows nothing of the task; a full model that is not
        above it is flagged."""
        del model
        return {}

    def ground_truth(self, loaded: Loaded) -> list[tuple[str, str]] | None:
        """(writer, reader) names of a circuit known to compute the task, if there is one."""
        del loaded
        return None
