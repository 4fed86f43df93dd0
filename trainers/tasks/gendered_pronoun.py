"""Gendered pronoun: the pronoun that a name asks for (Mathwin et al. 2023; Edge Pruning, section 4)."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainers.tasks.text import Pair, TextTask, spans
from trainers.tasks.words import MEN, WOMEN

if TYPE_CHECKING:
    from trainers.model import Loaded

TEMPLATES = (
    "So {name} is a really {adjective} {relation}, isn't",
    "I hear that {name} was a very {adjective} {relation}, wasn't",
    "If you ask me, {name} has been a truly {adjective} {relation}, hasn't",
    "We all know that {name} will make a {adjective} {relation}, won't",
    "My {relation} {name} is quite {adjective}, isn't",
    "People say our {relation} {name} was always {adjective}, wasn't",
)
# Adjectives begin with a consonant: they follow "a" in some templates.
ADJECTIVES = (
    "bad", "boring", "brave", "brilliant", "busy", "calm", "careful", "caring", "charming", "clever",
    "close", "cruel", "curious", "decent", "dull", "fair", "famous", "fine", "funny", "generous",
    "gentle", "good", "great", "happy", "kind", "lazy", "loyal", "lucky", "modern", "nice", "patient",
    "polite", "poor", "popular", "powerful", "proud", "quiet", "rude", "sad", "serious", "smart", "strange",
    "strict", "strong", "sweet", "talented", "terrible", "tough", "warm", "wise", "wonderful",
)  # fmt: skip
RELATIONS = (
    "artist", "author", "boss", "client", "coach", "cook", "dancer", "doctor", "driver", "editor",
    "friend", "guest", "guide", "judge", "lawyer", "leader", "manager", "neighbor", "partner", "player",
    "pupil", "reporter", "singer", "student", "teacher", "writer",
)  # fmt: skip


class GenderedPronounTask(TextTask):
    """`So Evan is a really great friend, isn't` → ` he`.

    The distractor is the other pronoun. Corrupted: a name of the other gender.
    """

    version: ClassVar[int] = 1

    name: Literal["gendered_pronoun"] = "gendered_pronoun"
    templates: int = Field(
        len(TEMPLATES), ge=1, le=len(TEMPLATES), description="how many are used; 1 is the published form"
    )

    def tokens_planned(self) -> tuple[int, int] | None:
        return 15, 1

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        del loaded
        while True:
            template = draw.choice(TEMPLATES[: self.templates])
            slots = {"adjective": draw.choice(ADJECTIVES), "relation": draw.choice(RELATIONS)}
            he, she = (MEN, " he"), (WOMEN, " she")
            (names, right), (others, wrong) = (he, she) if draw.random() < 0.5 else (she, he)
            clean = spans(template, name=draw.choice(names), **slots)
            corrupted = spans(template, name=draw.choice(others), **slots)
            yield Pair((*clean, right), (*corrupted, right), distractor=wrong)
