"""Submits a sweep as a job to a Ray cluster: the driver then runs inside it."""

import asyncio
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ray._private.runtime_env import packaging
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from orchestrator.cluster.connection import use_token_if_there_is_one
from orchestrator.code_version import COMMIT_VARIABLE, code_version
from orchestrator.wording import masked
from trainers.spec import SpecError

# Beside what .gitignore and .rayignore in the working directory name.
EXCLUDES = (
    "runs/",
    "/data/",  # every node would get a copy
    ".env",  # secrets, as a rule
    ".venv/",
    "venv/",
    ".git/",
    "__pycache__/",
    ".*_cache/",
    ".hypothesis/",
    "*.egg-info/",
    "node_modules/",
    "mlruns/",
    "mlartifacts/",
    "*.db",
    "*.part",
)
POLL_SECONDS = 1.0
# Set their own level, so Ray's does not reach them.
TALKATIVE = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
LOGS_FOLLOW = re.compile(r", last available logs .*:$")  # we have shown them


def submit(
    spec: Path,
    runs: str,
    address: str,
    options: Sequence[str] = (),
    wait: bool = True,
    verbose: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Ships the working directory and runs `circuit-sweep run SPEC --runs RUNS OPTIONS` on the cluster.

    `address` is that of the cluster's dashboard, http://HOST:8265. Follows the job's output unless
    told not to `wait`, and what Ray says of its own if `verbose`; returns the driver's exit code (0
    when not waiting; 130 after Ctrl-C, which leaves the job running). Raises SpecError for what the user
    can put right.
    """
    entrypoint = _entrypoint(spec, runs, options)
    client = _connect(address, verbose)
    environment = {
        "working_dir": os.getcwd(),
        "excludes": _excludes(runs),
        "env_vars": {COMMIT_VARIABLE: code_version()},
    }
    try:
        job = client.submit_job(entrypoint=entrypoint, runtime_env=environment)
    except (RuntimeError, ValueError) as error:  # larger than Ray's limit, or refused by the cluster
        raise SpecError(f"{address}: the job was not taken: {_first_line(error)}") from None
    say(f"job {job}: {entrypoint}")
    follow, stop = (f"ray job {what} {job} --address {address}" for what in ("logs --follow", "stop"))
    if not wait:
        say(f"Follow it with: {follow}\nStop it with:   {stop}")
        return 0
    try:
        return _follow(client, job, say)
    except KeyboardInterrupt:
        say(f"\nThe job goes on. Follow it with: {follow}\nStop it with: {stop}")
        return 130


def upload_bytes() -> int:
    """Of the working directory, as a job gets it, before compression."""
    home, sizes = Path.cwd(), list[int]()
    packaging._dir_travel(
        home,
        [packaging._get_excludes(home, list(EXCLUDES))],
        lambda path: sizes.append(path.lstat().st_size if path.is_file() else 0),
        include_gitignore=True,
        logger=logging.getLogger(__name__),
    )
    return sum(sizes)


def _entrypoint(spec: Path, runs: str, options: Sequence[str]) -> str:
    if not spec.is_file():
        raise SpecError(f"{spec}: no such file")
    if not spec.resolve().is_relative_to(Path.cwd()):
        raise SpecError(f"{spec}: outside the working directory {Path.cwd()}, which is what the cluster gets")
    if "://" not in runs and not os.path.isabs(runs):
        raise SpecError(
            f"--runs: found {runs}, a relative path, which on the cluster lies in a temporary copy of the "
            "working directory that Ray deletes; allowed: an absolute path, or a URI such as s3://bucket/runs"
        )
    for text in (runs, *options):
        if masked(text) != text:
            raise SpecError(
                f"{masked(text)}: holds credentials, which Ray would show to everyone who sees the job; "
                "give them to the cluster's nodes as environment variables (AWS_ACCESS_KEY_ID, "
                "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD ...)"
            )
    relative = spec.resolve().relative_to(Path.cwd())
    # Not the console script: the cluster's environment needs our dependencies, but not us.
    return shlex.join(["python", "-m", "orchestrator", "run", str(relative), "--runs", runs, *options])


def _excludes(runs: str) -> list[str]:
    found: list[str] = list(EXCLUDES)
    if "://" not in runs and Path(runs).is_relative_to(Path.cwd()):
        found.append(f"/{Path(runs).relative_to(Path.cwd())}/")
    return found


def _connect(address: str, verbose: bool) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise SpecError(f"--address: found {address}; allowed: the dashboard's address, http://HOST:8265")
    if not verbose:
        for name in ("ray", *TALKATIVE):
            logging.getLogger(name).setLevel(logging.ERROR)
    use_token_if_there_is_one()
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, RayError) as error:
        raise SpecError(
            f"--address: no Ray dashboard lets us in at {address}: {_first_line(error)}"
        ) from None


def _follow(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> int:
    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            say(lines.rstrip("\n"))

    asyncio.run(tail())
    while not (info := client.get_job_info(job)).status.is_terminal():
        time.sleep(POLL_SECONDS)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    reason = LOGS_FOLLOW.sub("", _first_line(info.message or "no reason given"))
    say(f"job {job} {info.status.value.lower()}: {reason}")
    return info.driver_exit_code or 1


def _first_line(reason: object) -> str:
    lines = str(reason).strip().splitlines()
    return lines[0][:300] if lines else "no reason given"
