"""Intervals, areas and faithfulness on their way from a trial to the tables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.records.results import Results
from tests import one_rank
from tests.run_folders import Runs, point, trial
from trainers.evaluation.curves import MIB_GRID, areas
from trainers.result import TrialResult
from trainers.worker import Worker

SPEC: dict[str, Any] = {
    "model": {"builtin": "tracr-xproportion"},
    "task": {"name": "tracr"},
    "method": {"name": "random", "edge_budgets": [1, 3, 6, 16]},
    "ablation": "zero",
}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with one_rank.working() as make:
        yield make()


def test_a_ranking_on_mibs_grid_has_areas(worker: Worker, tmp_path: Path) -> None:
    """32 edges: MIB's shares are 0, 0, 0, 0, 0, 1, 3, 6, 16 and 32 of them."""
    result = one_rank.run(worker, tmp_path / "grid", SPEC)
    by_edges = {one.num_edges: one.metrics["test"]["squared_error"] for one in result.points}
    empty, full = result.empty["test"]["squared_error"], result.full["test"]["squared_error"]
    measured = [empty] * 5 + [by_edges[edges] for edges in (1, 3, 6, 16)] + [full]
    f = [(value - empty) / (full - empty) for value in measured]
    expected = {name: float(value) for name, value in areas(f).items()}
    assert result.areas["test"]["squared_error"] == pytest.approx(expected)
    assert set(result.areas) == {"validation", "test"} and len(MIB_GRID) == len(f)
    assert set(result.areas["test"]) == set(result.full["test"])
    other = SPEC | {"method": {"name": "random", "edge_budgets": [1, 3, 16]}}
    assert one_rank.run(worker, tmp_path / "other", other).areas == {}, "a budget is missing"


def test_an_old_result_has_neither(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    content = json.loads(trial("aa", 0, [point(0, 11, 0.4, 0.5)]).model_dump_json())
    for name in ("areas", "examples", "backward_examples"):
        del content[name]
    for name in ("intervals", "threshold"):
        del content["points"][0][name]
    home = runs.folder / "trials" / "aa"
    home.write("result.json", json.dumps(content).encode())
    results = Results.load([runs.folder])
    assert not results.problems
    row = results.points.to_pylist()[0]
    assert not [name for name in row if name.startswith(("low_", "high_"))]
    assert results.trials.to_pylist()[0]["examples"] is None


def test_the_tables_hold_intervals_faithfulness_and_areas(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    intervals = {"test": {"kl": (0.4, 0.7)}, "validation": {"kl": (0.3, float("nan"))}}
    area = {"test": {"kl": {"cpr": 0.5, "cmd": 0.4, "cpr_log": 2.0, "cmd_log": 3.0}, "same_output": None}}
    runs.trial(trial("aa", 0, [point(0, 11, 0.4, 0.5, intervals=intervals)], areas=area))
    read = TrialResult.model_validate_json((tmp_path / "trials" / "aa" / "result.json").read_bytes())
    assert read.points[0].intervals["test"] == {"kl": (0.4, 0.7)} and read.areas == area
    results = Results.load([runs.folder])
    row = results.points.to_pylist()[0]
    assert (row["low_test_kl"], row["high_test_kl"], row["low_validation_kl"]) == (0.4, 0.7, 0.3)
    assert row["high_validation_kl"] != row["high_validation_kl"], "a measured NaN"
    assert row["faithfulness_kl"] == pytest.approx((0.5 - 2) / (0 - 2))
    assert json.loads(results.trials.to_pylist()[0]["areas"]) == area


def test_every_point_has_intervals(worker: Worker, tmp_path: Path) -> None:
    result = one_rank.run(worker, tmp_path, SPEC)
    for one in result.points:
        assert {split: set(ends) for split, ends in one.intervals.items()} == {
            split: set(means) for split, means in one.metrics.items()
        }
        for split, ends in one.intervals.items():
            for name, (low, high) in ends.items():
                assert low <= one.metrics[split][name] <= high
    low, high = result.points[0].intervals["test"]["squared_error"]
    assert low < high
