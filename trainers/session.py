"""Session: what a method works with during one trial."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_patches.graph import EdgeGraph
from model_patches.stream import WriterStates
from trainers.checkpoint import Checkpoints
from trainers.data import Batch, Example
from trainers.distributed import Engine, Ranks
from trainers.metrics import METRICS
from trainers.model import Loaded
from trainers.resources import Resources
from trainers.tasks.base import Dataset, Split

if TYPE_CHECKING:
    from trainers.trial import TrialSpec


@dataclass(frozen=True)
class References:
    """What a batch is compared with: the full model's readout, and the corrupted run's writes
    (None under zero ablation)."""

    full: Float[Tensor, "batch scored vocab"]
    corrupted: WriterStates | None


@dataclass
class Session:
    """One trial on one rank. Every rank makes the same calls in the same order."""

    spec: "TrialSpec"
    loaded: Loaded
    ranks: Ranks
    resources: Resources
    checkpoints: Checkpoints
    engine: Engine | None = None
    _remembered: tuple[tuple[int, ...], Batch, References] | None = field(default=None, repr=False)

    @cached_property
    def graph(self) -> EdgeGraph:
        return self.loaded.graph(self.spec.embeddings)

    @cached_property
    def dataset(self) -> Dataset:
        return self.spec.task.dataset(self.loaded)

    @property
    def examples(self) -> Mapping[Split, list[Example]]:
        return self.dataset.splits

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        return self.spec.task.metrics(self.spec.model)

    @property
    def divergence(self) -> str:
        """The metric that training minimises."""
        return self.metrics[0]

    def open(
        self,
        parameters: Mapping[str, nn.Parameter] | None = None,
        groups: Sequence[dict[str, Any]] = (),
        max_gradient_norm: float | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> Engine:
        """Starts the trial's engine; without parameters it only runs the model. See Engine."""
        assert self.engine is None, "one engine per trial"
        stage = self.resources.zero_stage
        self.engine = Engine(
            self.loaded.model, parameters or {}, list(groups), self.ranks, stage, max_gradient_norm, state
        )
        return self.engine

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def keep(self, gates: Float[Tensor, "*samples edges"]) -> Float[Tensor, "*samples writers readers"]:
        """Gates of all edges, in the graph's order, as the matrix that the model takes."""
        flat = self.graph.flat_index.to(gates.device)
        base = self.graph.always_on.flatten().to(gates).expand(*gates.shape[:-1], -1)
        return base.index_copy(-1, flat, gates).unflatten(-1, self.graph.allowed.shape)

    def train_batch(self, indices: list[int]) -> tuple[Batch, References]:
        """This rank's share of a global batch of training examples, with its references.

        Runs the model: call it inside `engine.run`. The references of the last batch are kept, so
        training on the whole set at every step computes them once.
        """
        key = tuple(indices)
        if self._remembered is None or self._remembered[0] != key:
            batch = self.share([self.examples["train"][i] for i in indices])
            self._remembered = (key, batch, self.references(batch))
        return self._remembered[1], self._remembered[2]

    def share(self, examples: Sequence[Example]) -> Batch:
        """This rank's part of a global batch. A rank without examples gets one of weight 0, so
        that every rank runs the model equally often."""
        mine = self.ranks.slice(len(examples))
        own = list(examples[mine])
        most = -(-len(examples) // self.ranks.world_size)
        weight = [1.0] * len(own) + [0.0] * (most - len(own))
        return Batch.of(own + [examples[0]] * (most - len(own)), weight, self.ranks.device)

    def batches(self, split: Split) -> Iterator[Batch]:
        """This rank's shares of the batches of a split, in order."""
        size = self.resources.batch_examples * self.ranks.world_size
        examples = self.examples[split]
        for start in range(0, len(examples), size):
            yield self.share(examples[start : start + size])

    @torch.no_grad()
    def references(self, batch: Batch) -> References:
        """Runs the model: call it inside `engine.run`."""
        model = self.loaded.model
        full = self.spec.task.readout(model.full(batch.clean, batch.positions), self.loaded)
        return References(
            full, model.record(batch.corrupted) if self.spec.ablation == "interchange" else None
        )

    def logits(
        self, batch: Batch, keep: Float[Tensor, "*samples writers readers"], references: References
    ) -> Float[Tensor, "*samples batch scored vocab"]:
        """The masked model's readout; differentiable in `keep`. Call it inside `engine.run`."""
        logits = self.loaded.model(batch.clean, keep, references.corrupted, batch.positions)
        return self.spec.task.readout(logits, self.loaded)

    def measure(
        self,
        name: str,
        logits: Float[Tensor, "*samples batch scored vocab"],
        references: References,
        batch: Batch,
    ) -> Float[Tensor, "*samples batch"]:
        """A metric per example."""
        samples = logits.shape[:-3]
        count = samples.numel()
        flat = logits.reshape(-1, *logits.shape[-2:])
        full = references.full.repeat(count, 1, 1)
        return METRICS[name].compute(flat, full, batch.repeat(count)).view(*samples, len(batch))
