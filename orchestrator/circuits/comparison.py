"""Comparison of circuits: overlap, precision and recall, ROC and precision-recall from scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_patches.circuit import Circuit, iou

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """How well scores rank the edges of a reference: ROC by descending threshold, tied scores taken
    at once. `auc` is the area under it, so that scores which are all equal give 0.5.
    `average_precision` sums precision over the rises of recall (no interpolation)."""

    false_positive_rate: list[float]
    true_positive_rate: list[float]
    auc: float
    average_precision: float


@dataclass(frozen=True)
class Against:
    """A circuit against the reference. None where nothing is kept, or where the reference has no
    edges or all of them."""

    precision: float | None
    recall: float | None
    node_precision: float | None
    node_recall: float | None
    ranking: Ranking | None


@dataclass(frozen=True)
class Comparison:
    edge_iou: list[list[float]]
    node_iou: list[list[float]]
    against: list[Against]


def compare(circuits: Sequence[Circuit], reference: Circuit, by_magnitude: bool = False) -> Comparison:
    """All circuits are on the graph of the reference. Nodes are writers on kept paths."""
    edges = [frozenset(map(tuple, circuit.kept.nonzero().tolist())) for circuit in circuits]
    nodes = [circuit.nodes for circuit in circuits]
    return Comparison(
        [[iou(one, other) for other in edges] for one in edges],
        [[iou(one, other) for other in nodes] for one in nodes],
        [_against(circuit, reference, by_magnitude) for circuit in circuits],
    )


def ranking(scores: Floats, positive: NDArray[np.bool_]) -> Ranking | None:
    """None unless there are both positive and negative edges (Fawcett 2006; ties by whole groups)."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # the last of each group of equal scores
    true, taken = hits[last].astype(float), np.flatnonzero(last) + 1.0
    rates = np.append(0.0, true / positives)
    false = np.append(0.0, (taken - true) / negatives)
    average = float(np.sum(np.diff(rates) * true / taken))
    return Ranking(false.tolist(), rates.tolist(), float(np.trapezoid(rates, false)), average)


def _against(circuit: Circuit, reference: Circuit, by_magnitude: bool) -> Against:
    allowed = circuit.graph.allowed.numpy()
    scores = circuit.scores.numpy()[allowed].astype(np.float64)
    truth = reference.kept.numpy()[allowed]
    precision, recall = _rates(set(circuit.edges), set(reference.edges))
    nodes = _rates(set(circuit.nodes), set(reference.nodes))
    return Against(precision, recall, *nodes, ranking(np.abs(scores) if by_magnitude else scores, truth))


def _rates(found: set, truth: set) -> tuple[float | None, float | None]:
    hits = len(found & truth)
    return (hits / len(found) if found else None), (hits / len(truth) if truth else None)
