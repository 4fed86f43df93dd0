"""Ranking methods: a score per edge, evaluated as the top of the ranking at edge budgets.

One meaning of a score, everywhere: **higher is more important**. `Circuit.scores` holds the values that
rank the edges, so the edges of a circuit are the highest of them. An attribution is signed: positive
means that the edge helps, so cutting it would lower the metric (raise a divergence). Ranked by
`magnitude`, `Circuit.scores` holds |attribution|; the signed one is kept apart, in `Discovery.signed`.

One unit, too: every attribution, and every cost that ACDC measures, is **a mean over the training
examples, in units of the metric**, so that it says what cutting the edge does, or to first order would do,
to the metric that results report, however many examples there are. (MIB's EAP-IG divides by their number,
too.) Where an edge helps one example and hurts another, the two cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, PositiveInt

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph
from trainers.evaluation.curves import MIB_GRID, mib_budgets
from trainers.methods.base import Found, Method
from trainers.spec import shortened

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


DEFAULT_BUDGETS = 24


def _budgets(given: Any) -> Any:
    """One message for both forms, where a union would give one for each."""
    if given is None or given == "mib":
        return given
    if isinstance(given, list | tuple) and given and all(type(n) is int and n > 0 for n in given):
        return tuple(given)  # strict: past this validator a list is no tuple, JSON or not
    raise ValueError(f"found {shortened(given)}; allowed: a list of whole numbers above 0, or mib")


EdgeBudgets = Annotated[tuple[PositiveInt, ...] | Literal["mib"] | None, BeforeValidator(_budgets)]


def budgets_in(budgets: tuple[int, ...] | Literal["mib"], graph: EdgeGraph) -> list[int]:
    """Numbers of edges, ascending, each from 1 to all of them. A share of MIB's grid that is less than
    one edge is left out: it stands for the empty circuit."""
    if budgets == "mib":
        return sorted({budget for budget in mib_budgets(graph.num_edges) if budget > 0})
    return sorted({min(budget, graph.num_edges) for budget in budgets})


def count_budgets(budgets: tuple[int, ...] | Literal["mib"]) -> int:
    """At most so many numbers of edges."""
    return len(MIB_GRID) if budgets == "mib" else len(set(budgets))


class Ranking(Method):
    """The common field of methods whose result is a ranking of all edges."""

    version: ClassVar[int] = 1
    smoke: ClassVar[Mapping[str, Any]] = {"edge_budgets": (10, 100)}

    edge_budgets: EdgeBudgets = Field(
        None,
        description="numbers of kept edges to evaluate, or mib: its ten shares of the edges; default: 24 in "
        "equal ratios",
    )

    def points_planned(self) -> int:
        return DEFAULT_BUDGETS if self.edge_budgets is None else count_budgets(self.edge_budgets)

    def budgets(self, graph: EdgeGraph) -> list[int]:
        """Ascending, each at most the number of edges."""
        if self.edge_budgets is not None:
            return budgets_in(self.edge_budgets, graph)
        return sorted({round(k) for k in np.geomspace(1, graph.num_edges, DEFAULT_BUDGETS)})


def top_circuits(
    graph: EdgeGraph,
    scores: Float[Tensor, "writers readers"],
    budgets: list[int],
    kind: Literal["budget", "ranking"] = "budget",
) -> list[Found]:
    """The highest-scoring edges at each budget."""
    return [Found(Circuit.top(graph, scores, budget), kind) for budget in budgets]
