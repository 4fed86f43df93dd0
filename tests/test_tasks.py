"""Tasks: examples are a function of the task's own fields, and what every entry of TASKS promises."""

import random
from typing import Any

import pytest
import torch

from tests import one_rank, worded_model
from trainers.data import Example, batch_order
from trainers.metrics import METRICS
from trainers.model import Loaded
from trainers.spec import SpecError
from trainers.tasks import TASKS
from trainers.tasks.base import SPLITS, Task
from trainers.tasks.given import GivenTask
from trainers.tasks.induction import InductionTask
from trainers.tasks.text import TextTask
from trainers.tasks.tracr import TracrTask

# Models by name of the task, and fields of the task by kind of model; text tasks have the worded ones.
MODELS = {
    "induction": ("gpt2", "llama"),
    "tracr": ("tracr-reverse", "tracr-xproportion"),
    "greater_than": ("worded", "worded by digit"),
}
FIELDS: dict[tuple[str, str], dict[str, Any]] = {("greater_than", "worded by digit"): {"by_digit": True}}
SIZES = {"train": 20, "validation": 9, "test": 30}


def name_of(task_class: type[Task]) -> str:
    return task_class.model_fields["name"].default


def small(task_class: type[Task], kind: str = "", **fields: Any) -> Task:
    sizes = {name: size for name, size in SIZES.items() if name in task_class.model_fields}
    fields = {**sizes, **FIELDS.get((name_of(task_class), kind), {}), **fields}
    return task_class.parse(fields, "task")


# Tasks of data that a user brings draw nothing; what they promise is in test_jsonl_task.py.
DRAWN = [task for task in TASKS if not issubclass(task, GivenTask)]
CASES = [(task, kind) for task in DRAWN for kind in MODELS.get(name_of(task), ("worded",))]
each_task = pytest.mark.parametrize("task_class, kind", CASES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loaded]:
    folder = tmp_path_factory.mktemp("models")
    words = worded_model.words([task for t in DRAWN if isinstance(task := small(t), TextTask)])
    made: dict[str, Loaded] = {}
    for kind in dict.fromkeys(kind for _, kind in CASES):
        if kind.startswith("worded"):
            saved = worded_model.save(folder / kind, words, digits=kind == "worded by digit")
            made[kind] = worded_model.loaded(saved)
        else:
            made[kind] = one_rank.loaded(kind, "float32")
    return made


@each_task
def test_examples_are_decided_by_data_seed_alone(
    task_class: type[Task], kind: str, models: dict[str, Loaded]
) -> None:
    first = {split: small(task_class, kind).examples(split, models[kind]) for split in SPLITS}
    random.seed(7)
    torch.manual_seed(7)
    for split in reversed(SPLITS):
        assert small(task_class, kind).examples(split, models[kind]) == first[split]
        assert small(task_class, kind, data_seed=1).examples(split, models[kind]) != first[split]


@each_task
def test_examples_are_what_the_model_can_read(
    task_class: type[Task], kind: str, models: dict[str, Loaded]
) -> None:
    loaded, task = models[kind], small(task_class, kind)
    outputs = loaded.program.config.output_size if loaded.program else loaded.vocab_size
    outputs = len(task.candidates(loaded) or range(outputs))
    assert task.readout(torch.zeros(1, 1, loaded.vocab_size), loaded).shape[-1] in (
        outputs,
        loaded.vocab_size,
    )
    distracted = "logit_difference" in task.metrics(loaded.spec)
    for split in SPLITS:
        examples = task.examples(split, loaded)
        assert examples
        for example in examples:
            assert len(example.clean) == len(example.corrupted) <= loaded.context
            assert example.clean != example.corrupted
            ids = {*example.clean, *example.corrupted}
            assert min(ids) >= 0 and max(ids) < loaded.vocab_size
            assert all(0 <= position < len(example.clean) for position in example.positions)
            assert len(set(example.positions)) == len(example.positions)
            if outputs > 1:
                assert all(isinstance(a, int) and 0 <= a < outputs for a in example.answers)
                assert len(example.distractors) == len(example.answers) * distracted
                assert not distracted or all(
                    d != a for d, a in zip(example.distractors, example.answers, strict=True)
                )


@each_task
def test_metrics_are_known_and_fit(task_class: type[Task], kind: str, models: dict[str, Loaded]) -> None:
    task, model = small(task_class, kind), models[kind].spec
    names = task.metrics(model)
    assert len(set(names)) == len(names) and set(names) <= set(METRICS)
    assert METRICS[names[0]].divergence, "training minimises the first"
    attribution = METRICS[task.attribution_metric(model)]
    assert attribution.name in names
    assert attribution.higher_is_better and attribution.differentiable and not attribution.divergence
    assert "data seed 4" in small(task_class, kind, data_seed=4).test_set or models[kind].program is not None
    task.check(model)
    for name in task.chance(model):
        assert name in names and METRICS[name].higher_is_better


@each_task
def test_ground_truth_names_edges_of_the_graph(
    task_class: type[Task], kind: str, models: dict[str, Loaded]
) -> None:
    truth = small(task_class, kind).ground_truth(models[kind])
    for writer, reader in truth or []:
        models[kind].graph("maskable").locate(writer, reader)
    assert (truth is not None) == (models[kind].program is not None)


def test_induction_splits_are_disjoint_and_of_the_asked_sizes(models: dict[str, Loaded]) -> None:
    task = small(InductionTask, period=3, shown=2)
    splits = [task.examples(split, models["gpt2"]) for split in SPLITS]
    assert [len(split) for split in splits] == [20, 9, 30]
    seen = [example.clean for split in splits for example in split]
    assert len(set(seen)) == len(seen)


def test_an_induction_example_by_its_definition(models: dict[str, Loaded]) -> None:
    task = small(InductionTask, period=5, shown=3)
    for example in task.examples("test", models["gpt2"]):
        clean, corrupted = example.clean, example.corrupted
        assert len(clean) == 8 and clean[5:] == clean[:3] == corrupted[5:]
        assert len({*clean[:5], *corrupted[:5]}) == 10, "no token of one prompt's start is in the other's"
        assert example.positions == (7,)
        assert example.answers == (clean[3],) and example.distractors == (corrupted[3],)


def test_more_training_examples_leave_the_earlier_ones(models: dict[str, Loaded]) -> None:
    few = small(InductionTask, train=5).examples("train", models["gpt2"])
    assert small(InductionTask, train=8).examples("train", models["gpt2"])[:5] == few


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"period": 21}, "task.period: found 21; this vocabulary allows 20 at most"),
        ({"period": 20, "shown": 19, "context": 38}, "period . shown is 39; this model reads 38 tok"),
        ({"period": 2, "shown": 1, "train": 3700}, "found 3739 examples in all; this vocabulary has 3660"),
    ],
)  # fmt: skip
def test_an_induction_that_the_model_cannot_be_asked_is_refused(
    fields: dict[str, Any], said: str, models: dict[str, Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    if context := fields.get("context"):
        monkeypatch.setattr(Loaded, "context", context)
    task = small(InductionTask, **{key: value for key, value in fields.items() if key != "context"})
    with pytest.raises(SpecError, match=said):
        task.examples("train", models["gpt2"])


def test_induction_must_not_show_the_whole_period() -> None:
    with pytest.raises(SpecError, match="shown: found 8; allowed: below period .8."):
        InductionTask.parse({"shown": 8}, "task")


@pytest.mark.parametrize("kind, inputs", [("tracr-reverse", 27), ("tracr-xproportion", 256)])
def test_tracr_asks_the_whole_domain_in_every_split(
    kind: str, inputs: int, models: dict[str, Loaded]
) -> None:
    task = small(TracrTask)
    examples = task.examples("train", models[kind])
    assert task.dataset(models[kind]).in_sample and len(examples) == inputs == len(
        {example.clean for example in examples}
    )
    assert all(task.examples(split, models[kind]) == examples for split in SPLITS)
    assert {example.corrupted for example in examples} == {example.clean for example in examples}
    assert all(example.corrupted != example.clean for example in examples), "a derangement"


def test_tracr_answers_are_what_the_programs_compute(models: dict[str, Loaded]) -> None:
    """Inputs are BOS and tokens; the vocabulary is the program's own."""
    for kind in MODELS["tracr"]:
        program = models[kind].program
        assert program is not None
        names = {index: token for token, index in program.encoding.items()}
        for example in small(TracrTask).examples("test", models[kind]):
            word = [names[token] for token in example.clean[1:]]
            assert example.clean[0] == program.bos_id and example.positions == program.scored_positions
            if kind == "tracr-reverse":
                said = [program.output_vocab[int(answer)] for answer in example.answers]
                assert said == [word[::-1][position - 1] for position in example.positions]
            else:
                shares = [word[:end].count("x") / end for end in example.positions]
                assert example.answers == pytest.approx(shares)


def test_the_logit_scale_is_seen_by_metrics_of_categories_only() -> None:
    scaled, loaded = small(TracrTask, logit_scale=3.0), one_rank.loaded("tracr-reverse", "float32")
    assert scaled.readout(torch.ones(2, 4), loaded).unique().item() == 3
    assert scaled.readout(torch.ones(2, 1), loaded).unique().item() == 1
    assert small(TracrTask).test_set != small(TracrTask, logit_scale=1.0).test_set


@pytest.mark.parametrize("count, size", [(10, 3), (10, 5), (7, 2), (7, 6), (1, None), (9, None)])
def test_batches_hold_every_example_once_per_epoch(count: int, size: int | None) -> None:
    per_epoch = 1 if size is None else -(-count // size)
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        batches = [batch_order(count, size, seed=4, step=step) for step in steps]
        assert all(len(batch) == (size or count) for batch in batches)
        in_order = [index for batch in batches for index in batch]
        assert sorted(in_order[:count]) == list(range(count))
        assert in_order[count:] == in_order[: len(in_order) - count], "filled from the epoch's beginning"


def test_batches_are_keyed_by_seed_and_epoch() -> None:
    torch.manual_seed(0)
    first = [batch_order(50, 50 - 1, seed=1, step=step) for step in range(0, 8, 2)]
    torch.manual_seed(1)
    assert first == [batch_order(50, 50 - 1, seed=1, step=step) for step in range(0, 8, 2)]
    assert len({tuple(order) for order in first}) == 4
    assert batch_order(50, 49, seed=2, step=0) != first[0]
    assert batch_order(50, 50, seed=1, step=3) == batch_order(50, 80, seed=2, step=9) == list(range(50))


def test_an_example_of_unequal_prompts_is_refused() -> None:
    with pytest.raises(AssertionError, match="one length"):
        Example((1, 2), (1,), (0,), (1,))
    with pytest.raises(AssertionError, match="one answer per scored position"):
        Example((1, 2), (1, 3), (0, 1), (1,))
