"""Indirect object identification (Wang et al. 2022): who was given the thing?"""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainers.tasks.text import Pair, TextTask, spans
from trainers.tasks.words import NAMES, OBJECTS, PLACES

if TYPE_CHECKING:
    from trainers.model import Loaded

# A and B are the two names in the order of their first mention, S is the one who acts.
TEMPLATES = (
    "When {A} and {B} went to the {place}, {S} gave a {object} to",
    "After {A} and {B} came home from the {place}, {S} handed a {object} to",
    "While {A} and {B} were at the {place}, {S} passed a {object} to",
    "Yesterday {A} and {B} met at the {place}, and {S} sold a {object} to",
    "Then {A} and {B} walked to the {place}. {S} wanted to give a {object} to",
    "Because {A} and {B} were bored at the {place}, {S} threw a {object} to",
    "Last week {A} and {B} worked at the {place}, where {S} showed a {object} to",
    "Friends of mine, {A} and {B}, once got lost near the {place}. {S} offered a {object} to",
    "Once {A} and {B} had found the {place}, {S} brought a {object} to",
    "In the morning {A} and {B} ran to the {place}, and then {S} lent a {object} to",
    "Although {A} and {B} disliked the {place}, {S} bought a {object} for",
    "As soon as {A} and {B} left the {place}, {S} sent a {object} to",
    "The day that {A} and {B} visited the {place}, {S} gave back a {object} to",
    "Before {A} and {B} drove to the {place}, {S} mailed a {object} to",
    "It was late when {A} and {B} reached the {place}, so {S} returned a {object} to",
    "Since {A} and {B} would meet again at the {place}, {S} left a {object} with",
)


class IoiTask(TextTask):
    """`When Mary and John went to the store, John gave a drink to` → ` Mary`.

    The distractor is the subject, who acts. ABBA prompts name the indirect object first, BABA
    prompts the subject. Corrupted: three other names in the places of the three, same template,
    place and object (Edge Pruning, section 4).
    """

    version: ClassVar[int] = 1

    name: Literal["ioi"] = "ioi"
    templates: int = Field(
        len(TEMPLATES), ge=1, le=len(TEMPLATES), description="how many are used; 1 is the task IOI-t1"
    )

    def tokens_planned(self) -> tuple[int, int] | None:
        return (14 if self.templates == 1 else 20), 1

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        del loaded
        while True:
            template = draw.choice(TEMPLATES[: self.templates])
            place, thing = draw.choice(PLACES), draw.choice(OBJECTS)
            io, subject, *other = draw.sample(NAMES, 5)
            first, second = (io, subject) if draw.random() < 0.5 else (subject, io)
            slots = {"place": place, "object": thing}
            clean = spans(template, A=first, B=second, S=subject, **slots)
            corrupted = spans(template, A=other[0], B=other[1], S=other[2], **slots)
            yield Pair((*clean, f" {io}"), (*corrupted, f" {io}"), distractor=f" {subject}")
