"""Room: how many trials fit on the nodes of a cluster. Arithmetic; knows no Ray."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.resources import Resources
from trainers.spec import SpecError

Node = dict[str, Any]  # {"id", "name", "address", "resources": {"CPU": 8.0, ...}, "free": {...}}


def fits(resources: Resources, nodes: Sequence[Node], what: str = "resources") -> int:
    """How many trials fit side by side on these nodes; with `what` "free", beside what runs there."""
    ranks = [ranks_on(node[what], resources) for node in nodes]
    match resources.placement:
        case "STRICT_PACK":
            return sum(count // resources.ranks for count in ranks)
        case "STRICT_SPREAD":
            return _spread(ranks, resources.ranks)
        case _:
            return sum(ranks) // resources.ranks


def require_room(resources: Resources, nodes: Sequence[Node]) -> None:
    """Raises SpecError when not even one trial fits: it would wait for ever."""
    if fits(resources, nodes):
        return
    found = sum(ranks_on(node["resources"], resources) for node in nodes)
    has = ", ".join(f"a node with {amounts(node['resources'])}" for node in nodes) or "no live node"
    raise SpecError(
        f"resources: a trial asks for {asked(resources)}, found room for {found}; the cluster has {has}. "
        "Lower resources, use a larger cluster (--address), or wait for nodes that will join (--wait)"
    )


def ranks_on(has: Mapping[str, float], resources: Resources) -> int:
    return min(int(has.get(name, 0) / amount + 1e-9) for name, amount in resources.rank_bundle.items())


def _spread(ranks: Sequence[int], gang: int) -> int:
    """Gangs of ranks on `gang` different nodes each; `ranks` are what the nodes have room for."""
    gangs = 0
    while sum(min(count, gangs + 1) for count in ranks) >= gang * (gangs + 1):
        gangs += 1
    return gangs


def asked(resources: Resources) -> str:
    placed = "" if resources.placement == "PACK" else f", placed {resources.placement}"
    return f"{resources.ranks} rank(s) with {amounts(resources.rank_bundle)} each{placed}"


def amounts(resources: Mapping[str, float]) -> str:
    """`8 CPU, 1 GPU, 4.0 GiB memory`, without what Ray keeps for itself."""
    parts = [f"{resources.get('CPU', 0):g} CPU"]
    for name, amount in resources.items():
        hidden = name in ("CPU", "object_store_memory") or "_group_" in name or name.startswith("node:")
        if not hidden and name != "memory":
            parts.append(
                f"{amount:g} {name}" if not name.startswith("accelerator_type:") else name.partition(":")[2]
            )
    if "memory" in resources:
        parts.append(f"{resources['memory'] / 2**30:.1f} GiB memory")
    return ", ".join(parts)
