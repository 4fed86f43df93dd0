"""What the commands load: planning needs no tensor library, no Ray and no MLflow: it answers at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import write_yaml
from tests.run_folders import Runs, point, trial
from tests.tiny_models import save_tiny

HEAVY = (
    "torch",
    "transformers",
    "deepspeed",
    "ray",
    "mlflow",
    "optuna",
    "datasets",
    "pandas",
    "matplotlib",
    "plotly",
)
SWEEP = {
    "name": "q",
    "question": "is it?",
    "base": {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "ablation": "zero"},
    "vary": {"method": [{"name": "edge_pruning", "target_sparsity": 0.9}, {"name": "eap"}, {"name": "acdc"}]},
}
RUN = """
import json, sys
from orchestrator.cli.main import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""


def loaded_by(*arguments: str) -> list[str]:
    """The heavy packages that a command in a fresh process loads."""
    command = [sys.executable, "-c", RUN, json.dumps(arguments), json.dumps(HEAVY)]
    return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "q.yaml"
    path.write_text(write_yaml(SWEEP))
    return path


@pytest.mark.parametrize(
    "arguments", [("--help",), ("plan", "--help"), ("run", "--help"), ("status", "--help")]
)
def test_help(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments) == []


def test_a_plan(spec: Path, tmp_path: Path) -> None:
    assert loaded_by("plan", str(spec), "--runs", str(tmp_path / "runs")) == []


def test_a_plan_for_a_language_model(tmp_path: Path) -> None:
    """Its tokenizer is looked for, not loaded; its config and the headers of its weights are read."""
    model = save_tiny("gpt2", tmp_path / "tiny")
    (model / "tokenizer.json").write_text("{}")
    base = {"model": {"path": str(model)}, "task": {"name": "ioi"}}
    path = tmp_path / "q.yaml"
    path.write_text(write_yaml(SWEEP | {"base": base}))
    assert loaded_by("plan", str(path), "--runs", str(tmp_path / "runs")) == []


def test_a_run_with_nothing_to_do(spec: Path, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    for trial_id, planned in SweepSpec.load(spec).trials_by_id().items():
        runs.trial(trial(trial_id, planned.seed, [point(0, 3, 0.0)], spec=planned.plain()))
    asked = (str(spec), "--runs", str(runs.path))
    assert loaded_by("run", *asked, "--no-report") == []
    assert loaded_by("status", str(runs.path)) == []


def test_the_plan_of_a_search(tmp_path: Path) -> None:
    """What is asked first needs no Optuna."""
    search = {"space": {"method.gate_lr": {"log": [0.01, 1]}}, "trials": 12}
    method = {"name": "edge_pruning", "target_sparsity": 0.9}
    path = tmp_path / "q.yaml"
    path.write_text(write_yaml({**SWEEP, "vary": [{"set": {"method": method}}], "search": search}))
    assert loaded_by("plan", str(path), "--runs", str(tmp_path / "runs")) == []
