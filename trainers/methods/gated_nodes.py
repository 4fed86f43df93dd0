"""GatedNodes: the trained values of node pruning, and the circuit they stand for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model_patches import gates as hard_concrete
from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Node
from trainers.distributed import Engine
from trainers.methods.base import Diverged
from trainers.methods.gated_edges import initial_values

if TYPE_CHECKING:
    from trainers.methods.node_pruning import NodePruning
    from trainers.session import Session


@dataclass(frozen=True)
class GatedNodes:
    """log_alpha of every writer, in the graph's order, and (λ1, λ2) of the sparsity target, where Adam moves
    them. An edge's gate is its writer's, times that of the node that reads it where `ends` has two columns or
    more. fp32.

    A key or value that several query heads share is read while any of them is: the largest of their gates
    counts. The output reads with gate 1.
    """

    nodes: nn.Parameter
    multipliers: tuple[nn.Parameter, ...]
    # int64: per edge its writer, then the nodes that read it (again and again, where others have more);
    # the number of writers stands for the output.
    ends: Int[Tensor, "edges ends"]
    num_nodes: int  # kept apart: under ZeRO-3 a partitioned parameter says it is empty

    @classmethod
    def initial(cls, method: "NodePruning", session: "Session") -> Self:
        """Normal around `init_log_alpha`, keyed by the trial's seed."""
        graph, device = session.graph, session.ranks.device
        values = initial_values(
            len(graph.writers), session.spec.seed, 0, method.init_log_alpha, method.init_std
        )
        trained = method.constraints if method.multipliers == "adam" else 0
        ends = edge_ends(graph) if method.edge_rule == "both_ends" else edge_ends(graph)[:, :1]
        return cls(
            nn.Parameter(values.to(device)),
            tuple(nn.Parameter(torch.zeros(2, device=device)) for _ in range(trained)),
            ends.to(device),
            len(graph.writers),
        )

    @property
    def num_noise(self) -> int:
        """Uniform numbers that a sample takes."""
        return self.num_nodes

    def parameters(self) -> dict[str, nn.Parameter]:
        return {"nodes": self.nodes} | dict(zip(("lambda_edges",), self.multipliers, strict=False))

    def sample(self, noise: Float[Tensor, "samples gates"]) -> tuple[Tensor, None]:
        """Gates of edges [samples, edges]."""
        return self._edges(hard_concrete.sample(self.nodes, noise.to(self.nodes))), None

    def expected(self) -> Float[Tensor, " edges"]:
        """E[gate] of every edge, as if the largest of some gates had the largest of their expectations."""
        return self._edges(hard_concrete.expected(self.nodes))

    def probability_open(self) -> Float[Tensor, " edges"]:
        """P(gate > 0) of every edge, likewise."""
        return self._edges(hard_concrete.probability_open(self.nodes))

    def _edges(self, nodes: Float[Tensor, "*samples nodes"]) -> Float[Tensor, "*samples edges"]:
        if self.ends.shape[1] == 1:
            return nodes[..., self.ends[:, 0]]
        with_output = torch.cat([nodes, torch.ones_like(nodes[..., :1])], -1)
        gates = with_output[..., self.ends]
        return gates[..., 0] * gates[..., 1:].amax(-1)

    def trained(self, engine: Engine) -> Float[Tensor, " edges"]:
        """E[gate] of every edge as the engine holds it now, on the CPU; see `expected`."""
        nodes = nn.Parameter(engine.value("nodes").cpu())
        return GatedNodes(nodes, (), self.ends.cpu(), self.num_nodes).expected().detach()

    def order(self, engine: Engine, graph: EdgeGraph) -> Float[Tensor, "writers readers"]:
        """Of every edge, the log_alpha down to which nodes must be kept for it to be kept.

        Raises Diverged when a gate is not finite.
        """
        nodes, ends = engine.value("nodes").cpu(), self.ends.cpu()
        if not nodes.isfinite().all():
            raise Diverged("the gates: not all of them are finite")
        with_output = torch.cat([nodes, torch.full((1,), torch.finfo(nodes.dtype).max)])[ends]
        ranked = with_output[:, 0]
        if ends.shape[1] > 1:
            ranked = torch.minimum(ranked, with_output[:, 1:].amax(1))
        scores = torch.zeros(graph.allowed.numel()).index_copy(0, graph.flat_index, ranked.float())
        return scores.view(graph.allowed.shape)

    def circuit(self, engine: Engine, graph: EdgeGraph) -> Circuit:
        """The nodes with the largest gates and every edge between them: as many nodes as bring the number of
        edges nearest to Σ gates of edges; of two numbers as near, the smaller one.

        Raises Diverged when a gate is not finite.
        """
        scores = self.order(engine, graph)
        wanted = float(self.trained(engine).double().sum())
        sizes = [0, *level_sizes(scores.flatten()[graph.flat_index]).cumsum(0).tolist()]
        return Circuit.top(graph, scores, min(sizes, key=lambda size: (abs(size - wanted), size)))


def level_sizes(scores: Float[Tensor, " edges"]) -> Int[Tensor, " levels"]:
    """How many edges share each score, the highest first."""
    return scores.unique(return_counts=True)[1].flip(0)


def edge_ends(graph: EdgeGraph) -> Int[Tensor, "edges ends"]:
    """See GatedNodes.ends."""
    sharing = graph.shape.query_heads // graph.shape.key_value_heads
    readers = [_reading(graph, node, sharing) for node in graph.readers]
    most = max(map(len, readers))
    by_reader = torch.tensor([nodes + nodes[:1] * (most - len(nodes)) for nodes in readers])
    writer, reader = graph.flat_index // len(graph.readers), graph.flat_index % len(graph.readers)
    return torch.cat([writer[:, None], by_reader[reader]], 1)


def _reading(graph: EdgeGraph, reader: Node, sharing: int) -> list[int]:
    """Rows of the writers that a reader belongs to."""
    if reader.kind == "resid_post":
        return [len(graph.writers)]
    first = graph.first_head(reader.layer)
    if reader.kind == "mlp":
        return [first + graph.shape.query_heads]
    if reader.part == "q":
        return [first + reader.head]
    return [first + reader.head * sharing + head for head in range(sharing)]
