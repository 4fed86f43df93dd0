"""What a run prints: one readable line per event, and with -v all that Ray and the libraries say, too."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray_cluster import ray_environment

pytestmark = pytest.mark.slow
METHOD = {"name": "edge_pruning", "steps": 5, "target_sparsity": 0.5}
BASE = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "ablation": "zero"}
SWEEP = {"name": "logs", "question": "Is it quiet?", "base": BASE | {"method": METHOD}}
EVENT = re.compile(r"\d\d:\d\d:\d\d \S")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with ray_environment() as variables:
        yield variables


def run(folder: Path, environment: dict[str, str], *options: str) -> tuple[list[str], str]:
    """The lines that the driver printed while it ran, and the log of the trial's rank."""
    spec = folder / "sweep.yaml"
    spec.write_text(json.dumps(SWEEP))
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(folder / "runs")]
    done = subprocess.run(
        [*command, "--no-report", *options], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (folder / "runs").glob("trials/*/rank-0.log")
    return (done.stderr + done.stdout).splitlines(), log.read_text()


def test_a_run_prints_one_line_per_event_and_its_ranks_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    lines, log = run(tmp_path, environment)
    events = [line for line in lines if EVENT.match(line)]
    assert [line for line in events if "✓ 1/1" in line]
    summary = lines[len(events) :]
    assert summary[0].startswith("logs: 1 trial ran in"), lines
    assert len(summary) == 2 and summary[1].startswith("MLflow: "), lines
    assert log == "", "neither deprecations nor news"


def test_verbose_shows_what_libraries_say_and_keeps_it_in_the_trials_folder(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    lines, log = run(tmp_path, environment, "-v")
    for said in ("DeepSpeed Final Optimizer", "FutureWarning"):
        assert said in log
        assert any(said in line and "Rank pid=" in line for line in lines), f"Ray passes it on: {said}"
    assert any("Started a local Ray instance" in line for line in lines)
