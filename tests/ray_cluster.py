"""A small Ray for tests: its own folder, home and token, two CPUs, bounded memory; gone afterwards."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

CPUS = 2
OBJECT_STORE_BYTES = 200 * 2**20


@contextmanager
def ray_environment() -> Iterator[dict[str, str]]:
    """Variables under which Ray of this process, and of processes started with them, keeps to itself.

    The folder's path is short: it holds sockets, whose paths end at 107 characters.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    root = str(Path(__file__).parents[1])
    variables = {"RAY_TMPDIR": str(folder), "HOME": str(folder), "PYTHONPATH": root}
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
