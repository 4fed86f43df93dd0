"""Evaluation: circuits, the full model and the empty circuit on a split."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.circuit import Circuit
from trainers.data import Batch
from trainers.session import References, Session
from trainers.tasks.base import Split

Scores = dict[str, float]
SIDE_BY_SIDE_BYTES = 2**27  # of writer states: how many circuits share a forward pass


@torch.no_grad()
def evaluate(session: Session, circuits: Sequence[Circuit], split: Split) -> list[Scores]:
    """Mean of every metric of the task over a split, one entry per circuit.

    Batches are outermost and circuits inside: a batch's reference passes serve all circuits.
    """
    assert session.engine is not None, "evaluation runs inside the trial's engine"
    totals = torch.zeros(
        len(circuits), len(session.metrics), dtype=torch.float64, device=session.ranks.device
    )
    keeps = torch.stack([circuit.keep() for circuit in circuits])
    for batch in session.batches(split):
        totals += session.engine.run(_circuit_totals, session, batch, keeps)
    return _means(session, totals, split)


@torch.no_grad()
def evaluate_full(session: Session, split: Split) -> Scores:
    """The full model's own metrics: 0 for every divergence."""
    assert session.engine is not None, "evaluation runs inside the trial's engine"
    totals = torch.zeros(1, len(session.metrics), dtype=torch.float64, device=session.ranks.device)
    for batch in session.batches(split):
        totals += session.engine.run(_full_totals, session, batch)
    return _means(session, totals, split)[0]


def _circuit_totals(
    session: Session, batch: Batch, keeps: Float[Tensor, "circuits writers readers"]
) -> Float[Tensor, "circuits metrics"]:
    """Sums over this rank's examples; several circuits share a forward pass."""
    references = session.references(batch)
    together, parts = _side_by_side(session, batch.clean.numel()), []
    for start in range(0, len(keeps), together):
        keep = keeps[start : start + together].to(session.ranks.device)
        logits = session.logits(batch, keep, references)
        parts.append(_totals(session, logits, references, batch))
    return torch.cat(parts)


def _full_totals(session: Session, batch: Batch) -> Float[Tensor, "1 metrics"]:
    references = session.references(batch)
    return _totals(session, references.full.unsqueeze(0), references, batch)


def _totals(
    session: Session,
    logits: Float[Tensor, "circuits batch scored vocab"],
    references: References,
    batch: Batch,
) -> Float[Tensor, "circuits metrics"]:
    values = [session.measure(name, logits, references, batch).double() for name in session.metrics]
    return (torch.stack(values, -1) * batch.weight[:, None]).sum(-2)


def _means(session: Session, totals: Float[Tensor, "circuits metrics"], split: Split) -> list[Scores]:
    """Over all ranks' examples."""
    means = session.ranks.total(totals) / len(session.examples[split])
    return [dict(zip(session.metrics, row, strict=True)) for row in means.tolist()]


def empty_circuit(session: Session) -> Circuit:
    """Everything corrupted (but always-on embeddings): the far end of every curve."""
    none: Float[Tensor, "writers readers"] = torch.zeros(session.graph.allowed.shape)
    return Circuit(session.graph, none, none.bool())


def _side_by_side(session: Session, tokens: int) -> int:
    model = session.loaded.model
    per_circuit = len(session.graph.writers) * tokens * model.width * 4
    return max(1, SIDE_BY_SIDE_BYTES // per_circuit)
