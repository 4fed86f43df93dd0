"""Lane: a gang of ranks that loads a model once and serves one trial after another.

Ray Tune sees a class Trainable; its placement group holds the lane and all its ranks, so Tune
itself counts, places and frees whole gangs. Between two steps nothing is in flight: a trial can be
stopped there without leaving a rank behind in a collective.
"""

import contextlib
import os
import signal
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray import tune
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util import get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.attempt import Attempt, Owner
from orchestrator.lease import elsewhere
from orchestrator.rank import Rank
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.resources import Resources

JOIN_LIMIT = 300.0  # seconds for all ranks to start and to find each other
LOAD_LIMIT = 1800.0  # seconds for a trial to load its model and data
CLOSE_LIMIT = 20.0  # seconds for ranks to end by themselves
STALL_FLOOR = 120.0  # seconds; a report may be this late however fast the others were
STEP_SECONDS = 0.5  # reports are gathered for this long before Tune hears of them
CALL_SECONDS = 0.2  # ranks train for about this long per call: a call costs milliseconds, so may a step
MAX_STEPS = 1000  # in one call
DOING = {  # a call in words, for whoever reads that a rank was lost in it
    "free_port": "starting",
    "join": "joining its gang",
    "begin": "loading",
    "advance": "running its trial",
    "close": "ending",
}


class LaneError(RuntimeError):
    """A gang was lost. `str()` says which rank and why, with the rank's own traceback."""


@dataclass(frozen=True)
class Gang:
    """What all trials of one launch share. `owner` is written into every attempt.json."""

    runs: str  # the runs folder: absolute path or URI
    resources: Resources
    owner: Owner
    home: str  # the driver's working directory
    work: str  # "module:class" of what a rank runs
    code: str  # the version of this code, for result.json


def bundles(resources: Resources) -> tune.PlacementGroupFactory:
    """An empty bundle for the lane itself, then one for each rank."""
    rank: dict[str, float] = {"CPU": resources.cpus_per_rank}
    if resources.gpus_per_rank:
        rank["GPU"] = resources.gpus_per_rank
    return tune.PlacementGroupFactory([{}] + [rank] * resources.ranks)


def stall_limit(resources: Resources, intervals: Sequence[float]) -> float:
    """Seconds a rank may be silent; `intervals` are the seconds between the trial's reports so far."""
    if resources.stall_seconds is not None:
        return resources.stall_seconds
    return max(STALL_FLOOR, 20 * statistics.median(intervals)) if intervals else STALL_FLOOR


class Lane(tune.Trainable):
    """Config: {"trial_id", "spec"}. A result's "reports" are the Progress of rank 0 since the last one.

    Everything that can fail happens inside `step`: Tune retries a failed step on a fresh lane, but
    hangs when `reset_config` fails.
    """

    def setup(self, config: dict[str, Any], gang: Gang) -> None:
        self._gang = gang
        self._runs = Folder.open(gang.runs)
        self._ranks: list[Any] = []
        self._pids: list[int] = []  # of ranks on this node only
        self._next_trial(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._next_trial(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except BaseException:
            self._kill()
            raise

    def cleanup(self) -> None:
        try:
            if self._ranks:
                self._all("close", (), CLOSE_LIMIT)
        except LaneError as error:
            print(f"lane: ranks did not end by themselves and were killed: {error}", flush=True)
        finally:
            self._kill()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        raise AssertionError("trials keep their own checkpoints in their folders; Tune must not ask for one")

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        raise AssertionError("trials keep their own checkpoints in their folders; Tune has none to load")

    def _next_trial(self, config: dict[str, Any]) -> None:
        self._trial = {"trial_id": config["trial_id"], "spec": config["spec"]}
        self._begun = False
        self._steps = 1
        self._intervals: deque[float] = deque(maxlen=201)

    def _step(self) -> dict[str, Any]:
        enough = time.monotonic() + STEP_SECONDS
        folder = self._runs / "trials" / self._trial["trial_id"]
        if not self._begun:
            if folder.exists("result.json") or elsewhere(folder, self._runs, self._gang.owner):
                return {"reports": [], "done": True}  # another driver was faster
            if not self._ranks:
                self._gather_gang()
            spec = self._trial["spec"]
            attempt = Attempt.begin(folder, spec, self._gang.owner).attempt
            self._all("begin", (spec, folder.location, attempt), LOAD_LIMIT)
            self._begun = True
            enough = 0.0  # the first report goes out at once
        reports = []
        while True:
            progress = self._advance()
            if progress is None:
                if not folder.exists("result.json"):
                    raise LaneError(f"the trial ended but left no {folder.location}/result.json")
                return {"reports": reports, "done": True}
            reports.append(asdict(progress))
            if time.monotonic() >= enough:
                return {"reports": reports, "done": False}

    def _advance(self) -> Progress | None:
        """Some steps on every rank; as many as fill CALL_SECONDS, from what the last call took."""
        started = time.monotonic()
        limit = stall_limit(self._gang.resources, self._intervals)
        progress = self._all("advance", (self._steps,), limit)[0]
        taken = time.monotonic() - started
        self._intervals.append(taken)
        fitting = int(CALL_SECONDS * self._steps / max(taken, 1e-6))
        self._steps = max(1, min(fitting, 2 * self._steps, MAX_STEPS))
        return progress

    def _gather_gang(self) -> None:
        """Starts one rank in each bundle of the lane's placement group and joins them."""
        resources = self._gang.resources
        group = get_current_placement_group()
        assert group is not None, "a lane runs in its own placement group"
        start = ray.remote(max_restarts=0, max_task_retries=0)(Rank)
        for number in range(resources.ranks):
            # Tune drops empty bundles, so rank 0's bundle is found from the end.
            place = PlacementGroupSchedulingStrategy(group, group.bundle_count - resources.ranks + number)
            options = {"num_cpus": resources.cpus_per_rank, "num_gpus": resources.gpus_per_rank or None}
            actor = start.options(scheduling_strategy=place, **options)
            self._ranks.append(actor.remote(number, resources, self._gang.home, self._gang.code))
        pids = self._all("pid", (), JOIN_LIMIT)
        placed = placement_group_table(group)["bundles_to_node_id"]
        nodes = [placed[bundle] for bundle in sorted(placed)][-resources.ranks :]
        here = ray.get_runtime_context().get_node_id()
        self._pids = [pid for pid, node in zip(pids, nodes, strict=True) if node == here]
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        one_host = len(set(nodes)) == 1
        port = self._all("free_port", (), JOIN_LIMIT)[0]
        address = "127.0.0.1" if one_host else addresses[nodes[0]]
        self._all("join", (self._gang.work, address, port, one_host), JOIN_LIMIT)

    def _all(self, call: str, arguments: tuple[Any, ...], limit: float) -> list[Any]:
        """The same call on every rank, answers by rank. Raises LaneError on the first rank that fails
        or when any rank is silent for `limit` seconds."""
        deadline = time.monotonic() + limit
        futures = [getattr(rank, call).remote(*arguments) for rank in self._ranks]
        pending = list(futures)
        while pending:
            done, pending = ray.wait(pending, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                silent = ", ".join(str(futures.index(future)) for future in pending)
                raise LaneError(f"rank {silent} silent for {limit:.0f} s while {DOING[call]}")
            try:
                ray.get(done)
            except RayError:
                raise LaneError(self._reasons(futures, done[0], call)) from None
        return ray.get(futures)

    def _reasons(self, futures: list[Any], first: Any, call: str) -> str:
        """Why ranks failed, the likely cause last: a rank that died, else the one that failed first;
        its peers often fail only because it is gone."""
        ray.wait(futures, num_returns=len(futures), timeout=2.0)
        raised, died = [], []
        for future in [other for other in futures if other is not first] + [first]:
            rank = f"rank {futures.index(future)}"
            try:
                ray.get(future, timeout=0)
            except GetTimeoutError:
                continue
            except RayTaskError as error:
                raised.append(f"{rank} raised an error while {DOING[call]}:\n{str(error).strip()}")
            except RayError as error:
                text = " ".join(str(error).split()).partition(" class_name:")[0]
                died.append(
                    f"{rank} died while {DOING[call]} (killed, out of memory or its node lost): {text}"
                )
        return "\n".join(raised + died)

    def _kill(self) -> None:
        for rank in self._ranks:
            ray.kill(rank)
        for pid in self._pids:  # a frozen process does not hear Ray
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._ranks, self._pids, self._begun = [], [], False
