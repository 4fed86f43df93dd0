"""Does the full model know the task? Asked before hours are spent on a circuit of what it cannot do."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainers.data import Batch, Example
from trainers.metrics import METRICS
from trainers.spec import content_id

if TYPE_CHECKING:
    from trainers.model import Loaded
    from trainers.session import Session
    from trainers.tasks.base import Task

EXAMPLES = 200
STANDARD_ERRORS = 2
ENOUGH = 20  # with fewer examples, a standard error says too little to judge by


@dataclass(frozen=True)
class Level:
    """A metric of the full model: its mean over examples, the mean's standard error, and the level of
    a model that knows nothing (None where the task states none).

    unrelated: the same outputs scored on other examples' answers. What a model scores by saying the
    same whatever it is asked it scores there too.
    """

    mean: float
    standard_error: float
    chance: float | None = None
    unrelated: float | None = None

    @property
    def floor(self) -> float | None:
        """The higher of the two."""
        if self.chance is None or self.unrelated is None:
            return self.chance
        return max(self.chance, self.unrelated)

    @property
    def above_chance(self) -> bool:
        """By two standard errors; True where there is no chance level."""
        return self.floor is None or self.mean - STANDARD_ERRORS * self.standard_error > self.floor


@dataclass(frozen=True)
class Knowledge:
    """What the full model scores on a task: a level per metric."""

    examples: int
    levels: dict[str, Level]

    @property
    def too_few(self) -> bool:
        """Too few examples to judge whether the model is above chance, where there is one to judge by."""
        return self.examples < ENOUGH and self.states_chance

    @property
    def states_chance(self) -> bool:
        """Whether the task says of any metric what a model that knows nothing scores."""
        return any(level.chance is not None for level in self.levels.values())

    def warnings(self) -> tuple[str, ...]:
        """One line per metric on which the full model is no better than chance; of too few examples, one
        line that says so instead."""
        if self.too_few:
            judged = "too few examples to judge whether the full model is above chance"
            return (f"{judged}: found {self.examples}; at least {ENOUGH} are needed",)
        return tuple(
            f"the full model is not above chance: {name} {level.mean:.3g} ± {level.standard_error:.2g} "
            f"(standard error, {self.examples} examples), chance {level.floor:.3g}"
            for name, level in self.levels.items()
            if not level.above_chance
        )


def full_model_knows(
    loaded: "Loaded",
    task: "Task",
    examples: Sequence[Example],
    device: torch.device,
    run: Callable[[Callable[[], Any]], Any] | None = None,
    batch_examples: int = 64,
) -> Knowledge:
    """Every metric of the task on the first 200 examples.

    `run` is `Engine.run` where weights are partitioned; every rank then runs all of the examples, and
    all come to the same result.
    """
    asked = list(examples[:EXAMPLES])
    values = [
        (run or _call)(partial(_values, loaded, task, asked[start : start + batch_examples], device))
        for start in range(0, len(asked), batch_examples)
    ]
    own, unrelated = (torch.cat(parts).cpu() for parts in zip(*values, strict=True))
    error = own.std(0) / len(own) ** 0.5 if len(own) > 1 else torch.full_like(own[0], torch.inf)
    chance = task.chance(loaded.spec)
    levels = {
        name: Level(
            float(own[:, place].mean()),
            float(error[place]),
            chance.get(name),
            float(unrelated[:, place].mean()) if name in chance else None,
        )
        for place, name in enumerate(task.metrics(loaded.spec))
    }
    return Knowledge(len(asked), levels)


def full_model_doubts(session: "Session") -> tuple[str, ...]:
    """Warnings when the full model does not know a trial's task. Asked once per model in memory and task,
    in an engine of its own; a task that states no chance level is not asked."""
    task, loaded = session.spec.task, session.loaded
    if not task.chance(loaded.spec):
        return ()
    key = content_id(task.identity())
    if key not in loaded.knowledge:
        examples, size = session.examples["test"], session.resources.batch_examples
        run = session.open().run
        try:
            loaded.knowledge[key] = full_model_knows(loaded, task, examples, session.ranks.device, run, size)
        finally:
            session.close()
    return loaded.knowledge[key].warnings()


def _call(function: Callable[[], Any]) -> Any:
    return function()


@torch.no_grad()
def _values(
    loaded: "Loaded", task: "Task", examples: list[Example], device: torch.device
) -> tuple[Float[Tensor, "batch metrics"], Float[Tensor, "batch metrics"]]:
    """Per example: the metrics, and the metrics on the answers of the next example in the batch."""
    batch = Batch.of(examples, [1.0] * len(examples), device)
    full = task.readout(loaded.model.full(batch.clean, batch.positions), loaded)
    wrong = None if batch.distractors is None else batch.distractors.roll(1, 0)
    other = dataclasses.replace(batch, answers=batch.answers.roll(1, 0), distractors=wrong)
    own, unrelated = (
        torch.stack(
            [METRICS[name].compute(full, full, of).double() for name in task.metrics(loaded.spec)], -1
        )
        for of in (batch, other)
    )
    return own, unrelated
