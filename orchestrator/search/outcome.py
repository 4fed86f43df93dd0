"""Outcome: what a study is told of a trial that is over. Validation examples only."""

from dataclasses import dataclass

import numpy as np

from orchestrator.records.sweep_record import OWN_DIVERGENCE
from orchestrator.statistics.pareto import Floats, front, log_kept
from trainers.evaluation.faithfulness import ROUNDING
from trainers.result import TrialResult


@dataclass(frozen=True)
class Outcome:
    """`costs` [circuits, 2]: log10 of the kept share of edges, and the validation divergence, of the circuits
    on the trial's own front, fewest edges first; `top`: the empty circuit's divergence.

    There are no rows for a trial that failed, or has no circuit that can be judged. It is told as failed:
    samplers learn nothing from it, neither that its setting is good nor that it is bad.
    """

    costs: Floats
    top: float

    @property
    def failed(self) -> bool:
        return len(self.costs) == 0

    @property
    def widest(self) -> Floats:
        """[2], of the circuit that alone dominates most of the box below the empty circuit."""
        heights = np.maximum(self.top - self.costs[:, 1], 0.0) if np.isfinite(self.top) else -self.costs[:, 1]
        return self.costs[int(np.argmax(-self.costs[:, 0] * heights))]


FAILED = Outcome(np.empty((0, 2)), float("nan"))


def outcome(result: TrialResult, faithfulness: str = OWN_DIVERGENCE) -> Outcome:
    """`faithfulness` is the sweep's objective, which a trial that did not measure it replaces by its own.

    A divergence above the empty circuit's is told as the empty circuit's: no front's hypervolume
    knows the difference, and it would stretch the scale on which the others are told apart.
    """
    measured = result.empty.get("validation", {})
    name = faithfulness if faithfulness in measured else result.divergence or ""
    values = np.array([one.metrics.get("validation", {}).get(name, np.nan) for one in result.points], float)
    if result.status != "complete" or not np.isfinite(values).any():
        return FAILED
    top = measured.get(name, float("nan"))
    values = np.minimum(values, top) if np.isfinite(top) else values
    edges = np.array([one.num_edges for one in result.points])
    costs = np.column_stack((log_kept(edges, result.points[0].num_edges_total), values))
    rounding = ROUNDING * abs(top) if np.isfinite(top) else 0.0
    return Outcome(costs[front(costs, rounding)], top)
