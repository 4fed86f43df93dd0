"""`--smoke`: any sweep, cut down to a minute's run through every part of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli.main import main
from orchestrator.smoke import smoke
from orchestrator.sweep import SweepSpec
from trainers.methods import METHODS
from trainers.methods.base import Method
from trainers.methods.edge_pruning import EdgePruning
from trainers.tasks import TASKS
from trainers.tasks.base import Task

SWEEPS = sorted(Path("sweeps").glob("*.yaml"))
SMALL = 50  # steps


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_keeps_its_methods_and_loses_its_length(path: Path) -> None:
    whole = SweepSpec.load(path)
    cut = smoke(whole)
    assert cut.name == f"{whole.name}-smoke" and cut.resources == whole.resources
    kinds = {
        (trial.model, trial.method.name, trial.method.variant, trial.ablation) for trial in whole.trials()
    }
    assert {(t.model, t.method.name, t.method.variant, t.ablation) for t in cut.trials()} == kinds
    assert len(cut.trials()) <= len(whole.trials())
    assert all(trial.method.steps_planned() <= SMALL for trial in cut.trials())
    if not any(trial.task.name == "tracr" for trial in whole.trials()):  # enumerated anyway
        assert not {trial.trial_id for trial in cut.trials()} & {trial.trial_id for trial in whole.trials()}


def test_a_long_path_of_targets_keeps_its_ends() -> None:
    method = EdgePruning.parse({"target_path": [0.1 * n for n in range(1, 10)], "steps": 90}, "")
    cut = method.cut(method.smoke)
    assert cut.targets == (0.1, 0.9) and cut.steps == 6


@pytest.mark.parametrize("part", [*METHODS, *TASKS], ids=lambda part: part.__name__)
def test_what_is_cut_are_fields_of_the_part(part: type[Method] | type[Task]) -> None:
    assert part.smoke.keys() <= part.model_fields.keys()


def test_numbers_are_lowered_and_never_raised() -> None:
    (trial, *_) = SweepSpec.load(Path("sweeps/quickstart.yaml")).trials()
    method = trial.method
    assert method.cut({"variant": "x"}).variant == "x"
    assert method.cut({}) == method
    steps = getattr(method, "steps")  # noqa: B009
    assert getattr(method.cut({"steps": 3}), "steps") == 3  # noqa: B009
    assert getattr(method.cut({"steps": steps + 5}), "steps") == steps  # noqa: B009


@pytest.mark.slow
def test_a_smoke_run_goes_through_every_part(tmp_path: Path) -> None:
    asked = ["sweeps/quickstart.yaml", "--smoke", "--runs", str(tmp_path), "--json"]
    planned = json.loads(CliRunner().invoke(main, ["plan", *asked]).stdout)["estimate"]
    # In a process of its own: one that has had a Ray without a token cannot start one with a token.
    command = [sys.executable, "-m", "orchestrator", "run", *asked]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["sweep"] == "quickstart-smoke" and told["counts"]["complete"] == told["ran"] >= 3
    assert (tmp_path / "quickstart-smoke" / "report" / "report.html").is_file()
    records = sum(file.stat().st_size for file in tmp_path.rglob("*") if "trials" not in file.parts)
    assert records <= planned["record_bytes"] <= 5 * records, "enough for report and MLflow, and not absurd"
