"""The Ray cluster a sweep runs on: ours, started here, or one that is already there."""

import contextlib
import gc
import logging
import os
import socket
from collections.abc import Collection, Iterator
from typing import Any

import ray
from ray._private import state as ray_state
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker
from ray._private.authentication.authentication_token_setup import (
    logger as token_log,
)
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray.exceptions import RayError

from orchestrator.cluster.room import Node, amounts, asked, fits, ranks_on
from trainers.resources import Resources
from trainers.spec import SpecError

KNOCK_SECONDS = 5.0
OBJECT_STORE_BYTES = 200 * 2**20  # lanes pass nothing larger than a trial's spec
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # else Tune prints a box even at verbosity 0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of lanes that fail while the sweep ends
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # trial folders are the truth; nobody reads Tune's own state
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
}


@contextlib.contextmanager
def cluster(address: str | None, verbose: bool = False) -> Iterator[None]:
    """Connects to `address`, else to RAY_ADDRESS, else starts a Ray of our own that ends with us.
    `verbose` lets Ray and Tune say all they have to say.

    Uses the connection that this process already has, and leaves it, if there is one.
    Raises SpecError when there is no cluster at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Lost ranks are told of by the lane; Tune's traceback and the raylet's paragraph add only noise.
    if not verbose:
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray_worker._worker_logs_enabled = verbose
    _keep_secrets_to_ourselves()
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _start_local(verbose)
    else:
        _join(address, verbose)
    try:
        yield
    finally:
        _leave()


def _keep_secrets_to_ourselves() -> None:
    """Tune copies AWS keys into its trials' runtime environments, which `ps`, Ray's logs and its dashboard
    show. A Ray of our own inherits them; the nodes of a cluster need their own."""
    from ray.tune.execution import class_cache

    shown = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in shown if not name.startswith("AWS_")}


def use_token_if_there_is_one() -> None:
    """Ray starts clusters with token authentication once a token exists, yet clients that are given
    an address send it only when told to (RAY_AUTH_MODE)."""
    before = token_log.level
    token_log.setLevel(logging.ERROR)  # that authentication is on is no news to a user
    try:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    finally:
        token_log.setLevel(before)


def live_nodes(excluded: Collection[str] = ()) -> list[Node]:
    """The nodes of the connected cluster that are alive, but for those with these ids."""
    free = ray_state.available_resources_per_node()
    return [
        {
            "id": node["NodeID"],
            "name": node["NodeManagerHostname"],
            "address": node["NodeManagerAddress"],
            "resources": dict(node["Resources"]),
            "free": free.get(node["NodeID"], {}),
        }
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in excluded
    ]


def nodes_called(name: str) -> list[str]:
    """Ids of the live nodes with this name, address, or beginning of their id."""
    return [
        str(node["id"])
        for node in live_nodes()
        if name in (node["name"], node["address"]) or (len(name) >= 6 and str(node["id"]).startswith(name))
    ]


def missing(resources: Resources, excluded: Collection[str] = ()) -> str:
    """What a trial waits for, in words; empty when it has room."""
    nodes = live_nodes(excluded)
    if fits(resources, nodes, "free"):
        return ""
    free = ", ".join(f"{node['name']}: {amounts(node['free'])}" for node in nodes) or "no live node"
    why = "is in use" if fits(resources, nodes) else "is not there yet"
    ranks = sum(ranks_on(node["free"], resources) for node in nodes)
    told = (
        f"a trial asks for {asked(resources)}; what is missing for {resources.ranks - ranks} of them {why}."
    )
    left_out = [node["name"] for node in live_nodes() if node["id"] in excluded]
    without = f" Not counted, as drained or excluded: {', '.join(map(str, left_out))}." if left_out else ""
    return f"{told} Free: {free}.{without}"


def _start_local(verbose: bool) -> None:
    try:
        _init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **_voice(verbose),
        )
    except Exception as error:  # whatever keeps Ray's processes from starting: time, memory, ports, disk
        if verbose:
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise SpecError(
            f"--address: none given, and no Ray of our own could be started here: {reason} "
            "(-v shows more; on a busy machine, try again)"
        ) from None


def _init(**options: Any) -> None:
    """`ray.init`, but who sends SIGTERM meanwhile is heard by the caller's handler: Ray's would end this
    process without a word, and leave what has started by then."""
    theirs = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        ray.init(**options)
    finally:
        ray_utils.set_sigterm_handler = theirs


def _leave() -> None:
    """Ray ends the whole process when one of its references is dropped while it shuts down, which the
    garbage collector would do on any thread of ours."""
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _join(address: str, verbose: bool) -> None:
    if "://" in address:
        raise SpecError(
            f"--address (or RAY_ADDRESS): found {address}; allowed: HOST:PORT of a running cluster's head, "
            "auto, or local. For an http:// address use `circuit-sweep submit`"
        )
    _knock(address)
    use_token_if_there_is_one()
    try:
        _init(address=address, **_voice(verbose))
    except (ConnectionError, RuntimeError, RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SpecError(
            f"--address (or RAY_ADDRESS): no Ray cluster joined at {address}: {reason}. If Ray says "
            "InvalidAuthToken: give the cluster's token in RAY_AUTH_TOKEN, or in ~/.ray/auth_token"
        ) from None


def _voice(verbose: bool) -> dict[str, Any]:
    return {"log_to_driver": verbose, "logging_level": logging.INFO if verbose else logging.ERROR}


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
