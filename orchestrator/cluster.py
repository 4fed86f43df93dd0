"""The Ray cluster a sweep runs on: ours, started here, or one that is already there."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence

import ray
from ray._private import worker as ray_worker
from ray._private.authentication.authentication_token_setup import (
    logger as token_log,
)
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray.exceptions import RayError

from trainers.resources import Resources
from trainers.spec import SpecError

KNOCK_SECONDS = 5.0
OBJECT_STORE_BYTES = 200 * 2**20  # lanes pass nothing larger than a trial's spec
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # else Tune prints a box even at verbosity 0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # trial folders are the truth; nobody reads Tune's own state
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
}


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connects to `address`, else to RAY_ADDRESS, else starts a Ray of our own that ends with us.

    Uses the connection that this process already has, and leaves it, if there is one.
    Raises SpecError when there is no cluster at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Lost ranks are told of by the lane; Tune's traceback and the raylet's paragraph add only noise.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray_worker._worker_logs_enabled = False
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _start_local()
    else:
        _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def use_token_if_there_is_one() -> None:
    """Ray starts clusters with token authentication once a token exists, yet clients that are given
    an address send it only when told to (RAY_AUTH_MODE)."""
    before = token_log.level
    token_log.setLevel(logging.ERROR)  # that authentication is on is no news to a user
    try:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    finally:
        token_log.setLevel(before)


def gangs(resources: Resources, nodes: Sequence[dict[str, float]]) -> int:
    """How many trials fit side by side on nodes with these resources ({"CPU": 8.0, "GPU": 1.0}).

    Raises SpecError when not even one does: it would wait for ever.
    """
    ranks = sum(_ranks_on(node, resources) for node in nodes)
    if ranks >= resources.ranks:
        return ranks // resources.ranks
    gpus = f" and {resources.gpus_per_rank:g} GPU(s)" if resources.gpus_per_rank else ""
    has = ", ".join(_describe(node) for node in nodes) or "no live node"
    raise SpecError(
        f"resources: a trial asks for {resources.ranks} rank(s) with {resources.cpus_per_rank} CPU(s){gpus} "
        f"each, found room for {ranks}; the cluster has {has}. "
        "Lower resources.ranks or resources.cpus_per_rank, or use a larger cluster (--address)"
    )


def live_nodes() -> list[dict[str, float]]:
    """The resources of every live node of the connected cluster."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _ranks_on(node: dict[str, float], resources: Resources) -> int:
    ranks = int(node.get("CPU", 0) / resources.cpus_per_rank)
    if resources.gpus_per_rank:
        ranks = min(ranks, int(node.get("GPU", 0) / resources.gpus_per_rank))
    return ranks


def _describe(node: dict[str, float]) -> str:
    gpus = f" and {node['GPU']:g} GPU(s)" if node.get("GPU") else ""
    return f"a node with {node.get('CPU', 0):g} CPU(s){gpus}"


def _start_local() -> None:
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _join(address: str) -> None:
    if "://" in address:
        raise SpecError(
            f"--address (or RAY_ADDRESS): found {address}; allowed: HOST:PORT of a running cluster's head, "
            "auto, or local. For an http:// address use `circuit-sweep submit`"
        )
    _knock(address)
    use_token_if_there_is_one()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SpecError(f"--address (or RAY_ADDRESS): no Ray cluster joined at {address}: {reason}") from None


def _knock(address: str) -> None:
    """Ray itself retries a dead address for many minutes. Raises SpecError when nobody answers."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SpecError(
            f"--address (or RAY_ADDRESS): nobody answers at {address} ({error}); allowed: HOST:PORT of a "
            "running cluster's head, auto, or local"
        ) from None
