"""What a run that was stopped says at its end."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator import drive
from orchestrator.cli.main import main
from orchestrator.cluster.launch import Outcome
from orchestrator.yaml_source import write_yaml
from tests.test_objectives import SWEEP
from trainers.folder import Folder
from trainers.spec import SpecError


@pytest.mark.parametrize(
    ("stopped", "exit_code", "told"),
    [("interrupted", 130, "interrupted"), ("max_hours", 1, "stopped by --max-hours")],
)
def test_a_stopped_run_says_so_and_how_to_go_on(
    stopped: str, exit_code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(0, 0, 0, unfinished=1, seconds=3.0, stopped=stopped)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(drive, "_launch", lambda *_: outcome)
    (tmp_path / "q.yaml").write_text(write_yaml(SWEEP))
    result = CliRunner().invoke(
        main, ["run", str(tmp_path / "q.yaml"), "--runs", str(tmp_path / "runs"), "--no-report"]
    )
    assert result.exit_code == exit_code
    assert f"q: {told}; 0 trials ended in 3.0 s; now 1 waiting" in result.stdout
    assert "1 trial missing; run the same command again to go on" in result.stdout


def test_a_plan_that_leaves_trials_out_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, but an edited spec of the same name no longer shows what it found."""
    runs = Folder.open(tmp_path / "runs")
    said: list[str] = []
    monkeypatch.setattr(drive, "_launch", lambda *_: None)
    for seeds in (2, 2, 1):
        (tmp_path / "q.yaml").write_text(write_yaml(SWEEP | {"seeds": seeds}))
        drive.drive(drive.Request(tmp_path / "q.yaml", str(runs.path), report=False), said.append)
        for trial_id in json.loads(runs.read("q/trials.json") or b""):
            runs.write(f"trials/{trial_id}/spec.json", b"{}")
    assert said == ["in the earlier plan of q only: 1 trial; what it found stays"]


def test_a_file_as_runs_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="--runs: .*file is a file; allowed: a folder, or a URI"):
        drive.open_runs(str(tmp_path / "file"))
