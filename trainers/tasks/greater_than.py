"""Greater-than: a later year ends in a greater number (Hanna et al. 2023)."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from model_patches.lazy import torch
from trainers.spec import SpecError
from trainers.tasks.base import Dataset
from trainers.tasks.text import Pair, TextTask, spans

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.model import Loaded, ModelSpec

TEMPLATES = (
    "The {noun} lasted from the year {century}{start} to the year {century}",
    "The {noun} began in the year {century}{start} and ended in the year {century}",
    "The {noun} went on from the year {century}{start} until the year {century}",
    "After the {noun} had started in the year {century}{start}, it was over in the year {century}",
)
NOUNS = (
    "accord", "adventure", "affair", "alliance", "apprenticeship", "argument", "armistice", "assault",
    "autonomy", "ban", "battle", "bombardment", "boom", "boycott", "brotherhood", "campaign", "captivity",
    "career", "ceasefire", "celebration", "census", "ceremony", "chase", "clash", "comeback",
    "collaboration", "colonization", "competition", "conflict", "congress", "conquest", "consolidation",
    "conspiracy", "construction", "contract", "controversy", "convention", "cooperation", "correspondence",
    "crackdown", "crisis", "crusade", "curfew", "cycle", "debate", "decline", "demonstration", "depression",
    "descent", "detention", "development", "dictatorship", "discovery", "dispute", "disruption", "drought",
    "duel", "dynasty", "education", "embargo", "emergency", "emigration", "empire", "encounter",
    "engagement", "epidemic", "evacuation", "examination", "excavation", "exhibition", "exile", "exodus",
    "expansion", "expedition", "experiment", "exploration", "famine", "fashion", "festival", "feud",
    "fighting", "flight", "friendship", "frost", "game", "growth", "hearing", "holiday", "hostility", "hunt",
    "imprisonment", "incursion", "inflation", "inquiry", "inspection", "insurgency", "integration",
    "intervention", "invasion", "investigation", "isolation", "journey", "kingdom", "lease", "league",
    "lockdown", "looting", "manhunt", "march", "marriage", "migration", "mission", "monarchy", "monopoly",
    "mourning", "movement", "mutiny", "negotiation", "occupation", "offensive", "operation", "outbreak",
    "pact", "pandemic", "partnership", "patrol", "peace", "persecution", "pilgrimage", "plague", "plan",
    "plot", "pregnancy", "presidency", "procession", "program", "project", "prosecution", "protest",
    "pursuit", "quarantine", "quest", "raid", "rally", "rebellion", "recession", "reconstruction",
    "recovery", "reform", "regime", "reign", "renovation", "republic", "research", "resistance",
    "restoration", "retreat", "reunion", "revival", "revolt", "revolution", "riot", "rivalry", "romance",
    "rule", "sabotage", "scandal", "schism", "scholarship", "search", "season", "session",
    "settlement", "shortage", "siege", "slump", "standoff", "strike", "struggle", "study", "surge", "survey",
    "tenure", "tour", "trade", "tradition", "training", "treatment", "treaty", "trial", "truce", "turmoil",
    "unrest", "uprising", "vacation", "violence", "visit", "voyage", "walkout", "war", "work", "workshop",
)  # fmt: skip
CENTURIES = range(11, 18)
STARTS = range(2, 99)  # at least one greater and one smaller ending; "01" is the corrupted one
# Of digit-by-digit tokenizers the tens digit is scored: at least one greater and one smaller digit.
STARTS_BY_DIGIT = range(10, 90)
YEAR = " 1732"


class GreaterThanTask(TextTask):
    """`The war lasted from the year 1732 to the year 17` → any two digits above `32`.

    Metrics see the candidates alone, the two-digit tokens 00 to 99 in order (published), so an
    example's answer is the start's number, which the right candidates exceed; it has no distractor.
    Years that the tokenizer does not split into century and two digits are dropped and counted.

    by_digit: for tokenizers that read every digit alone. The candidates are the ten digits, scored
    at the first digit after the century: right ones exceed the start's tens digit. Another question
    than the published one, and its test set says so.
    """

    version: ClassVar[int] = 1
    answer_is: ClassVar[str] = "above"

    name: Literal["greater_than"] = "greater_than"
    templates: int = Field(
        1, ge=1, le=len(TEMPLATES), description="how many are used; 1 is the published form"
    )
    corrupted_start: Literal["01", "random"] = Field(
        "01", description="01 (the paper): the same century; random (the released code): century and digits"
    )
    by_digit: bool = Field(False, description="for tokenizers that read digit by digit, such as Llama's")

    def tokens_planned(self) -> tuple[int, int] | None:
        return 14, 1

    @property
    def test_set(self) -> str:
        unlike = ", by digit: not comparable with published figures" if self.by_digit else ""
        return super().test_set.replace(", by_digit True", "") + unlike

    def metrics(self, model: ModelSpec) -> tuple[str, ...]:
        del model
        within = () if self.by_digit else ("probability_difference_10",)
        return ("kl", "probability_difference", *within, "kendall_tau")

    def attribution_metric(self, model: ModelSpec) -> str:
        del model
        return "probability_difference"

    def chance(self, model: ModelSpec) -> dict[str, float]:
        """Of a model that finds every candidate equally likely. One that always says a great number is
        above it and knows no more: Kendall's tau and the examples tell."""
        del model
        return {"probability_difference": 0.0}

    def candidates(self, loaded: Loaded) -> tuple[int, ...]:
        """Token ids of 00 to 99, or of 0 to 9. Raises SpecError when the tokenizer reads years in
        another way than `by_digit` says."""
        found = _candidates(loaded.tokenizer, self.by_digit)
        if found is None:
            asked, other = str(self.by_digit).lower(), str(not self.by_digit).lower()
            fits = _candidates(loaded.tokenizer, not self.by_digit) is not None
            allowed = other if fits else "no value: greater-than needs years of one- or two-digit tokens"
            years = " ".join(repr(YEAR[start:end]) for start, end in _offsets(loaded.tokenizer, YEAR))
            raise SpecError(
                f"task.by_digit: found {asked}, but this tokenizer splits {YEAR!r} into {years}; "
                f"allowed for it: {allowed}"
            )
        return found

    def readout(self, logits: Tensor, loaded: Loaded) -> Tensor:
        """Softmax over the candidates only, as published."""
        return logits[..., torch.tensor(self.candidates(loaded), device=logits.device)]

    def pairs(self, draw: random.Random, loaded: Loaded) -> Iterator[Pair]:
        del loaded
        while True:
            template, noun = draw.choice(TEMPLATES[: self.templates]), draw.choice(NOUNS)
            century, start = draw.choice(CENTURIES), f"{self._start(draw):02}"
            other, changed = century, "01"
            if self.corrupted_start == "random":
                other, changed = draw.choice(CENTURIES), f"{self._start(draw):02}"
            clean = spans(template, noun=noun, century=str(century), start=start)
            corrupted = spans(template, noun=noun, century=str(other), start=changed)
            # The predicted span only asks whether a number is a token of its own there.
            asked = 1 if self.by_digit else 2
            yield Pair((*clean, start[:asked]), (*corrupted, changed[:asked]))

    def _start(self, draw: random.Random) -> int:
        return draw.choice(STARTS_BY_DIGIT if self.by_digit else STARTS)

    def dataset(self, loaded: Loaded) -> Dataset:
        place = {token: number for number, token in enumerate(self.candidates(loaded))}
        found = super().dataset(loaded)
        splits: dict[Any, Any] = {
            split: [
                dataclasses.replace(example, answers=(place[int(example.answers[0])],), distractors=())
                for example in examples
            ]
            for split, examples in found.splits.items()
        }
        return dataclasses.replace(found, splits=splits)


@lru_cache(maxsize=8)
def _candidates(tokenizer: Any, by_digit: bool) -> tuple[int, ...] | None:
    """The tokens of the numbers 00 to 99, or 0 to 9, after a year's century; None unless each of them is
    a token of its own there."""
    length, count, rest = (1, 10, "2") if by_digit else (2, 100, "")
    found = [_ending(tokenizer, f"{number:0{length}}", rest) for number in range(count)]
    candidates = tuple(token for token in found if token is not None)
    return candidates if len(candidates) == count else None


def _ending(tokenizer: Any, number: str, rest: str) -> int | None:
    """The token of what follows a century. Some years are one token (all that end in 00, in GPT-2);
    another century, not always one that the task asks for, shows what their ending is."""
    for century in (*CENTURIES, *range(10, 100)):
        year = f" {century}{number}{rest}"
        encoded = tokenizer(year, add_special_tokens=False, return_offsets_mapping=True)
        for token, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if tuple(offsets) == (3, 3 + len(number)):
                return token
    return None


def _offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [(start, end) for start, end in offsets if end > start]
