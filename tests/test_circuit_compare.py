"""Comparison: ROC, average precision, IoU, precision and recall, against counting by hand."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from orchestrator.circuits.comparison import compare, ranking

GRAPH = EdgeGraph(Shape(2, 2, 2, ("tok_embeds",)))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order_and_ties_count_half(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=float)
    positive = np.array([label for _, label in pairs])
    found = ranking(scores, positive)
    if positive.all() or not positive.any():
        assert found is None
        return
    assert found is not None
    wins = [(a > b) + 0.5 * (a == b) for a, b in product(scores[positive], scores[~positive])]
    assert found.auc == pytest.approx(float(np.mean(wins)))
    assert (found.false_positive_rate[0], found.true_positive_rate[0]) == (0, 0)
    assert (found.false_positive_rate[-1], found.true_positive_rate[-1]) == (1, 1)
    thresholds = sorted(set(scores.tolist()), reverse=True)
    assert len(found.false_positive_rate) == len(thresholds) + 1
    precision, recall, average = 0.0, 0.0, 0.0
    for at, threshold in enumerate(thresholds):
        taken = scores >= threshold
        now = (taken & positive).sum() / positive.sum()
        precision = (taken & positive).sum() / taken.sum()
        average, recall = average + precision * (now - recall), now
        assert found.true_positive_rate[at + 1] == pytest.approx(now)
    assert found.average_precision == pytest.approx(average)


def test_scores_that_are_all_equal_are_chance() -> None:
    positive = np.array([True, False, False, False])
    found = ranking(np.zeros(4), positive)
    assert found is not None and found.auc == 0.5 and found.average_precision == 0.25


def test_known_numbers() -> None:
    """The example of scikit-learn's documentation of roc_auc_score and average_precision_score."""
    found = ranking(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    assert found is not None
    assert found.auc == 0.75 and found.average_precision == pytest.approx(0.8333333)


def test_circuits_against_a_reference() -> None:
    path = [("tok_embeds", "m0"), ("m0", "m1"), ("m1", "resid_post")]
    reference = Circuit.from_edges(GRAPH, path)
    other = Circuit.from_edges(GRAPH, [*path[:2], ("m0", "resid_post"), ("m0", "a1.h0.q")])
    result = compare([reference, other, Circuit.from_edges(GRAPH, [])], reference)
    assert result.edge_iou == [[1, 0.4, 0], [0.4, 1, 0], [0, 0, 1]]
    assert result.node_iou[0] == [1, pytest.approx(2 / 3), 0]
    same, second, empty = result.against
    assert (same.precision, same.recall, same.node_precision, same.node_recall) == (1, 1, 1, 1)
    assert (second.precision, second.recall) == (0.5, pytest.approx(2 / 3))
    assert (second.node_precision, second.node_recall) == (1, pytest.approx(2 / 3))
    assert empty.precision is None and empty.recall == 0
    assert same.ranking and same.ranking.auc == 1 and empty.ranking and empty.ranking.auc == 0.5


def test_always_on_connections_are_neither_positive_nor_negative() -> None:
    graph = EdgeGraph(GRAPH.shape, "always_on")
    scores = torch.zeros(graph.allowed.shape)
    scores[graph.locate("m0", "m1")] = 1
    circuit = Circuit.top(graph, scores, 1)
    found = compare([circuit], circuit).against[0].ranking
    assert found is not None and len(found.false_positive_rate) == 3
    assert found.false_positive_rate == [0, 0, 1] and found.auc == 1


def test_magnitude_when_asked() -> None:
    scores = torch.zeros(GRAPH.allowed.shape)
    scores[GRAPH.locate("m0", "m1")] = -5
    circuit, reference = Circuit.top(GRAPH, scores, 3), Circuit.from_edges(GRAPH, [("m0", "m1")])
    by_value, by_size = (compare([circuit], reference, flag).against[0].ranking for flag in (False, True))
    assert by_value is not None and by_size is not None
    assert by_value.auc == 0 and by_size.auc == 1
