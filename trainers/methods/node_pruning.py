"""Node pruning: gates on writers alone, a baseline for edge pruning with the same training.

Hard-concrete gates on nodes are subnetwork probing (Cao et al. 2021) as ACDC's authors adapt it to
circuits. Every edge between two kept nodes is kept. Targets, penalties and budgets are of edges, so that
curves are comparable.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from model_patches.circuit import Circuit
from trainers.methods.gate_training import GateTraining
from trainers.progress import Progress

if TYPE_CHECKING:
    from trainers.methods.gated_nodes import GatedNodes
    from trainers.session import Session


class NodePruning(GateTraining):
    """Trains a gate per writer: embedding, head, MLP. The output is always read."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "node pruning"
    cuts_single_edges: ClassVar[bool] = False

    name: Literal["node_pruning"] = "node_pruning"
    edge_rule: Literal["both_ends", "writer"] = Field(
        "both_ends",
        description="an edge is kept when its writer and the node that reads it are; or when its writer is",
    )

    def initial(self, session: Session, resumed: bool) -> Generator[Progress, None, tuple[GatedNodes, int]]:
        from trainers.methods.gated_nodes import GatedNodes

        del resumed
        yield from ()
        return GatedNodes.initial(self, session), 0

    def smallest_cut(self, final: Circuit) -> int:
        from trainers.methods.gated_nodes import level_sizes

        return int(level_sizes(final.scores.flatten()[final.graph.flat_index]).max())
