"""Evaluation: circuits, the full model and the empty circuit on a split."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.circuit import Circuit
from trainers.session import Session
from trainers.tasks.base import Split

Scores = dict[str, float]
SIDE_BY_SIDE_BYTES = 2**27  # of writer states: how many circuits share a forward pass


@torch.no_grad()
def evaluate(session: Session, circuits: Sequence[Circuit], split: Split) -> list[Scores]:
    """Mean of every metric of the task over a split, one entry per circuit.

    Batches are outermost and circuits inside: a batch's reference passes serve all circuits.
    """
    assert session.engine is not None, "evaluation runs inside the trial's engine"
    names = session.metrics
    totals = torch.zeros(len(circuits), len(names), dtype=torch.float64, device=session.ranks.device)
    keeps = [circuit.keep() for circuit in circuits]
    for batch in session.batches(split):
        references = session.engine.run(session.references, batch)
        together = _side_by_side(session, batch.clean.numel())
        for start in range(0, len(keeps), together):
            keep = torch.stack(keeps[start : start + together]).to(session.ranks.device)
            logits = session.engine.run(session.logits, batch, keep, references)
            for column, name in enumerate(names):
                values = session.measure(name, logits, references, batch).double()
                totals[start : start + together, column] += (values * batch.weight).sum(-1)
    means = session.ranks.total(totals) / len(session.examples[split])
    return [dict(zip(names, row, strict=True)) for row in means.tolist()]


def evaluate_full(session: Session, split: Split) -> Scores:
    """The full model's own metrics: 0 for every divergence."""
    assert session.engine is not None, "evaluation runs inside the trial's engine"
    totals = torch.zeros(len(session.metrics), dtype=torch.float64, device=session.ranks.device)
    for batch in session.batches(split):
        references = session.engine.run(session.references, batch)
        for column, name in enumerate(session.metrics):
            values = session.measure(name, references.full, references, batch).double()
            totals[column] += (values * batch.weight).sum()
    means = session.ranks.total(totals) / len(session.examples[split])
    return dict(zip(session.metrics, means.tolist(), strict=True))


def empty_circuit(session: Session) -> Circuit:
    """Everything corrupted (but always-on embeddings): the far end of every curve."""
    none: Float[Tensor, "writers readers"] = torch.zeros(session.graph.allowed.shape)
    return Circuit(session.graph, none, none.bool())


def _side_by_side(session: Session, tokens: int) -> int:
    model = session.loaded.model
    per_circuit = len(session.graph.writers) * tokens * model.width * 4
    return max(1, SIDE_BY_SIDE_BYTES // per_circuit)
