"""Exact edge activation patching: every edge is cut, alone, and the metric measured."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, Literal

from model_patches.circuit import Circuit
from model_patches.lazy import torch
from trainers.methods.attribution import Attribution
from trainers.methods.base import Diverged, told_as
from trainers.metrics import METRICS
from trainers.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.session import Session

WINDOW = 256  # circuits between two checkpoints; those that fit share a forward pass


class ExactPatching(Attribution):
    """The score of an edge is what the mean of the metric over the training examples loses when that edge
    alone is cut and all others are kept: what EAP approximates to first order.

    One forward pass per edge and example; the metric needs no gradient, and may be a divergence (what it
    gains, then). The full model is measured as the circuit of all edges, so that its rounding cancels.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "exact patching"

    name: Literal["exact_patching"] = "exact_patching"

    def scores(self, session: Session) -> Generator[Progress, None, tuple[Tensor, int]]:
        from trainers.evaluate import evaluate

        graph, total, name = session.graph, session.graph.num_edges, self.attributed(session)
        # The metric of the circuit of all edges, then of all but each.
        measured = torch.zeros(total + 1, dtype=torch.float64)
        done, state = session.checkpoints.latest() or (0, None)
        if state is not None:
            measured = state["measured"].cpu()
            assert session.engine is not None, "opened before scores are asked for"
            session.engine.run(session.resume, state)
        while done < total + 1:
            stop = min(total + 1, done + WINDOW)
            circuits = [_without(session, edge - 1) for edge in range(done, stop)]
            told = Progress(min(done, total), total)
            _, values = yield from told_as(evaluate(session, circuits, "train"), told)
            measured[done:stop] = torch.tensor([value[name] for value in values], dtype=torch.float64)
            if not measured.isfinite().all():
                raise Diverged(f"edge {done}: an {self.label} score is not finite")
            done = stop
            if session.checkpoints.due():
                session.checkpoints.save(done, {"measured": measured} | session.cost_state())
            yield Progress(min(done, total), total)
        lost = measured[0] - measured[1:]
        signed = lost if METRICS[name].higher_is_better else -lost
        scores = torch.zeros(graph.allowed.numel(), dtype=torch.float64)
        return scores.index_copy(0, graph.flat_index, signed).view(graph.allowed.shape), total


def _without(session: Session, edge: int) -> Circuit:
    """All edges but one, by its place in the graph's order; -1 leaves none out."""
    graph = session.graph
    kept = graph.allowed.clone()
    if edge >= 0:
        kept.view(-1)[graph.flat_index[edge]] = False
    return Circuit(graph, torch.zeros(graph.allowed.shape), kept)
