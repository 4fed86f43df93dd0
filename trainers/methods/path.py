"""Path: the circuits that a training run passes on its way to its target."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph
from trainers.methods.base import Found
from trainers.methods.schedules import target_at

if TYPE_CHECKING:
    from trainers.methods.gate_training import GateTraining


class Path:
    """Circuits taken at equal steps. Of circuits with the same edges only the latest is kept."""

    def __init__(self, method: "GateTraining", graph: EdgeGraph) -> None:
        self.method, self.graph = method, graph
        self.steps: list[int] = []
        self.circuits: list[Circuit] = []

    def wants(self, step: int) -> bool:
        """True at `path_points` equally spaced steps; the last step is the final circuit's."""
        points, steps = self.method.path_points, self.method.steps
        return step < steps - 1 and (step + 1) * points // steps > step * points // steps

    def add(self, step: int, circuit: Circuit) -> None:
        for place, old in enumerate(self.circuits):
            if torch.equal(old.kept, circuit.kept):
                del self.steps[place], self.circuits[place]
                break
        self.steps.append(step)
        self.circuits.append(circuit)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the path."""
        if not self.circuits:
            return {}
        return {
            "path.steps": torch.tensor(self.steps),
            "path.kept": torch.stack([circuit.kept for circuit in self.circuits]),
            "path.scores": torch.stack([circuit.scores for circuit in self.circuits]),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if "path.steps" in state:
            self.steps = state["path.steps"].tolist()
            pairs = zip(state["path.scores"].cpu(), state["path.kept"].cpu().bool(), strict=True)
            self.circuits = [Circuit(self.graph, scores, kept) for scores, kept in pairs]

    def found(self, final: Circuit) -> list[Found]:
        """The final circuit first, then the path's."""
        found = [Found(final, "final", self.method.target_sparsity, self.method.steps)]
        for step, circuit in zip(self.steps, self.circuits, strict=True):
            if not torch.equal(circuit.kept, final.kept):
                found.append(Found(circuit, "path", self._target(step), step + 1))
        return found

    def _target(self, step: int) -> float | None:
        method = self.method
        if method.target_sparsity is None:
            return None
        return target_at(
            step, method.start_sparsity, method.target_sparsity, method.warmup_length, method.warmup
        )
