"""Random edges: the floor that every method must clear."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, Literal

from model_patches.lazy import torch
from trainers.methods.base import Discovery, Found
from trainers.methods.ranking import Ranking, top_circuits
from trainers.progress import Progress

if TYPE_CHECKING:
    from trainers.session import Session


class RandomEdges(Ranking):
    """A uniformly random ranking, keyed by the trial's seed."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "random"
    chance: ClassVar[bool] = True

    name: Literal["random"] = "random"

    def discover(self, session: Session) -> Generator[Progress, None, Discovery]:
        session.open()
        generator = torch.Generator().manual_seed(session.spec.seed)
        scores = torch.rand(session.graph.allowed.shape, generator=generator)
        yield Progress(1, 1)
        found: list[Found] = top_circuits(session.graph, scores, self.budgets(session.graph))
        return Discovery(found, 0, *session.cost())
