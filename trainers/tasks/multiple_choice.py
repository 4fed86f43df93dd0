"""Multiple choice in the form of MIB (Mueller et al. 2025): a fact, a question, lettered answers."""

import random
from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainers.tasks.text import Pair, TextTask

if TYPE_CHECKING:
    from trainers.model import Loaded, ModelSpec

COLORS = (
    "red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white", "gray",
    "silver", "gold",
)  # fmt: skip
THINGS = (
    "car", "house", "door", "box", "hat", "chair", "table", "cup", "book", "bag", "flag", "shirt", "boat",
    "wall", "bottle", "lamp", "bed", "phone", "train", "truck", "bus", "stone", "ball", "coat", "bird",
    "flower", "horse", "curtain", "blanket", "pencil",
)  # fmt: skip


class MultipleChoiceTask(TextTask):
    """`Question: The box is red. Which color is the box?` and `A. blue`, `B. red`, … `Answer:` → ` B`.

    A question that can be answered by copying, as MIB's. Corrupted is one of MIB's counterfactuals:
    `symbols` (of its circuit track) puts other letters before the same answers; `position` moves the
    right answer to another letter; `both` does both. The fact and the question stay.
    """

    version: ClassVar[int] = 1

    name: Literal["multiple_choice"] = "multiple_choice"
    choices: int = Field(4, ge=2, le=10, description="how many answers are offered")
    corrupted: Literal["symbols", "position", "both"] = "symbols"

    def tokens_planned(self) -> tuple[int, int] | None:
        return 20 + 3 * self.choices, 1

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        del loaded
        letters = ascii_uppercase[: self.choices]
        while True:
            thing, colors = draw.choice(THINGS), draw.sample(COLORS, self.choices)
            right = draw.randrange(self.choices)
            others, elsewhere = letters, list[str](colors)
            if self.corrupted != "position":
                others = "".join(draw.sample(ascii_uppercase[self.choices :], self.choices))
            if self.corrupted != "symbols":
                place = draw.choice([place for place in range(self.choices) if place != right])
                elsewhere[right], elsewhere[place] = colors[place], colors[right]
            yield Pair(
                _spans(thing, colors[right], letters, colors),
                _spans(thing, colors[right], others, elsewhere),
            )

    def chance(self, model: "ModelSpec") -> dict[str, float]:
        """A model that knows no more than the letters on offer. Where the corrupted prompt has other
        letters it even has a logit difference, so there is no chance level of that."""
        known = {"accuracy": 1 / self.choices}
        return super().chance(model) | known if self.corrupted == "position" else known


def _spans(thing: str, color: str, letters: str, colors: Sequence[str]) -> tuple[str, ...]:
    options = [part for pair in zip(letters, colors, strict=True) for part in _option(*pair)]
    question = f"Question: The {thing} is {color}. Which color is the {thing}?"
    return question, *options, "\nAnswer:", f" {letters[colors.index(color)]}"


def _option(letter: str, color: str) -> tuple[str, ...]:
    return "\n", letter, ".", f" {color}"
