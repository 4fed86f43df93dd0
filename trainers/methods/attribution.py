"""Attribution methods: a signed score per edge, from what cutting it does, or would do, to a metric."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from model_patches.graph import EdgeGraph
from model_patches.lazy import torch
from trainers.data import Batch
from trainers.methods.base import PASS_BYTES, Discovery, Diverged, PlannedPass
from trainers.methods.ranking import Ranking, top_circuits
from trainers.metrics import METRICS
from trainers.progress import Progress
from trainers.spec import Misfit

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from trainers.session import References, Session


class Attribution(Ranking):
    """The common fields of attribution methods. `needs` says what a method can do with a metric."""

    needs: ClassVar[Literal["a score with a gradient", "a gradient", "any"]] = "any"
    uses_seed: ClassVar[bool] = False

    metric: str | None = Field(None, description="what to attribute; default: the task's attribution metric")
    rank_by: Literal["magnitude", "signed"] = Field("magnitude", description="|score| (published) or score")

    @field_validator("metric")
    @classmethod
    def _usable(cls, name: str | None) -> str | None:
        if name is None:
            return None
        allowed = [m for m in METRICS.values() if m.differentiable or cls.needs == "any"]
        if cls.needs == "a score with a gradient":
            allowed = [m for m in allowed if m.higher_is_better and not m.divergence]
        said = f"allowed: {', '.join(m.name for m in allowed)}"
        metric = METRICS.get(name)
        if metric is None:
            raise ValueError(f"found '{name}'; {said}")
        if metric in allowed:
            return name
        if metric.divergence:
            raise ValueError(
                f"found '{name}', a divergence from the full model: its gradient at all gates 1 is zero, "
                f"so it scores nothing; {said}"
            )
        raise ValueError(f"found '{name}', which has no gradient; {said}")

    def check(self, metrics: tuple[str, ...]) -> None:
        if self.metric is not None and self.metric not in metrics:
            said = f"found {self.metric}, which the task does not measure; allowed: {', '.join(metrics)}"
            raise Misfit("method.metric", said)

    def attributed(self, session: Session) -> str:
        """The metric's name."""
        return self.metric or session.spec.task.attribution_metric(session.spec.model)

    def discover(self, session: Session) -> Generator[Progress, None, Discovery]:
        session.open()
        scores, steps = yield from self.scores(session)
        ranking = scores.abs() if self.rank_by == "magnitude" else scores
        found = top_circuits(session.graph, ranking.float(), self.budgets(session.graph))
        warnings = () if scores.any() else (f"every {self.label} score is zero",)
        return Discovery(found, steps, *session.cost(), warnings, scores)

    def scores(
        self, session: Session
    ) -> Generator[Progress, None, tuple[Float[Tensor, "writers readers"], int]]:
        """Signed scores of all edges, means over the training examples, float64, the same on every rank,
        and the number of steps. Needs an open engine. Raises Diverged when a score is not finite."""
        raise TypeError(f"{type(self).__name__} does not implement scores")


class GradientAttribution(Attribution):
    """Scores that come from the metric's gradient in the gates, in one or several masked runs.

    A reader sees corrupted + gate · (write − corrupted), so the gradient in a gate is (write − corrupted)
    · ∂metric/∂(the reader's input).
    """

    def num_runs(self, graph: EdgeGraph) -> int:
        """Forward and backward passes per example."""
        raise TypeError(f"{type(self).__name__} does not implement num_runs")

    def passes_planned(self, examples: int) -> tuple[PlannedPass, ...]:
        return (PlannedPass(self.steps_planned(), None),)

    def run(self, graph: EdgeGraph, number: int) -> tuple[Tensor, Tensor]:
        """Of one run: its gates, and what its gradient counts in the score of each edge; float64,
        [writers, readers] or broadcastable to it."""
        raise TypeError(f"{type(self).__name__} does not implement run")

    def differences(
        self, session: Session, batch: Batch, references: References
    ) -> Float[Tensor, "writers batch seq width"] | None:
        """What takes the place of write − corrupted in the gradients, if anything does."""
        del session, batch, references
        return None

    def scores(self, session: Session) -> Generator[Progress, None, tuple[Tensor, int]]:
        engine, graph, ranks = session.engine, session.graph, session.ranks
        assert engine is not None, "an attribution runs inside the trial's engine"
        sums = torch.zeros(graph.allowed.shape, dtype=torch.float64)
        runs, total, done, steps = self.num_runs(graph), len(session.examples["train"]), 0, 0
        for batch in session.batches("train"):
            examples = min(total - done, session.resources.batch_examples * ranks.world_size)
            known: list[tuple[References, Tensor | None]] = []  # DeepSpeed looks for tensors in arguments
            for some in _side_by_side(session, batch, runs):
                gradient = engine.run(partial(self._attribute, session, batch, known, some))
                sums += ranks.total(gradient).cpu()
                if not sums.isfinite().all():
                    raise Diverged(f"example {done}: an {self.label} score is not finite")
                steps += len(some)
                yield Progress(done * runs + examples * some.stop, total * runs)
            done += examples
        return sums.where(graph.allowed, 0.0) / total, steps

    def _attribute(
        self,
        session: Session,
        batch: Batch,
        known: list[tuple[References, Tensor | None]],
        numbers: range,
    ) -> Float[Tensor, "writers readers"]:
        """The sum of the scores over this rank's examples and some runs, side by side."""
        if not known:
            references = session.references(batch)
            known.append((references, self.differences(session, batch, references)))
        references, differences = known[0]
        runs = [self.run(session.graph, number) for number in numbers]
        shape, device = session.graph.allowed.shape, session.ranks.device
        dtype = torch.promote_types(session.loaded.model.dtype, torch.float32)
        keeps = torch.stack([gates.expand(shape) for gates, _ in runs]).to(device, dtype).requires_grad_()
        counts = torch.stack([counts.expand(shape) for _, counts in runs]).to(device)
        logits = session.logits(batch, keeps, references, may_recompute=differences is None)
        name = self.attributed(session)
        total = (session.measure(name, logits, references, batch) * batch.weight).sum()
        if differences is not None:
            # The backward takes them from the buffer, and nothing else that the forward left there.
            session.loaded.model.stream.replace_differences(differences)
        (gradient,) = torch.autograd.grad(total, keeps)
        signed = gradient.double() if METRICS[name].higher_is_better else -gradient.double()
        return (signed * counts).sum(0)


def _side_by_side(session: Session, batch: Batch, runs: int) -> Iterator[range]:
    """The numbers of the runs that share a pass. The same on every rank, whose batches may differ in
    length: what decides is the longest training prompt."""
    model, longest = session.loaded.model, max(len(example.clean) for example in session.examples["train"])
    states = len(session.graph.writers) * len(batch) * longest * model.width * model.dtype.itemsize
    together = max(1, PASS_BYTES // states)
    for start in range(0, runs, together):
        yield range(start, min(runs, start + together))
