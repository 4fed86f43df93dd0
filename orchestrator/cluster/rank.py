"""Rank: one process of a gang. Sets the process up before torch is imported, then runs a worker."""

import contextlib
import importlib
import logging
import os
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from orchestrator.code_version import COMMIT_VARIABLE
from trainers.progress import Progress
from trainers.resources import Resources


@dataclass(frozen=True)
class Place:
    """Where a rank runs: Ray's node id, the machine's name, its process (0: not known yet), the ids of
    its GPUs."""

    node: str
    host: str = ""
    pid: int = 0
    gpus: tuple[str, ...] = ()


class Rank:
    """A thin shell around trainers.worker.Worker; every rank gets the same calls in lockstep.

    `home` is the driver's working directory: relative paths in specs mean the same here. `code` is the
    version of this code, for the trial's record. When `verbose`, libraries say all they have to say, and
    what goes to a trial's log goes to Ray, too.
    """

    def __init__(self, rank: int, resources: Resources, home: str, code: str, verbose: bool = False) -> None:
        self._rank = rank
        self._resources = resources
        self._worker: Any = None
        if os.path.isdir(home):  # another machine may not have it
            os.chdir(home)
        threads = str(resources.threads)
        os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, TOKENIZERS_PARALLELISM="false")
        os.environ[COMMIT_VARIABLE] = code
        self._screen = os.dup(1) if verbose else None
        if verbose:
            os.environ["TRANSFORMERS_VERBOSITY"] = "info"
        else:  # DeepSpeed calls deprecated names at every step; that would be all that a trial's log shows
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
        if not resources.gpus_per_rank:
            os.environ["DS_ACCELERATOR"] = "cpu"

    def process(self) -> tuple[str, int]:
        """The machine's name and this process's id."""
        return socket.gethostname(), os.getpid()

    def devices(self) -> tuple[str, ...]:
        """The ids of its GPUs; after `join`."""
        return self._worker.devices()

    def rss(self) -> int:
        """Bytes of memory that this process holds."""
        return psutil.Process().memory_info().rss

    def free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind(("", 0))
            return int(probe.getsockname()[1])

    def join(self, work: str, address: str, port: int, one_host: bool) -> None:
        """Forms the process group with the other ranks; returns when all are in."""
        if one_host:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        module, name = work.split(":")
        work_class = getattr(importlib.import_module(module), name)
        self._worker = work_class(self._rank, self._resources.ranks, address, port, self._resources)
        if self._screen is not None:
            deepspeed = logging.getLogger("DeepSpeed")
            for one in (deepspeed, *deepspeed.handlers):
                one.setLevel(logging.INFO)

    def begin(self, spec: dict[str, Any], folder: str, attempt: int) -> None:
        if "://" not in folder:
            self._log_to(Path(folder) / f"rank-{self._rank}.log")
        with _logged():
            self._worker.begin(spec, folder, attempt)

    def advance(self, steps: int) -> Progress | None:
        with _logged():
            return self._worker.advance(steps)

    def close(self) -> None:
        self._worker.close()

    def _log_to(self, path: Path) -> None:
        """Everything this process prints from now on, native libraries included, goes to `path`."""
        sys.stdout.flush()
        sys.stderr.flush()
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        if self._screen is None:
            os.dup2(log, 1)
            os.dup2(log, 2)
        else:  # a process of its own: it ends, with all written, when nobody holds its input any more
            tee = subprocess.Popen(
                ["tee", "-a", f"/dev/fd/{log}"],
                stdin=subprocess.PIPE,
                stdout=self._screen,
                pass_fds=(log,),
            )
            assert tee.stdin is not None
            with tee.stdin as end:
                os.dup2(end.fileno(), 1)
                os.dup2(end.fileno(), 2)
        os.close(log)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """An error reaches the driver in any case; here it stands among what was printed before it."""
    try:
        yield
    except Exception:
        traceback.print_exc()
        raise
