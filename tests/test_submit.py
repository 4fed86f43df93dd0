"""Jobs on a Ray cluster: what is refused, what is shipped, and that a submitted sweep runs."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import main
from orchestrator.cluster.submit import submit, upload_bytes
from tests.ray_cluster import Head, ray_head, ray_node
from trainers.folder import Folder
from trainers.spec import SpecError

ROOT = Path(__file__).parents[1]
SWEEP = """\
name: job
question: Does a sweep run as a Ray job?
base:
  model: {builtin: tracr-xproportion}
  task: {name: tracr}
  method: {name: random}
seeds: 2
resources: {lanes: 1}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a sweep, our code, and things that must stay at home."""
    home = tmp_path / "project"
    (home / "sweeps").mkdir(parents=True)
    (home / "sweeps" / "job.yaml").write_text(SWEEP)
    for package in ("model_patches", "trainers", "orchestrator"):
        (home / package).symlink_to(ROOT / package)
    (home / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    for name in ("runs/old/result.json", ".venv/lib/big.so", "private.db", ".git/config", "results-here/x"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("stays at home")
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize(
    ("spec", "runs", "options", "message"),
    [
        (
            "sweeps/job.yaml",
            "runs",
            [],
            r"--runs: found runs, a relative path.*allowed: an absolute path, or a URI",
        ),
        ("sweeps/none.yaml", "/runs", [], r"^sweeps/none.yaml: no such file"),
        ("../other.yaml", "/runs", [], r"outside the working directory"),
        (
            "sweeps/job.yaml",
            "s3://KEY:SECRET@bucket/runs",
            [],
            r"^s3://\*\*\*@bucket/runs: holds credentials",
        ),
        (
            "sweeps/job.yaml",
            "/runs",
            ["--tracking-uri", "http://me:pw@host"],
            r"^http://\*\*\*@host: holds cred",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    project: Path, spec: str, runs: str, options: list[str], message: str
) -> None:
    (project.parent / "other.yaml").write_text(SWEEP)
    with pytest.raises(SpecError, match=message) as refusal:
        submit(Path(spec), runs, "http://127.0.0.1:9", options)
    assert "SECRET" not in str(refusal.value) and "pw" not in str(refusal.value)


def test_plan_counts_what_a_job_would_upload(project: Path) -> None:
    before = upload_bytes()
    (project / "runs" / "more").write_bytes(bytes(5000))
    assert upload_bytes() == before > 100_000, "our own code at least"
    (project / "data.jsonl").write_bytes(bytes(5000))
    assert upload_bytes() == before + 5000
    (project / "data").mkdir()
    for name in ("data/pairs.jsonl", ".env"):
        (project / name).write_bytes(bytes(5000))
    assert upload_bytes() == before + 5000, "data and secrets stay at home"
    (project / "trainers-of-mine" / "data").mkdir(parents=True)
    (project / "trainers-of-mine" / "data" / "code.py").write_bytes(bytes(700))
    assert upload_bytes() == before + 5700


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "http://127.0.0.1:9"])
def test_a_cluster_that_is_not_there_is_named(project: Path, address: str) -> None:
    with pytest.raises(SpecError, match=f"--address: .*{address}"):
        submit(Path("sweeps/job.yaml"), "/runs", address)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as started:
        yield started


@pytest.mark.slow
def test_a_submitted_sweep_runs_and_what_belongs_at_home_stays_there(project: Path, head: Head) -> None:
    """In a process of its own, as a user has it: Ray reads the token once per process."""
    runs = Folder.open(project / "results-here")
    command = [sys.executable, "-m", "orchestrator", "submit", "sweeps/job.yaml", "--no-report"]
    command += ["--runs", runs.path, "--address", head.dashboard]
    done = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    results = [
        json.loads(runs.read(f"trials/{name}/result.json") or b"") for name in (runs / "trials").names()
    ]
    assert [result["status"] for result in results] == ["complete"] * 2
    assert "Traceback" not in said
    assert "Uploading package" not in said and "WebSocket" not in said, "Ray's own lines are for -v"
    shipped = {path.name for path in head.folder.rglob("_ray_pkg_*/*")}
    assert {"sweeps", "trainers", "orchestrator"} <= shipped
    assert not shipped & {"runs", ".venv", "private.db", ".git", "results-here"}


@pytest.mark.slow
def test_ray_job_submit_itself_works(project: Path, head: Head) -> None:
    """The command of the README, word for word; a relative runs folder is refused with the reason."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", f"--address={head.dashboard}"]
    command += [
        "--working-dir",
        ".",
        "--",
        "python",
        "-m",
        "orchestrator",
        "run",
        "sweeps/job.yaml",
        "--no-report",
    ]
    for runs, succeeds in ((str(project / "results-here"), True), ("runs", False)):
        done = subprocess.run(
            [*command, "--runs", runs], env=head.environment, capture_output=True, text=True, timeout=300
        )
        said = done.stdout + done.stderr
        assert (done.returncode == 0) == succeeds, said
        assert succeeds or "--runs: found runs, a relative path inside a Ray job" in said


@pytest.mark.slow
def test_a_driver_outside_joins_the_cluster(project: Path, head: Head) -> None:
    command = [
        sys.executable,
        "-m",
        "orchestrator",
        "run",
        "sweeps/job.yaml",
        "--runs",
        "here",
        "--no-report",
    ]
    done = subprocess.run(
        [*command, "--address", head.address],
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((project / "here" / "trials").glob("*/result.json"))) == 2


@pytest.mark.slow
def test_a_job_runs_on_several_nodes(project: Path, head: Head) -> None:
    """Each node unpacks the working directory for itself; the driver's stays as it is."""
    spread = "{ranks: 2, placement: STRICT_SPREAD, custom_per_rank: {far: 1}}"
    (project / "sweeps" / "job.yaml").write_text(SWEEP.replace("{lanes: 1}", spread))
    command = [sys.executable, "-m", "orchestrator", "submit", "sweeps/job.yaml", "--no-report"]
    command += ["--runs", str(project / "results-here"), "--address", head.dashboard]
    far = {"far": 1.0}
    with ray_node(head, "127.0.0.3", resources=far), ray_node(head, "127.0.0.4", resources=far):
        done = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((project / "results-here" / "trials").glob("*/result.json"))) == 2


def test_options_of_run_reach_the_job(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All switches that `run` and `submit` share."""
    sent: dict[str, Any] = {}

    def send(spec: Path, runs: str, address: str, options: Sequence[str], **others: Any) -> int:
        sent.update(options=list(options), **others)
        return 0

    monkeypatch.setattr("orchestrator.cluster.submit.submit", send)
    switches = ["-v", "--wait", "--smoke", "--retry-failed", "--no-report", "--max-hours", "2"]
    with pytest.raises(SystemExit) as ended:
        main(["submit", "sweeps/job.yaml", "--runs", "/runs", "--no-wait", *switches], standalone_mode=False)
    assert ended.value.code == 0 and sent["verbose"] and not sent["wait"]
    asked = {"--verbose", "--wait", "--smoke", "--retry-failed", "--no-report", "--max-hours"}
    assert asked <= set(sent["options"]) and "2.0" in sent["options"]
