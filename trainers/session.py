"""Session: what a method works with during one trial."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_patches.graph import EdgeGraph
from model_patches.states import WriterStates
from trainers.ablation import kept_bias, mean_states, up_to
from trainers.checkpoint import Checkpoints
from trainers.data import Batch, Example
from trainers.distributed import Engine, Ranks
from trainers.metrics import METRICS
from trainers.model import Loaded
from trainers.references import ReferenceCache, References, joined
from trainers.resources import Resources
from trainers.spec import content_id
from trainers.tasks.base import Dataset, Split

if TYPE_CHECKING:
    from trainers.trial import TrialSpec


@dataclass
class Session:
    """One trial on one rank. Every rank makes the same calls in the same order."""

    spec: "TrialSpec"
    loaded: Loaded
    ranks: Ranks
    resources: Resources
    checkpoints: Checkpoints
    engine: Engine | None = None
    # On this rank so far: examples that went forward, and those that a backward pass followed.
    _spent: Float[Tensor, "2"] = field(init=False, repr=False)
    _remembered: tuple[tuple[int, ...], Batch, References] | None = field(default=None, repr=False)
    _fixed: WriterStates | None = field(default=None, repr=False)
    cache: ReferenceCache = field(init=False, repr=False)

    def __post_init__(self) -> None:
        on = self.ranks.device if self.resources.reference_cache_on == "device" else torch.device("cpu")
        self.cache = ReferenceCache(int(self.resources.reference_cache_gib * 2**30), on)
        self._spent = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)

    @cached_property
    def graph(self) -> EdgeGraph:
        return self.loaded.graph(self.spec.embeddings)

    @cached_property
    def dataset(self) -> Dataset:
        """Tokenized once for the trials that a lane runs one after another on the same task."""
        key, known = content_id(self.spec.task.identity()), self.loaded.datasets
        if key not in known:
            known.clear()
            known[key] = self.spec.task.dataset(self.loaded)
        return known[key]

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
        training on the whole set at every step computes them once; the next batch's take their memory.
        """
        key = tuple(indices)
        if self._remembered is None or self._remembered[0] != key:
            batch = self.share([self.examples["train"][i] for i in indices])
            self._remembered = None  # two batches' need not fit
            if self.cache.budget:
                references = self._from_cache(indices, batch)
            else:
                references = self.references(batch, lent=True)
            self._remembered = (key, batch, references)
        return self._remembered[1], self._remembered[2]

    def _from_cache(self, indices: list[int], batch: Batch) -> References:
        """Each example's references, made alone where they are not at hand: the same bits in every batch."""
        mine, train = indices[self.ranks.slice(len(indices))], self.examples["train"]
        mine += [indices[0]] * (len(batch) - len(mine))  # fillers, as in `share`
        weights = dict(
            zip(reversed(mine), reversed(batch.weight.tolist()), strict=True)
        )  # the first's counts
        wanted = [index for index in weights if index not in self.cache]
        found: dict[int, References] = {}
        # Under ZeRO-3 all ranks run the model equally often.
        for number in range(int(max(self.ranks.gather(len(wanted))))):
            index = wanted[number] if number < len(wanted) else indices[0]
            weight = weights[index] if number < len(wanted) else 0.0
            one = Batch.of([train[index]], [weight], self.ranks.device)
            made = self.references(one, one_example=True)
            if number < len(wanted):
                found[index] = made
        self.cache.told(len(weights), len(weights) - len(wanted))
        for index, made in found.items():
            self.cache.add(index, made)
        each = [found[index] if index in found else self.cache[index] for index in mine]
        full, corrupted = joined(each, batch, self.ranks.device)
        return References(full, self._corrupted(batch, False) if corrupted is None else corrupted)

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
    def references(self, batch: Batch, lent: bool = False, one_example: bool = False) -> References:
        """Runs the model: call it inside `engine.run`. `lent`: see `CircuitModel.record`. `one_example`
        leaves out what cut edges carry where it is no example's own."""
        full = self.loaded.model.full(batch.clean, batch.positions)
        self.count(batch, 1)
        own = not one_example or self.spec.ablation == "interchange"
        return References(
            self.spec.task.readout(full, self.loaded), self._corrupted(batch, lent) if own else None
        )

    def _corrupted(self, batch: Batch, lent: bool) -> WriterStates | None:
        """What cut edges carry in this batch. What does not depend on it is made once, at the first."""
        match self.spec.ablation:
            case "interchange":
                self.count(batch, 1)
                return self.loaded.model.record(batch.corrupted, positions=batch.positions, lent=lent)
            case "zero":
                if self.spec.output_bias == "shared":
                    return None
                if self._fixed is None:
                    self._fixed = kept_bias(self)
                return self._fixed
            case "mean" | "mean_positional" as which:
                if self._fixed is None:
                    self._fixed = mean_states(self, per_position=which == "mean_positional")
                return up_to(self._fixed, batch.clean.shape[1])

    def logits(
        self,
        batch: Batch,
        keep: Float[Tensor, "*samples writers readers"],
        references: References,
        may_recompute: bool = True,
    ) -> Float[Tensor, "*samples batch scored vocab"]:
        """The masked model's readout; differentiable in `keep`. Call it inside `engine.run`. A backward that
        the differences are replaced for (see WriterStream) may not compute blocks again."""
        backward = torch.is_grad_enabled() and keep.requires_grad
        self.count(batch, keep.shape[0] if keep.ndim == 3 else 1, backward)
        recompute = may_recompute and self.resources.recompute_blocks
        logits = self.loaded.model(
            batch.clean, keep, references.corrupted, batch.positions, recompute=recompute
        )
        return self.spec.task.readout(logits, self.loaded)

    def count(self, batch: Batch, passes: int, backward: bool = False) -> None:
        """Adds to the trial's cost. A batch's fillers add nothing: any number of ranks counts alike."""
        examples = passes * (batch.weight > 0).sum()
        self._spent[0] += examples
        if backward:
            self._spent[1] += examples

    def cost(self) -> tuple[int, int]:
        """Examples that went forward so far, and those that a backward pass followed, over all ranks: see
        Discovery. Every rank calls it."""
        forward, backward = self.ranks.total(self._spent).tolist()
        return int(forward), int(backward)

    def cost_state(self) -> dict[str, Tensor]:
        """The cost so far, for a checkpoint."""
        return {"cost": torch.tensor(self.cost(), dtype=torch.float64)}

    def resume(
        self,
        state: Mapping[str, Tensor],
        last: list[int] | None = None,
        earlier: Iterable[list[int]] = (),
    ) -> None:
        """Goes on counting from a checkpoint as if nothing had come between: what an undisturbed trial has at
        hand here (means, the references of the `last` step's batch, and what the cache took of `earlier`
        steps' batches) is made again and not counted again.

        Runs the model: call it inside `engine.run`.
        """
        if "cost" not in state:
            return
        if self.cache.budget:
            for indices in earlier:
                if min(
                    self.ranks.gather(self.cache.closed or len(self.cache) == len(self.examples["train"]))
                ):
                    break
                self.train_batch(indices)
        if last is not None:
            self.train_batch(last)
        else:
            self.references(next(self.batches("train")))
        self._spent.zero_()
        if self.ranks.is_first:
            self._spent += state["cost"].to(self._spent)

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
