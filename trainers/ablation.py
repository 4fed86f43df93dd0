"""Ablation: what a cut edge carries.

interchange: what the writer writes in the run on the corrupted prompt, example by example. zero: zeros.
mean, mean_positional: the mean of what it writes over a reference set, the corrupted prompts of the
whole training split (Wang et al. 2022): over all of their real (unpadded) positions, or position by
position, counted from the first token. Means say nothing of the example at hand.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model_patches.states import WriterStates
from trainers.spec import SpecError

if TYPE_CHECKING:
    from trainers.session import Session


@torch.no_grad()
def mean_states(session: "Session", per_position: bool) -> WriterStates:
    """Means of every writer over the reference set: [writers, 1, 1, width], or per position
    [writers, 1, longest prompt, width]. Summed in float64 over batches and ranks.

    Runs the model on every rank: call it inside `engine.run`. Raises SpecError, per position, when
    another split has a longer prompt than the reference set.
    """
    model, device = session.loaded.model, session.ranks.device
    longest = max(len(example.corrupted) for example in session.examples["train"])
    if per_position:
        _check_lengths(session, longest)
    shape = (len(model.graph.writers), longest, model.width)
    sums = torch.zeros(shape, dtype=torch.float64, device=device)
    counts = torch.zeros(longest, dtype=torch.float64, device=device)
    for batch in session.batches("train"):
        session.count(batch, 1)
        real = batch.real.double() * batch.weight[:, None]
        seq = real.shape[1]
        counts[:seq] += real.sum(0)
        for total, writes in zip(sums, model.record(batch.corrupted).writers, strict=True):
            total[:seq] += torch.einsum("bsw,bs->sw", writes.double(), real)
    sums, counts = session.ranks.total(sums), session.ranks.total(counts)
    if per_position:
        means: Tensor = sums / counts[:, None]
    else:
        means = sums.sum(1, keepdim=True) / counts.sum()
    return WriterStates.of(model.graph, means.unsqueeze(1).to(model.dtype))


@torch.no_grad()
def kept_bias(session: "Session") -> WriterStates | None:
    """Zero ablation in which a cut head leaves its share of the output bias behind: CircuitModel.zeros.
    Raises SpecError for a model that has a norm after that bias."""
    try:
        return session.loaded.model.zeros("kept")
    except ValueError as error:
        raise SpecError(str(error)) from None


def up_to(states: WriterStates, seq: int) -> WriterStates:
    """The means of the first `seq` positions; all of them where one value serves every position."""
    if states.writers.shape[2] == 1:
        return states
    return WriterStates(states.writers[:, :, :seq], states.residuals[:, :, :seq])


def _check_lengths(session: "Session", longest: int) -> None:
    for split, examples in session.examples.items():
        found = max(len(example.clean) for example in examples)
        if found > longest:
            raise SpecError(
                f"ablation: mean_positional has no mean from position {longest} on: the longest {split} "
                f"prompt has {found} tokens, the longest training prompt {longest}; allowed: mean, or "
                "training prompts as long as the others"
            )
