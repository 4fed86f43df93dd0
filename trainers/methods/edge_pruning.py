"""Edge pruning (Bhaskar et al., NeurIPS 2024): a hard-concrete gate per edge, learned by gradient descent.

The loss and its hyperparameters are gate_training.py's; here is what has a gate and where it starts.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from trainers.methods.base import PlannedPass, told_as
from trainers.methods.eap import EdgeAttributionPatching
from trainers.methods.eap_ig import EapIgInputs
from trainers.methods.gate_training import GateTraining
from trainers.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from trainers.methods.gated_edges import GatedEdges
    from trainers.session import Session

# Edge Pruning's published settings (paper, appendix; released code), where they differ from ours.
REPRODUCE: dict[str, Any] = {
    "init_log_alpha": 10.0,
    "init_std": 0.01,
    "start_sparsity": 0.0,
    "weight_decay": 0.01,
    "lr_decay": "linear",
    "sparsity_estimate": "sampled",
    "divergence_weight": 1.0,
    "gate_samples": 1,
    "gate_lr": 0.8,
    "multiplier_lr": 0.8,
    "warmup": "linear",
    "lr_warmup_steps": 200,
    "steps": 3000,
    "warmup_steps": 2500,
    "batch_size": 32,
    "max_gradient_norm": 1.0,
    "writer_gates": True,
    "final_gates": "published",
    "path_points": 0,
}


class EdgePruning(GateTraining):
    """Trains gates to keep the divergence from the full model low while sparsity is driven up."""

    version: ClassVar[int] = 2
    label: ClassVar[str] = "edge pruning"

    name: Literal["edge_pruning"] = "edge_pruning"
    preset: Literal["reproduce"] | None = Field(
        None, description="reproduce: every field not given takes the published value"
    )
    writer_gates: bool = Field(False, description="one more gate per writer; an edge counts as edge × writer")
    writer_target_sparsity: float | None = Field(None, gt=0, le=2, description="adds the node loss")
    final_gates: Literal["expected", "published"] = Field(
        "expected", description="whose sum, rounded, is the number of edges that a circuit keeps"
    )
    warm_start: Literal["eap", "eap_ig"] | None = Field(
        None,
        description="gates start at an attribution's ranking of the training examples (of its default "
        "settings; eap_ig: over inputs) instead of at init_log_alpha",
    )
    warm_lowest: float = Field(
        0.0, description="log_alpha of the edge with the smallest |score|; in between in equal steps of rank"
    )
    warm_highest: float = Field(4.0, description="of that with the largest; noise of init_std comes on top")

    @property
    def title(self) -> str:
        """A start at an attribution's ranking is a method of its own, and so are a run that visits several
        targets and the published algorithm."""
        start = {"eap": "from EAP", "eap_ig": "from EAP-IG", None: ""}[self.warm_start]
        mode = "path mode" if self.target_path is not None else ""
        told = ", ".join(part for part in (start, mode, self.variant or self.preset) if part)
        return f"{self.label} ({told})" if told else self.label

    def asked(self) -> dict[str, Any]:
        preset = REPRODUCE if self.preset == "reproduce" else {}
        return {name: value for name, value in super().asked().items() if preset.get(name) != value}

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") == "reproduce":
            return REPRODUCE | data
        return data

    @model_validator(mode="after")
    def _consistent_gates(self) -> EdgePruning:
        target = self.writer_target_sparsity
        if self.warmup == "logarithmic" and target is not None and target >= 1:
            raise ValueError(
                f"writer_target_sparsity: found {target}; allowed with logarithmic warm-up: below 1"
            )
        if self.multipliers == "pi" and target is not None and target >= 1:
            raise ValueError(f"writer_target_sparsity: found {target}; allowed with multipliers: pi: below 1")
        if target is not None and not self.writer_gates:
            raise ValueError("writer_target_sparsity needs writer_gates: true")
        if target is not None and self.target_sparsity is None:
            raise ValueError("writer_target_sparsity needs target_sparsity; writers have no path of targets")
        for key in ("warm_lowest", "warm_highest"):
            if self.warm_start is None and self._is_set(key):
                raise ValueError(f"{key} does nothing without warm_start; leave it out")
        if self.warm_start is not None and self._is_set("init_log_alpha"):
            raise ValueError("init_log_alpha does nothing with warm_start; leave it out")
        if self.warm_lowest >= self.warm_highest:
            raise ValueError(
                f"warm_lowest: found {self.warm_lowest}; allowed: below warm_highest ({self.warm_highest})"
            )
        return self

    def _filled(self) -> Mapping[str, Any]:
        return REPRODUCE if self.preset else {}

    @property
    def writer_target(self) -> float | None:
        return self.writer_target_sparsity

    def passes_planned(self, examples: int) -> tuple[PlannedPass, ...]:
        method = {"eap": EdgeAttributionPatching, "eap_ig": EapIgInputs, None: None}[self.warm_start]
        before = () if method is None else method.parse({}, "").passes_planned(examples)
        return super().passes_planned(examples) + before

    def initial(self, session: Session, resumed: bool) -> Generator[Progress, None, tuple[GatedEdges, int]]:
        from trainers.methods.gated_edges import GatedEdges

        if self.warm_start is None or resumed:
            return GatedEdges.initial(self, session), 0
        method = EdgeAttributionPatching if self.warm_start == "eap" else EapIgInputs
        session.open()
        told = Progress(0, self.steps, phase="warm start")
        scores, steps = yield from told_as(method.parse({}, "").scores(session), told)
        session.close()  # the training has parameters, so an engine of its own
        ranks = mean_ranks(scores.abs().flatten()[session.graph.flat_index])
        centers = self.warm_lowest + (self.warm_highest - self.warm_lowest) * ranks
        return GatedEdges.initial(self, session, centers), steps


def mean_ranks(values: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
    """Ranks in [0, 1], float64: 0 of the smallest, 1 of the largest; equal values share their mean rank."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double() - 1
    return (last - (counts - 1) / 2)[place] / max(1, len(values) - 1)
