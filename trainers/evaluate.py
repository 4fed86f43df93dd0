"""Evaluation: circuits, the full model and the empty circuit on a split.

One pass over the split measures any number of circuits: batches are outermost and circuits inside,
so that a batch's reference passes (full model, corrupted run) serve all of them. Nothing waits for
the device per example: values stay there until the pass is over.

Memory, beside the model: REFERENCE_BYTES of a batch's writer states, or one example's, held three
times (corrupted run, differences, and while they are recorded); SIDE_BY_SIDE_BYTES of circuits that
share a forward pass, or one circuit; and where per-example values are asked for, 4 bytes for each of
(1 + circuits) x metrics x examples on every rank (24 circuits, 4 metrics, 10,000 examples: 4 MB).
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_patches.circuit import Circuit
from trainers.data import Batch
from trainers.evaluation.intervals import LEVEL, intervals
from trainers.metrics import METRICS
from trainers.progress import Progress
from trainers.resources import REFERENCE_BYTES, SIDE_BY_SIDE_BYTES
from trainers.session import References, Session
from trainers.tasks.base import Split

Scores = dict[str, float]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """Every metric of every example of a split, of the full model (row 0) and then of each circuit.

    `values` is float32 [1 + circuits, metrics, examples], on the CPU, in the split's order, the same
    on every rank; `means` is float64 [1 + circuits, metrics].
    """

    metrics: tuple[str, ...]
    means: Float[Tensor, "rows metrics"]
    values: Float[Tensor, "rows metrics examples"]

    @property
    def full(self) -> Scores:
        return self.scores[0]

    @property
    def circuits(self) -> list[Scores]:
        return self.scores[1:]

    @property
    def scores(self) -> list[Scores]:
        """By row: means by metric."""
        return [dict(zip(self.metrics, row, strict=True)) for row in self.means.tolist()]

    def intervals(self, level: float = LEVEL) -> list[dict[str, Interval]]:
        """By row: the bootstrap confidence interval of each mean (trainers/intervals.py)."""
        low, high = (ends.tolist() for ends in intervals(self.values.permute(2, 0, 1).numpy(), level=level))
        return [
            dict(zip(self.metrics, zip(lows, highs, strict=True), strict=True))
            for lows, highs in zip(low, high, strict=True)
        ]


def evaluate(
    session: Session, circuits: Sequence[Circuit], split: Split
) -> Generator[Progress, None, tuple[Scores, list[Scores]]]:
    """Means of every metric of the task over a split: of the full model, then of each circuit.

    Yields after every forward pass, so that a long evaluation does not look like a rank that hangs.
    """
    means = yield from _measure(session, circuits, split, None)
    full, *rest = (dict(zip(session.metrics, row, strict=True)) for row in means.tolist())
    return full, rest


def evaluate_examples(
    session: Session, circuits: Sequence[Circuit], split: Split
) -> Generator[Progress, None, Evaluation]:
    """As `evaluate`, with every example's values, gathered over the ranks."""
    shape = (1 + len(circuits), len(session.metrics), len(session.examples[split]))
    values = torch.zeros(shape, dtype=torch.float32, device=session.ranks.device)
    means = yield from _measure(session, circuits, split, values)
    # Each example is one rank's, and zero on the others: the sum is exact.
    return Evaluation(session.metrics, means.cpu(), session.ranks.total(values).cpu())


def _measure(
    session: Session, circuits: Sequence[Circuit], split: Split, values: Tensor | None
) -> Generator[Progress, None, Float[Tensor, "rows metrics"]]:
    """Float64 means, on every rank; fills `values` with this rank's examples."""
    assert session.engine is not None, "evaluation runs inside the trial's engine"
    rows, examples = 1 + len(circuits), len(session.examples[split])
    totals = torch.zeros(rows, len(session.metrics), dtype=torch.float64, device=session.ranks.device)
    done = 0
    for number, longest, mine, batch in _shares(session, split):
        known: list[References] = []  # not an argument of `run`: DeepSpeed looks for tensors in those
        measured = session.engine.run(partial(_full, session, batch, known))
        _note(measured, slice(0, 1), mine, batch, totals, values)
        # By the longest prompt of all ranks: they must make equally many passes.
        together = _side_by_side(session, len(batch) * longest)
        for start in range(0, len(circuits), together):
            some = circuits[start : start + together]
            measured = session.engine.run(partial(_circuits, session, batch, known, some))
            _note(measured, slice(1 + start, 1 + start + together), mine, batch, totals, values)
            yield Progress(done, examples, phase="evaluate")
        if not circuits:
            yield Progress(done, examples, phase="evaluate")
        done += number
    return session.ranks.total(totals) / examples


def _shares(session: Session, split: Split) -> Iterator[tuple[int, int, Int[Tensor, " own"], Batch]]:
    """Batches over the whole split: how many examples of all ranks and the longest's tokens, the places
    of this rank's own in the split, and its batch. Examples of like length go together, the longest first."""
    examples, device = session.examples[split], session.ranks.device
    order = sorted(range(len(examples)), key=lambda place: -len(examples[place].clean))
    start = 0
    while start < len(order):
        longest = len(examples[order[start]].clean)
        size = _batch_examples(session, longest) * session.ranks.world_size
        places = order[start : start + size]
        own = places[session.ranks.slice(len(places))]
        batch = session.share([examples[place] for place in places])
        yield len(places), longest, torch.tensor(own, dtype=torch.long, device=device), batch
        start += size


def _note(
    measured: Float[Tensor, "some metrics batch"],
    rows: slice,
    mine: Int[Tensor, " own"],
    batch: Batch,
    totals: Float[Tensor, "rows metrics"],
    values: Float[Tensor, "rows metrics examples"] | None,
) -> None:
    totals[rows] += torch.where(batch.weight > 0, measured, 0.0).sum(-1)
    if values is not None:
        values[rows].index_copy_(2, mine, measured[..., : len(mine)].float())


@torch.no_grad()
def _full(session: Session, batch: Batch, known: list[References]) -> Float[Tensor, "1 metrics batch"]:
    """The full model's metrics; leaves the batch's references in `known`."""
    known.append(session.references(batch))
    return _metrics(session, known[0].full.unsqueeze(0), known[0], batch)


@torch.no_grad()
def _circuits(
    session: Session, batch: Batch, known: list[References], circuits: Sequence[Circuit]
) -> Float[Tensor, "circuits metrics batch"]:
    """Metrics of circuits that share a forward pass."""
    keeps = torch.stack([circuit.keep() for circuit in circuits]).to(session.ranks.device)
    return _metrics(session, session.logits(batch, keeps, known[0]), known[0], batch)


def _metrics(
    session: Session,
    logits: Float[Tensor, "circuits batch scored vocab"],
    references: References,
    batch: Batch,
) -> Float[Tensor, "circuits metrics batch"]:
    values = []
    for name in session.metrics:
        value = session.measure(name, logits, references, batch).double()
        # Rounding may put a divergence of 0 below it.
        values.append(value.clamp(min=0) if METRICS[name].divergence else value)
    return torch.stack(values, 1)


def empty_circuit(session: Session) -> Circuit:
    """Everything corrupted (but always-on embeddings): the far end of every curve."""
    none: Float[Tensor, "writers readers"] = torch.zeros(session.graph.allowed.shape)
    return Circuit(session.graph, none, none.bool())


def _state_bytes(session: Session, tokens: int) -> int:
    """What every writer writes for so many tokens."""
    model = session.loaded.model
    return len(session.graph.writers) * tokens * model.width * model.dtype.itemsize


def _batch_examples(session: Session, length: int) -> int:
    """Examples of at most `length` tokens in a rank's batch; the same on every rank."""
    fitting = REFERENCE_BYTES[session.ranks.device.type] // _state_bytes(session, length)
    return max(1, min(session.resources.batch_examples, fitting))


def _side_by_side(session: Session, tokens: int) -> int:
    return max(1, SIDE_BY_SIDE_BYTES // _state_bytes(session, tokens))
