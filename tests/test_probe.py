"""What `plan` foretells of trials that never ran: their time from a few steps, their disk from the graph."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.planning.disk import predicted_disk
from orchestrator.planning.plan import plan
from orchestrator.planning.probe import Probed, _measured, _small
from orchestrator.planning.weights import graph_size
from orchestrator.sweep import SweepSpec
from tests import one_rank
from tests.tiny_models import save_tiny
from trainers.folder import Folder
from trainers.trial import TrialSpec

PRUNING = {"name": "edge_pruning", "target_sparsity": 0.9, "steps": 600, "batch_size": 32, "path_points": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_tiny("gpt2", folder)
    return folder


def spec(model: Path, **method: object) -> TrialSpec:
    task = one_rank.TINY_TASK
    data = {"model": {"path": str(model)}, "task": task, "method": PRUNING | method}
    return TrialSpec.parse(data, "test")


def test_a_probe_cuts_steps_and_keeps_what_a_step_costs(model: Path) -> None:
    method = _small(spec(model)).method
    assert (getattr(method, "steps"), getattr(method, "batch_size")) == (6, 32)  # noqa: B009


def test_seconds_are_loading_steps_and_evaluation(model: Path) -> None:
    """Loading 10 s, steps of 2 s, evaluation of 3 s."""
    whole = spec(model)
    reports = [
        {"time": 100.0, "phase": "load"},
        *({"time": 102.0 + 2 * step, "phase": "train", "step_seconds": 2.0} for step in range(6)),
        {"time": 112.0, "phase": "evaluate"},
        {"time": 115.0, "phase": "evaluate"},
    ]
    probed = _measured(whole, whole, reports, seconds=25.0)
    assert probed == Probed(load=10.0, step=2.0, evaluate=3.0)
    assert probed.seconds(600) == 10 + 1200 + 3


def test_the_disk_that_is_foretold_is_enough_and_not_absurd(model: Path, tmp_path: Path) -> None:
    base = {"model": {"path": str(model)}, "task": one_rank.TINY_TASK, "method": PRUNING | {"steps": 12}}
    sweep = SweepSpec.parse({"name": "disk", "question": "?", "base": base}, "test")
    runs = Folder.open(tmp_path)
    planned = plan(sweep, runs)
    told = predicted_disk(planned.missing, runs, [], 1)
    assert told is not None and graph_size(planned.trials[0].spec.model) is not None
    folder = tmp_path / "trials" / planned.trials[0].trial_id
    with one_rank.working() as make:
        one_rank.run(make(), folder, base)
    written = runs.size(f"trials/{planned.trials[0].trial_id}")
    assert written <= told.results <= 20 * written


@pytest.mark.slow
def test_plan_measures_what_has_not_run(tmp_path: Path) -> None:
    # In a process of its own: one that has had a Ray without a token cannot start one with a token, and the
    # other way round.
    plan = ["plan", "sweeps/quickstart.yaml", "--smoke", "--probe", "--json", "--runs", str(tmp_path)]
    told = subprocess.run([sys.executable, "-m", "orchestrator", *plan], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    estimate = json.loads(told.stdout)["estimate"]
    assert estimate["basis"] == ["probed"] and estimate["trials_unknown"] == 0
    assert estimate["seconds"] > 0 and estimate["node_hours"] > 0
    assert not list(tmp_path.iterdir()), "a plan changes nothing"
