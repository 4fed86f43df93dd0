"""Circuits made of circuits: set operations, votes, and another budget on the same scores."""

from collections.abc import Sequence

import numpy as np

from model_patches.circuit import Circuit


def combined(circuits: Sequence[Circuit], operation: str, votes: bool = False) -> Circuit:
    """`union`, `intersect` or `subtract` of circuits of one graph. With `votes`, an edge's score is
    the number of circuits that keep it, which is comparable where their scores are not."""
    first, *others = circuits
    made: Circuit = getattr(first, operation)(*others)
    if not votes:
        return made
    counts = np.sum([circuit.kept.numpy() for circuit in circuits], axis=0)
    return Circuit.from_arrays(made.graph, counts, made.kept)


def strongest(circuit: Circuit, num_edges: int, by_magnitude: bool) -> Circuit:
    """The same scores with the `num_edges` highest kept, or those of largest magnitude."""
    ranked = circuit.scores.abs() if by_magnitude else circuit.scores
    return Circuit(circuit.graph, circuit.scores, Circuit.top(circuit.graph, ranked, num_edges).kept)
