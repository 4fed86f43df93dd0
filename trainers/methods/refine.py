"""Refine: cuts from a circuit the edges that it can spare.

Gates hide redundancy: while other gates are still noisy, an edge that only softens their failures is
worth its price, and by the time they have settled it is open for good. Cutting edges one at a time
and looking (ACDC's criterion, Conmy et al. 2023, on the few edges that are left) finds such edges.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from model_patches.circuit import Circuit
from trainers.evaluate import evaluate
from trainers.methods.base import Found
from trainers.progress import Progress

if TYPE_CHECKING:
    from trainers.session import Session


def refine(
    session: "Session", found: Sequence[Found], epsilon: float, step: int
) -> Generator[Progress, None, Found | None]:
    """Takes the sparsest circuit whose divergence on the training examples is at most `epsilon` and
    tries to cut each of its edges once, the lowest score first; a cut stays when the divergence stays
    within `epsilon`. One evaluation per edge. None when no circuit
    qualifies or no edge can be spared.
    """
    _, scores = yield from evaluate(session, [one.circuit for one in found], "train")
    good = [one for one, score in zip(found, scores, strict=True) if score[session.divergence] <= epsilon]
    if not good:
        return None
    best = min(good, key=lambda one: one.circuit.num_edges)
    circuit = best.circuit
    kept = circuit.kept.flatten().nonzero().squeeze(1)
    order = kept[torch.sort(circuit.scores.flatten()[kept], stable=True).indices].tolist()
    for done, edge in enumerate(order):
        yield Progress(done, len(order), {"num_edges": float(circuit.num_edges)}, phase="refine")
        smaller = _without(circuit, edge)
        _, (score,) = yield from evaluate(session, [smaller], "train")
        if score[session.divergence] <= epsilon:
            circuit = smaller
    yield Progress(len(order), len(order), {"num_edges": float(circuit.num_edges)}, phase="refine")
    if circuit.num_edges == best.circuit.num_edges:
        return None
    return Found(circuit, "refined", best.target_sparsity, step)


def _without(circuit: Circuit, edge: int) -> Circuit:
    kept = circuit.kept.clone()
    kept.view(-1)[edge] = False
    return replace(circuit, kept=kept)
