"""Normalised faithfulness, CPR and CMD, the full model's mistakes: by hand, and against plain loops."""

import math

import numpy as np
import pytest

from trainers.evaluation.curves import AREAS, MIB_GRID, areas, mib_budgets, on_grid
from trainers.evaluation.faithfulness import (
    Mistakes,
    faithfulness,
    faithfulness_by_metric,
    mistakes_reproduced,
)


def test_faithfulness_by_hand() -> None:
    found = faithfulness([2.0, 1.0, 5.0, 0.0, 7.0], 5.0, 1.0)
    assert found.tolist() == [0.25, 0.0, 1.0, -0.25, 1.5]
    assert faithfulness(0.3, 0.0, 1.2) == pytest.approx(0.75), "a divergence: the full model has 0"


@pytest.mark.parametrize(
    "full, empty", [(1.0, 1.0), (0.0, 0.0), (3.0, 3.0000001), (math.nan, 1.0), (1.0, math.inf)]
)
def test_faithfulness_is_undefined_where_the_ends_agree(full: float, empty: float) -> None:
    assert math.isnan(faithfulness(0.5, full, empty))
    assert faithfulness_by_metric({"kl": 0.5}, {"kl": full}, {"kl": empty}) == {"kl": None}


def test_faithfulness_of_named_metrics() -> None:
    found = faithfulness_by_metric({"kl": 0.5, "new": 1.0}, {"kl": 0.0}, {"kl": 2.0, "new": 0.0})
    assert found == {"kl": 0.75}, "a metric that an end lacks has none"
    assert faithfulness_by_metric({"kl": math.nan}, {"kl": 0.0}, {"kl": 2.0}) == {"kl": None}


def test_areas_of_simple_curves() -> None:
    grid = np.array(MIB_GRID)
    perfect = areas(np.ones(10))
    assert {name: float(value) for name, value in perfect.items()} == pytest.approx(
        {"cpr": 0.999, "cmd": 0.0, "cpr_log": math.log(1000), "cmd_log": 0.0}
    )
    nothing = areas(np.zeros(10))
    assert float(nothing["cpr"]) == 0 and float(nothing["cmd"]) == pytest.approx(0.999)
    linear = areas(grid)  # trapezoids are exact: ∫k dk, ∫(1 − k) dk from 0.001 to 1
    assert float(linear["cpr"]) == pytest.approx((1 - 1e-6) / 2)
    assert float(linear["cmd"]) == pytest.approx(0.999 - (1 - 1e-6) / 2)
    logarithmic = areas(np.log(grid))  # ∫ x dx over x = ln k
    assert float(logarithmic["cpr_log"]) == pytest.approx(-(math.log(1000) ** 2) / 2)
    above = areas(np.full(10, 1.5))
    assert float(above["cpr"]) == pytest.approx(1.5 * 0.999), "CPR is unbounded"
    assert float(above["cmd"]) == pytest.approx(0.5 * 0.999), "and CMD counts excess as a gap"


def test_areas_are_a_plain_loop_over_the_grid() -> None:
    curves = np.random.default_rng(0).normal(size=(3, 4, 10))
    found = areas(curves)
    assert tuple(found) == AREAS and all(value.shape == (3, 4) for value in found.values())
    for a in range(3):
        for b in range(4):
            plain: dict[str, float] = dict.fromkeys(AREAS, 0.0)
            for i in range(9):
                (x, y), (f, g) = MIB_GRID[i : i + 2], curves[a, b, i : i + 2]
                for scale, width in (("", y - x), ("_log", math.log(y) - math.log(x))):
                    plain["cpr" + scale] += width * (f + g) / 2
                    plain["cmd" + scale] += width * (abs(1 - f) + abs(1 - g)) / 2
            assert {name: float(value[a, b]) for name, value in found.items()} == pytest.approx(plain)
    assert found["cpr"] == pytest.approx(np.trapezoid(curves, MIB_GRID))
    with pytest.raises(ValueError, match="4 values for a grid of 10"):
        areas(np.ones(4))


def test_budgets_are_rounded_down_as_mib_does() -> None:
    assert mib_budgets(32_491) == [32, 64, 162, 324, 649, 1624, 3249, 6498, 16_245, 32_491]
    assert mib_budgets(32) == [0, 0, 0, 0, 0, 1, 3, 6, 16, 32]


def test_the_grid_takes_its_ends_from_empty_and_full_where_they_were_not_measured() -> None:
    measured = {1: "a", 3: "b", 6: "c", 16: "d"}
    expected = ["empty"] * 5 + ["a", "b", "c", "d", "full"]
    assert on_grid(measured, 32, "empty", "full") == expected
    assert on_grid(measured | {32: "all", 7: "more"}, 32, "empty", "full") == [*expected[:-1], "all"]
    assert on_grid({1: "a", 3: "b", 16: "d"}, 32, "empty", "full") is None, "a budget is missing"


METRICS = ("kl", "accuracy", "exact_match")


def values(accuracy: list[float], match: list[float]) -> np.ndarray:
    return np.array([[0.1] * len(accuracy), accuracy, match], dtype=np.float32)


def test_mistakes_by_hand() -> None:
    full = values([1, 0, 0, 0.5, 1], [1, 1, 1, 1, 1])  # wrong on examples 1, 2 and, in part, 3
    circuit = values([0, 0, 0, 0.5, 1], [0, 1, 0, 0.5, 1])
    found = mistakes_reproduced(METRICS, full, circuit)
    assert found is not None and found.examples == 3
    assert found.reproduced == pytest.approx(1 / 3), "only example 1 in all its positions"
    assert mistakes_reproduced(METRICS, full, full) == Mistakes(3, 1.0)
    right = values([1, 1], [1, 1])
    assert mistakes_reproduced(METRICS, right, right) == Mistakes(0, None)
    assert mistakes_reproduced(("kl", "accuracy", "same_output"), full, circuit) == found
    assert mistakes_reproduced(("kl", "accuracy"), full[:2], circuit[:2]) is None
    assert mistakes_reproduced(("kl", "squared_error", "same_output"), full, circuit) is None
