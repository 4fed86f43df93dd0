"""A real S3 API server for tests (moto's), in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyarrow import fs

from tests.ray_cluster import free_ports

START_LIMIT = 60.0  # seconds
# For the process that is the client; a server of one's own needs some credentials, any will do.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class S3:
    endpoint: str

    def uri(self, path: str) -> str:
        return f"s3://{path}?scheme=http&endpoint_override={self.endpoint}&region=us-east-1"

    def make_bucket(self, name: str) -> None:
        store = fs.S3FileSystem(
            endpoint_override=self.endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        store.create_dir(name)


@contextmanager
def s3_server() -> Iterator[S3]:
    """The server, and credentials for it in this process's environment."""
    (port,) = free_ports("127.0.0.1", 1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env={**os.environ, **CREDENTIALS})
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    server = S3(f"127.0.0.1:{port}")
    try:
        _wait(server, process)
        yield server
    finally:
        process.kill()
        process.wait()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _wait(server: S3, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            server.make_bucket("ready")
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("the S3 server did not come up")
