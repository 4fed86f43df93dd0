"""EAP-IG: edge attribution with integrated gradients, over inputs and over activations.

EAP's gradient, at gates 1, says nothing where the model is saturated. Integrated gradients (Sundararajan
et al. 2017) average it on the way from corrupted to clean, at `steps` points of α in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from model_patches.graph import EdgeGraph
from model_patches.lazy import torch
from trainers.data import Batch
from trainers.methods.attribution import GradientAttribution

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.session import References, Session


class IntegratedGradients(GradientAttribution):
    """The common fields of both."""

    needs: ClassVar[Literal["a score with a gradient", "a gradient", "any"]] = "a gradient"
    smoke: ClassVar[Mapping[str, Any]] = {**GradientAttribution.smoke, "steps": 2}

    steps: int = Field(5, ge=1, description="points of the integral: passes per example, at least")
    points: Literal["midpoint", "right", "left"] = Field(
        "midpoint",
        description="(k − ½)/steps, of second order; right: k/steps, k from 1 (the paper, and the released "
        "code over activations); left: from 0 (the released code over inputs)",
    )

    def steps_planned(self) -> int:
        return self.steps  # in proportion to it, for one model and method

    def alpha(self, step: int) -> float:
        """The point of a step, counted from 0."""
        return (step + {"left": 0.0, "midpoint": 0.5, "right": 1.0}[self.points]) / self.steps


class EapIgInputs(IntegratedGradients):
    """EAP-IG (Hanna et al. 2024, eq. 3): the embeddings go from corrupted to clean.

    The score of an edge is (clean − corrupted) · mean over α of ∂metric/∂input, where clean and
    corrupted are what the writer writes in those two runs (under zero ablation and means: what a cut edge
    carries), and the gradient is that of the run in which the embeddings write corrupted + α (clean −
    corrupted) to all their readers and everything later follows from that. Always-on embeddings too are
    interpolated: that is the method's path, not a cut.
    """

    version: ClassVar[int] = 2
    label: ClassVar[str] = "EAP-IG (inputs)"

    name: Literal["eap_ig_inputs"] = "eap_ig_inputs"

    def num_runs(self, graph: EdgeGraph) -> int:
        del graph
        return self.steps

    def run(self, graph: EdgeGraph, number: int) -> tuple[Tensor, Tensor]:
        gates = graph.exists.double()
        gates[: graph.num_embeddings] *= self.alpha(number)
        return gates, graph.exists.double() / self.steps

    def differences(self, session: Session, batch: Batch, references: References) -> Tensor:
        """clean − corrupted: a later writer's gradient in its gate holds its write in the interpolated
        run instead of the clean one."""
        with torch.no_grad():
            clean = session.loaded.model.record(batch.clean).writers
        session.count(batch, 1)
        return clean if references.corrupted is None else clean - references.corrupted.writers


class EapIgActivations(IntegratedGradients):
    """EAP-IG over activations: every writer's own write goes from corrupted to clean.

    The score of an edge is (clean − corrupted) · mean over α of ∂metric/∂input in the run in which its
    writer writes corrupted + α (clean − corrupted) to all its readers and all else follows from the clean
    prompt (Marks et al. 2024). The writers of one component (embeddings, a layer's heads, an MLP) are
    interpolated together, as published, so the scores of a component's edges add up to what cutting it
    does to the metric. The released code takes the mean over the runs of all components instead of those
    of the edge's own writer.
    """

    version: ClassVar[int] = 2
    label: ClassVar[str] = "EAP-IG (activations)"

    name: Literal["eap_ig_activations"] = "eap_ig_activations"

    def num_runs(self, graph: EdgeGraph) -> int:
        return len(components(graph)) * self.steps

    def run(self, graph: EdgeGraph, number: int) -> tuple[Tensor, Tensor]:
        component, step = divmod(number, self.steps)
        rows = components(graph)[component]
        gates, counts = graph.exists.double(), torch.zeros(graph.exists.shape, dtype=torch.float64)
        gates[rows] *= self.alpha(step)
        counts[rows] = 1 / self.steps
        return gates, counts


def components(graph: EdgeGraph) -> list[slice]:
    """Rows of the writers that are interpolated together: the embeddings, then each layer's heads and its
    MLP. Without embeddings where they are always on: none of their edges is scored."""
    rows = [slice(0, graph.num_embeddings)] if graph.embeddings == "maskable" else []
    for layer in range(graph.shape.layers):
        first = graph.first_head(layer)
        mlp = first + graph.shape.query_heads
        rows += [slice(first, mlp), slice(mlp, mlp + 1)]
    return rows
