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
from ray._private.authentication_test_utils import reset_auth_token_state

CPUS = 2
HEAD_HOST = "127.0.0.2"
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
        # Ray keeps the token it read first. Its servers would read this home's, and never come up.
        reset_auth_token_state()
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
    """A head that is there for as long as the block."""
    with ray_environment() as environment:
        head = head_in(environment)
        process = start_head(head, cpus)
        try:
            yield head
        finally:
            end(process)


@contextmanager
def ray_node(
    head: Head, host: str, cpus: int = 1, resources: Mapping[str, float] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Another node of the head's cluster, there for as long as the block; yields its process."""
    process = start_node(head, host, cpus, resources)
    try:
        yield process
    finally:
        end(process)


def head_in(environment: Mapping[str, str]) -> Head:
    """A head to be started on 127.0.0.2, which Ray leaves as it is, with ports that are free now."""
    scripts = str(Path(sys.executable).parent)
    variables = dict(environment) | {"PATH": f"{scripts}:{environment['PATH']}", "RAY_AUTH_MODE": "token"}
    variables["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    gcs, dashboard = free_ports(HEAD_HOST, 2)
    folder = Path(variables["RAY_TMPDIR"])
    return Head(f"{HEAD_HOST}:{gcs}", f"http://{HEAD_HOST}:{dashboard}", folder, variables)


def start_head(head: Head, cpus: int = CPUS) -> "subprocess.Popen[bytes]":
    """`ray start --head --block`; returns its process when it is up."""
    (client,) = free_ports(HEAD_HOST, 1)
    port, dashboard = (int(address.rpartition(":")[2]) for address in (head.address, head.dashboard))
    options = ["--head", f"--port={port}", f"--ray-client-server-port={client}", "--disable-usage-stats"]
    options += [f"--dashboard-host={HEAD_HOST}", f"--dashboard-port={dashboard}"]
    process, log, _ = _start(HEAD_HOST, cpus, options, head.environment)
    _wait_for(HEAD_HOST, dashboard, process, log)
    return process


def start_node(
    head: Head, host: str, cpus: int = 1, resources: Mapping[str, float] | None = None
) -> "subprocess.Popen[bytes]":
    """`ray start --address`: another node of the head's cluster, at 127.0.0.`n`; returns when it is up.

    In a folder of its own: else nodes of one host replace each other's copy of a job's working directory.
    """
    options = [f"--address={head.address}", f"--resources={json.dumps(resources or {})}"]
    options.append(f"--temp-dir={head.folder / host}")
    process, log, agent = _start(host, cpus, options, head.environment)
    _wait_for(host, agent, process, log)
    return process


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
    end(process)
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
