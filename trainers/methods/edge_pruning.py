"""Edge pruning (Bhaskar et al., NeurIPS 2024): a hard-concrete gate per edge, learned by gradient descent."""

from typing import ClassVar, Literal

from pydantic import Field

from trainers.methods.base import Method


class EdgePruning(Method):
    """Trains gates to keep the divergence from the full model low while a Lagrangian drives the
    sparsity to a target that rises over a warm-up."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "edge pruning"

    name: Literal["edge_pruning"] = "edge_pruning"
    target_sparsity: float | None = Field(0.95, gt=0, le=2, description="above 1 pushes harder")
    steps: int = Field(3000, ge=1)
