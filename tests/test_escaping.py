"""What we write of hostile names: on the terminal, in the report, for spreadsheets and for MLflow."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli.main import main
from orchestrator.records.trial_result import read_result
from orchestrator.tracking.values import files, params, run_name, tags
from orchestrator.wording import printable
from tests.run_folders import GROUP, Runs, point, small_sweep, trial

LONG = "x" * 10_000
HOSTILE = f"=cmd()<script>alert(1)</script>/../../\n\x1b[31m$\\frac$ {LONG}"


def hostile_runs(path: Path) -> Runs:
    """Names with markup, ways out, line ends, terminal controls, formulas and 10 kB."""
    runs = small_sweep(path)
    group = {name: HOSTILE for name in type(GROUP).model_fields}
    wild = trial(
        "wild", 0, [point(0, 3, 0.1)], group=group, error=None, warnings=[HOSTILE],
        spec={"model": {"path": HOSTILE}, "task": {"name": HOSTILE}, "method": {HOSTILE: HOSTILE}, "seed": 0},
        versions={HOSTILE: HOSTILE}, execution={HOSTILE: HOSTILE, "code": HOSTILE},
    )  # fmt: skip
    runs.trial(wild, edges={0: [(HOSTILE, HOSTILE)]})
    runs.trial(trial("sad", 1, [], status="failed", error=HOSTILE))
    runs.sweep("wild", ["wild", "sad"], question=HOSTILE.replace("\x1b", ""))
    return runs


def test_the_terminal_gets_no_control_characters(tmp_path: Path) -> None:
    runs = hostile_runs(tmp_path / "runs")
    for command in (
        ["status", str(runs.path)],
        ["status", str(runs.path), "--json"],
        ["circuit", "show", "wild", "--runs", str(runs.path)],
        ["circuit", "show", "sad", "--runs", str(runs.path)],
    ):
        told = CliRunner().invoke(main, command)
        assert "\x1b" not in told.output and "Traceback" not in told.output, command
        assert told.exit_code in (0, 2), told.output
    assert printable("a\x1b[2J\r\x07\u202eb\n\tc") == "a\\x1b[2J\\r\\x07\\u202eb\n\tc"


@pytest.mark.slow
def test_the_report_of_hostile_names(tmp_path: Path) -> None:
    runs = hostile_runs(tmp_path / "runs")
    told = CliRunner().invoke(main, ["report", str(runs.path), "--out", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    written = sorted(path for path in tmp_path.rglob("*") if path.is_file() and runs.path not in path.parents)
    assert all((tmp_path / "out") in path.parents for path in written), "nothing outside the report's folder"
    page = (tmp_path / "out/report.html").read_text()
    assert "<script>alert" not in page and "<\\/script>" not in page.replace("\\u003c", "<").partition("<")[0]
    for file in (tmp_path / "out").rglob("*.csv"):
        with file.open(newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not any(cell.startswith(("=", "+", "@")) for cell in cells), f"{file.name} holds a formula"
    for file in (tmp_path / "out").rglob("*.tex"):
        assert "\\input" not in file.read_text() and "\\write18" not in file.read_text()


def test_mlflow_takes_hostile_names(tmp_path: Path) -> None:
    """As its own checks of names say, and without a way out of the folder of artifacts."""
    from mlflow.utils.validation import _validate_param_name, _validate_tag_name

    runs = hostile_runs(tmp_path / "runs")
    home = runs.folder / "trials" / "wild"
    result, _ = read_result(home)
    assert result is not None
    for name in ["..", "../x", "/x", "a/../b", "a//b", ".", "", "a/", *params(result.spec)]:
        (clean,) = params({name: 1}) if name not in params(result.spec) else (name,)
        _validate_param_name(clean)
    for name, value in tags(result).items():
        _validate_tag_name(name)
        assert len(value) <= 5000
    assert "\n" not in run_name(result.spec, "wild") and len(run_name(result.spec, "wild")) <= 250
    assert all("/" not in name and ".." not in name for name, _ in files(home, result, 1e-3))
