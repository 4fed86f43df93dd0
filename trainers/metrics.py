"""METRICS: what is measured per example. A new metric is one function and one line in the table.

Every metric takes logits [batch, scored, vocab] of the run at hand and of the full model, and the
batch; it returns one float per example, the mean over the example's scored positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_patches.lazy import F, torch
from trainers.data import Batch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NUMERICAL_TOLERANCE = 1e-3  # below which two numerical outputs are the same
MOST_RANKED = 256  # candidates whose pairs are compared

# Of the logits [batch, scored, vocab], the full model's and the batch: a value per example, [batch].
Compute = Callable[["Tensor", "Tensor", Batch], "Tensor"]


@dataclass(frozen=True)
class Metric:
    """`divergence` marks a distance from the full model: 0 there, with zero gradient.
    `differentiable` is False for one that counts argmaxes: it has no gradient at all."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
    compute: Compute
    divergence: bool = False
    differentiable: bool = True


def _mean(values: Float[Tensor, "batch scored"], batch: Batch) -> Float[Tensor, " batch"]:
    return (values * batch.scored).sum(1) / batch.scored.sum(1)


def kl(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """KL(full ‖ circuit) in nats (Edge Pruning, section 3)."""
    ours, theirs = F.log_softmax(logits.float(), -1), F.log_softmax(full.float(), -1)
    if logits.dtype == torch.float64:
        ours, theirs = F.log_softmax(logits, -1), F.log_softmax(full, -1)
    return _mean(F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1), batch)


def squared_error(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    return _mean((logits - full).square().sum(-1), batch)


def accuracy(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """1 where the argmax over the whole vocabulary is the answer."""
    del full
    return _mean((logits.argmax(-1) == batch.answers).to(torch.float64), batch)


def exact_match(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """1 where the argmax is the full model's."""
    return _mean((logits.argmax(-1) == full.argmax(-1)).to(torch.float64), batch)


def logit_difference(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """Logit of the answer minus logit of the distractor."""
    del full
    assert batch.distractors is not None, "the task gives distractors"
    answer = logits.gather(-1, batch.answers.unsqueeze(-1)).squeeze(-1)
    return _mean(answer - logits.gather(-1, batch.distractors.unsqueeze(-1)).squeeze(-1), batch)


def answer_log_probability(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    del full
    return _mean(F.log_softmax(logits, -1).gather(-1, batch.answers.unsqueeze(-1)).squeeze(-1), batch)


def answer_product(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """Output times the right answer's deviation from 1/2: for a numerical output, linear in it."""
    del full
    return _mean(logits.squeeze(-1) * (batch.answers - 0.5), batch)


def same_output(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """1 where every scored position says what the full model says: the same argmax, or for a
    numerical output a difference of at most 1e-3. Never where a logit is not finite."""
    if logits.shape[-1] == 1:
        same = ((logits - full).abs() <= NUMERICAL_TOLERANCE).squeeze(-1)
    else:
        same = logits.argmax(-1) == full.argmax(-1)
    same &= logits.isfinite().all(-1) & full.isfinite().all(-1)
    return (same | ~batch.scored).all(1).to(torch.float64)


def probability_difference(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """P(candidates above the answer) − P(candidates below it), -1 to 1, for a task whose answers count
    its ordered candidates (Hanna et al. 2023, section 2)."""
    del full
    return _difference(logits, batch, logits.shape[-1])


def probability_difference_10(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """The same of the 10 candidates on either side of the answer (Edge Pruning, section 4)."""
    del full
    return _difference(logits, batch, 10)


def _difference(logits: Tensor, batch: Batch, within: int) -> Tensor:
    probabilities = logits.to(_at_least_float32(logits)).softmax(-1)
    distance = torch.arange(logits.shape[-1], device=logits.device) - batch.answers.unsqueeze(-1)
    return _mean((probabilities * distance.sign() * (distance.abs() <= within)).sum(-1), batch)


def kendall_tau(logits: Tensor, full: Tensor, batch: Batch) -> Tensor:
    """Rank correlation of the candidates' logits with the full model's, -1 to 1: Kendall's tau-b, where
    ties count for neither side; 0 where all logits are tied."""
    candidates = logits.shape[-1]
    assert candidates <= MOST_RANKED, f"compares all pairs of candidates; a readout has {candidates} of them"
    ours, theirs = (_order(each) for each in (logits, full))
    agreement = (ours * theirs).sum((-2, -1))
    untied = ours.abs().sum((-2, -1)) * theirs.abs().sum((-2, -1))
    return _mean(agreement / untied.sqrt().clamp(min=1), batch)


def _order(logits: Float[Tensor, "*batch candidates"]) -> Float[Tensor, "*batch candidates candidates"]:
    """1 where the row's candidate is above the column's, -1 where below, 0 for ties."""
    exact = logits.to(_at_least_float32(logits))
    return (exact.unsqueeze(-1) - exact.unsqueeze(-2)).sign()


def _at_least_float32(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("kl", "KL from the full model", "nats", False, kl, divergence=True),
        Metric("squared_error", "squared error to the full model", "", False, squared_error, divergence=True),
        Metric("accuracy", "accuracy", "share", True, accuracy, differentiable=False),
        Metric(
            "exact_match", "exact match with the full model", "share", True, exact_match, differentiable=False
        ),
        Metric("logit_difference", "logit difference", "logits", True, logit_difference),
        Metric(
            "answer_log_probability", "log-probability of the answer", "nats", True, answer_log_probability
        ),
        Metric("probability_difference", "probability difference", "", True, probability_difference),
        Metric(
            "probability_difference_10",
            "probability difference within 10",
            "",
            True,
            probability_difference_10,
        ),
        Metric(
            "kendall_tau", "Kendall's tau with the full model", "", True, kendall_tau, differentiable=False
        ),
        Metric("answer_product", "output × (answer − ½)", "", True, answer_product),
        Metric(
            "same_output", "same output as the full model", "share", True, same_output, differentiable=False
        ),
    )
}
