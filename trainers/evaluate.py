"""Evaluation: circuits, the full model and the empty circuit on a split."""

from collections.abc import Generator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.circuit import Circuit
from trainers.data import Batch
from trainers.metrics import METRICS
from trainers.progress import Progress
from trainers.session import References, Session
from trainers.tasks.base import Split

Scores = dict[str, float]
SIDE_BY_SIDE_BYTES = 2**27  # of writer states: how many circuits share a forward pass


def evaluate(
    session: Session, circuits: Sequence[Circuit], split: Split
) -> Generator[Progress, None, tuple[Scores, list[Scores]]]:
    """Means of every metric of the task over a split: of the full model, then of each circuit.

    Batches are outermost and circuits inside: a batch's reference passes serve all circuits. Yields
    after every forward pass, so that a long evaluation does not look like a rank that hangs.
    """
    assert session.engine is not None, "evaluation runs inside the trial's engine"
    totals = torch.zeros(
        1 + len(circuits), len(session.metrics), dtype=torch.float64, device=session.ranks.device
    )
    keeps = torch.stack([circuit.keep() for circuit in circuits])
    done, examples = 0, len(session.examples[split])
    for batch in session.batches(split):
        known: list[References] = []  # not an argument of `run`: DeepSpeed looks for tensors in those
        totals[:1] += session.engine.run(partial(_full_totals, session, batch, known))
        together = _side_by_side(session, batch.clean.numel())
        for start in range(0, len(keeps), together):
            rows, some = slice(1 + start, 1 + start + together), keeps[start : start + together]
            totals[rows] += session.engine.run(partial(_circuit_totals, session, batch, known, some))
            yield Progress(done, examples, phase="evaluate")
        done = min(examples, done + len(batch) * session.ranks.world_size)
    means = session.ranks.total(totals) / examples
    full, *rest = (dict(zip(session.metrics, row, strict=True)) for row in means.tolist())
    return full, rest


@torch.no_grad()
def _full_totals(session: Session, batch: Batch, known: list[References]) -> Float[Tensor, "1 metrics"]:
    """The full model's sums over this rank's examples; leaves the batch's references in `known`."""
    known.append(session.references(batch))
    return _totals(session, known[0].full.unsqueeze(0), known[0], batch)


@torch.no_grad()
def _circuit_totals(
    session: Session,
    batch: Batch,
    known: list[References],
    keeps: Float[Tensor, "circuits writers readers"],
) -> Float[Tensor, "circuits metrics"]:
    """Sums over this rank's examples, of circuits that share a forward pass."""
    logits = session.logits(batch, keeps.to(session.ranks.device), known[0])
    return _totals(session, logits, known[0], batch)


def _totals(
    session: Session,
    logits: Float[Tensor, "circuits batch scored vocab"],
    references: References,
    batch: Batch,
) -> Float[Tensor, "circuits metrics"]:
    values = []
    for name in session.metrics:
        value = session.measure(name, logits, references, batch).double()
        # Rounding may put a divergence of 0 below it.
        values.append(value.clamp(min=0) if METRICS[name].divergence else value)
    return (torch.stack(values, -1) * batch.weight[:, None]).sum(-2)


def empty_circuit(session: Session) -> Circuit:
    """Everything corrupted (but always-on embeddings): the far end of every curve."""
    none: Float[Tensor, "writers readers"] = torch.zeros(session.graph.allowed.shape)
    return Circuit(session.graph, none, none.bool())


def _side_by_side(session: Session, tokens: int) -> int:
    model = session.loaded.model
    per_circuit = len(session.graph.writers) * tokens * model.width * 4
    return max(1, SIDE_BY_SIDE_BYTES // per_circuit)
