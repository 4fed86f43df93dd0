"""Edge attribution patching (Syed et al. 2023): one backward pass scores every edge."""

from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from trainers.data import Batch
from trainers.methods.base import Discovery, Diverged
from trainers.methods.ranking import Ranking, top_circuits
from trainers.metrics import METRICS
from trainers.progress import Progress

if TYPE_CHECKING:
    from trainers.session import References, Session


class EdgeAttributionPatching(Ranking):
    """The score of an edge is ∂metric/∂gate with all gates at 1, summed over training examples.

    A reader sees corrupted + gate · (clean − corrupted), so the gradient in the gate already is
    (clean − corrupted) · ∂metric/∂input, EAP's score, with its sign: positive edges help.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "EAP"
    uses_seed: ClassVar[bool] = False

    name: Literal["eap"] = "eap"
    metric: str | None = Field(None, description="higher is better; default: the task's attribution metric")
    rank_by: Literal["magnitude", "signed"] = Field("magnitude", description="|score| (published) or score")

    @field_validator("metric")
    @classmethod
    def _not_a_divergence(cls, metric: str | None) -> str | None:
        if metric is None:
            return None
        scores = [m for m in METRICS.values() if m.higher_is_better and m.differentiable]
        allowed = [m.name for m in scores if not m.divergence]
        if metric in METRICS and METRICS[metric].divergence:
            raise ValueError(
                f"found '{metric}', a divergence from the full model: its gradient at all gates 1 is zero, "
                f"so it scores nothing; allowed: {', '.join(allowed)}"
            )
        if metric in METRICS and not METRICS[metric].differentiable:
            raise ValueError(f"found '{metric}', which has no gradient; allowed: {', '.join(allowed)}")
        if metric not in allowed:
            raise ValueError(f"found '{metric}'; allowed: {', '.join(allowed)}")
        return metric

    def check(self, metrics: tuple[str, ...]) -> None:
        if self.metric is not None and self.metric not in metrics:
            raise ValueError(
                f"metric: the task does not measure '{self.metric}'; it measures {', '.join(metrics)}"
            )

    def discover(self, session: "Session") -> Generator[Progress, None, Discovery]:
        engine = session.open()
        scores = torch.zeros(session.graph.allowed.shape, dtype=torch.float64)
        done, total = 0, len(session.examples["train"])
        for batch in session.batches("train"):
            gradient = engine.run(self._attribute, session, batch)
            scores += session.ranks.total(gradient.double()).cpu()
            if not scores.isfinite().all():
                raise Diverged(f"example {done}: an EAP score is not finite")
            done = min(total, done + len(batch) * session.ranks.world_size)
            yield Progress(done, total)
        ranking = scores.abs() if self.rank_by == "magnitude" else scores
        steps = -(-total // (session.resources.batch_examples * session.ranks.world_size))
        found = top_circuits(session.graph, ranking.float(), self.budgets(session.graph))
        return Discovery(found, steps, () if scores.any() else ("every EAP score is zero",))

    def _attribute(self, session: "Session", batch: Batch) -> Tensor:
        """∂(sum of the metric over this rank's examples)/∂keep, [writers, readers]."""
        references: References = session.references(batch)
        keep = session.graph.exists.to(session.ranks.device, torch.float32).requires_grad_()
        logits = session.logits(batch, keep, references)
        name = self.metric or session.spec.task.attribution_metric(session.spec.model)
        total = (session.measure(name, logits, references, batch) * batch.weight).sum()
        (gradient,) = torch.autograd.grad(total, keep)
        return gradient
