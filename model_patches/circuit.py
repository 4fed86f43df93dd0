"""Circuit: the kept edges of a graph, with a score for every edge."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from model_patches.graph import EdgeGraph, Shape


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
        assert not (self.kept & ~self.graph.allowed).any(), "a circuit keeps allowed edges only"

    @classmethod
    def top(cls, graph: EdgeGraph, scores: Float[Tensor, "writers readers"], num_edges: int) -> Self:
        """Keeps the `num_edges` highest scores; ties go to the edge that comes first in the graph."""
        assert 0 <= num_edges <= graph.num_edges, f"{num_edges} of {graph.num_edges} edges"
        flat = scores.flatten()[graph.flat_index]
        best = torch.sort(flat, descending=True, stable=True).indices[:num_edges]
        kept = torch.zeros(graph.allowed.numel(), dtype=torch.bool)
        kept[graph.flat_index[best]] = True
        scores = scores.detach().float().where(graph.allowed, 0.0)
        return cls(graph, scores, kept.view(graph.allowed.shape))

    @classmethod
    def from_edges(cls, graph: EdgeGraph, edges: list[tuple[str, str]]) -> Self:
        """The circuit of named edges, each with score 1. Raises ValueError for an unknown edge."""
        kept = torch.zeros_like(graph.allowed)
        for writer, reader in edges:
            kept[graph.locate(writer, reader)] = True
        return cls(graph, kept.float(), kept)

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

    def keep(self) -> Float[Tensor, "writers readers"]:
        """Gates for `CircuitModel`: 1 for kept and always-on edges, 0 elsewhere."""
        return (self.kept | self.graph.always_on).float()

    def connected(self) -> Self:
        """Without the edges that lie on no path from an embedding to the output.

        Under interchange ablation they cannot change the output: a writer that no kept edge
        reaches writes its corrupted value.
        """
        kept = self.kept | self.graph.always_on
        node_in = _feeding_readers(self.graph)
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

    def save(self) -> bytes:
        """A safetensors file: `scores`, `kept` and the graph's shape as JSON metadata."""
        shape = self.graph.shape
        header = {
            "format": "circuit-sweep/circuit/1",
            "embeddings": self.graph.embeddings,
            "shape": json.dumps({**shape.__dict__, "embeddings": list(shape.embeddings)}),
        }
        tensors = {"scores": self.scores.contiguous(), "kept": self.kept.contiguous()}
        return save_safetensors(tensors, metadata=header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ValueError naming the file when it is not a circuit file."""
        try:
            content = path.read_bytes()
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
            shape = json.loads(header["shape"])
            graph = EdgeGraph(
                Shape(**{**shape, "embeddings": tuple(shape["embeddings"])}), header["embeddings"]
            )
            tensors = load_safetensors(content)
            return cls(graph, tensors["scores"], tensors["kept"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AssertionError) as error:
            raise ValueError(f"{path}: not a circuit file: {error}") from None


def _feeding_readers(graph: EdgeGraph) -> list[list[int]]:
    """For each writer, the readers that feed it (none for an embedding)."""
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
