"""Consensus of circuits: how often an edge is kept, how much circuits overlap. Arrays in, arrays out.

`kept` is a bool array [circuits, edges]: which circuit keeps which of the edges that any of them keeps
(edges that none keeps change nothing here).
"""

import numpy as np
from numpy.typing import NDArray

from orchestrator.statistics.pareto import Floats, Ints

Bools = NDArray[np.bool_]


def times_kept(kept: Bools) -> Ints:
    """[edges] number of circuits that keep each edge."""
    return np.asarray(kept, dtype=bool).sum(axis=0, dtype=np.int64)


def agreement(kept: Bools) -> Ints:
    """[circuits] number of edges that exactly 1, 2, ... all of the circuits keep."""
    return np.bincount(times_kept(kept), minlength=len(kept) + 1)[1:].astype(np.int64)


def iou_matrix(kept: Bools) -> Floats:
    """[circuits, circuits] edges that both keep over edges that either keeps; 1 for two empty circuits
    (Jaccard 1901)."""
    members = np.asarray(kept, dtype=np.float64)
    both = members @ members.T
    sizes = members.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def mean_iou(iou: Floats, groups: Ints, num_groups: int, left_out: Bools | None = None) -> Floats:
    """[num_groups, num_groups] mean IoU over the pairs of different circuits, one of each group, without
    those `left_out` [circuits, circuits].

    `groups` [circuits] numbers each circuit's group, 0 <= group < num_groups. NaN where there is no pair.
    """
    member = np.asarray(groups)[:, None] == np.arange(num_groups)[None, :]
    pairs = ~np.eye(len(iou), dtype=bool)
    if left_out is not None:
        pairs &= ~left_out
    members = member.astype(np.float64)
    total = members.T @ np.where(pairs, iou, 0.0) @ members
    number = members.T @ pairs.astype(np.float64) @ members
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def iou_by_chance(first: int, second: int, num_edges_total: int) -> float:
    """Expected IoU of two circuits of these sizes whose edges are drawn at random.

    The number of shared edges is hypergeometric; the expectation is summed exactly. 1 for two empty
    circuits. Raises ValueError when a circuit is larger than the graph.
    """
    if not 0 <= max(first, second) <= num_edges_total:
        raise ValueError(f"circuits of {first} and {second} edges in a graph of {num_edges_total}")
    if not first + second:
        return 1.0
    shared = np.arange(max(0, first + second - num_edges_total), min(first, second) + 1)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, num_edges_total + 1)))))

    def log_choose(n: int, k: Ints) -> Floats:
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    log_chance = log_choose(first, shared) + log_choose(num_edges_total - first, second - shared)
    log_chance -= log_choose(num_edges_total, np.array([second]))
    return float((np.exp(log_chance) * shared / (first + second - shared)).sum())
