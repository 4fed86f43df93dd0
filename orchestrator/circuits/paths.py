"""Paths: which nodes lie behind the names of a circuit's edges, in which row, and what is on a path.

Serves the drawing of circuits and the circuits in the report; knows names alone, no graph.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable

NODE = re.compile(r"(?P<kind>[am])(?P<layer>[0-9]{1,6})(\.(?P<part>h|kv)(?P<head>[0-9]{1,6}))?")
OUTPUT = "resid_post"
OUTPUT_LAYER = 10**6
PORTS = {"q": -0.3, "k": 0.0, "v": 0.3}  # where on a head's lower side its readers are, node widths
Edge = tuple[str, str]


def on_paths(edges: Iterable[Edge], heads_per_kv: int = 1) -> list[Edge]:
    """The edges from which a path leads to the output, and, where any edge leaves an embedding, to
    which a path leads from one."""
    edges = list(edges)
    into: dict[str, list[str]] = defaultdict(list)
    out: dict[str, list[str]] = defaultdict(list)
    for writer, reader in edges:
        for node in served(reader, heads_per_kv):
            into[node].append(writer)
            out[writer].append(node)
    useful = _reached([OUTPUT], into)
    embeddings = [writer for writer, _ in edges if not NODE.fullmatch(writer)]
    alive = _reached(embeddings, out) if embeddings else set(into) | set(out)
    return [
        (writer, reader)
        for writer, reader in edges
        if writer in alive and not useful.isdisjoint(served(reader, heads_per_kv))
    ]


def closest_to_output(edges: Iterable[Edge], limit: int) -> list[Edge]:
    """At most `limit` edges, by their distance from the output; edges without a path to it last."""
    into: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        into[node_of(edge[1])].append(edge)
    ordered: list[Edge] = []
    queue, seen = deque([OUTPUT]), {OUTPUT}
    while queue:
        for edge in into.pop(queue.popleft(), []):
            ordered.append(edge)
            writer = node_of(edge[0])
            if writer not in seen:
                seen.add(writer)
                queue.append(writer)
    ordered += [edge for rest in into.values() for edge in rest]
    return ordered[:limit]


def node_of(name: str) -> str:
    """The node behind a writer or a reader: `a3.h2.q` and `a3.h2` are one, `a3.h2`."""
    return name.rpartition(".")[0] if kind_of(name) in PORTS else name


def kind_of(reader: str) -> str:
    """`q`, `k`, `v`, `mlp` or `output`: what a reader takes its edges for."""
    last = reader.rpartition(".")[2]
    return last if last in PORTS else ("output" if reader == OUTPUT else "mlp")


def served(reader: str, heads_per_kv: int) -> list[str]:
    """The nodes that a reader feeds: its own, or the query heads that share a key or value head."""
    node = node_of(reader)
    if heads_per_kv == 1 or kind_of(reader) not in ("k", "v") or not NODE.fullmatch(node):
        return [node]
    layer, _, head = node.partition(".h")
    return [f"{layer}.h{int(head) * heads_per_kv + more}" for more in range(heads_per_kv)]


def _reached(start: Iterable[str], links: dict[str, list[str]]) -> set[str]:
    seen, queue = set(start), deque(start)
    while queue:
        new = [node for node in links.get(queue.popleft(), []) if node not in seen]
        seen.update(new)
        queue.extend(new)
    return seen


def level_of(node: str) -> tuple[int, int]:
    """(layer, 0 for key/value heads, 1 for heads, 2 for the MLP); embeddings first, the output last."""
    if node == OUTPUT:
        return (OUTPUT_LAYER, 0)
    match = NODE.fullmatch(node)
    if not match:
        return (-1, 0)
    return (int(match["layer"]), 2 if match["kind"] == "m" else int(match["part"] == "h"))


def place_of(node: str) -> tuple[tuple[int, int], int, str]:
    """Sorts nodes by their rows from the bottom up, then by head, then by name."""
    match = NODE.fullmatch(node)
    return (level_of(node), int(match["head"] or 0) if match else 0, node)
