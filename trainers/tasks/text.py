"""TextTask: prompts in words, tokenized and aligned for the model at hand."""

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from string import Formatter
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from trainers.data import Example
from trainers.spec import SpecError
from trainers.tasks.base import DRAWN, SPLITS, Dataset, Split, Task

if TYPE_CHECKING:
    from trainers.model import Loaded, ModelSpec

CHUNK = 256  # pairs tokenized at once
PATIENCE = 20  # candidates drawn per wanted example before a task gives up


@dataclass(frozen=True)
class Pair:
    """Clean and corrupted texts in the same number of spans; joined, the spans are the text.

    predicted: the spans that the model shall predict, scored token by token; whatever follows the
    last of them is never read. distractor: a wrong text for the first predicted span; None where
    the corrupted text's own prediction is the wrong one.
    """

    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    predicted: tuple[int, ...] = (-1,)
    distractor: str | None = None

    def __post_init__(self) -> None:
        assert len(self.clean) == len(self.corrupted), "the same number of spans"

    @property
    def versions(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Clean, corrupted, and clean with the distractor in the answer's place."""
        wrong = list(self.clean)
        if self.distractor is not None:
            wrong[self.predicted[0]] = self.distractor
        return self.clean, self.corrupted, tuple(wrong)


def spans(template: str, **values: str) -> tuple[str, ...]:
    """A template such as "So {name} is" as spans: its literal parts and its filled slots, each with
    the space before it. Joined, they are the filled template."""
    parts: list[str] = []
    for literal, slot, _, _ in Formatter().parse(template):
        text = literal.rstrip(" ") if slot is not None else literal
        parts += [text] if text else []
        parts += [literal[len(text) :] + values[slot]] if slot is not None else []
    return tuple(parts)


class TextTask(Task):
    """A task whose examples are pairs of texts, drawn without end by `pairs`.

    Every drawn pair is tokenized and checked for the tokenizer in use: each span has as many tokens
    in the corrupted text as in the clean one, tokens begin where predicted spans begin, answers and
    distractors have one token each (unless `multi_token`). What does not fit is dropped and counted.
    """

    multi_token: ClassVar[bool] = False
    smoke: ClassVar[Mapping[str, Any]] = {"train": 8, "validation": 8, "test": 8}

    train: int = Field(200, ge=1, description="number of training examples")
    validation: int = Field(200, ge=1)
    test: int = Field(1000, ge=1)

    def check(self, model: "ModelSpec") -> None:
        model.check_reads_text(self.identity()["name"])

    @property
    def test_set(self) -> str:
        asked = self.model_dump(mode="json", exclude_defaults=True, exclude={"name", "data_seed", *SPLITS})
        fields = "".join(f", {name} {value}" for name, value in sorted(asked.items()))
        return f"{self.test} examples{fields}, data seed {self.data_seed}"

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        """An endless stream, or one of all pairs there are; repetitions are left out by the caller."""
        raise TypeError(f"{type(self).__name__} does not implement pairs")

    def chance(self, model: "ModelSpec") -> dict[str, float]:
        return {name: 0.0 for name in ("logit_difference",) if name in self.metrics(model)}

    def dataset(self, loaded: "Loaded") -> Dataset:
        """Raises SpecError when too few different pairs fit the tokenizer."""
        stream = _Fitting(self, loaded)
        splits: dict[Split, list[Example]] = {s: stream.take(getattr(self, s), s) for s in DRAWN}
        return Dataset(splits, dict(stream.dropped))


@dataclass
class _Fitting:
    """The examples of a task, one after another, each clean prompt once over all splits."""

    task: TextTask
    loaded: "Loaded"
    dropped: Counter[str] = field(default_factory=Counter)
    seen: set[tuple[int, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pairs = self.task.pairs(random.Random(self.task.data_seed), self.loaded)

    def take(self, wanted: int, split: Split) -> list[Example]:
        chosen: list[Example] = []
        drawn = 0
        while len(chosen) < wanted:
            # A chunk is no longer than what is wanted: the next split goes on where this one ends.
            chunk = list(islice(self.pairs, min(CHUNK, wanted - len(chosen))))
            drawn += len(chunk)
            for example in aligned(chunk, self.loaded, self.dropped, self.task.multi_token):
                if example.clean not in self.seen:
                    self.seen.add(example.clean)
                    chosen.append(example)
            if not chunk or drawn > PATIENCE * wanted + 10 * CHUNK:
                raise SpecError(self._too_few(split, wanted, len(chosen)))
        return chosen

    def _too_few(self, split: Split, wanted: int, found: int) -> str:
        reasons = "; ".join(f"{count} dropped: {why}" for why, count in self.dropped.most_common())
        return (
            f"task.{split}: found {wanted}; only {found} more different examples fit this tokenizer "
            f"({len(self.seen)} in all splits{'; ' + reasons if reasons else ''})"
        )


def aligned(
    pairs: Sequence[Pair], loaded: "Loaded", dropped: Counter[str], multi_token: bool
) -> Iterator[Example]:
    """The pairs that fit the model's tokenizer, as examples; counts the others by reason."""
    texts = ["".join(spans) for pair in pairs for spans in pair.versions]
    if not texts:
        return
    encoded = loaded.tokenizer(texts, return_offsets_mapping=True, return_attention_mask=False)
    for number, pair in enumerate(pairs):
        clean, corrupted, wrong = (
            _Spans.of(spans, encoded["input_ids"][3 * number + i], encoded["offset_mapping"][3 * number + i])
            for i, spans in enumerate(pair.versions)
        )
        example = _example(pair, clean, corrupted, wrong, multi_token)
        if isinstance(example, Example) and len(example.clean) > loaded.context:
            example = f"longer than the model's context of {loaded.context} tokens"
        if isinstance(example, str):
            dropped[example] += 1
        else:
            yield example


@dataclass(frozen=True)
class _Spans:
    """A text's tokens, the span each belongs to (-1: a special token) and the character it begins at."""

    tokens: list[int]
    span: list[int]
    starts: list[int]
    text: str

    @classmethod
    def of(cls, spans: Sequence[str], tokens: list[int], offsets: list[tuple[int, int]]) -> "_Spans":
        """A token belongs to the span that holds its last character: it may begin with the space
        before a word, whichever side of the space a span ends on."""
        ends = list(accumulate(map(len, spans)))
        owner = [-1 if start == end else bisect_left(ends, end) for start, end in offsets]
        return cls(tokens, owner, [start for start, _ in offsets], "".join(spans))

    def places(self, spans: Sequence[str], number: int) -> list[int]:
        """Where the tokens of a span stand; none when the first of them begins before the span."""
        number %= len(spans)
        places = [place for place, owner in enumerate(self.span) if owner == number]
        begin = sum(map(len, spans[:number]))
        if places and self.text[self.starts[places[0]] : begin].strip():
            return []
        return places


def _example(pair: Pair, clean: _Spans, corrupted: _Spans, wrong: _Spans, multi_token: bool) -> Example | str:
    """The example, or why the pair does not fit."""
    places = [clean.places(pair.clean, span) for span in pair.predicted]
    asked = [place for some in places for place in some]
    if not all(places) or asked[0] == 0:
        return "no token begins where the predicted text begins"
    if not multi_token and len(asked) != 1:
        return "the answer has more than one token"
    read = asked[-1]
    if clean.span[: read + 1] != corrupted.span[: read + 1]:
        return "clean and corrupted differ in the number of tokens of a span"
    if clean.tokens[:read] == corrupted.tokens[:read]:
        return "clean and corrupted prompts are the same"
    other, spans = (corrupted, pair.corrupted) if pair.distractor is None else (wrong, pair.versions[2])
    if [place for span in pair.predicted for place in other.places(spans, span)] != asked:
        return "answer and distractor differ in the number of tokens"
    answers, distractors = ([of.tokens[place] for place in asked] for of in (clean, other))
    if not multi_token and answers == distractors:
        return "answer and distractor are the same token"
    return Example(
        tuple(clean.tokens[:read]),
        tuple(corrupted.tokens[:read]),
        tuple(place - 1 for place in asked),
        tuple(answers),
        tuple(distractors),
    )
