"""One trial: its spec, its id, and its life on one page."""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from model_patches.graph import Embeddings, OutputBias
from trainers.folder import Folder
from trainers.methods import AnyMethod
from trainers.methods.base import Discovery, Diverged
from trainers.model import Loaded, ModelSpec
from trainers.progress import Progress
from trainers.resources import Resources
from trainers.result import Group, Point
from trainers.spec import Misfit, Problem, Spec, SpecError, content_id
from trainers.tasks import AnyTask
from trainers.tasks.base import Split

if TYPE_CHECKING:
    from trainers.distributed import Ranks
    from trainers.evaluate import Evaluation
    from trainers.record import Recorder
    from trainers.session import Session

Ablation = Literal["interchange", "zero", "mean", "mean_positional"]
# Raise when a default or a meaning changes: every id changes with it, so no old result is taken
# for a new one.
TRIAL_SCHEMA = 1


class TrialSpec(Spec):
    """Everything that decides a trial's circuits, and nothing else."""

    model: ModelSpec
    task: AnyTask
    method: AnyMethod
    ablation: Ablation = "interchange"
    output_bias: OutputBias = "shared"
    embeddings: Embeddings = "maskable"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _fits(self) -> TrialSpec:
        self.task.check(self.model)
        self.method.check(self.task.metrics(self.model))
        if self.output_bias == "kept" and self.ablation != "zero":
            raise Misfit(
                "output_bias",
                "found kept; allowed with ablation zero only: in all others what a cut head "
                "leaves behind already holds its share of the bias",
            )
        return self

    @property
    def trial_id(self) -> str:
        """Same content, same id: the model's and the data's digests, the fields that differ from
        their defaults, the versions; no path, rank, lane or thread."""
        content = self.canonical() | {
            "schema": TRIAL_SCHEMA,
            "model": self.model.identity(),
            # `name` is a default of its class, so `canonical` alone would leave it out.
            "method": self.method.canonical() | {"name": self.method.name, "version": self.method.version},
            "task": self.task.identity(),
        }
        return content_id(content)

    def group(self, loaded: Loaded) -> Group:
        """What this trial's points may be compared with; the test set's name is exact once its examples
        were made."""
        dataset = loaded.datasets.get(content_id(self.task.identity()))
        count = loaded.model.graph.num_embeddings
        convention = f"{count} embedding writer{'s' * (count > 1)}, {self.embeddings.replace('_', ' ')}"
        return Group(
            model=self.model.label,
            task=self.task.name,
            test_set=self.task.test_set if dataset is None else self.task.test_set_of(dataset),
            ablation=self.ablation + (", output bias kept" if self.output_bias == "kept" else ""),
            edge_convention=convention,
            method=self.method.title,
        )


def named_problem(error: SpecError) -> Problem | None:
    """What an error says of the trial's field that it begins with, `task.train: found 7 ...`; None where
    it begins with none."""
    path, _, message = str(error).partition(": ")
    location = tuple(path.split("."))
    return Problem(location, message) if location[0] in TrialSpec.model_fields else None


@dataclass(frozen=True)
class Execution:
    """Where and as which attempt a trial runs. Nothing here may change its circuits."""

    folder: Folder
    ranks: Ranks
    resources: Resources
    attempt: int = 1


def run_trial(spec: TrialSpec, loaded: Loaded, execution: Execution) -> Generator[Progress, None, None]:
    """Discovers circuits, evaluates them, writes them and then `result.json`.

    A generator: between two of its yields nothing is in flight, so a trial can be stopped there and
    goes on from its checkpoint when it is run again. Every rank runs it in lockstep; rank 0 writes.
    """
    from trainers.checkpoint import Checkpoints
    from trainers.evaluation.knows import full_model_doubts
    from trainers.record import Recorder
    from trainers.session import Session

    ranks = execution.ranks
    recorder = Recorder(spec, loaded, execution)
    checkpoints = Checkpoints(
        execution.folder / "checkpoint", ranks, execution.resources.checkpoint_seconds, recorder.check_attempt
    )
    session = Session(spec, loaded, ranks, execution.resources, checkpoints)
    try:
        doubts = full_model_doubts(session)
        yield recorder.report(Progress(0, spec.method.steps_planned(), phase="load", warnings=doubts))
        discovery = yield from _discover(session, recorder)
        yield recorder.report(Progress(discovery.steps, discovery.steps, phase="evaluate"))
        points = yield from _points(session, discovery, recorder)
        recorder.complete(session, discovery, points, (*doubts, *checkpoints.warnings))
        checkpoints.clear()
    except Diverged as error:  # on all ranks alike; any other error must end the gang
        recorder.fail(f"diverged at {error}")
        checkpoints.clear()
    finally:
        session.close()


def _discover(session: Session, recorder: Recorder) -> Generator[Progress, None, Discovery]:
    steps = session.spec.method.discover(session)
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                return end.value
            yield recorder.report(progress)
    finally:
        steps.close()  # while the engine still runs: a method that is stopped saves its state


def _points(
    session: Session, discovery: Discovery, recorder: Recorder
) -> Generator[Progress, None, list[Point]]:
    """Evaluates every found circuit, the full model and the empty circuit, on both splits."""
    from trainers.evaluate import empty_circuit, evaluate_examples

    circuits = [found.circuit for found in discovery.found] + [empty_circuit(session)]
    evaluated: dict[Split, Evaluation] = {}
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        if evaluated and session.examples[split] == session.examples["validation"]:
            evaluated[split] = evaluated["validation"]
        else:
            evaluated[split] = yield from evaluate_examples(session, circuits, split)
        recorder.full[split], recorder.empty[split] = evaluated[split].full, evaluated[split].circuits[-1]
    recorder.test_values(evaluated["test"], session.examples["test"])
    truth = session.spec.task.ground_truth(session.loaded)
    metrics = {split: one.circuits for split, one in evaluated.items()}
    intervals = {split: one.intervals()[1:] for split, one in evaluated.items()}
    return [
        recorder.point(
            number,
            found,
            {split: metrics[split][number] for split in splits},
            truth,
            {split: intervals[split][number] for split in splits},
        )
        for number, found in enumerate(discovery.found)
    ]


if __name__ == "__main__":
    from trainers.worker import run_by_hand

    sys.exit(run_by_hand(sys.argv[1:]))
