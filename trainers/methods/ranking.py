"""Ranking methods: a score per edge, evaluated as the top of the ranking at edge budgets."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph
from trainers.methods.base import Found, Method

DEFAULT_BUDGETS = 24


class Ranking(Method):
    """The common field of methods whose result is a ranking of all edges."""

    version: ClassVar[int] = 1

    edge_budgets: tuple[PositiveInt, ...] | None = Field(
        None, min_length=1, description="numbers of kept edges to evaluate; default: 24 in equal ratios"
    )

    def points_planned(self) -> int:
        return DEFAULT_BUDGETS if self.edge_budgets is None else len(set(self.edge_budgets))

    def budgets(self, graph: EdgeGraph) -> list[int]:
        """Ascending, each at most the number of edges."""
        if self.edge_budgets is not None:
            return sorted({min(budget, graph.num_edges) for budget in self.edge_budgets})
        return sorted({round(k) for k in np.geomspace(1, graph.num_edges, DEFAULT_BUDGETS)})


def top_circuits(
    graph: EdgeGraph, scores: Float[Tensor, "writers readers"], budgets: list[int]
) -> list[Found]:
    """The highest-scoring edges at each budget."""
    return [Found(Circuit.top(graph, scores, budget), "budget") for budget in budgets]
