"""Worker: one rank of a gang, serving one trial after another with the model kept in memory."""

import json
import os
import socket
import sys
from collections.abc import Generator
from datetime import UTC, datetime

from trainers.distributed import Ranks
from trainers.folder import Folder
from trainers.model import Loaded, load
from trainers.outside import parse_json
from trainers.preflight import as_planned, preflight, same_model
from trainers.progress import Progress
from trainers.resources import Resources
from trainers.spec import SpecError
from trainers.trial import Execution, TrialSpec, run_trial


class Worker:
    """Every rank of a gang gets the same calls in the same order."""

    def __init__(
        self, rank: int, world_size: int, master_address: str, master_port: int, resources: Resources
    ) -> None:
        """Joins the gang's process group. Raises PreflightError when this rank could not serve trials."""
        self.resources = resources
        self.ranks = Ranks.join(rank, world_size, master_address, master_port, resources)
        preflight(self.ranks)
        self.loaded: Loaded | None = None
        self.trial: Generator[Progress, None, None] | None = None

    def begin(self, spec: dict, folder: str, attempt: int) -> None:
        """Ends the trial at hand and starts another; loads its model unless it is the last one's.

        Raises PreflightError when this rank's files are not those of the others, or of the plan.
        """
        self._end()
        trial = TrialSpec.parse(spec, f"{folder}/spec.json")
        as_planned(self.ranks, trial, Folder.open(folder))
        if self.loaded is None or self.loaded.spec != trial.model:
            self.loaded = None  # two models would not fit
            self.loaded = load(trial.model, self.ranks, self.resources.zero_stage)
            same_model(self.ranks, trial.model, self.loaded.commit)
        execution = Execution(Folder.open(folder), self.ranks, self.resources, attempt)
        self.trial = run_trial(trial, self.loaded, execution)

    def advance(self, steps: int = 1) -> Progress | None:
        """Runs until the trial has yielded `steps` times; None when it is over and recorded."""
        assert self.trial is not None, "begin() comes before advance()"
        progress = None
        for _ in range(steps):
            progress = next(self.trial, None)
            if progress is None:
                return None
        return progress

    def devices(self) -> tuple[str, ...]:
        """The ids of the GPUs that this rank computes on."""
        return self.ranks.gpus

    def close(self) -> None:
        self._end()
        self.ranks.leave()

    def _end(self) -> None:
        if self.trial is not None:
            self.trial.close()
            self.trial = None


def run_by_hand(arguments: list[str]) -> int:
    """`torchrun -m trainers.trial FOLDER`: runs the trial whose spec.json lies in FOLDER."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: torchrun --nproc-per-node N -m trainers.trial TRIAL_FOLDER", file=sys.stderr)
        return 2
    folder = Folder.open(arguments[0])
    try:
        content = folder.read("spec.json")
        if content is None:
            raise SpecError(f"{folder.location}/spec.json: no such file")
        if folder.exists("result.json"):
            raise SpecError(f"{folder.location}: has a result.json already; delete it to run the trial again")
        spec = TrialSpec.parse(parse_json(content), f"{folder.location}/spec.json")
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"{folder.location}/spec.json: not JSON: {error}", file=sys.stderr)
        return 2
    world = int(os.environ.get("WORLD_SIZE", "1"))
    worker = Worker(
        int(os.environ.get("RANK", "0")),
        world,
        os.environ.get("MASTER_ADDR", "127.0.0.1"),
        int(os.environ.get("MASTER_PORT") or free_port()),
        Resources(ranks=world),
    )
    try:
        worker.begin(spec.plain(), folder.location, _next_attempt(folder, worker))
        while (progress := worker.advance()) is not None:
            if worker.ranks.is_first and (progress.step % max(1, progress.total // 20) == 0):
                values = "  ".join(f"{name} {value:.4g}" for name, value in progress.values.items())
                print(f"{progress.phase} {progress.step}/{progress.total}  {values}", flush=True)
    except SpecError as error:  # on all ranks alike
        print(error, file=sys.stderr)
        return 2
    worker.close()
    return 0


def free_port() -> int:
    """For one rank started without torchrun."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _next_attempt(folder: Folder, worker: Worker) -> int:
    """Numbers this attempt, for all ranks: whoever else is at the trial ends itself."""
    attempt = b""
    if worker.ranks.is_first:
        content = folder.read("attempt.json")
        number = json.loads(content)["attempt"] + 1 if content else 1
        owner = {"sweep": "", "host": socket.gethostname(), "pid": os.getpid()}
        started = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"attempt": number, "owner": owner, "started": started}
        folder.write("attempt.json", json.dumps(record).encode())
        attempt = str(number).encode()
    return int(worker.ranks.share(attempt))
