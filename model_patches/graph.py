"""EdgeGraph: writers, readers and the edges that may exist between them.

A writer adds to the residual stream: an embedding, an attention head, an MLP. A reader takes its
input from it: a head's query, key or value, an MLP, the output. An edge is a (writer, reader) pair
in which the writer comes earlier in the computation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from model_patches.lazy import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from torch import Tensor

Embeddings = Literal["maskable", "always_on"]
OutputBias = Literal["shared", "kept"]
MAX_PAIRS = 2**29  # writers × readers; the largest published models have 3.4e8 (126 layers of 128 heads)


@dataclass(frozen=True, order=True)
class Node:
    """A writer or a reader. `part` is q, k or v for a head's readers; for k and v, `head` counts
    key/value heads (grouped-query attention has fewer of them than query heads)."""

    kind: Literal["tok_embeds", "pos_embeds", "head", "mlp", "resid_post"]
    layer: int = -1
    head: int = -1
    part: Literal["", "q", "k", "v"] = ""

    @property
    def name(self) -> str:
        """`tok_embeds`, `a3.h2`, `a3.h2.q`, `m5`, `resid_post`."""
        match self.kind:
            case "head":
                return f"a{self.layer}.h{self.head}" + (f".{self.part}" if self.part else "")
            case "mlp":
                return f"m{self.layer}"
            case _:
                return self.kind


@dataclass(frozen=True)
class Shape:
    """What of a model decides its edge graph. Raises ValueError for an impossible one."""

    layers: int
    query_heads: int
    key_value_heads: int
    embeddings: tuple[Literal["tok_embeds", "pos_embeds"], ...]
    parallel_residual: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "query_heads", "key_value_heads"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
        if self.query_heads % self.key_value_heads:
            raise ValueError(
                f"{self.query_heads} query heads cannot share {self.key_value_heads} key/value heads evenly"
            )
        if self.embeddings not in (("tok_embeds",), ("tok_embeds", "pos_embeds")):
            raise ValueError(
                f"embeddings must be tok_embeds, or tok_embeds and pos_embeds, not {self.embeddings}"
            )
        if type(self.parallel_residual) is not bool:
            raise ValueError(f"parallel_residual must be true or false, not {self.parallel_residual!r}")
        writers, readers = self.size
        if writers * readers > MAX_PAIRS:
            raise ValueError(f"{writers:,} writers and {readers:,} readers are more than any model has")

    @property
    def size(self) -> tuple[int, int]:
        """(writers, readers), known without listing them."""
        readers_per_layer = self.query_heads + 2 * self.key_value_heads + 1
        return len(self.embeddings) + self.layers * (
            self.query_heads + 1
        ), self.layers * readers_per_layer + 1


@dataclass(frozen=True)
class ReaderGroup:
    """Readers that see the same writers: `readers` read the first `visible` writers."""

    readers: slice
    visible: int


@dataclass(frozen=True)
class EdgeGraph:
    """All edges of a model, in one order: by writer, then by reader.

    `embeddings="always_on"` keeps the embeddings' edges in every circuit and does not count them
    (ACDC's and EAP's convention; Edge Pruning's is `maskable`). Counts differ, so every count
    says which convention it uses.
    """

    shape: Shape
    embeddings: Embeddings = "maskable"
    writers: tuple[Node, ...] = field(init=False)
    readers: tuple[Node, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "writers", tuple(_writers(self.shape)))
        object.__setattr__(self, "readers", tuple(_readers(self.shape)))

    @property
    def num_embeddings(self) -> int:
        return len(self.shape.embeddings)

    def attention(self, layer: int) -> ReaderGroup:
        """The query, key and value readers of a layer, in this order."""
        first = layer * self.readers_per_layer
        return ReaderGroup(slice(first, first + self.readers_per_layer - 1), self.first_head(layer))

    def mlp(self, layer: int) -> ReaderGroup:
        reader = (layer + 1) * self.readers_per_layer - 1
        heads = 0 if self.shape.parallel_residual else self.shape.query_heads
        return ReaderGroup(slice(reader, reader + 1), self.first_head(layer) + heads)

    @property
    def output(self) -> ReaderGroup:
        return ReaderGroup(slice(len(self.readers) - 1, len(self.readers)), len(self.writers))

    def first_head(self, layer: int) -> int:
        """Index of the writer `a{layer}.h0`; the MLP of the layer follows its heads."""
        return self.num_embeddings + layer * (self.shape.query_heads + 1)

    @property
    def readers_per_layer(self) -> int:
        return self.shape.query_heads + 2 * self.shape.key_value_heads + 1

    def groups(self) -> Iterator[ReaderGroup]:
        for layer in range(self.shape.layers):
            yield self.attention(layer)
            yield self.mlp(layer)
        yield self.output

    @cached_property
    def exists(self) -> Bool[Tensor, "writers readers"]:
        """True where the model has a connection, counted or not."""
        exists = torch.zeros(len(self.writers), len(self.readers), dtype=torch.bool)
        for group in self.groups():
            exists[: group.visible, group.readers] = True
        return exists

    @cached_property
    def allowed(self) -> Bool[Tensor, "writers readers"]:
        """True for every edge a circuit may keep or cut: `exists` without always-on embeddings."""
        allowed = self.exists.clone()
        if self.embeddings == "always_on":
            allowed[: self.num_embeddings] = False
        return allowed

    @cached_property
    def always_on(self) -> Bool[Tensor, "writers readers"]:
        """Connections that no circuit cuts and no count includes."""
        return self.exists & ~self.allowed

    @cached_property
    def flat_index(self) -> Int[Tensor, " edges"]:
        """Position of each edge in a flattened [writers, readers] matrix; the edge order."""
        return self.allowed.flatten().nonzero().squeeze(1)

    @property
    def num_edges(self) -> int:
        return int(self.flat_index.numel())

    @cached_property
    def writer_index(self) -> dict[str, int]:
        return {node.name: index for index, node in enumerate(self.writers)}

    @cached_property
    def reader_index(self) -> dict[str, int]:
        return {node.name: index for index, node in enumerate(self.readers)}

    def locate(self, writer: str, reader: str) -> tuple[int, int]:
        """Row and column of an edge, for example of ("a3.h2", "m5").

        Raises ValueError when a name is unknown or when no such edge exists.
        """
        if writer not in self.writer_index:
            raise ValueError(f"unknown writer '{writer}'; writers are {_some(self.writer_index)}")
        if reader not in self.reader_index:
            raise ValueError(f"unknown reader '{reader}'; readers are {_some(self.reader_index)}")
        row, column = self.writer_index[writer], self.reader_index[reader]
        if not self.allowed[row, column]:
            why = "the embeddings are always on" if self.exists[row, column] else "the reader comes first"
            raise ValueError(f"no edge {writer}->{reader}: {why}")
        return row, column


def _writers(shape: Shape) -> Iterator[Node]:
    for kind in shape.embeddings:
        yield Node(kind)
    for layer in range(shape.layers):
        yield from (Node("head", layer, head) for head in range(shape.query_heads))
        yield Node("mlp", layer)


def _readers(shape: Shape) -> Iterator[Node]:
    for layer in range(shape.layers):
        yield from (Node("head", layer, head, "q") for head in range(shape.query_heads))
        yield from (Node("head", layer, head, "k") for head in range(shape.key_value_heads))
        yield from (Node("head", layer, head, "v") for head in range(shape.key_value_heads))
        yield Node("mlp", layer)
    yield Node("resid_post")


def _some(names: dict[str, int], limit: int = 12) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + (", …" if len(listed) > limit else "")
