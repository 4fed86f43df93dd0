"""One trial: its spec, its id, and its life on one page."""

from typing import Annotated, Literal

from pydantic import Field

from model_patches.graph import Embeddings
from trainers.methods import AnyMethod
from trainers.model import ModelSpec
from trainers.spec import Spec, content_id
from trainers.tasks import AnyTask

# Raise when a default or a meaning changes: every id changes with it, so no old result is taken
# for a new one.
TRIAL_SCHEMA = 1


class TrialSpec(Spec):
    """Everything that decides a trial's circuits, and nothing else."""

    model: ModelSpec
    task: AnyTask
    method: AnyMethod
    ablation: Literal["interchange", "zero"] = "interchange"
    embeddings: Embeddings = "maskable"
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def trial_id(self) -> str:
        """Same content, same id: the model's and the data's digests, the fields that differ from
        their defaults, the versions; no path, rank, lane or thread."""
        content = self.canonical() | {
            "schema": TRIAL_SCHEMA,
            "model": self.model.identity(),
            # `name` is a default of its class, so `canonical` alone would leave it out.
            "method": self.method.canonical() | {"name": self.method.name, "version": self.method.version},
            "task": self.task.canonical() | {"name": self.task.name, "version": self.task.version},
        }
        return content_id(content)
