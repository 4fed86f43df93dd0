"""Lane: a gang of ranks that loads a model once and serves one trial after another.

Ray Tune sees a class Trainable; its placement group holds the lane and all its ranks, so Tune
itself counts, places and frees whole gangs. Between two steps nothing is in flight: a trial can be
stopped there without leaving a rank behind in a collective.
"""

import json
import statistics
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray import tune

from orchestrator.attempt import Attempt, Owner
from orchestrator.cluster.gang import Gang, GangLost, lane_nodes
from orchestrator.cluster.rank import Place
from orchestrator.faults import Failure, Faults, Kind
from orchestrator.lease import elsewhere
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.resources import Resources

LOAD_LIMIT = 1800.0  # seconds for a trial to load its model and data
STALL_FLOOR = 120.0  # seconds; a report may be this late however fast the others were
STEP_SECONDS = 0.5  # reports are gathered for this long before Tune hears of them
CALL_SECONDS = 0.2  # ranks train for about this long per call: a call costs milliseconds, so may a step
MAX_STEPS = 1000  # in one call
PROBE_BYTES = 2**20  # what a runs folder that is not full can take


class LaneError(RuntimeError):
    """An attempt failed. `str()` is its Failure as JSON: Tune hands on nothing but the text, of a copy."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return self.failure.model_dump_json()


@dataclass(frozen=True)
class Shift:
    """What all trials of one launch share. `owner` is written into every attempt.json."""

    runs: str  # the runs folder: absolute path or URI
    resources: Resources
    faults: Faults
    owner: Owner
    home: str  # the driver's working directory
    work: str  # "module:class" of what a rank runs
    code: str  # the version of this code, for result.json
    verbose: bool = False  # ranks print to their logs and to Ray, and libraries say more


def bundles(resources: Resources, excluded: Sequence[str] = ()) -> tune.PlacementGroupFactory:
    """An empty bundle for the lane itself, then one for each rank, on other nodes than `excluded`."""
    ranks = [resources.rank_bundle] * resources.ranks
    if not excluded:
        return tune.PlacementGroupFactory([{}, *ranks], strategy=resources.placement)
    elsewhere = [{"ray.io/node-id": f"!in({','.join(sorted(excluded))})"}] * resources.ranks
    return tune.PlacementGroupFactory(
        [{}, *ranks], strategy=resources.placement, bundle_label_selector=elsewhere
    )


def stall_limit(faults: Faults, intervals: Sequence[float]) -> float:
    """Seconds a rank may be silent; `intervals` are the seconds between the trial's reports so far."""
    if faults.stall_seconds is not None:
        return faults.stall_seconds
    return max(STALL_FLOOR, 20 * statistics.median(intervals)) if intervals else STALL_FLOOR


class Lane(tune.Trainable):
    """Config: {"trial_id", "spec"}, and "resources" and "excluded" for `bundles`. A result's "reports" are
    the Progress of rank 0 since the last one, its "places" where the ranks run, once per attempt;
    "given_back" is true when the lane left the trial to another one.

    Everything that can fail happens inside `step`: Tune retries a failed step on a fresh lane, but
    hangs when `reset_config` fails.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Of one trial: trials that come after a node was excluded ask for other nodes."""
        return bundles(Resources.model_validate_json(json.dumps(config["resources"])), config["excluded"])

    def setup(self, config: dict[str, Any], shift: Shift) -> None:
        self._shift = shift
        self._runs = Folder.open(shift.runs)
        self._gang: Gang | None = None
        self._served = 0  # trials, by the present ranks
        self._first_rss: int | None = None  # bytes of the largest rank after its first trial
        self._avoided: frozenset[str] = frozenset()
        self._next_trial(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._next_trial(new_config)
        return True

    def avoid(self, nodes: Sequence[str]) -> None:
        """From the next step on the lane takes no trial on these nodes, and gives back the one it has."""
        self._avoided = frozenset(nodes)

    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except GangLost as lost:
            self._drop()
            raise LaneError(self._examined(lost.failure)) from None
        except OSError as error:  # this process reads and writes nothing but the runs folder
            self._drop()
            raise LaneError(self._failed("storage", f"{type(error).__name__}: {error}")) from None
        except BaseException:
            self._drop()
            raise

    def cleanup(self) -> None:
        if self._gang is not None:
            self._gang.close()
            self._gang = None

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        raise AssertionError("trials keep their own checkpoints in their folders; Tune must not ask for one")

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        raise AssertionError("trials keep their own checkpoints in their folders; Tune has none to load")

    def _next_trial(self, config: dict[str, Any]) -> None:
        self._trial = {"trial_id": config["trial_id"], "spec": config["spec"]}
        self._begun = False
        self._attempt = 0
        self._steps = 1
        self._intervals: deque[float] = deque(maxlen=201)

    def _step(self) -> dict[str, Any]:
        enough = time.monotonic() + STEP_SECONDS
        folder = self._runs / "trials" / self._trial["trial_id"]
        said: dict[str, Any] = {"trial": self._trial["trial_id"], "reports": []}
        said |= {"done": False, "given_back": False}
        if self._avoided and self._avoided & lane_nodes():
            self.cleanup()  # ranks that end by themselves leave a checkpoint
            return said | {"done": True, "given_back": True}
        if not self._begun:
            if folder.exists("result.json") or elsewhere(folder, self._runs, self._shift.owner):
                return said | {"done": True}  # another driver was faster
            said |= {"places": [asdict(place) for place in self._begin(folder)], "attempt": self._attempt}
            enough = 0.0  # the first report goes out at once
        while True:
            progress = self._advance()
            if progress is None:
                if not folder.exists("result.json"):
                    cause = f"the trial ended but left no {folder.location}/result.json"
                    raise LaneError(self._failed("raised", cause))
                return said | {"done": True}
            said["reports"].append(asdict(progress))
            if time.monotonic() >= enough:
                return said

    def _begin(self, folder: Folder) -> Sequence[Place]:
        """Hands the trial to the ranks, fresh ones if there are none or the old ones have served enough."""
        shift = self._shift
        if self._gang is not None and self._worn(self._gang):
            self._gang.close()
            self._gang = None
        if self._gang is None:
            self._gang = Gang.gather(shift.resources, shift.home, shift.code, shift.work, shift.verbose)
            self._served, self._first_rss = 0, None
        self._attempt = Attempt.begin(folder, self._trial["spec"], shift.owner).attempt
        self._gang.all("begin", (self._trial["spec"], folder.location, self._attempt), LOAD_LIMIT)
        self._begun = True
        self._served += 1
        return self._gang.places

    def _worn(self, gang: Gang) -> bool:
        """Against leaks, ours or a library's, in sweeps of days."""
        faults = self._shift.faults
        rss = max(gang.all("rss", (), STALL_FLOOR))
        if self._first_rss is None:
            self._first_rss = rss
        grown = rss - self._first_rss > faults.recycle_growth_gib * 2**30
        return grown or (faults.recycle_trials is not None and self._served >= faults.recycle_trials)

    def _advance(self) -> Progress | None:
        """Some steps on every rank; as many as fill CALL_SECONDS, from what the last call took."""
        assert self._gang is not None, "a trial begins before it advances"
        started = time.monotonic()
        limit = stall_limit(self._shift.faults, self._intervals)
        progress = self._gang.all("advance", (self._steps,), limit)[0]
        taken = time.monotonic() - started
        self._intervals.append(taken)
        fitting = int(CALL_SECONDS * self._steps / max(taken, 1e-6))
        self._steps = max(1, min(fitting, 2 * self._steps, MAX_STEPS))
        return progress

    def _examined(self, failure: Failure) -> Failure:
        """A rank cannot tell a full disk of its node from a runs folder that takes nothing any more."""
        try:
            probe = f".probe-{uuid.uuid4().hex}"
            self._runs.write(probe, bytes(PROBE_BYTES))
            self._runs.delete(probe)
        except OSError as error:
            return self._failed("storage", f"{type(error).__name__}: {error}")
        return failure.model_copy(update={"attempt": self._attempt})

    def _failed(self, kind: Kind, cause: str) -> Failure:
        if kind == "storage":
            cause = f"the runs folder {self._runs.location} cannot be used: {cause}"
        return Failure(kind=kind, cause=cause, attempt=self._attempt)

    def _drop(self) -> None:
        if self._gang is not None:
            self._gang.kill()
            self._gang = None
        self._begun = False
