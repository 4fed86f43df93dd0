"""PiMultipliers: multipliers that follow the error of a sparsity target, as a PI controller does.

Adam moves λ1 and λ2 at one pace however small the error is. So they wind up while sparsity lags behind a
rising target, drive it past, and unwind as slowly. Under the PI rule (Sohrabi et al., ICML 2024, νPI with
ν = 0) the pressure on gates is proportional to the error e = (s − t) / (1 − t) and to its sum so far:

    loss = divergence + λ1 · e + λ2 · e²
    λ2 = gain / 2                           fixed: the slope of its term, gain · e, damps
    λ1 ← λ1 + gain · e / integral_steps     plain gradient ascent

The error counts in shares of the edges that the target keeps: one too many of ten weighs as much as a
thousand too many of 10,000, and pressure need not grow with the graph or the target.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainers.methods.schedules import relative_error

if TYPE_CHECKING:
    from trainers.methods.gate_training import GateTraining


PREFIXES = ("", "writer_")  # of what a step reports: of edges, of writers


class PiMultipliers:
    """λ1 of each target so far: of edges, then of writers where they have one. Every rank follows alike:
    the sparsities that it is told are the same on all of them."""

    def __init__(self, method: "GateTraining") -> None:
        self.gain, self.steps = method.multiplier_gain, method.integral_steps
        self.integrals = [0.0] * (method.constraints if method.multipliers == "pi" else 0)

    def pairs(self) -> list[Tensor]:
        """(λ1, λ2) of each target, float32."""
        return [torch.tensor([integral, self.gain / 2]) for integral in self.integrals]

    def follow(self, values: Mapping[str, float], share: float) -> None:
        """Climbs by the errors of the step that reports `values`; `share`: of the learning rates."""
        for place, prefix in enumerate(PREFIXES[: len(self.integrals)]):
            error = relative_error(values[f"{prefix}sparsity"], values[f"{prefix}target_sparsity"])
            self.integrals[place] += self.gain * error * share / self.steps

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the multipliers."""
        return {"multipliers.integrals": torch.tensor(self.integrals, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if "multipliers.integrals" in state:
            self.integrals = state["multipliers.integrals"].tolist()
