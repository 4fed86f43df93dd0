"""How much memory a rank has: of a GPU as it is named, of a node as Ray counts it, or of this machine."""

import os
from collections.abc import Sequence

from orchestrator.cluster.room import Node, ranks_on
from trainers.resources import Resources

# By Ray's accelerator types, the smallest card of a name; what the driver leaves free of it.
GPU_GIB = {
    "A10G": 22, "A100": 39, "A100-40G": 39, "A100-80G": 79, "B200": 178, "H100": 79, "H200": 139, "L4": 22,
    "L40S": 44, "T4": 15, "V100": 15,
}  # fmt: skip


def room(resources: Resources, nodes: Sequence[Node] | None) -> int | None:
    """Bytes for a rank and its CUDA tensors, or for a CPU rank's whole process; None is unknown. `nodes` are
    a cluster's; without them, this machine, whose memory its ranks and lanes share."""
    if resources.gpus_per_rank:
        gib = GPU_GIB.get(resources.accelerator or "")
        return None if gib is None else int(gib * 2**30 * min(1.0, resources.gpus_per_rank))
    if resources.memory_gib_per_rank is not None:
        return int(resources.memory_gib_per_rank * 2**30)
    if nodes is not None:
        each = [
            int(node["resources"]["memory"] / count)
            for node in nodes
            if (
                count := min(
                    ranks_on(node["resources"], resources), resources.ranks * (resources.lanes or 2**30)
                )
            )
            and "memory" in node["resources"]
        ]
        return min(each, default=None)
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (resources.ranks * (resources.lanes or 1))
    )
