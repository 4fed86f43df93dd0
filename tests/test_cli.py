"""The command line: output, exit codes, and one clear message for every mistake. No Ray here."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from orchestrator import drive
from orchestrator.cli.main import main
from orchestrator.lease import Lease
from orchestrator.planning.plan import Plan, plan
from orchestrator.sweep import SweepSpec
from tests.run_folders import point
from trainers.folder import Folder
from trainers.result import Group, TrialResult

ROOT = Path(__file__).parent.parent
SPEC = """name: q
question: Is it?
base:
  model: {builtin: tracr-xproportion}
  task: {name: tracr}
  method: {name: edge_pruning}
vary: {method.target_sparsity: [0.5, 0.9]}
seeds: 2
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", drive.JOB_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "q.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for Ray: every missing trial ends at once. Holds the trial ids of each launch."""
    launches: list[list[str]] = []

    def launch(planned: Plan, runs: Folder, request: drive.Request, tracking_uri: str, say: object) -> None:
        launches.append([trial.trial_id for trial in planned.missing])
        for trial in planned.missing:
            finish(runs, trial.trial_id, trial.spec.plain(), trial.spec.seed)

    monkeypatch.setattr(drive, "_launch", launch)
    return launches


def finish(runs: Folder, trial_id: str, spec: dict[str, object], seed: int, error: str | None = None) -> None:
    group = Group(
        model="m", task="t", test_set="s", ablation="zero", edge_convention="maskable", method="edge pruning"
    )
    result = TrialResult(
        trial_id=trial_id, status="failed" if error else "complete", error=error, spec=spec, seed=seed,
        group=None if error else group, divergence="kl", num_edges_total=94,
        points=[] if error else [point(0, 7, 0.001)], empty={"validation": {"kl": 2.0}, "test": {"kl": 2.0}},
    )  # fmt: skip
    (runs / "trials" / trial_id).write("result.json", result.model_dump_json().encode())


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: object, code: int = 2) -> str:
    """The one message on stderr."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: ")
    return result.stderr.removeprefix("Error: ").rstrip("\n")


def test_every_command_has_help_with_an_example() -> None:
    assert "Exit codes:" in call("--help").stdout
    assert isinstance(main, click.Group)
    assert set(main.commands) >= {"plan", "run", "status", "report", "track", "submit"}
    for words in every_command(main):
        result = call(*words, "--help")
        assert result.exit_code == 0
        assert " ".join(("circuit-sweep", *words)) in re.split("Examples?:", result.stdout)[1]


def every_command(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*above, name))


def test_python_m_orchestrator_is_the_same_command() -> None:
    command = [sys.executable, "-m", "orchestrator", "plan", "nowhere.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "Error: nowhere.yaml: no such file.\n"


def test_plan_shows_trials_cost_and_what_is_done(spec: Path) -> None:
    text = call("plan", spec).stdout
    assert "q: Is it?" in text and "method.target_sparsity=0.5 seed=1" in text
    assert "trials    4 (4 edge_pruning): 4 waiting" in text
    assert f"points    {4 * 41} at most" in text
    assert "time      about" in text and "guessed from the model's size" in text and "GiB per rank" in text
    assert f"Next: circuit-sweep run {spec} --runs runs" in text
    assert not Path("runs").exists(), "a plan changes nothing"
    told = json.loads(call("plan", spec, "--json").stdout)
    trial = told["trials"][0]
    finish(Folder.open("runs"), trial["trial_id"], trial["spec"], trial["spec"]["seed"])
    assert "trials    4 (4 edge_pruning): 1 complete, 3 waiting" in call("plan", spec).stdout
    told = json.loads(call("plan", spec, "--json").stdout)
    assert told["counts"]["complete"] == 1 and told["missing"] == 3
    assert told["estimate"]["basis"] == ["measured"]


def test_run_runs_what_is_missing_and_only_that(spec: Path, launched: list[list[str]]) -> None:
    first = call("run", spec)
    assert first.exit_code == 0, first.output
    assert len(launched[0]) == 4
    assert "q: 4 trials ran in" in first.stdout and "now 4 complete" in first.stdout
    runs = Path("runs").resolve()
    assert f"Report: {runs}/q/report/report.html" in first.stdout
    assert (
        f"MLflow: mlflow ui --backend-store-uri sqlite:///{runs}/mlflow.db --host 127.0.0.1" in first.stdout
    )
    assert (runs / "q/report/report.html").stat().st_size > 1000
    assert json.loads((runs / "q/trials.json").read_text()) == launched[0]
    assert SweepSpec.load(runs / "q/sweep.yaml") == SweepSpec.load(spec)
    assert not (runs / "q/lease.json").exists()
    second = call("run", spec)
    assert second.exit_code == 0 and len(launched) == 1
    assert "q: nothing to do; now 4 complete" in second.stdout
    spec.write_text(SPEC.replace("[0.5, 0.9]", "[0.5, 0.9, 0.95]"))
    call("run", spec, "--no-report")
    assert len(launched[1]) == 2 and not set(launched[1]) & set(launched[0])


def test_run_prints_json_for_scripts(spec: Path, launched: list[list[str]]) -> None:
    told = json.loads(call("run", spec, "--json", "--no-report").stdout)
    assert told["exit_code"] == 0 and told["ran"] == 4 and told["counts"]["complete"] == 4
    assert told["report"] is None and told["failed"] == []


def test_rerun_runs_again_and_keeps_the_old_result(spec: Path, launched: list[list[str]]) -> None:
    call("run", spec, "--no-report")
    again = call("run", spec, "--no-report", "--rerun", launched[0][2])
    assert again.exit_code == 0 and launched[1] == [launched[0][2]]
    assert "moved aside: " in again.stderr and "result.json.replaced-1" in again.stderr
    assert call("run", spec, "--no-report", "--rerun", "all").exit_code == 0
    assert launched[2] == launched[0]
    assert "--rerun: found nothere. Allowed: all, or a trial id" in refused("run", spec, "--rerun", "nothere")


def test_failed_trials_give_exit_code_1_and_run_again_when_asked(
    spec: Path, launched: list[list[str]]
) -> None:
    planned = plan(SweepSpec.load(spec), Folder.open("runs"))
    bad = planned.trials[1]
    finish(Folder.open("runs"), bad.trial_id, bad.spec.plain(), 0, error="Traceback\nValueError: NaN loss")
    result = call("run", spec, "--no-report")
    assert result.exit_code == 1 and bad.trial_id not in launched[0]
    assert f"failed {bad.trial_id}: ValueError: NaN loss" in result.stdout
    assert "--retry-failed" in result.stdout
    assert call("run", spec, "--no-report", "--retry-failed").exit_code == 0
    assert launched[1] == [bad.trial_id]


def test_a_corrupt_result_is_told_moved_aside_and_run_again(spec: Path, launched: list[list[str]]) -> None:
    call("run", spec, "--no-report")
    file = Path("runs/trials") / launched[0][0] / "result.json"
    file.write_text(file.read_text()[:-20])
    assert f"problem   trials/{launched[0][0]}/result.json: not a result" in call("plan", spec).stdout
    again = call("run", spec, "--no-report")
    assert again.exit_code == 0 and launched[1] == [launched[0][0]]
    assert f"moved aside: {file.resolve()}.corrupt-1" in again.stderr


def test_the_second_driver_gets_exit_code_3_and_changes_nothing(
    spec: Path, launched: list[list[str]]
) -> None:
    with Lease.acquire(Folder.open("runs/q"), "q") as lease:
        message = refused("run", spec, code=3)
    assert message.startswith(f"sweep q is being run by process {os.getpid()} on {lease.holder.host} since ")
    assert launched == [] and os.listdir("runs/q") == []


def test_a_driver_that_was_replaced_stops_with_exit_code_3(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(planned: Plan, runs: Folder, request: drive.Request, tracking_uri: str, say: object) -> None:
        held[0].lost = "lease.json was taken over by far-away (process 7)"

    held: list[Lease] = []
    acquire = Lease.acquire
    monkeypatch.setattr(
        Lease, "acquire", lambda *given, **options: held.append(acquire(*given, **options)) or held[0]
    )
    monkeypatch.setattr(drive, "_launch", lose)
    assert "this driver stopped: lease.json was taken over by far-away" in refused("run", spec, code=3)


def test_ctrl_c_gives_exit_code_130(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "_launch", interrupt)
    result = call("run", spec)
    assert result.exit_code == 130 and "goes on from here" in result.stderr
    assert not Path("runs/q/lease.json").exists()


def test_status_shows_states_and_failures(spec: Path, launched: list[list[str]]) -> None:
    call("run", spec, "--no-report")
    assert "q: 4 trials: 4 complete\nno driver\n" in call("status").stdout
    (sweep,) = json.loads(call("status", "runs", "--json").stdout)
    assert sweep["name"] == "q" and sweep["counts"]["complete"] == 4 and len(sweep["trials"]) == 4
    assert "no sweep there" in refused("status", "nowhere")
    assert "--sweep: found p. Did you mean" not in refused("status", "runs", "--sweep", "p")


def test_a_disk_that_fails_is_told(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Folder) -> list[str]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Folder, "names", fail)
    assert refused("status", "runs") == "OSError: [Errno 5] Input/output error"


def test_a_working_directory_that_is_gone_is_told(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert refused("status", "runs") == "the working directory has been deleted; change to one that is there"


def test_report_is_written_where_asked(spec: Path, launched: list[list[str]]) -> None:
    call("run", spec, "--no-report")
    told = json.loads(call("report", "runs", "--out", "r", "--json").stdout)
    assert told["report"] == str(Path("r").resolve())
    assert {"report.html", "pareto.png", "pareto.pdf", "pareto.csv", "trials.parquet"} <= set(told["files"])
    assert "report.html" in call("report", "runs/q").stdout
    assert Path("runs/q/report/report.html").exists()
    assert refused("report", "runs", "runs/q").startswith("--out: required")
    refused("report", "nowhere")


BAD_RUNS: dict[str, tuple[Sequence[str], str]] = {
    "a file in the way": (["--runs", "q.yaml/runs"], "cannot be written: "),
    "no such scheme": (["--runs", "foo://x/y"], "--runs: foo://x/y: not a folder or URI that can be opened"),
    "a scheme without slashes": (
        ["--runs", "s3:/bucket"],
        "--runs: found s3:/bucket; allowed: a folder, or a URI",
    ),
}


@pytest.mark.parametrize("mistake", BAD_RUNS)
def test_a_runs_folder_that_cannot_be_used_is_told(
    mistake: str, spec: Path, launched: list[list[str]]
) -> None:
    arguments, expected = BAD_RUNS[mistake]
    assert expected in refused("run", spec, *arguments)
    assert launched == []


def test_no_write_permission_is_told() -> None:
    """In a process that gave up root's rights: root may write anywhere."""
    program = (
        "import os, sys\n"
        "from orchestrator.drive import SpecError, open_runs\n"
        "if os.getuid() == 0: os.setgid(65534), os.setuid(65534)\n"
        "try: open_runs(sys.argv[1])\n"
        "except SpecError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        command = [sys.executable, "-c", program, f"{folder}/runs"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"--runs: {folder}/runs cannot be written: Permission denied\n", done.stderr


def test_a_full_disk_is_told(spec: Path, launched: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "MIN_FREE_BYTES", 2**62)
    assert "MiB of free disk space; allowed: at least" in refused("run", spec)
    assert launched == []


def test_a_disk_that_fills_up_before_the_start_is_told(
    spec: Path, launched: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Folder.write

    def full(folder: Folder, name: str, content: bytes) -> None:
        if name == "trials.json":
            raise OSError(28, "No space left on device")
        write(folder, name, content)

    monkeypatch.setattr(Folder, "write", full)
    assert "cannot be written: No space left on device" in refused("run", spec)
    assert launched == [] and not Path("runs/q/lease.json").exists()


def test_inside_a_ray_job_a_relative_runs_folder_is_refused(
    spec: Path, launched: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(drive.JOB_VARIABLE, "{}")
    assert "--runs: found runs, a relative path inside a Ray job" in refused("run", spec)
    assert launched == []
    assert call("run", spec, "--no-report", "--runs", Path("runs").resolve()).exit_code == 0


def test_a_run_on_a_uri_needs_a_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import fs

    from trainers.spec import SpecError

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    bucket = Folder(fs.SubTreeFileSystem("/x", fs.LocalFileSystem()), "bucket", "s3://bucket")
    with pytest.raises(SpecError, match=r"--tracking-uri: required \(or MLFLOW_TRACKING_URI\)"):
        drive.tracking_uri_for(bucket, None)
    assert drive.tracking_uri_for(bucket, "http://x") == "http://x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://y")
    assert drive.tracking_uri_for(bucket, None) == "http://y"


def test_a_password_in_a_tracking_uri_is_not_printed(spec: Path, launched: list[list[str]]) -> None:
    uri = "http://user:secret@127.0.0.1:5000"
    result = call("run", spec, "--no-report", "--tracking-uri", uri)
    assert "MLflow: http://***@127.0.0.1:5000" in result.stdout and "secret" not in result.output


def test_a_mistake_in_the_spec_comes_before_anything_is_written(spec: Path) -> None:
    spec.write_text(SPEC.replace("target_sparsity: [0.5", "target_sparsity: [5"))
    for command in ("plan", "run"):
        message = refused(command, spec)
        assert (
            "q.yaml:7: vary.method.target_sparsity[0]: found 5; allowed: less than or equal to 2" in message
        )
    assert not Path("runs").exists()


def test_submit_checks_the_spec_before_the_cluster(spec: Path) -> None:
    submit = ("submit", spec, "--address", "http://127.0.0.1:9")
    assert "allowed: an absolute path, or a URI" in refused(*submit, "--runs", "runs")
    spec.write_text(SPEC.replace("edge_pruning", "edge_prunning"))
    assert "Did you mean 'edge_pruning'?" in refused(*submit, "--runs", "/shared/runs")


def test_submit_takes_models_that_are_on_the_cluster_only(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import orchestrator.cluster.submit

    sent: list[object] = []

    def send(*given: object, **options: object) -> int:
        sent.extend([*given, options["wait"]])
        return 7

    monkeypatch.setattr(orchestrator.cluster.submit, "submit", send)
    text = SPEC.replace("{builtin: tracr-xproportion}", "{path: /only/on/the/cluster}")
    spec.write_text(text.replace("{name: tracr}", "{name: induction}"))
    options = ["--tracking-uri", "http://x", "--rerun", "all", "--rerun", "abc"]
    options += ["--retry-failed", "--no-report", "--max-hours", "1.5"]
    result = call("submit", spec, "--runs", "s3://b/r", "--no-wait", *options)
    assert result.exit_code == 7, result.output
    assert sent == [spec, "s3://b/r", "http://127.0.0.1:8265", options, False]


def test_mistakes_in_the_command_are_told() -> None:
    for arguments in (
        ["frobnicate"],
        ["run"],
        ["run", "x.yaml", "--max-hours", "-1"],
        ["plan", "x", "--lr", "1"],
    ):
        result = call(*arguments)
        assert result.exit_code == 2 and "Error: " in result.stderr and result.stdout == ""
