"""What a rank's process is like while a sweep is mirrored to MLflow: MLflow stays in the driver, and the
threads are those of the rank's own cores."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster import launch
from orchestrator.planning.plan import plan
from orchestrator.sweep import SweepSpec
from orchestrator.tracking.tracker import Tracker
from tests.rank_process import TOLD, WORK
from tests.ray_cluster import ray_of_our_own
from trainers.folder import Folder

SWEEP = {
    "name": "q",
    "question": "What does a rank do?",
    "base": {
        "model": {"builtin": "tracr-xproportion"},
        "task": {"name": "tracr"},
        "ablation": "zero",
        "method": {"name": "edge_pruning", "target_sparsity": 0.8, "steps": 5, "path_points": 0},
    },
    "seeds": 2,
    "resources": {"lanes": 2, "cpus_per_rank": 1},
}


@pytest.fixture
def our_ray() -> Iterator[None]:
    with ray_of_our_own():
        yield


@pytest.mark.slow
def test_no_mlflow_and_no_more_threads_than_cores(
    our_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    sweep = SweepSpec.parse(SWEEP, "test")
    runs, database = Folder.open(tmp_path / "runs"), tmp_path / "mlflow.db"
    tracker = Tracker(f"sqlite:///{database}", sweep, runs)
    outcome = launch.run(plan(sweep, runs), runs, observers=[tracker], work=WORK)
    assert (outcome.complete, outcome.failed) == (2, 0)
    assert database.exists()  # MLflow was told, by the driver
    told = [json.loads(file.read_text()) for file in (tmp_path / "runs" / "trials").glob(f"*/{TOLD}")]
    assert len(told) == 2
    assert [one["mlflow"] for one in told] == [[], []]
    assert os.cpu_count() != 1  # else the numbers below say nothing
    assert [one["torch threads"] for one in told] == [1, 1]
    assert [one["variables"] for one in told] == [["1", "1"]] * 2
