"""Gang: the ranks of a lane, as Ray actors in the lane's placement group."""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import psutil
import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError, RayTaskError
from ray.util import get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from orchestrator.cluster.rank import Place, Rank
from orchestrator.faults import Failure, Kind
from orchestrator.wording import ANSI
from trainers.resources import Resources
from trainers.spec import SpecError

JOIN_LIMIT = 300.0  # seconds for all ranks to start and to find each other
CLOSE_LIMIT = 20.0  # seconds for ranks to end by themselves
REACH_LIMIT = 15.0  # seconds for a word with another node
DOING = {  # a call in words, for whoever reads that a rank was lost in it
    "process": "starting",
    "free_port": "starting",
    "join": "joining its gang",
    "devices": "joining its gang",
    "begin": "loading",
    "advance": "running its trial",
    "rss": "running its trial",
    "close": "ending",
}
STARTING = ("process", "free_port", "join", "devices")  # what fails in them is the node's doing
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class GangLost(Exception):
    """`failure` says which rank and why, with the rank's own traceback."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.cause)
        self.failure = failure


@dataclass
class Gang:
    """`places` by rank: where each runs."""

    ranks: Sequence[Any]
    places: Sequence[Place]

    @classmethod
    def gather(cls, resources: Resources, home: str, code: str, work: str, verbose: bool) -> Self:
        """Starts one rank in each bundle of this lane's placement group and joins them.

        Raises GangLost when one does not come up; none is left then.
        """
        group = get_current_placement_group()
        assert group is not None, "a lane runs in its own placement group"
        start = ray.remote(max_restarts=0, max_task_retries=0)(Rank)
        bundle = resources.rank_bundle
        custom = {name: bundle[name] for name in bundle if name not in ("CPU", "GPU", "memory")}
        ranks = []
        for number in range(resources.ranks):
            # Tune drops empty bundles, so rank 0's bundle is found from the end.
            place = PlacementGroupSchedulingStrategy(group, group.bundle_count - resources.ranks + number)
            actor = start.options(
                scheduling_strategy=place,
                num_cpus=bundle["CPU"],
                num_gpus=bundle.get("GPU"),
                memory=bundle.get("memory"),
                resources=custom or None,
            )
            ranks.append(actor.remote(number, resources, home, code, verbose))
        gang = cls(ranks, _expected(group, resources.ranks))
        try:
            processes = gang.all("process", (), JOIN_LIMIT)
            gang.places = [Place(place.node, *own) for place, own in zip(gang.places, processes, strict=True)]
            nodes = [place.node for place in gang.places]
            one_node = len(set(nodes)) == 1
            port = gang.all("free_port", (), JOIN_LIMIT)[0]
            address = "127.0.0.1" if one_node else _address(nodes[0])
            gang.all("join", (work, address, port, one_node), JOIN_LIMIT)
            gpus = gang.all("devices", (), JOIN_LIMIT)
            gang.places = [replace(place, gpus=own) for place, own in zip(gang.places, gpus, strict=True)]
            return gang
        except GangLost:
            gang.kill()
            raise

    def all(self, call: str, arguments: tuple[Any, ...], limit: float) -> list[Any]:
        """The same call on every rank, answers by rank. Raises GangLost on the first rank that fails
        or when any rank is silent for `limit` seconds."""
        deadline = time.monotonic() + limit
        futures = [getattr(rank, call).remote(*arguments) for rank in self.ranks]
        pending = list(futures)
        while pending:
            done, pending = ray.wait(pending, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise GangLost(self._silence([futures.index(future) for future in pending], limit, call))
            try:
                ray.get(done)
            except RayError:
                raise GangLost(self._failure(futures, done[0], call)) from None
        return ray.get(futures)

    def close(self) -> None:
        """Lets the ranks end by themselves, or kills them."""
        try:
            self.all("close", (), CLOSE_LIMIT)
        except GangLost as lost:
            print(f"lane: ranks did not end by themselves and were killed: {lost}", flush=True)
        finally:
            self.kill()

    def kill(self) -> None:
        for rank in self.ranks:
            ray.kill(rank)
        for place in self.places:  # a frozen process does not hear Ray
            _at_place(place, _kill)

    def _silence(self, ranks: list[int], limit: float, call: str) -> Failure:
        """Ranks wait for each other, so one that is frozen silences all: it is told by its process."""
        frozen = [rank for rank in ranks if _at_place(self.places[rank], _is_stopped)] or ranks
        names = ", ".join(map(str, frozen))
        cause = f"rank {names} silent for {limit:.0f} s while {DOING[call]}"
        places = [self.places[rank] for rank in frozen]
        one_node = len({place.node for place in places}) == 1
        place = places[0] if one_node else None
        return Failure(
            kind="silent", cause=cause, ranks=tuple(frozen),
            node=place.node if place else "", host=place.host if place else "",
        )  # fmt: skip

    def _failure(self, futures: list[Any], first: Any, call: str) -> Failure:
        """Why ranks failed, the likely cause first: a rank that died, else the one that failed first;
        its peers often fail only because it is gone."""
        ray.wait(futures, num_returns=len(futures), timeout=2.0)
        raised: list[tuple[int, Kind, str]] = []
        died: list[tuple[int, Kind, str]] = []
        for future in [first] + [other for other in futures if other is not first]:
            number = futures.index(future)
            try:
                ray.get(future, timeout=0)
            except GetTimeoutError:
                continue
            except RayTaskError as error:
                text = f"rank {number} raised an error while {DOING[call]}:\n{_traceback(error)}"
                raised.append((number, _kind(error, call), text))
            except RayError as error:
                text = " ".join(str(error).split()).partition(" class_name:")[0]
                text = (
                    f"rank {number} died while {DOING[call]} (killed, out of memory or its node lost): {text}"
                )
                died.append((number, "memory" if isinstance(error, OutOfMemoryError) else "lost", text))
        number, kind, _ = (died + raised)[0]
        place = self.places[number]
        causes = "\n\n".join(text for _, _, text in died + raised)
        return Failure(kind=kind, cause=causes, ranks=(number,), node=place.node, host=place.host)


def lane_nodes() -> set[str]:
    """Ids of the nodes on which this lane's ranks run, or will."""
    group = get_current_placement_group()
    assert group is not None, "a lane runs in its own placement group"
    return set(placement_group_table(group)["bundles_to_node_id"].values())


def _expected(group: Any, ranks: int) -> list[Place]:
    """Where ranks will be, as far as it is known before they answer."""
    placed = placement_group_table(group)["bundles_to_node_id"]
    return [Place(placed[bundle]) for bundle in sorted(placed)][-ranks:]


def _address(node_id: str) -> str:
    return next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == node_id)


def _traceback(error: RayTaskError) -> str:
    """The rank's own, without colours, underlining, and the line on its actor that Ray puts before it."""
    lines = ANSI.sub("", str(error)).strip().splitlines()
    return "\n".join(line for line in lines if line.strip(" ^~") and not line.startswith("ray::"))


def _kind(error: RayTaskError, call: str) -> Kind:
    cause = getattr(error, "cause", None)
    if type(cause).__name__ == "PreflightError":  # also while loading: other files than elsewhere
        return "node"
    if isinstance(cause, OSError) and cause.errno in FULL:
        return "node"  # until the lane finds that it is the runs folder: see Lane
    if isinstance(cause, SpecError):
        return "refused"
    if isinstance(cause, MemoryError) or "OutOfMemoryError" in type(cause).__name__:
        return "memory"
    if "DefaultCPUAllocator: can't allocate memory" in str(cause):  # torch's, on CPUs
        return "memory"
    return "node" if call in STARTING else "raised"


def _at_place(place: Place, function: Callable[[int], bool]) -> bool:
    """`function(pid)` on the machine where a rank runs; False when that cannot be done any more."""
    if not place.pid:
        return False
    if place.node == ray.get_runtime_context().get_node_id():
        return function(place.pid)
    there = NodeAffinitySchedulingStrategy(place.node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(function).options(scheduling_strategy=there)
    with contextlib.suppress(RayError):  # its node is gone, and the rank with it
        return ray.get(task.remote(place.pid), timeout=REACH_LIMIT)
    return False


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False
