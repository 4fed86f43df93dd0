"""Induction: repeated random tokens (Olsson et al. 2022), for any model and vocabulary."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from trainers.data import Example
from trainers.spec import SpecError
from trainers.tasks.base import DRAWN, Dataset, Split, Task

if TYPE_CHECKING:
    from trainers.model import Loaded, ModelSpec


class InductionTask(Task):
    """`x1 … xn x1 … xk` → `x(k+1)`: the token that followed the last one's first occurrence.

    Clean and corrupted prompts differ in their first `period` tokens only: in the corrupted one
    they are other random tokens, so nothing there tells how to go on. The distractor is the token
    at the answer's place in the corrupted prompt. Needs no tokenizer; with one, its special tokens and
    ids that it does not know are left out.
    """

    version: ClassVar[int] = 3
    smoke: ClassVar[Mapping[str, Any]] = {"train": 8, "validation": 8, "test": 8}

    name: Literal["induction"] = "induction"
    period: int = Field(8, ge=2, description="tokens before the repetition")
    shown: int = Field(4, ge=1, description="repeated tokens before the scored position; below period")
    train: int = Field(128, ge=1, description="number of training examples")
    validation: int = Field(128, ge=1)
    test: int = Field(512, ge=1)

    def tokens_planned(self) -> tuple[int, int] | None:
        return self.period + self.shown, 1

    @model_validator(mode="after")
    def _shown_in_part(self) -> "InductionTask":
        if not self.shown < self.period:
            raise ValueError(f"shown: found {self.shown}; allowed: below period ({self.period})")
        return self

    def check(self, model: "ModelSpec") -> None:
        if model.program is not None:
            raise ValueError(f"task induction needs a language model, not {model.builtin}")

    @property
    def test_set(self) -> str:
        return f"{self.test} of period {self.period}, {self.shown} shown, data seed {self.data_seed}"

    def dataset(self, loaded: "Loaded") -> Dataset:
        """Raises SpecError when the vocabulary or the context is too small."""
        vocabulary = loaded.ordinary_tokens()
        self._fit(len(vocabulary), loaded.context)
        draw, seen = random.Random(self.data_seed), set[tuple[int, ...]]()
        return Dataset({split: self._draw(draw, seen, vocabulary, split) for split in DRAWN})

    def _draw(
        self, draw: random.Random, seen: set[tuple[int, ...]], vocabulary: Sequence[int], split: Split
    ) -> list[Example]:
        """Drawn without repetition, from one generator for all splits: they are disjoint."""
        wanted: int = getattr(self, split)
        chosen: list[Example] = []
        while len(chosen) < wanted:
            tokens = draw.sample(vocabulary, 2 * self.period)
            first, other = tuple(tokens[: self.period]), tuple(tokens[self.period :])
            if first in seen:
                continue
            seen.add(first)
            repeated = first[: self.shown]
            last, right = self.period + self.shown - 1, first[self.shown]
            chosen.append(
                Example(first + repeated, other + repeated, (last,), (right,), (other[self.shown],))
            )
        return chosen

    def _fit(self, vocabulary: int, context: int) -> None:
        if vocabulary < 3 * self.period:
            raise SpecError(
                f"task.period: found {self.period}; this vocabulary allows {vocabulary // 3} at most"
            )
        if self.period + self.shown > context:
            found = f"task: period + shown is {self.period + self.shown}"
            raise SpecError(f"{found}; this model reads {context} tokens at most")
        wanted, different = self.train + self.validation + self.test, math.perm(vocabulary, self.period)
        if wanted > different:
            raise SpecError(
                f"task: found {wanted} examples in all; this vocabulary has {different} different ones"
            )

    def chance(self, model: "ModelSpec") -> dict[str, float]:
        del model
        return {"logit_difference": 0.0}
