"""Path: the circuits that a training run passes on its way."""

from collections.abc import Mapping

import torch
from torch import Tensor

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph
from trainers.methods.base import Found
from trainers.methods.walk import Walk


class Path:
    """Circuits taken after some steps: at the end of a target's hold, and between. Of those between that
    have the same edges only the latest is kept."""

    def __init__(self, walk: Walk, graph: EdgeGraph) -> None:
        self.walk, self.graph = walk, graph
        self.steps: list[int] = []
        self.circuits: list[Circuit] = []

    def add(self, step: int, circuit: Circuit) -> None:
        for place, old in enumerate(self.circuits):
            if torch.equal(old.kept, circuit.kept) and self.walk.held(self.steps[place]) is None:
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

    def found(self, final: Circuit, steps: int) -> list[Found]:
        """The circuits of the targets, the last target's first, then those between."""
        targets = self.walk.method.targets
        found = [Found(final, "final", targets[-1] if targets else None, steps)]
        between = []
        for step, circuit in zip(self.steps, self.circuits, strict=True):
            held = self.walk.held(step)
            if held is not None:
                found.append(Found(circuit, "final", held, step + 1))
            else:
                between.append(Found(circuit, "path", self.walk.target(step), step + 1))
        known = [one.circuit.kept for one in found]
        return found + [one for one in between if not any(torch.equal(one.circuit.kept, k) for k in known)]
