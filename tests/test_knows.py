"""Does the full model know the task? Means and standard errors by hand, and what is flagged."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import one_rank, worded_model
from trainers.evaluation.knows import EXAMPLES, Knowledge, Level, full_model_knows
from trainers.model import Loaded
from trainers.tasks.greater_than import GreaterThanTask
from trainers.tasks.ioi import IoiTask
from trainers.tasks.tracr import TracrTask

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder: Path = tmp_path_factory.mktemp("worded")
    words = worded_model.words([IoiTask.parse({}, "task"), GreaterThanTask.parse({}, "task")])
    return worded_model.loaded(worded_model.save(folder, words))


@pytest.mark.parametrize(
    "level, above",
    [
        (Level(0.21, 0.1, chance=0.0), True),
        (Level(0.2, 0.1, chance=0.0), False),
        (Level(-3.0, 0.1), True),
        (Level(0.5, 0.1, chance=0.0, unrelated=0.31), False),
        (Level(0.5, 0.1, chance=0.0, unrelated=-4.0), True),
        (Level(1.0, 0.0, chance=1.0), False),
    ],
)
def test_above_chance_means_by_two_standard_errors(level: Level, above: bool) -> None:
    assert level.above_chance == above
    assert len(Knowledge(200, {"accuracy": level}).warnings()) == (not above)


def test_a_warning_says_what_was_found() -> None:
    known = Knowledge(200, {"kl": Level(0.0, 0.0), "logit_difference": Level(0.02, 0.04, 0.0, 0.01)})
    assert known.warnings() == (
        "the full model is not above chance: logit_difference 0.02 ± 0.04 (standard error, 200 examples), "
        "chance 0.01",
    )


def test_of_too_few_examples_that_is_the_only_verdict() -> None:
    levels = {"logit_difference": Level(0.02, 0.04, 0.0, 0.01), "accuracy": Level(0.1, 0.1, 0.5)}
    (told,) = Knowledge(19, levels).warnings()
    judged = "too few examples to judge whether the full model is above chance"
    assert told == f"{judged}: found 19; at least 20 are needed"
    assert Knowledge(19, {"accuracy": Level(0.9, 0.01, 0.5)}).warnings() == (told,)
    assert len(Knowledge(20, levels).warnings()) == 2
    assert Knowledge(19, {"kl": Level(0.0, 0.0)}).warnings() == (), "no chance level, nothing to judge"


def test_levels_are_the_means_over_the_first_200_examples(worded: Loaded) -> None:
    task = IoiTask.parse({"train": 5, "validation": 5, "test": 220}, "task")
    examples = task.examples("test", worded)
    calls: list[int] = []

    def run(function: Any) -> Any:
        calls.append(1)
        return function()

    known = full_model_knows(worded, task, examples, CPU, run, batch_examples=48)
    assert known.examples == EXAMPLES == 200 and len(calls) == 5, "through the engine, batch by batch"
    differences: list[float] = []
    with torch.no_grad():
        for example in examples[:200]:
            logits = worded.model.full(torch.tensor([example.clean]), torch.tensor([example.positions]))[0, 0]
            differences.append(float(logits[int(example.answers[0])] - logits[example.distractors[0]]))
    found, values = known.levels["logit_difference"], torch.tensor(differences, dtype=torch.float64)
    assert found.mean == pytest.approx(float(values.mean()), abs=1e-6)
    assert found.standard_error == pytest.approx(float(values.std()) / 200**0.5, abs=1e-6)
    assert found.chance == 0 and known.levels["kl"].chance is None
    assert known.levels["exact_match"].mean == 1 and known.levels["kl"].mean == pytest.approx(0, abs=1e-9)


def test_a_model_of_random_weights_is_flagged_and_one_that_knows_is_not(worded: Loaded) -> None:
    task = IoiTask.parse({"train": 5, "validation": 5, "test": 200}, "task")
    examples = task.examples("test", worded)
    assert full_model_knows(worded, task, examples, CPU).warnings()
    knows = dataclasses.replace(worded, model=Knowing(worded, {e.clean: int(e.answers[0]) for e in examples}))  # type: ignore[arg-type]
    known = full_model_knows(knows, task, examples, CPU)
    assert known.warnings() == () and known.levels["accuracy"].mean == 1


class Knowing:
    """Puts the right answer on top."""

    def __init__(self, loaded: Loaded, answers: dict[tuple[int, ...], int]) -> None:
        self.loaded, self.answers = loaded, answers

    def full(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*positions.shape, self.loaded.vocab_size)
        for row, (prompt, read) in enumerate(zip(tokens.tolist(), positions[:, 0].tolist(), strict=True)):
            logits[row, 0, self.answers[tuple(prompt[: read + 1])]] = 9
        return logits


def test_always_saying_a_great_number_is_not_knowing_which_are_greater(worded: Loaded) -> None:
    """Its probability difference is far above 0, and as far on the years of other examples."""
    task = GreaterThanTask.parse({"train": 5, "validation": 5, "test": 200}, "task")
    examples, candidates = task.examples("test", worded), task.candidates(worded)
    assert candidates is not None
    always = Knowing(worded, {example.clean: candidates[90] for example in examples})
    known = full_model_knows(dataclasses.replace(worded, model=always), task, examples, CPU)  # type: ignore[arg-type]
    level = known.levels["probability_difference"]
    assert level.mean > 0.5 and level.unrelated is not None and abs(level.unrelated - level.mean) < 0.05
    assert len(known.warnings()) == 1


def test_a_task_without_a_chance_level_is_never_flagged() -> None:
    loaded, task = one_rank.loaded("tracr-xproportion", "float32"), TracrTask.parse({}, "task")
    known = full_model_knows(loaded, task, task.examples("test", loaded), CPU)
    assert known.warnings() == () and known.levels["same_output"].mean == 1


def test_partitioned_weights_are_gathered_by_the_engine(tmp_path: Path) -> None:
    loaded = one_rank.loaded("llama", "float32")
    with one_rank.joined() as ranks:
        session = one_rank.session(loaded, ranks, tmp_path, {"name": "random"}, zero_stage=3)
        task, examples = session.spec.task, session.examples["test"]
        alone = full_model_knows(loaded, task, examples, CPU)
        engine = session.open()
        together = full_model_knows(loaded, task, examples, CPU, engine.run)
        session.close()
    assert together == alone and alone.examples == len(examples) == 7
