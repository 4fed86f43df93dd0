"""One rank in the test's own process: what tests of engines, methods and trials stand on."""

import json
import os
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from model_patches.circuit_model import CircuitModel
from model_patches.tracr import TracrProgram
from tests.tiny_models import tiny_model
from trainers.checkpoint import Checkpoints
from trainers.distributed import Ranks
from trainers.folder import Folder
from trainers.methods.base import Discovery
from trainers.model import Loaded
from trainers.progress import Progress
from trainers.resources import Resources
from trainers.result import TrialResult
from trainers.session import Session
from trainers.trial import TrialSpec
from trainers.worker import Worker


@contextmanager
def joined() -> Iterator[Ranks]:
    """The one rank of this process. The group stays up: DeepSpeed cannot form a second one. What
    joining does to the environment ends with the block."""
    before = dict(os.environ)
    try:
        yield Ranks.join(0, 1, "127.0.0.1", free_port(), Resources())
    finally:
        os.environ.clear()
        os.environ.update(before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def loaded(kind: str, dtype: Literal["float32", "float64", "bfloat16"], zero_stage: int = 0) -> Loaded:
    """A tiny model by family, or a Tracr program by `tracr-...`, without files."""
    spec: dict[str, Any] = {"dtype": dtype}
    program = None
    if kind.startswith("tracr-"):
        program = TracrProgram.builtin(kind.removeprefix("tracr-"))
        model: Any = program.model(getattr(torch, dtype))
        spec["builtin"] = kind
    else:
        model = tiny_model(kind, getattr(torch, dtype))
        spec["path"] = f"/nowhere/tiny-{kind}"
    trial = TrialSpec.parse(
        {**TINY_TRIAL, "model": spec, **({"task": {"name": "tracr"}} if program else {})}, ""
    )
    return Loaded(trial.model, zero_stage, CircuitModel(model), program)


TINY_TASK = {"name": "induction", "period": 4, "shown": 2, "train": 13, "validation": 5, "test": 7}
TINY_TRIAL: dict[str, Any] = {"task": TINY_TASK, "method": {"name": "random", "edge_budgets": [1]}}


def session(
    loaded: Loaded, ranks: Ranks, folder: Path, method: dict[str, Any], zero_stage: int = 0, **fields: Any
) -> Session:
    """A session of a trial of `method` on `loaded`, on the tiny induction task or the Tracr domain."""
    task = {"name": "tracr"} if loaded.program else TINY_TASK
    data = {"model": loaded.spec.canonical(), "task": task, "method": method, **fields}
    spec = TrialSpec.parse(data, "spec.json")
    checkpoints = Checkpoints(Folder.open(folder / "checkpoint"), ranks, 3600, lambda: None)
    return Session(spec, loaded, ranks, Resources.parse({"zero_stage": zero_stage}, ""), checkpoints)


def write_spec(folder: Path, spec: dict[str, Any], attempt: int = 1) -> TrialSpec:
    """A trial folder as the driver leaves it before a trial starts."""
    folder.mkdir(parents=True, exist_ok=True)
    parsed = TrialSpec.parse(spec, "spec.json")
    (folder / "spec.json").write_text(json.dumps(parsed.plain()))
    (folder / "attempt.json").write_text(json.dumps({"attempt": attempt}))
    return parsed


def advance(worker: Worker, limit: int | None = None) -> list[Progress]:
    """What a trial reports, to its end or at most `limit` reports."""
    reports: list[Progress] = []
    while limit is None or len(reports) < limit:
        progress = worker.advance()
        if progress is None:
            break
        reports.append(progress)
    return reports


def run(worker: Worker, folder: Path, spec: dict[str, Any], attempt: int = 1) -> TrialResult:
    """A whole trial; its result.json."""
    trial = write_spec(folder, spec, attempt)
    worker.begin(trial.plain(), str(folder), attempt)
    advance(worker)
    return result(folder)


def result(folder: Path) -> TrialResult:
    return TrialResult.model_validate_json((folder / "result.json").read_bytes())


Returned = TypeVar("Returned")


def finish(steps: Generator[Progress, None, Returned]) -> Returned:
    """Runs a generator to its end; what it returned."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def discover(session: Session) -> tuple[Discovery, list[Progress]]:
    """A method to its end: what it found, and what it reported."""
    steps, reports = session.spec.method.discover(session), []
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as end:
            session.close()
            return end.value, reports


@contextmanager
def working(**resources: Any) -> Iterator[Callable[[], Worker]]:
    """Makes workers of one rank, as a lane does; checkpoints on demand only unless told otherwise."""
    given = Resources.parse({"checkpoint_seconds": 3600, **resources}, "")
    with joined():
        yield lambda: Worker(0, 1, "127.0.0.1", free_port(), given)
