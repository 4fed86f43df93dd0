"""Induction: repeated random tokens (Olsson et al. 2022), for any model and vocabulary."""

import random
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainers.data import Example
from trainers.tasks.base import SPLITS, Split, Task

if TYPE_CHECKING:
    from trainers.model import Loaded, ModelSpec


class InductionTask(Task):
    """`x1 … xn x1 … xk` → `x(k+1)`: the token that followed the last one's first occurrence.

    Clean and corrupted prompts differ in their first `period` tokens only: in the corrupted one
    they are other random tokens, so nothing there tells how to go on. The distractor is the token
    at the answer's place in the corrupted prompt. Needs no tokenizer.
    """

    version: ClassVar[int] = 1

    name: Literal["induction"] = "induction"
    period: int = Field(8, ge=2, description="tokens before the repetition")
    shown: int = Field(4, ge=1, description="repeated tokens before the scored position; below period")
    train: int = Field(128, ge=1, description="number of training examples")
    validation: int = Field(128, ge=1)
    test: int = Field(512, ge=1)

    @property
    def test_set(self) -> str:
        return f"{self.test} of period {self.period}, {self.shown} shown, data seed {self.data_seed}"

    def examples(self, split: Split, loaded: "Loaded") -> list[Example]:
        """Raises ValueError when the vocabulary or the context is too small."""
        vocabulary = loaded.vocab_size
        if not self.shown < self.period:
            raise ValueError(f"task.shown: found {self.shown}; allowed: below period ({self.period})")
        if vocabulary < 3 * self.period:
            raise ValueError(
                f"task.period: found {self.period}; this vocabulary allows {vocabulary // 3} at most"
            )
        # One generator for all splits, drawn without repetition: the splits are disjoint.
        draw, seen, chosen = random.Random(self.data_seed), set[tuple[int, ...]](), list[Example]()
        for name in SPLITS:
            wanted: int = getattr(self, name)
            chosen = []
            while len(chosen) < wanted:
                tokens = draw.sample(range(vocabulary), 2 * self.period)
                first, other = tuple(tokens[: self.period]), tuple(tokens[self.period :])
                if first in seen:
                    continue
                seen.add(first)
                repeated = first[: self.shown]
                last, right = self.period + self.shown - 1, first[self.shown]
                chosen.append(
                    Example(first + repeated, other + repeated, (last,), (right,), (other[self.shown],))
                )
            if name == split:
                break
        return chosen

    def metrics(self, model: "ModelSpec") -> tuple[str, ...]:
        del model
        return ("kl", "logit_difference", "accuracy", "exact_match")

    def attribution_metric(self, model: "ModelSpec") -> str:
        del model
        return "logit_difference"
