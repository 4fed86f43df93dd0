"""Multiple choice: which letter is right, and what each counterfactual changes."""

import random
import re
from itertools import islice
from typing import Any, NamedTuple

import pytest

from tests import worded_model
from trainers.spec import SpecError
from trainers.tasks.multiple_choice import MultipleChoiceTask
from trainers.tasks.text import Pair

UNREAD: Any = None  # the model: no text depends on it


class Asked(NamedTuple):
    fact: str
    color: str
    letters: str
    colors: list[str]
    answer: str


def parsed(**fields: Any) -> MultipleChoiceTask:
    return MultipleChoiceTask.parse({"train": 40, "validation": 20, "test": 60, **fields}, "task")


def drawn(task: MultipleChoiceTask) -> list[Pair]:
    return list(islice(task.pairs(random.Random(3), UNREAD), 300))


def asked(spans: tuple[str, ...]) -> Asked:
    fact, *options, last = "".join(spans).split("\n")
    match = re.fullmatch(r"Question: The (\w+) is (\w+)\. Which color is the (\w+)\?", fact)
    answer = re.fullmatch(r"Answer: ([A-Z])", last)
    assert match and answer and match[1] == match[3]
    letters, colors = zip(*(option.split(". ") for option in options), strict=True)
    return Asked(fact, match[2], "".join(letters), list(colors), answer[1])


@pytest.mark.parametrize("corrupted", ["symbols", "position", "both"])
@pytest.mark.parametrize("choices", [2, 4, 10])
def test_the_letter_of_the_fact_is_right_in_both_prompts(corrupted: str, choices: int) -> None:
    places = set()
    for pair in drawn(parsed(corrupted=corrupted, choices=choices)):
        clean, other = asked(pair.clean), asked(pair.corrupted)
        for one in (clean, other):
            assert len(set(one.letters)) == len(set(one.colors)) == choices
            assert one.colors[one.letters.index(one.answer)] == one.color
        assert clean.letters == "ABCDEFGHIJ"[:choices] and clean.fact == other.fact
        assert clean.answer != other.answer
        assert bool(set(clean.letters) & set(other.letters)) == (corrupted == "position")
        moved = clean.colors.index(clean.color) != other.colors.index(other.color)
        assert moved == (corrupted != "symbols")
        changed = sum(a != b for a, b in zip(clean.colors, other.colors, strict=True))
        assert changed == (0 if corrupted == "symbols" else 2)
        places.add(clean.answer)
    assert len(places) == choices, "every letter is right somewhere"


def test_it_fits_a_tokenizer_that_knows_the_words(tmp_path: Any) -> None:
    words = worded_model.words([parsed()])
    loaded = worded_model.loaded(worded_model.save(tmp_path, words))
    for corrupted in ("symbols", "position", "both"):
        dataset = parsed(corrupted=corrupted).dataset(loaded)
        assert not dataset.dropped
        for example in dataset.splits["test"]:
            said = [str(loaded.tokenizer.decode(int(i[0]))) for i in (example.answers, example.distractors)]
            assert re.fullmatch(" [A-D]", said[0]) and re.fullmatch(" [A-Z]", said[1])


def test_chance_is_a_guess_among_the_letters(tmp_path: Any) -> None:
    assert parsed(choices=5).chance(UNREAD) == {"accuracy": 0.2}
    assert parsed(corrupted="position").chance(UNREAD) == {"accuracy": 0.25, "logit_difference": 0.0}


@pytest.mark.parametrize("fields", [{"choices": 1}, {"choices": 11}, {"corrupted": "colors"}])
def test_what_there_is_not_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"task: {next(iter(fields))}: found"):
        parsed(**fields)
