"""Small Rays for tests: own folder, home and token, two CPUs, bounded memory; gone afterwards."""

import json
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray

CPUS = 2
START_LIMIT = 120.0  # seconds
OBJECT_STORE_BYTES = 200 * 2**20


@contextmanager
def ray_environment() -> Iterator[dict[str, str]]:
    """Variables under which Ray of this process, and of processes started with them, keeps to itself.

    The folder's path is short: it holds sockets, whose paths end at 107 characters.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    root = str(Path(__file__).parents[1])
    variables = {"RAY_TMPDIR": str(folder), "HOME": str(folder), "PYTHONPATH": root}
    variables["RAY_worker_niceness"] = "0"  # Ray's 15 lets whatever else runs on the machine starve the test
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv("RAY_AUTH_MODE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            yield dict(os.environ)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_of_our_own() -> Iterator[None]:
    """Connects this process to a Ray of its own; `launch.run` uses it, as it is there already."""
    with ray_environment():
        ray.init(
            address="local",
            num_cpus=CPUS,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            yield
        finally:
            ray.shutdown()


@dataclass(frozen=True)
class Head:
    """A cluster of one node, started like a user would with `ray start --head`."""

    address: str  # for drivers
    dashboard: str  # for `ray job submit`
    folder: Path  # Ray's, with sessions and logs
    environment: dict[str, str]


@contextmanager
def ray_head(cpus: int = CPUS) -> Iterator[Head]:
    """`ray start --head --block` with free ports on 127.0.0.2, which Ray leaves as it is."""
    host = "127.0.0.2"
    with ray_environment() as environment:
        scripts = str(Path(sys.executable).parent)
        environment |= {"PATH": f"{scripts}:{environment['PATH']}", "RAY_AUTH_MODE": "token"}
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        gcs, dashboard, client = free_ports(host, 3)
        options = ["--head", f"--port={gcs}", f"--ray-client-server-port={client}", "--disable-usage-stats"]
        options += [f"--dashboard-host={host}", f"--dashboard-port={dashboard}"]
        process, log, _ = _start(host, cpus, options, environment)
        try:
            _wait_for(host, dashboard, process, log)
            folder = Path(environment["RAY_TMPDIR"])
            yield Head(f"{host}:{gcs}", f"http://{host}:{dashboard}", folder, environment)
        finally:
            end(process)


@contextmanager
def ray_node(
    head: Head, host: str, cpus: int = 1, resources: Mapping[str, float] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """`ray start --address`: another node of the head's cluster, at 127.0.0.`n`; yields its process."""
    options = [f"--address={head.address}", f"--resources={json.dumps(resources or {})}"]
    process, log, agent = _start(host, cpus, options, head.environment)
    try:
        _wait_for(host, agent, process, log)
        yield process
    finally:
        end(process)


def _start(
    host: str, cpus: int, options: Sequence[str], environment: dict[str, str]
) -> tuple["subprocess.Popen[bytes]", Path, int]:
    """The process of `ray start --block`, what it prints, and the port on which its agent listens."""
    agent, *workers = free_ports(host, 24)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
    command += [f"--node-ip-address={host}", f"--num-cpus={cpus}", f"--dashboard-agent-listen-port={agent}"]
    command += [f"--worker-port-list={','.join(map(str, workers))}"]
    command += [f"--object-store-memory={OBJECT_STORE_BYTES}"]
    log = Path(environment["RAY_TMPDIR"]) / f"{host}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    return process, log, agent


def free_ports(host: str, number: int) -> list[int]:
    """Different ports that were free a moment ago."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]


def _wait_for(host: str, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.3)
    raise AssertionError(f"ray start did not come up: {log.read_text()}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """kill -9 of the whole tree: Ray puts its daemons in sessions of their own. As if the node were gone."""
    if process.poll() is not None:
        return
    tree = [psutil.Process(process.pid)] + psutil.Process(process.pid).children(recursive=True)
    for one in tree:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(tree, timeout=30)
