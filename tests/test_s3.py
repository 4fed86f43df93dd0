"""The runs folder on S3: every promise of a local one, against a real S3 API server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from click.testing import CliRunner

import trainers.folder
from orchestrator.attempt import Attempt, Owner
from orchestrator.cli.main import main
from orchestrator.lease import Lease, LeaseHeld
from orchestrator.records.results import Results
from tests.ray_cluster import ray_environment
from tests.run_folders import small_sweep
from tests.s3_server import S3, s3_server
from trainers.checkpoint import Checkpoints
from trainers.distributed import Ranks
from trainers.folder import Folder
from trainers.spec import SpecError

ROOT = Path(__file__).parents[1]
SWEEP = """\
name: stored
question: Do circuits depend on where they are kept?
base:
  model: {builtin: tracr-reverse}
  task: {name: tracr}
vary:
  - grid: {method: [{name: random, edge_budgets: [5, 20]}, {name: eap, edge_budgets: [5, 20]}]}
  - set: {method: {name: edge_pruning, target_sparsity: 0.9, steps: 150}}
seeds: 2
resources: {lanes: 1, checkpoint_seconds: 0.1}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as started:
        yield started


@pytest.fixture
def uri(server: S3, request: pytest.FixtureRequest) -> str:
    """A runs folder in a bucket of the test's own."""
    bucket = "".join(c for c in request.node.name.lower().replace("_", "-") if c.isalnum() or c == "-")[:60]
    server.make_bucket(bucket.strip("-"))
    return server.uri(f"{bucket.strip('-')}/runs")


def test_whole_files_by_name(uri: str) -> None:
    folder = Folder.open(uri)
    assert folder.names() == [] and folder.read("a") is None and not folder.exists("a")
    folder.write("trials/x/result.json", b"old")
    folder.write("trials/x/result.json", b"new")
    assert folder.read("trials/x/result.json") == b"new"
    assert (folder / "trials").names() == ["x"] and (folder / "trials").exists("x")
    folder.append("trials/x/progress.jsonl", b"one\n")
    folder.append("trials/x/progress.jsonl", b"two\n")
    assert folder.read("trials/x/progress.jsonl") == b"one\ntwo\n"
    (folder / "trials" / "x").rename("result.json", "result.json.corrupt-1")
    assert (folder / "trials" / "x").names() == ["progress.jsonl", "result.json.corrupt-1"]
    (folder / "trials").delete("x")
    (folder / "trials").delete("x")
    assert (folder / "trials").names() == []
    assert Folder.open((folder / "trials" / "x").location) == folder / "trials" / "x"


def test_the_folder_above_keeps_the_endpoint(server: S3) -> None:
    slashes = f"s3://bucket/runs/one?endpoint_override=http://{server.endpoint}&region=us-east-1"
    assert Folder.open(slashes).parent.location == slashes.replace("/runs/one", "/runs")
    assert Folder.open(slashes).parent.path == "bucket/runs"


def test_a_reader_sees_the_old_content_or_the_new(uri: str) -> None:
    """Also of a file that is uploaded in parts."""
    folder, size = Folder.open(uri), 12 * 2**20
    contents = {bytes([letter]) * size for letter in b"ab"}
    folder.write("f", b"a" * size)
    over = threading.Event()

    def write() -> None:
        for _ in range(3):
            for content in contents:
                folder.write("f", content)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not over.is_set():
        seen.add(folder.read("f"))
    writer.join()
    assert seen <= contents and len(seen) > 0


def test_a_writer_that_is_killed_leaves_the_old_file(uri: str, tmp_path: Path) -> None:
    """kill -9 while a large file goes up in parts: nobody ever reads a part of it."""
    folder = Folder.open(uri)
    folder.write("big", b"old")
    script = (
        "import sys; from trainers.folder import Folder\n"
        "f = Folder.open(sys.argv[1]); print('ready', flush=True); f.write('big', bytes(200 * 2**20))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, uri], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.15)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was killed before it was done"
    assert folder.read("big") == b"old"


def test_of_many_creators_one_wins(uri: str) -> None:
    start = threading.Barrier(4)
    won: list[int] = []

    def create(number: int) -> None:
        folder = Folder.open(uri)
        start.wait()
        if folder.create("lease", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = Folder.open(uri)
    assert len(won) == 1 and folder.read("lease") == str(won[0]).encode()
    assert [i.base_name for i in folder.filesystem.get_file_info(_inside(folder))] == ["lease"]


def test_a_dead_creators_claim_holds_nobody_up(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder.open(uri)
    folder.write(f"lease.{'0' * 32}{trainers.folder.CLAIM}", b"claimed\n")
    assert folder.names() == [], "a claim is no file of anybody's"
    monkeypatch.setattr(trainers.folder, "CLAIM_SECONDS", 2.0)
    assert folder.create("lease", b"mine") and folder.read("lease") == b"mine"


def test_one_driver_holds_the_lease(uri: str) -> None:
    home = Folder.open(uri) / "sweep"
    with Lease.acquire(home, "sweep", lambda: None, beat_seconds=0.2) as lease:
        with pytest.raises(LeaseHeld, match="is being run by process"):
            Lease.acquire(home, "sweep", lambda: None, beat_seconds=0.2)
        time.sleep(0.6)
        assert not lease.lost
    assert home.names() == []


def test_attempts_are_counted(uri: str) -> None:
    trial, owner = Folder.open(uri) / "trials" / "x", Owner(sweep="s", host="h", pid=1)
    assert [Attempt.begin(trial, {"seed": 0}, owner).attempt for _ in range(3)] == [1, 2, 3]
    assert json.loads(trial.read("spec.json") or b"") == {"seed": 0}


def test_checkpoints_go_on_and_are_cleaned(uri: str) -> None:
    ranks = Ranks(0, 1, torch.device("cpu"))
    folder = Folder.open(uri) / "trials" / "x" / "checkpoint"
    checkpoints = Checkpoints(folder, ranks, 0.0, lambda: None)
    for step in (10, 20, 30):
        checkpoints.save(step, {"gates": torch.full((3,), float(step))})
    assert folder.names() == ["step-000000020.safetensors", "step-000000030.safetensors"]
    content = folder.read("step-000000030.safetensors") or b""
    folder.write("step-000000030.safetensors", content[:-5])
    step, state = checkpoints.latest() or (0, {})
    assert step == 20 and state["gates"].tolist() == [20.0] * 3 and "moved aside" in checkpoints.warnings[0]
    checkpoints.clear()
    assert folder.names() == ["step-000000030.safetensors.corrupt"]


def test_credentials_come_from_the_environment_alone(server: S3) -> None:
    for text in (
        f"s3://key:CANARY@bucket/runs?endpoint_override={server.endpoint}",
        "s3://bucket/runs?secret_key=CANARY",
        "s3://bucket/runs?region=us-east-1&session_token=CANARY",
    ):
        with pytest.raises(SpecError, match="environment variables") as caught:
            Folder.open(text)
        assert "CANARY" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_one_message(server: S3) -> None:
    result = CliRunner().invoke(main, ["status", server.uri("no-such-bucket/runs")])
    assert result.exit_code == 2 and result.output.startswith("Error: ") and "Traceback" not in result.output


def test_what_is_read_from_s3_is_what_is_on_disk(uri: str, tmp_path: Path) -> None:
    runs = small_sweep(tmp_path / "runs")
    target = Folder.open(uri)
    for file in sorted(path for path in runs.path.rglob("*") if path.is_file()):
        target.write(file.relative_to(runs.path).as_posix(), file.read_bytes())
    told = CliRunner().invoke(main, ["status", uri, "--json"])
    here = CliRunner().invoke(main, ["status", str(runs.path), "--json"])
    ((away,), (home,)) = json.loads(told.stdout), json.loads(here.stdout)
    assert told.exit_code == here.exit_code and away.pop("location") != home.pop("location")
    assert away == home
    stored, local = Results.load(uri), Results.load(runs.path)
    assert stored.trials.equals(local.trials) and stored.points.equals(local.points)


def _inside(folder: Folder) -> Any:
    from pyarrow import fs

    return fs.FileSelector(folder.path, recursive=True)


@pytest.mark.slow
def test_a_sweep_on_s3_is_a_sweep_on_disk(uri: str, tmp_path: Path) -> None:
    """One on disk, undisturbed; one on S3, whose driver is killed midway and started again."""
    spec = tmp_path / "stored.yaml"
    spec.write_text(SWEEP)
    with ray_environment() as environment:
        disk = str(tmp_path / "disk")
        run = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs"]
        subprocess.run([*run, disk], env=environment, check=True, timeout=280)
        stored = [*run, uri, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        _killed_after_the_first_result(stored, Folder.open(uri), environment)
        half = _results(Folder.open(uri))
        assert 0 < len(half) < 5, "the driver was killed midway"
        again = subprocess.run(stored, env=environment, capture_output=True, text=True, timeout=280)
        assert again.returncode == 0, again.stderr
    ours, theirs = _results(Folder.open(uri)), _results(Folder.open(disk))
    assert ours.keys() == theirs.keys() and len(ours) == 5
    for trial_id, result in ours.items():
        assert result["points"] == theirs[trial_id]["points"] and result["status"] == "complete"
        for point in result["points"]:
            files = [(Folder.open(at) / "trials" / trial_id).read(point["circuit"]) for at in (uri, disk)]
            assert files[0] is not None and files[0] == files[1], "bit for bit"
        assert not (Folder.open(uri) / "trials" / trial_id / "checkpoint").names()
    for trial_id, result in half.items():
        assert ours[trial_id] == result, "a complete trial is not run again"
    _commands_on(uri, spec, next(iter(ours)))
    shutil.rmtree(tmp_path / "disk")


def _killed_after_the_first_result(command: list[str], runs: Folder, environment: dict[str, str]) -> None:
    log = Path(environment["RAY_TMPDIR"]) / "driver.log"
    with log.open("wb") as output:
        driver = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 200
    while not _results(runs):
        assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    driver.kill()
    driver.wait()
    for process in family:  # how Ray's own processes end is not asked here
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)


def _results(runs: Folder) -> dict[str, dict[str, Any]]:
    contents = {trial: (runs / "trials" / trial).read("result.json") for trial in (runs / "trials").names()}
    return {trial: json.loads(content) for trial, content in contents.items() if content}


def _commands_on(uri: str, spec: Path, trial_id: str) -> None:
    runs = Folder.open(uri)
    assert {"report.html", "points.parquet"} <= set((runs / "stored" / "report").names())
    for command in (
        ["status", uri],
        ["plan", str(spec), "--runs", uri],
        ["circuit", "show", trial_id, "--runs", uri],
    ):
        told = CliRunner().invoke(main, command)
        assert told.exit_code == 0, f"{command}: {told.output}"
