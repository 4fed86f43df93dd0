"""A worker without torch, for tests of lanes: it counts steps, and misbehaves for the seeds it is told.

It keeps a checkpoint (its step) as a real worker does. Run by itself it is a driver:
`python -m tests.standin RUNS NUMBER_OF_TRIALS [OPTIONS]`, OPTIONS as JSON: `sweep` for `sweep` below,
`launch` for `launch.run`.
"""

import json
import os
import signal
import sys
import time
from typing import Any

from rich.console import Console

from orchestrator.cluster import launch
from orchestrator.lease import Lease
from orchestrator.observers.display import Display
from orchestrator.observers.events import EventLog
from orchestrator.planning.plan import plan
from orchestrator.sweep import SweepSpec
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.resources import Resources
from trainers.result import TrialResult

WORK = "tests.standin:StandIn"


class StandIn:
    """Five steps; rank 0 reports them, and writes result.json at the end.

    `fault.json` in the runs folder says which seeds fail, and how: {"raise": [3, 4], "kill": [5]}.
    Faults strike the last rank at step 3: `raise`, `kill` and `freeze` on the first attempt,
    `raise_always` on every one. `slow` trials take 1 s a step, the others 20 ms.
    """

    def __init__(
        self, rank: int, world_size: int, master_address: str, master_port: int, resources: Resources
    ) -> None:
        self.last = rank == world_size - 1
        self.rank = rank
        self.address = master_address
        self.loads = 0

    def begin(self, spec: dict[str, Any], folder: str, attempt: int) -> None:
        self.spec, self.folder, self.attempt = spec, Folder.open(folder), attempt
        self.total = 5
        self.step = json.loads(self.folder.read("checkpoint/step.json") or b"0")
        self.started_at = self.step
        runs = Folder.open(folder.rsplit("/trials/", 1)[0])
        self.faults = json.loads(runs.read("fault.json") or b"{}")
        print(f"rank {self.rank} begins attempt {attempt} at step {self.step} in {os.getcwd()}")

    def advance(self, steps: int = 1) -> Progress | None:
        progress = None
        for _ in range(steps):
            progress = self._step()
            if progress is None:
                break
        return progress

    def _step(self) -> Progress | None:
        if self.step == self.total:
            if self.rank == 0:
                self.folder.write("result.json", self._result().model_dump_json().encode())
            return None
        slow = self._struck("slow", always=True)
        time.sleep(1.0 if slow else 0.02)
        self.step += 1
        if self.step >= 3 and self.last:
            self._misbehave()
        progress = Progress(self.step, self.total, {"kl": 1.0 / self.step, "sparsity": self.step / 5})
        if self.rank == 0:
            self._report(progress)
        return progress

    def devices(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        print(f"rank {self.rank} closes")

    def _misbehave(self) -> None:
        if self._struck("raise") or self._struck("raise_always", always=True):
            raise ValueError(f"gates are not finite at step {self.step}")
        if self._struck("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._struck("freeze"):
            os.kill(os.getpid(), signal.SIGSTOP)

    def _struck(self, fault: str, always: bool = False) -> bool:
        return self.spec["seed"] in self.faults.get(fault, []) and (always or self.attempt == 1)

    def _report(self, progress: Progress) -> None:
        line = {"time": time.time(), "attempt": self.attempt, "phase": progress.phase}
        line |= {"step": progress.step, "total": progress.total} | progress.values
        old = self.folder.read("progress.jsonl") or b""
        self.folder.write("progress.jsonl", old + json.dumps(line).encode() + b"\n")
        self.folder.write("checkpoint/step.json", str(progress.step).encode())

    def _result(self) -> TrialResult:
        return TrialResult(
            trial_id=self.folder.path.rsplit("/", 1)[1],
            status="complete",
            spec=self.spec,
            seed=self.spec["seed"],
            steps=self.total,
            execution={"pid": os.getpid(), "attempt": self.attempt, "resumed_at": self.started_at},
        )


def sweep(
    trials: int, name: str = "standin", faults: dict[str, Any] | None = None, **resources: Any
) -> SweepSpec:
    """As many cheap trials as asked; they differ in their seeds only."""
    base = {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "method": {"name": "random"}}
    content = {"name": name, "question": "Do lanes work?", "base": base, "seeds": list(range(trials))}
    return SweepSpec.parse(content | {"resources": resources, "faults": faults or {}}, "test")


def main(runs: str, trials: str, options: str = "{}") -> int:
    """A driver whose lanes run stand-ins, on one lane unless told otherwise; it holds the sweep's lease."""
    given = {"sweep": {"lanes": 1}, "launch": {}} | json.loads(options)
    folder, one = Folder.open(runs), sweep(int(trials), **given["sweep"])
    with Lease.acquire(folder / one.name, one.name) as lease:
        planned = plan(one, folder, lease.holder.owner)
        observers = [Display(planned, Console(file=sys.stdout, width=200)), EventLog(folder / one.name)]
        outcome = launch.run(planned, folder, observers=observers, **({"work": WORK} | given["launch"]))
    print(outcome)
    return 130 if outcome.stopped == "interrupted" else int(outcome.failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
