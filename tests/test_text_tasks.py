"""Tasks in words: what the texts say, how they fit a tokenizer, and what is dropped."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import worded_model
from trainers.data import Example
from trainers.model import Loaded, ModelSpec
from trainers.spec import SpecError
from trainers.tasks import TASKS
from trainers.tasks.docstring import ARGUMENTS, DocstringTask
from trainers.tasks.gendered_pronoun import GenderedPronounTask
from trainers.tasks.greater_than import GreaterThanTask
from trainers.tasks.ioi import TEMPLATES, IoiTask
from trainers.tasks.subject_verb import NOUNS, SubjectVerbTask
from trainers.tasks.text import Pair, TextTask, aligned, spans
from trainers.tasks.words import MEN, NAMES, WOMEN

OURS = (IoiTask, GreaterThanTask, GenderedPronounTask, DocstringTask, SubjectVerbTask)
each_task = pytest.mark.parametrize("task_class", [t for t in TASKS if t in OURS])
SIZES = {"train": 40, "validation": 9, "test": 60}


def model(folder: Path, digits: bool = False, tokens: tuple[str, ...] = ()) -> Loaded:
    """A model that has all words as tokens, and `tokens` too, wherever they stand."""
    words = worded_model.words([task.parse({}, "task") for task in OURS])
    worded_model.save(folder, words, digits)
    if tokens:
        built = worded_model.tokenizer(words, digits)
        built.add_tokens(list(tokens))
        built.save_pretrained(folder)
    return worded_model.loaded(folder)


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return model(tmp_path_factory.mktemp("worded"))


@pytest.fixture(scope="module")
def by_digit(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return model(tmp_path_factory.mktemp("by_digit"), digits=True)


def parsed(task_class: type[TextTask], **fields: Any) -> TextTask:
    return task_class.parse({**SIZES, **fields}, "task")


def text(loaded: Loaded, tokens: Sequence[float]) -> str:
    return str(loaded.tokenizer.decode([int(token) for token in tokens]))


def texts(example: Example, loaded: Loaded) -> tuple[str, str, str, str]:
    """Clean prompt, corrupted prompt, answer, distractor."""
    ids = (example.clean, example.corrupted, example.answers, example.distractors)
    clean, corrupted, answer, distractor = (text(loaded, some) for some in ids)
    return clean, corrupted, answer, distractor


def shown(task: TextTask, loaded: Loaded) -> list[tuple[str, str, str, str]]:
    return [texts(example, loaded) for example in task.examples("test", loaded)]


@each_task
def test_examples_are_the_pairs_texts_and_no_prompt_is_in_two_splits(
    task_class: type[TextTask], worded: Loaded
) -> None:
    task = parsed(task_class)
    said = {
        tuple("".join(some) for some in pair.versions[:2])
        for pair in islice(task.pairs(random.Random(0), worded), 400)
    }
    splits = task.dataset(worded).splits
    assert {split: len(some) for split, some in splits.items()} == SIZES
    prompts = [example.clean for some in splits.values() for example in some]
    assert len(set(prompts)) == len(prompts)
    for example in splits["test"]:
        clean, corrupted, *_ = texts(example, worded)
        assert any(one.startswith(clean) and other.startswith(corrupted) for one, other in said)
        assert example.positions == (len(example.clean) - 1,), "scored at the last token"


@each_task
def test_the_test_set_does_not_move_with_the_training_size(
    task_class: type[TextTask], worded: Loaded
) -> None:
    few, many = parsed(task_class).dataset(worded), parsed(task_class, train=80).dataset(worded)
    assert few.splits["test"] == many.splits["test"]
    assert few.splits["validation"] == many.splits["validation"]
    assert many.splits["train"][:40] == few.splits["train"] and len(many.splits["train"]) == 80
    assert parsed(task_class).test_set == parsed(task_class, train=80).test_set != parsed(task_class, test=61)


@each_task
def test_a_compiled_program_has_no_language(task_class: type[TextTask]) -> None:
    with pytest.raises(ValueError, match="needs a language model, not tracr-reverse"):
        parsed(task_class).check(ModelSpec.parse({"builtin": "tracr-reverse"}, "model"))


@each_task
def test_a_thousand_test_examples_exist(task_class: type[TextTask], worded: Loaded) -> None:
    assert len(parsed(task_class, test=1000).examples("test", worded)) == 1000


def test_spans_are_the_filled_template() -> None:
    template = "So {name} is: {a}{b}, ok"
    assert spans(template, name="Ann", a="1", b="2") == ("So", " Ann", " is:", " 1", "2", ", ok")
    assert spans("{name} is", name="Ann") == ("Ann", " is")


def pair(clean: str, corrupted: str, distractor: str | None = None, predicted: int = -1) -> Pair:
    """Spans are split at `/`."""
    return Pair(tuple(clean.split("/")), tuple(corrupted.split("/")), (predicted,), distractor)


@pytest.mark.parametrize(
    "found, why",
    [
        (pair("So/ Mary/ is", "So/ John/ is"), "answer and distractor are the same token"),
        (pair("So/ Mary/ xqz", "So/ John/ is"), "the answer has more than one token"),
        (pair("So/ Mary/ and/ he", "So/ Zqxv/ and/ she"), "clean and corrupted differ in the number of tok"),
        (pair("So/ Mary/ he", "So/ Mary/ she"), "clean and corrupted prompts are the same"),
        (pair("So/ Mary/ he", "So/ John/ he", " xqz"), "answer and distractor differ in the number of"),
        (pair("So/ Mary/ he", "So/ John/ xqz"), "answer and distractor differ in the number of"),
        (pair("So/ Mary/ he/ is", "So/ John/ he/ is", " xqz", 2), "answer and distractor differ in the num"),
        (pair("So/ Ma/ry", "So/ Jo/hn"), "no token begins where the predicted text begins"),
        (pair("/So/ is", "/We/ are", predicted=1), "no token begins where the predicted text begins"),
        (pair("So" + " and" * 600 + "/ Mary/ he", "So" + " and" * 600 + "/ John/ she"), "longer than the mo"),
        # As many tokens in all, in other places:
        (pair("So/ Mary/ and/ Zqxv/ he", "So/ Zqxv/ and/ Mary/ she"), "clean and corrupted differ in the nu"),
    ],
)  # fmt: skip
def test_a_pair_that_does_not_fit_is_dropped_and_counted(found: Pair, why: str, worded: Loaded) -> None:
    dropped: Counter[str] = Counter()
    good = pair("So/ Mary/ he", "So/ John/ she")
    assert len(list(aligned([good, found, good], worded, dropped, multi_token=False))) == 2
    (reason,) = dropped
    assert reason.startswith(why) and dropped[reason] == 1


def test_what_follows_the_predicted_span_is_not_read(worded: Loaded) -> None:
    long = pair("So/ Mary/ he/ and Mary", "So/ John/ she/ Zqxv", predicted=2)
    (example,) = aligned([long], worded, Counter(), multi_token=False)
    assert texts(example, worded) == ("So Mary", "So John", " he", " she")


class OnlyTwo(IoiTask):
    """Two pairs, one of them twice, and one that fits no tokenizer of ours."""

    def pairs(self, draw: random.Random, loaded: Loaded) -> Any:
        good, other = pair("So/ Mary/ he", "So/ John/ she"), pair("We/ Mary/ he", "We/ John/ she")
        return iter([good, good, pair("So/ Mary/ xqz", "So/ John/ is"), other])


def test_too_few_examples_are_refused_with_the_reasons(worded: Loaded) -> None:
    expected = (
        "task.validation: found 2; only 1 more different examples fit this tokenizer "
        "(2 in all splits; 1 dropped: the answer has more than one token)"
    )
    with pytest.raises(SpecError) as refused:
        OnlyTwo.parse({"train": 1, "validation": 2, "test": 1}, "task").dataset(worded)
    assert str(refused.value) == expected


def test_ioi_names_both_people_and_corrupts_all_three_mentions(worded: Loaded) -> None:
    orders: Counter[bool] = Counter()
    for clean, corrupted, answer, distractor in shown(parsed(IoiTask), worded):
        words, others = (text.replace(",", " ").replace(".", " ").split() for text in (clean, corrupted))
        named = [(one, other) for one, other in zip(words, others, strict=True) if one != other]
        assert len(named) == 3, "names change, and nothing else"
        before, after = ([pair[side] for pair in named] for side in (0, 1))
        assert (
            Counter(before) == {distractor.strip(): 2, answer.strip(): 1} and before[2] == distractor.strip()
        )
        assert len(set(after)) == 3 and not set(after) & set(before)
        assert {*before, *after} <= set(NAMES)
        orders[before[0] == answer.strip()] += 1
    assert min(orders.values()) >= 15, "ABBA and BABA"


def test_ioi_has_templates_enough_each_with_all_its_parts() -> None:
    assert len(set(TEMPLATES)) >= 15
    for template in TEMPLATES:
        assert [template.count(f"{{{slot}}}") for slot in ("A", "B", "S", "place", "object")] == [1] * 5
        assert (
            template.index("{A}") < template.index("{B}") < template.index("{S}") < template.index("{object}")
        )
        assert not template.startswith("{"), "a name at the very start is another token"


@pytest.mark.parametrize("task_class", [IoiTask, GenderedPronounTask, GreaterThanTask])
def test_one_template_is_one_form(task_class: type[TextTask], worded: Loaded) -> None:
    starts = {clean.split()[0] for clean, *_ in shown(parsed(task_class, templates=1), worded)}
    assert len(starts) == 1
    assert len({clean.split()[0] for clean, *_ in shown(parsed(task_class, templates=4), worded)}) > 1
    with pytest.raises(SpecError, match="task: templates: found 0; allowed: greater than or equal to 1"):
        parsed(task_class, templates=0)
    assert parsed(task_class, templates=2).test_set != parsed(task_class, templates=3).test_set


@pytest.mark.slow
@pytest.mark.parametrize("templates", [1, len(TEMPLATES)])
def test_thirty_thousand_different_ioi_test_examples(templates: int, worded: Loaded) -> None:
    examples = parsed(IoiTask, templates=templates, test=30_000).examples("test", worded)
    assert len({example.clean for example in examples}) == 30_000


def test_a_pronoun_follows_its_name(worded: Loaded) -> None:
    assert not set(MEN) & set(WOMEN) and len(set(MEN)) == len(MEN) and len(set(WOMEN)) == len(WOMEN)
    answers: Counter[str] = Counter()
    for clean, corrupted, answer, distractor in shown(parsed(GenderedPronounTask), worded):
        one, other = (
            next(word for word in text.replace(",", " ").split() if word in (*MEN, *WOMEN))
            for text in (clean, corrupted)
        )
        assert clean.replace(one, "") == corrupted.replace(other, "")
        assert (one in MEN) == (other in WOMEN) == (answer == " he") == (distractor == " she")
        answers[answer] += 1
    assert set(answers) == {" he", " she"} and min(answers.values()) >= 15


def test_a_verb_agrees_with_its_subject_and_not_with_what_stands_beside_it(worded: Loaded) -> None:
    number = {noun: place for both in NOUNS for place, noun in enumerate(both)}
    assert len(number) == 2 * len(NOUNS)
    opposed = 0
    for clean, corrupted, answer, distractor in shown(parsed(SubjectVerbTask), worded):
        words, others = clean.split(), corrupted.split()
        assert words[2:] == others[2:] and {words[1], others[1]} in [set(both) for both in NOUNS]
        assert (
            answer == (" is", " are")[number[words[1]]] and distractor == (" is", " are")[number[others[1]]]
        )
        opposed += number[words[1]] != number[words[-1]]
    assert 10 <= opposed <= 50


def test_a_docstring_goes_on_with_the_next_argument(worded: Loaded) -> None:
    for clean, corrupted, answer, distractor in shown(parsed(DocstringTask), worded):
        own, other = (
            text[text.index("(self, ") + 7 : text.index("):")].split(", ") for text in (clean, corrupted)
        )
        documented, others = (
            [line.split()[1].rstrip(":") for line in text.splitlines() if ":param " in line]
            for text in (clean, corrupted)
        )
        assert documented == own[:2] and answer.strip() == own[2] and clean.endswith("    :param")
        assert distractor.strip() in {own[0], own[1], own[3]}
        assert len({*own, *other, *others}) == 10 and {*own, *other, *others} <= set(ARGUMENTS)


def test_greater_than_asks_for_a_later_year(worded: Loaded) -> None:
    task = parsed(GreaterThanTask)
    candidates = task.candidates(worded)
    assert candidates is not None
    assert [text(worded, [token]) for token in candidates] == [f"{number:02}" for number in range(100)]
    for example in task.examples("test", worded):
        clean, corrupted = (text(worded, some) for some in (example.clean, example.corrupted))
        year = clean.split()[clean.split().index("year") + 1]
        century, start = year[:2], year[2:]
        assert clean.endswith(f" to the year {century}") and 2 <= int(start) <= 98
        assert example.answers == (int(start),) and example.distractors == ()
        assert corrupted == clean.replace(year, f"{century}01")
    logits = torch.randn(3, 1, worded.vocab_size)
    assert torch.equal(task.readout(logits, worded), logits[..., list(candidates)])


def test_the_released_codes_corrupted_year_is_any_year(worded: Loaded) -> None:
    task = parsed(GreaterThanTask, corrupted_start="random")
    changed: set[tuple[bool, str]] = set()
    for example in task.examples("test", worded):
        clean, corrupted = (text(worded, e).split() for e in (example.clean, example.corrupted))
        assert corrupted[6][:2] == corrupted[-1], "one century in both places"
        assert [place for place in range(len(clean)) if clean[place] != corrupted[place]] in ([6], [6, 10])
        changed.add((clean[6][:2] == corrupted[6][:2], corrupted[6][2:]))
    assert {same for same, _ in changed} == {True, False} and len({start for _, start in changed}) > 20


def test_digit_by_digit_the_tens_are_scored(by_digit: Loaded) -> None:
    task = parsed(GreaterThanTask, by_digit=True)
    candidates = task.candidates(by_digit)
    assert candidates is not None
    assert [by_digit.tokenizer.decode([token]) for token in candidates] == list("0123456789")
    tens: set[int] = set()
    for example in task.examples("test", by_digit):
        words = text(by_digit, example.clean).split()
        assert example.answers == (int(words[6][2]),) and words[-1] == words[6][:2]
        tens.add(int(words[6][2]))
    assert tens <= set(range(1, 9)) and len(tens) > 4
    assert task.test_set.endswith("data seed 0, by digit: not comparable with published figures")
    assert "by_digit" not in task.test_set and "probability_difference_10" not in task.metrics(by_digit.spec)


def test_a_tokenizer_that_reads_years_otherwise_is_refused(
    worded: Loaded, by_digit: Loaded, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as refused:
        parsed(GreaterThanTask).dataset(by_digit)
    assert str(refused.value) == (
        "task.by_digit: found false, but this tokenizer splits ' 1732' into ' ' '1' '7' '3' '2'; "
        "allowed for it: true"
    )
    with pytest.raises(SpecError, match="found true, .* into ' 17' '32'; allowed for it: false$"):
        parsed(GreaterThanTask, by_digit=True).dataset(worded)
    threes = tuple(f" {century}{digit}" for century in range(10, 100) for digit in range(10))
    unlike = model(tmp_path, tokens=threes)
    for value in (True, False):
        with pytest.raises(SpecError, match="into ' 173' '2'; allowed for it: no value: greater-than needs"):
            parsed(GreaterThanTask, by_digit=value).dataset(unlike)


def test_a_year_that_is_one_token_is_dropped_and_its_ending_still_a_candidate(tmp_path: Path) -> None:
    hundreds = tuple(f" {century}00" for century in range(11, 18))
    years = (*hundreds, *(f" {century}{start:02}" for century in (11, 17) for start in range(2, 100, 2)))
    loaded = model(tmp_path, tokens=years)
    found = parsed(GreaterThanTask).dataset(loaded)
    assert found.dropped["no token begins where the predicted text begins"] > 5
    candidates = parsed(GreaterThanTask).candidates(loaded)
    assert candidates is not None
    assert [loaded.tokenizer.decode([token]) for token in candidates] == [f"{n:02}" for n in range(100)]
    for example in found.splits["test"]:
        year = text(loaded, example.clean).split()[6]
        assert f" {year}" not in years
