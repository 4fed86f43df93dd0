"""Normalised faithfulness, and the full model's mistakes: what is made of metrics once measured.

No torch here: the tables of results use it too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Full model and empty circuit that agree to this share of the larger differ by float32 rounding only.
ROUNDING = 1e-6


def faithfulness(circuit: ArrayLike, full: ArrayLike, empty: ArrayLike) -> NDArray[np.float64]:
    """(m(C) − m(∅)) / (m(M) − m(∅)), elementwise (MIB, Mueller et al. 2025): 0 is the empty circuit,
    1 the full model; also above 1 and below 0.

    NaN where it is undefined: m(M) and m(∅) are the same up to float32 rounding, or not finite.
    """
    c, m, e = (np.asarray(value, dtype=np.float64) for value in (circuit, full, empty))
    with np.errstate(invalid="ignore", divide="ignore"):
        span = m - e
        defined = np.abs(span) > ROUNDING * np.maximum(np.abs(m), np.abs(e))
        share = np.where(defined & np.isfinite(span), (c - e) / np.where(defined, span, 1.0), np.nan)
        return share + 0.0  # -0 becomes 0


def faithfulness_by_metric(
    circuit: Mapping[str, float], full: Mapping[str, float], empty: Mapping[str, float]
) -> dict[str, float | None]:
    """Of every metric that all three have; None where it is undefined."""
    names = [name for name in circuit if name in full and name in empty]
    values = faithfulness(*([of[name] for name in names] for of in (circuit, full, empty))).tolist()
    return {name: value if isfinite(value) else None for name, value in zip(names, values, strict=True)}


@dataclass(frozen=True)
class Mistakes:
    """How many examples the full model gets wrong, and the share of them on which the circuit
    predicts the full model's very tokens; None when there are none."""

    examples: int
    reproduced: float | None


def mistakes_reproduced(
    metrics: Sequence[str], full: NDArray[np.float32], circuit: NDArray[np.float32]
) -> Mistakes | None:
    """From per-example values [metrics, examples]: wrong where not every scored position's argmax is the
    answer, reproduced where every scored position's argmax is the full model's.

    None for a task that does not measure accuracy and the match with the full model.
    """
    match = next((name for name in ("exact_match", "same_output") if name in metrics), None)
    if "accuracy" not in metrics or match is None:
        return None
    wrong = full[metrics.index("accuracy")] < 1
    examples = int(wrong.sum())
    same = circuit[metrics.index(match)][wrong] == 1
    return Mistakes(examples, float(same.mean()) if examples else None)
