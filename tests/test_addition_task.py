"""Two-digit addition: right sums, unlike corrupted ones, tokens by number and by digit."""

import random
import re
from itertools import islice
from typing import Any

import pytest

from tests import worded_model
from trainers.model import Loaded
from trainers.tasks.addition import AdditionTask
from trainers.tasks.text import Pair

UNREAD: Any = None  # the model: no text depends on it


def parsed(**fields: Any) -> AdditionTask:
    return AdditionTask.parse({"train": 60, "validation": 30, "test": 200, **fields}, "task")


def drawn(**fields: Any) -> list[Pair]:
    return list(islice(parsed(**fields).pairs(random.Random(3), UNREAD), 400))


def asked(spans: tuple[str, ...]) -> tuple[int, int, int]:
    match = re.search(r"(\d\d) \+ (\d\d) = (\d+)$", "".join(spans))
    assert match is not None
    a, b, total = map(int, match.groups())
    return a, b, total


@pytest.fixture(scope="module", params=[False, True], ids=["by number", "by digit"])
def worded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("worded")
    return worded_model.loaded(worded_model.save(folder, worded_model.words([parsed()], 5), request.param))


@pytest.mark.parametrize("fields", [{}, {"three_digits": True}, {"carry": False}, {"shots": 3}])
def test_sums_are_right_and_corrupted_ones_unlike(fields: dict[str, Any]) -> None:
    totals: list[int] = []
    carried = 0
    for pair in drawn(**fields):
        a, b, total = asked(pair.clean)
        c, d, other = asked(pair.corrupted)
        assert a + b == total and c + d == other and min(a, b, c, d) >= 10
        assert len(str(total)) == len(str(other))
        assert all(x != y for x, y in zip(str(total)[-2:], str(other)[-2:], strict=True))
        totals.append(total)
        carried += a % 10 + b % 10 > 9
    assert (max(totals) > 99) == bool(fields.get("three_digits"))
    assert (carried > 0) == fields.get("carry", True)


def test_shots_are_right_and_the_same_everywhere() -> None:
    (before,) = {text for pair in drawn(shots=3) for text in (pair.clean[0], pair.corrupted[0])}
    lines = [re.fullmatch(r"(\d\d) \+ (\d\d) = (\d\d)", line) for line in before.splitlines()]
    assert len(lines) == 3
    assert all(line and int(line[1]) + int(line[2]) == int(line[3]) for line in lines)


def test_every_token_of_the_answer_is_scored_after_the_right_ones(worded: Loaded) -> None:
    tokenizer = worded.tokenizer
    dataset = parsed().dataset(worded)
    assert not dataset.dropped
    lengths = set()
    for example in dataset.splits["test"]:
        clean = str(tokenizer.decode([*example.clean, int(example.answers[-1])]))
        a, b, total = asked((clean,))
        assert a + b == total
        lengths.add(len(example.answers))
        first = example.positions[0]
        assert example.positions == tuple(range(first, first + len(example.answers)))
        assert len(example.clean) == example.positions[-1] + 1
        for position, answer in list(zip(example.positions, example.answers, strict=True))[:-1]:
            assert example.clean[position + 1] == answer, "the right token stands before the next"
        assert all(a != d for a, d in zip(example.answers, example.distractors, strict=True))
    assert len(lengths) == 1 and lengths <= {1, 2}
    assert (lengths == {2}) == (len(tokenizer("45")["input_ids"]) == 2)
