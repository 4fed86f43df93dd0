"""Who is let in, and who hears of secrets: nobody."""

import ast
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.ray_cluster import free_ports, ray_environment

ROOT = Path(__file__).parents[1]


def test_ranks_on_one_host_listen_on_loopback_alone() -> None:
    (port,) = free_ports("127.0.0.1", 1)
    script = (
        "import psutil, sys\n"
        "from trainers.distributed import Ranks\n"
        "from trainers.resources import Resources\n"
        "ranks = Ranks.join(0, 1, '127.0.0.1', int(sys.argv[1]), Resources())\n"
        "print([c.laddr.ip for c in psutil.Process().net_connections('inet') if c.status == 'LISTEN'])\n"
    )
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    found = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert found and set(found) == {"127.0.0.1"}, done.stderr


@pytest.mark.slow
def test_a_cluster_of_ours_lets_nobody_in_without_its_token() -> None:
    serve = (
        "import ray, sys\nfrom orchestrator.cluster.connection import cluster\n"
        "with cluster(None):\n"
        "    print(ray.get_runtime_context().gcs_address, flush=True)\n    sys.stdin.read()\n"
    )
    join = "import ray, sys\nray.init(address=sys.argv[1], log_to_driver=False)\nprint(len(ray.nodes()))\n"
    with ray_environment() as environment:
        ours = subprocess.Popen(
            [sys.executable, "-c", serve], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert ours.stdout is not None
            address = ours.stdout.readline().strip()
            assert address, "our cluster has started"
            stranger = Path(environment["RAY_TMPDIR"]) / "stranger"
            stranger.mkdir()
            other = {name: value for name, value in environment.items() if "AUTH" not in name}
            clients = (
                environment | {"RAY_AUTH_MODE": "token"},
                other | {"HOME": str(stranger)},
                other | {"HOME": str(stranger), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            )
            command = [sys.executable, "-c", join, address]
            answers = [
                subprocess.run(command, env=client, capture_output=True, text=True, timeout=200).returncode
                for client in clients
            ]
        finally:
            ours.communicate()
    assert answers[0] == 0 and 0 not in answers[1:]


CANARY = "CANARY-8f2e61"
SECRETS = {
    "AWS_ACCESS_KEY_ID": f"{CANARY}-id", "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws", "HF_TOKEN": f"hf_{CANARY}",
    "MLFLOW_TRACKING_PASSWORD": f"{CANARY}-mlflow", "WANDB_API_KEY": f"{CANARY}-other",
}  # fmt: skip
SMALL = """\
name: secrets
question: Who hears of what is in the environment?
base:
  model: {builtin: tracr-reverse}
  task: {name: tracr}
  method: {name: random, edge_budgets: [5]}
resources: {lanes: 1}
"""


@pytest.mark.slow
def test_secrets_of_the_environment_and_of_uris_are_written_nowhere(tmp_path: Path) -> None:
    """A real sweep, mirrored to a real MLflow server whose URI holds a password."""
    spec = tmp_path / "secrets.yaml"
    spec.write_text(SMALL)
    (port,) = free_ports("127.0.0.1", 1)
    ours, store = [sys.executable, "-m", "orchestrator"], tmp_path / "mlflow"
    store.mkdir()
    serve = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    serve += [
        "--backend-store-uri",
        f"sqlite:///{store}/mlflow.db",
        "--artifacts-destination",
        str(store / "files"),
    ]
    uri = f"http://user:{CANARY}-uri@127.0.0.1:{port}"
    with ray_environment() as environment, (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(serve, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(port)
            command = [
                sys.executable,
                "-m",
                "orchestrator",
                "run",
                str(spec),
                "--runs",
                str(tmp_path / "runs"),
            ]
            own = {**environment, **SECRETS, "MLFLOW_TRACKING_URI": uri}
            with (tmp_path / "output.txt").open("wb") as output:
                driver = subprocess.Popen(command, env=own, stdout=output, stderr=output)
                seen = _command_lines(driver)
            assert driver.returncode == 0, (tmp_path / "output.txt").read_text()
            dead = uri.replace(str(port), "1")
            command = ["track", str(tmp_path / "runs"), "--tracking-uri", dead]
            told = subprocess.run([*ours, *command], env=own, capture_output=True, text=True)
        finally:
            for process in [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]:
                process.kill()
            server.wait()
    assert told.returncode == 2 and CANARY not in told.stdout + told.stderr, told.stderr
    assert len(seen) > 3 and not [line for line in seen if CANARY in line], "the arguments of our processes"
    files_ = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in files_) and any(
        path.name == "result.json" for path in files_
    )
    assert [path for path in files_ if CANARY.encode() in path.read_bytes()] == []


def _command_lines(driver: "subprocess.Popen[bytes]") -> set[str]:
    """What `ps` shows of a process and its children until it ends."""
    seen: set[str] = set()
    while driver.poll() is None:
        with suppress(psutil.Error):
            for child in psutil.Process(driver.pid).children(recursive=True):
                with suppress(psutil.Error):
                    seen.add(" ".join(child.cmdline()))
        time.sleep(0.5)
    return seen


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("the MLflow server did not come up")
