"""Circuit: the kept edges of a graph, with a score for every edge."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, get_args

from safetensors import SafetensorError, safe_open

from model_patches.graph import EdgeGraph, Embeddings, Shape
from model_patches.lazy import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

FORMAT = "circuit-sweep/circuit/1"


@dataclass(frozen=True)
class Circuit:
    """`scores` float32 [writers, readers], higher is more important, 0 where no edge is allowed;
    `kept` bool [writers, readers], a subset of `graph.allowed`."""

    graph: EdgeGraph
    scores: Float[Tensor, "writers readers"]
    kept: Bool[Tensor, "writers readers"]

    def __post_init__(self) -> None:
        shape = tuple(self.graph.allowed.shape)
        assert tuple(self.scores.shape) == shape and tuple(self.kept.shape) == shape, "one value per edge"
        assert self.kept.dtype == torch.bool and self.scores.isfinite().all(), "finite scores, kept or not"
        assert not (self.kept & ~self.graph.allowed).any(), "a circuit keeps allowed edges only"

    @classmethod
    def top(cls, graph: EdgeGraph, scores: Float[Tensor, "writers readers"], num_edges: int) -> Self:
        """Keeps the `num_edges` highest scores; ties go to the edge that comes first in the graph."""
        assert 0 <= num_edges <= graph.num_edges, f"{num_edges} of {graph.num_edges} edges"
        scores = scores.detach().float().cpu()
        flat = scores.flatten()[graph.flat_index]
        best = torch.sort(flat, descending=True, stable=True).indices[:num_edges]
        kept = torch.zeros(graph.allowed.numel(), dtype=torch.bool)
        kept[graph.flat_index[best]] = True
        return cls(graph, scores.where(graph.allowed, 0.0), kept.view(graph.allowed.shape))

    @classmethod
    def from_edges(cls, graph: EdgeGraph, edges: list[tuple[str, str]]) -> Self:
        """The circuit of named edges, each with score 1. Raises ValueError for an unknown edge."""
        kept = torch.zeros_like(graph.allowed)
        for writer, reader in edges:
            kept[graph.locate(writer, reader)] = True
        return cls(graph, kept.float(), kept)

    @classmethod
    def from_arrays(cls, graph: EdgeGraph, scores: object, kept: object) -> Self:
        """From whatever torch can read as [writers, readers]; what is no edge is left out."""
        allowed = graph.allowed
        scored = torch.as_tensor(scores).float().where(allowed, 0.0)
        return cls(graph, scored, torch.as_tensor(kept).bool() & allowed)

    @property
    def num_edges(self) -> int:
        return int(self.kept.sum())

    @property
    def sparsity(self) -> float:
        """Share of the graph's edges that are cut."""
        return 1 - self.num_edges / self.graph.num_edges

    @property
    def edges(self) -> list[tuple[str, str]]:
        """(writer, reader) names in the graph's edge order."""
        writers, readers = self.graph.writers, self.graph.readers
        return [(writers[w].name, readers[r].name) for w, r in self.kept.nonzero().tolist()]

    @property
    def nodes(self) -> frozenset[str]:
        """The writers that a kept edge leaves on its way from an embedding to the output."""
        on_path = self.connected().kept.any(dim=1)
        return frozenset(
            node.name for node, on in zip(self.graph.writers, on_path.tolist(), strict=True) if on
        )

    def keep(self) -> Float[Tensor, "writers readers"]:
        """Gates for `CircuitModel`: 1 for kept and always-on edges, 0 elsewhere."""
        return (self.kept | self.graph.always_on).float()

    def connected(self) -> Self:
        """Without the edges that lie on no path from an embedding to the output.

        Under interchange ablation they cannot change the output: a writer that no kept edge
        reaches writes its corrupted value.
        """
        kept = self.kept | self.graph.always_on
        node_in = feeding_readers(self.graph)
        alive = torch.zeros(len(self.graph.writers), dtype=torch.bool)
        alive[: self.graph.num_embeddings] = True
        for writer in range(self.graph.num_embeddings, len(self.graph.writers)):
            alive[writer] = bool((kept[:, node_in[writer]] & alive[:, None]).any())
        useful = torch.zeros(len(self.graph.readers), dtype=torch.bool)
        useful[-1] = True
        for writer in reversed(range(self.graph.num_embeddings, len(self.graph.writers))):
            if (kept[writer] & useful).any():
                useful[node_in[writer]] = True
        return replace(self, kept=self.kept & alive[:, None] & useful[None, :])

    def union(self, *others: Self) -> Self:
        """The edges that any keeps; each edge's score is the largest any gives it.

        Raises ValueError, as all set operations do, when the graphs differ.
        """
        circuits = self._alike(others)
        scores = torch.stack([circuit.scores for circuit in circuits]).amax(0)
        return replace(self, scores=scores, kept=torch.stack([one.kept for one in circuits]).any(0))

    def intersect(self, *others: Self) -> Self:
        """The edges that all keep; each edge's score is the smallest any gives it."""
        circuits = self._alike(others)
        scores = torch.stack([circuit.scores for circuit in circuits]).amin(0)
        return replace(self, scores=scores, kept=torch.stack([one.kept for one in circuits]).all(0))

    def subtract(self, *others: Self) -> Self:
        """The edges that this one keeps and no other does, with this one's scores."""
        taken = [circuit.kept for circuit in self._alike(others)[1:]]
        return replace(self, kept=self.kept & ~torch.stack([torch.zeros_like(self.kept), *taken]).any(0))

    def _alike(self, others: Iterable[Self]) -> list[Self]:
        circuits = [self, *others]
        for circuit in circuits[1:]:
            if (circuit.graph.shape, circuit.graph.embeddings) != (self.graph.shape, self.graph.embeddings):
                raise ValueError("circuits of different graphs have no edges in common")
        return circuits

    def save(self) -> bytes:
        """A safetensors file: `scores`, `kept` and the graph's shape as JSON metadata."""
        shape = self.graph.shape
        header = {"format": FORMAT, "embeddings": self.graph.embeddings, "shape": vars(shape)}
        tensors = {"scores": self.scores.contiguous(), "kept": self.kept.contiguous()}
        # One key: safetensors writes several in any order, and the same circuit shall be the same bytes.
        from safetensors.torch import save

        return save(tensors, metadata={"circuit": json.dumps(header)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ValueError naming the file when it is not a circuit file."""
        try:
            with safe_open(path, framework="pt") as file:
                shape, embeddings = _described(file.metadata() or {})
                # Checked before anything of the claimed size is made.
                for name, dtype in (("scores", "F32"), ("kept", "BOOL")):
                    stored = file.get_slice(name)
                    if (stored.get_dtype(), tuple(stored.get_shape())) != (dtype, shape.size):
                        found = f"{stored.get_dtype()} {stored.get_shape()}"
                        raise ValueError(f"{name} is {found}, its shape says {dtype} {list(shape.size)}")
                scores, kept = file.get_tensor("scores"), file.get_tensor("kept")
            return cls(EdgeGraph(shape, embeddings), scores, kept)
        except (OSError, SafetensorError, TypeError, ValueError, RecursionError, AssertionError) as error:
            raise ValueError(f"{path}: not a circuit file: {error}") from None

    @classmethod
    def loads(cls, content: bytes, name: str) -> Self:
        """A circuit file's content. Raises ValueError naming `name` when it is none."""
        with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
            file = Path(scratch, "circuit.safetensors")  # safetensors reads metadata from files alone
            file.write_bytes(content)
            try:
                return cls.load(file)
            except ValueError as error:
                raise ValueError(str(error).replace(str(file), name, 1)) from None


def iou(first: Set[object], second: Set[object]) -> float:
    """Size of the intersection over size of the union; 1 for two empty sets."""
    return len(first & second) / len(first | second) if first | second else 1.0


def _described(metadata: dict[str, str]) -> tuple[Shape, Embeddings]:
    """What a circuit file's metadata says. Raises ValueError, TypeError or RecursionError."""
    header = json.loads(metadata.get("circuit", "null"))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    if header.get("embeddings") not in get_args(Embeddings):
        raise ValueError(f"embeddings must be {' or '.join(get_args(Embeddings))}")
    shape = header.get("shape")
    if not isinstance(shape, dict) or not isinstance(shape.get("embeddings"), list):
        raise ValueError("its shape is not a mapping with embeddings")
    return Shape(**{**shape, "embeddings": tuple(shape["embeddings"])}), header["embeddings"]  # type: ignore[return-value]


def feeding_readers(graph: EdgeGraph) -> list[list[int]]:
    """For each writer, by row, the columns of the readers that feed it: q, k and v of a head, the MLP's
    own; none for an embedding."""
    heads_per_kv = graph.shape.query_heads // graph.shape.key_value_heads
    feeds: list[list[int]] = []
    for node in graph.writers:
        if node.kind == "head":
            names = [f"a{node.layer}.h{node.head}.q"]
            names += [f"a{node.layer}.h{node.head // heads_per_kv}.{part}" for part in "kv"]
        else:
            names = [node.name] if node.kind == "mlp" else []
        feeds.append([graph.reader_index[name] for name in names])
    return feeds
