"""Boolean expressions: their values, their shapes, and the prompts around them."""

import random
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep import SweepSpec
from tests import worded_model
from trainers.model import Loaded
from trainers.spec import SpecError
from trainers.tasks.base import SPLITS
from trainers.tasks.boolean import CHATS, BooleanTask, Expression, text, value
from trainers.tasks.text import Pair

UNREAD: Any = None  # the model: no text depends on it
SWEEPS = Path(__file__).parent.parent / "sweeps"


def parsed(**fields: Any) -> BooleanTask:
    return BooleanTask.parse({"train": 60, "validation": 30, "test": 200, **fields}, "task")


def drawn(task: BooleanTask, count: int = 400) -> list[Pair]:
    return list(islice(task.pairs(random.Random(3), UNREAD), count))


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    kinds: list[dict[str, Any]] = [{}, {"prompt": "instruction"}]
    words = worded_model.words([parsed(**kind) for kind in kinds], pairs=20)
    return worded_model.loaded(worded_model.save(tmp_path_factory.mktemp("worded"), words))


def python_says(expression: str) -> bool:
    """The independent second opinion; the texts are our own and hold nothing but these words."""
    assert set(re.findall(r"\w+", expression)) <= {"True", "False", "and", "or", "not"}
    return eval(expression, {"__builtins__": {}})


def nested(expression: str) -> int:
    """Operators within operators: parentheses within parentheses, and the operator outside of them."""
    open_now = [0]
    for sign in expression:
        open_now.append(open_now[-1] + (sign == "(") - (sign == ")"))
    return max(open_now) + 1


def operators(expression: str) -> int:
    return len(re.findall(r"and|or|not", expression))


@pytest.mark.parametrize(
    "expression, said, holds",
    [
        (True, "True", True),
        (("not", True), "not True", False),
        (("and", ("not", False), ("or", False, True)), "(not False) and (False or True)", True),
        (("not", ("and", True, ("not", False))), "not (True and (not False))", False),
    ],
)
def test_an_expression_by_hand(expression: Expression, said: str, holds: bool) -> None:
    assert text(expression) == said and value(expression) is holds


@pytest.mark.parametrize("fields", [{}, {"operators": [1, 2], "depth": 2}, {"operators": [15], "depth": 4}])
def test_answers_are_the_values_and_corrupted_ones_the_other(fields: dict[str, Any]) -> None:
    task = parsed(**fields)
    pairs = drawn(task)
    for pair in pairs:
        (before, clean, after, answer), (_, corrupted, _, other) = pair.clean, pair.corrupted
        assert pair.corrupted[::2] == (before, after)
        assert answer == f" {python_says(clean)}" and other == f" {python_says(corrupted)}" != answer
        assert operators(clean) == operators(corrupted) in task.operators
        assert max(nested(clean), nested(corrupted)) <= task.depth
    assert {operators(pair.clean[1]) for pair in pairs} == set(task.operators)
    assert max(nested(pair.clean[1]) for pair in pairs) == task.depth, "the depth is made use of"


@pytest.mark.parametrize("prompt", ["few_shot", "instruction"])
def test_the_tokenizer_drops_nothing_and_answers_are_balanced(prompt: str, worded: Loaded) -> None:
    dataset = parsed(prompt=prompt).dataset(worded)
    assert not dataset.dropped
    true, false = (worded.tokenizer(said)["input_ids"] for said in (" True", " False"))
    for split in SPLITS:
        answers = Counter(example.answers for example in dataset.splits[split])
        assert set(answers) == {tuple(true), tuple(false)}
        assert abs(answers[tuple(true)] / answers.total() - 0.5) < 0.1
        wrong = {tuple(true): tuple(false), tuple(false): tuple(true)}
        assert all(example.distractors == wrong[example.answers] for example in dataset.splits[split])


@pytest.mark.parametrize("shots", [1, 2, 5, 8])
def test_shots_are_right_balanced_the_same_and_never_the_question(shots: int) -> None:
    pairs = drawn(parsed(shots=shots, operators=[1, 2], depth=2))
    (before,) = {pair.clean[0] for pair in pairs}
    lines = before.splitlines()
    assert len(lines) == shots and before.endswith("\n")
    solved = [line.split(" is ") for line in lines]
    assert all(str(python_says(expression)) == said for expression, said in solved)
    assert abs(2 * sum(said == "True" for _, said in solved) - shots) <= 1
    assert {pair.clean[2] for pair in pairs} == {" is"}
    assert not {pair.clean[1] for pair in pairs} & {expression for expression, _ in solved}


@pytest.mark.parametrize("chat, end", [("none", "\nAnswer:"), ("llama", " [/INST] '"), ("chatml", "nt\n")])
def test_an_instruction_and_the_marks_of_a_chat(chat: str, end: str) -> None:
    for pair in drawn(parsed(prompt="instruction", chat=chat), 20):
        before, _, after, answer = pair.clean
        assert (before, after) == CHATS[chat] and "Boolean" in before and after.endswith(end)
        assert answer == f" {answer.strip()}" if chat == "none" else answer in ("True", "False")


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"operators": [3, 8], "depth": 3}, "operators: found 8; allowed at depth 3: at most 7"),
        ({"operators": []}, "task: operators: found"),
        ({"operators": [0]}, r"task: operators\[0\]: found 0"),
        ({"chat": "llama"}, "chat does nothing with prompt few_shot; it belongs to instruction"),
        ({"prompt": "instruction", "shots": 4}, "shots does nothing with prompt instruction"),
    ],
)  # fmt: skip
def test_impossible_expressions_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=re.sub(r"[()]", r"\\\g<0>", said)):
        parsed(**fields)


def test_more_than_there_are_is_refused_with_the_count(worded: Loaded) -> None:
    """One operator: 8 expressions with two operands, 2 with one; some are shots."""
    with pytest.raises(SpecError, match="task.test: found 200; only [0-9] more different examples fit"):
        parsed(operators=[1], depth=1).dataset(worded)


def test_a_model_that_always_says_true_is_at_chance(worded: Loaded) -> None:
    task = parsed()
    examples = task.examples("test", worded)
    true = worded.tokenizer(" True")["input_ids"][0]
    right = sum(example.answers == (true,) for example in examples) / len(examples)
    assert abs(right - task.chance(worded.spec)["accuracy"]) < 0.05


def test_prompts_of_one_task_have_test_sets_of_their_own(tmp_path: Path) -> None:
    sets = {
        parsed(**fields).test_set for fields in ({}, {"prompt": "instruction"}, {"shots": 2}, {"depth": 4})
    }
    assert len(sets) == 4


@pytest.mark.parametrize("prompt, chat", [("instruction", "llama"), ("few_shot", "none")])
def test_the_codellama_sweeps_ask_for_the_published_settings(prompt: str, chat: str) -> None:
    """Bhaskar et al. 2024, appendix, and the released scripts; the node loss off, as there, and on."""
    trials = SweepSpec.load(SWEEPS / f"codellama_boolean_{prompt}.yaml").trials()
    pruned = [trial.method.plain() for trial in trials if trial.method.name == "edge_pruning"]
    assert [method["writer_target_sparsity"] for method in pruned] == [None, 0.7]
    published = {
        "target_sparsity": 1.2, "gate_lr": 0.8, "multiplier_lr": 0.4, "steps": 6000, "warmup_steps": 5500,
        "lr_warmup_steps": 200, "batch_size": 32, "init_log_alpha": 10.0, "writer_gates": True,
    }  # fmt: skip
    for method in pruned:
        assert {key: method[key] for key in published} == published
    for trial in trials:
        task = trial.task.plain()
        assert (task["prompt"], task["chat"], task["train"]) == (prompt, chat, 8000)
        assert trial.embeddings == "always_on" and trial.model.dtype == "bfloat16"
