"""The machinery that chaos.py breaks: a Ray cluster of several nodes, an MLflow server, a small disk."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.ray_cluster import Head, end, free_ports, head_in, ray_environment, start_head, start_node

ROOT = Path(__file__).parents[1]
NODES = ("127.0.0.3", "127.0.0.4")  # of one CPU each; the head computes nothing
WORKERS = ("ray::Rank", "ray::Lane", "ray::_Inner")  # what ranks and lanes are called in the process list
HEAD = "head"
LIMIT = 300.0  # seconds; nothing here takes as long unless it hangs


@dataclass
class Cluster:
    """`ray start` once for the head and once for each node, in a folder and with a token of its own."""

    head: Head
    nodes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)  # by host

    def mend(self) -> None:
        """Starts what is not there; without a head all nodes are lost."""
        if not self._lives(HEAD):
            for host in NODES:
                self.kill(host)
            self.nodes[HEAD] = start_head(self.head, cpus=0)
        for host in NODES:
            if not self._lives(host):
                self.nodes[host] = start_node(self.head, host)

    def kill(self, host: str) -> None:
        """kill -9 of everything that one `ray start` started."""
        if host in self.nodes:
            end(self.nodes[host])

    def node_of(self, pid: int) -> str:
        """The host of the node to which a worker belongs."""
        above = {parent.pid for parent in psutil.Process(pid).parents()}
        return next(host for host, process in self.nodes.items() if process.pid in above)

    def kill_all_but(self, pid: int) -> None:
        """kill -9 of a worker's node, and of all in it but the worker: a machine cut off by its network."""
        node = psutil.Process(self.nodes[self.node_of(pid)].pid)
        for process in [node, *node.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                if process.pid != pid:
                    process.kill()
        self.nodes[next(host for host, one in self.nodes.items() if one.pid == node.pid)].wait()

    def processes(self) -> list[psutil.Process]:
        """All that were started with the cluster's environment: its own, its drivers', what they left."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                mine = process.environ().get("RAY_TMPDIR") == str(self.head.folder)
                if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """Ranks and lanes, on whatever node."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if process.name().startswith(WORKERS):
                    found.append(process)
        return found

    def leftovers(self) -> list[str]:
        """Ranks, lanes, and processes that belong to no node: what a sweep that is over must not leave.
        A port is open only as long as the process that listens on it."""
        known = {process.pid for process in self.workers()}
        trees: set[int] = set()
        for node in self.nodes.values():
            with suppress(psutil.NoSuchProcess):
                tree = psutil.Process(node.pid)
                trees |= {tree.pid, *(child.pid for child in tree.children(recursive=True))}
        left = [one for one in self.processes() if one.pid in known or one.pid not in trees]
        return [text for process in left if (text := _told(process))]

    def _lives(self, host: str) -> bool:
        return host in self.nodes and self.nodes[host].poll() is None


def _told(process: psutil.Process) -> str:
    """A process in words, with the ports it listens on; empty when it is gone."""
    try:
        connections = process.net_connections("inet")
        ports = sorted({one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN})
        return f"{process.pid} {process.name()}" + (f", listening on {ports}" if ports else "")
    except psutil.Error:
        return ""


@contextmanager
def cluster() -> Iterator[Cluster]:
    """All nodes up; at the end everything is killed."""
    with ray_environment() as environment:
        # A step then asks the kernel for memory each time, as it does with a real model.
        environment["MALLOC_MMAP_THRESHOLD_"] = str(128 * 2**10)
        one = Cluster(head_in(environment))
        try:
            one.mend()
            yield one
        finally:
            for host in list(one.nodes):
                one.kill(host)
            for process in one.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@dataclass
class Server:
    """`mlflow server` on loopback over a SQLite file in `folder`."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports("127.0.0.1", 1)[0])
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        assert until(self._answers), (self.folder / "server.log").read_text()

    def kill(self) -> None:
        if self.process is not None:
            end(self.process)

    def _answers(self) -> bool:
        from urllib.request import urlopen

        with suppress(OSError), urlopen(f"{self.uri}/health", timeout=5) as answer:
            return answer.status == 200
        return False


@dataclass(frozen=True)
class Disk:
    """A disk of 380 MB with a file system of its own, in a file. Needs the right to mount."""

    image: Path
    folder: Path

    def make(self) -> None:
        """Raises OSError where that is not allowed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as image:
            image.truncate(400 * 10**6)
        _call("mkfs.ext4", "-q", "-F", str(self.image))
        _call("mount", "-o", "loop", str(self.image), str(self.folder))

    def fill(self) -> None:
        """Leaves not one block; a full disk refuses even a few bytes."""
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            for size in (2**22, 2**12):
                with suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def clean(self) -> None:
        (self.folder / "filler").unlink()

    def break_down(self) -> None:
        """What the kernel does after an error of the device: from now on the disk is read-only."""
        _call("mount", "-o", "remount,abort", str(self.folder))

    def mount_again(self) -> None:
        self.take_away()
        _call("mount", "-o", "loop", str(self.image), str(self.folder))

    def take_away(self) -> None:
        assert until(
            lambda: subprocess.run(["umount", str(self.folder)], capture_output=True).returncode == 0
        )


def _call(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise OSError(f"{' '.join(command)}: {error.stderr.strip()}") from None


def until(holds: Callable[[], object], limit: float = LIMIT) -> bool:
    """Waits for it, but not for ever."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
