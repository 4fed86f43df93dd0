"""Necessity and completeness: what the model does without a circuit, and without parts of it.

A circuit C of a model M is complete when it behaves like M whatever is knocked out of both: for every
K ⊂ C the incompleteness |m(M∖K) − m(C∖K)| is small (Wang et al. 2022, section 4). A circuit can be
faithful and yet incomplete: what backs up its edges in M is missing in C. There are 2^edges subsets,
so some are drawn: half of them single edges, the other half random subsets that keep sizes apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.circuit import Circuit

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the circuit's edges that a random subset knocks out
SEED = 0


@dataclass(frozen=True)
class Incompleteness:
    """The largest |m(M∖K) − m(C∖K)| of a metric, the number of edges in that K, and both metrics."""

    gap: float
    num_edges: int
    model: float
    circuit: float


def complement(circuit: Circuit) -> Circuit:
    """Every edge that the circuit does not keep, with the same scores: the model without it."""
    return replace(circuit, kept=circuit.graph.allowed & ~circuit.kept)


def knockouts(circuit: Circuit, samples: int, seed: int = SEED) -> list[Circuit]:
    """K ⊂ C: at most `samples` different ones, none empty and none the whole circuit.

    Half of them are single edges, uniformly drawn without repetition (all edges, where the circuit
    has fewer); the others are uniformly random subsets, their sizes in turn the SHARES of the
    circuit's edges, rounded, at least 1. The same seed gives the same subsets; a circuit of few edges
    has fewer than `samples`.
    """
    kept = circuit.kept.flatten().nonzero().squeeze(1)
    draw, found = np.random.default_rng(seed), dict[tuple[int, ...], None]()
    if len(kept) < 2:
        return []
    for edge in draw.permutation(len(kept))[: (samples + 1) // 2].tolist():
        found[(edge,)] = None
    for attempt in range(20 * samples):
        if len(found) >= samples:
            break
        size = max(1, round(SHARES[attempt % len(SHARES)] * len(kept)))
        if size < len(kept):
            found[tuple(sorted(draw.choice(len(kept), size, replace=False).tolist()))] = None
    return [_of(circuit, kept[list(places)]) for places in found]


def knocked_out_pairs(circuit: Circuit, subsets: Sequence[Circuit]) -> list[Circuit]:
    """M∖K and C∖K of each K in turn: what has to be evaluated."""
    return [one for subset in subsets for one in (complement(subset), circuit.subtract(subset))]


def incompleteness(
    metrics: Sequence[str], pairs: Float[Tensor, "two_subsets metrics"], sizes: Sequence[int]
) -> dict[str, Incompleteness]:
    """By metric, the worst K: `pairs` are means in the order of `knocked_out_pairs`, `sizes` the numbers
    of edges of the subsets. A gap that is not a number is the worst of all."""
    model, circuit = pairs[0::2], pairs[1::2]
    gaps = (model - circuit).abs()
    found = {}
    for column, name in enumerate(metrics):
        worst = int(torch.where(gaps[:, column].isnan(), torch.inf, gaps[:, column]).argmax())
        values = (float(each[worst, column]) for each in (model, circuit))
        found[name] = Incompleteness(float(gaps[worst, column]), sizes[worst], *values)
    return found


def _of(circuit: Circuit, places: Tensor) -> Circuit:
    kept = torch.zeros(circuit.kept.numel(), dtype=torch.bool)
    kept[places] = True
    return replace(circuit, kept=kept.view(circuit.kept.shape))
