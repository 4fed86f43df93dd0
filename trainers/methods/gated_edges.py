"""GatedEdges: the trained values of edge pruning, and the circuit they stand for."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model_patches import gates as hard_concrete
from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph
from trainers.distributed import Engine
from trainers.methods.base import Diverged

if TYPE_CHECKING:
    from trainers.methods.edge_pruning import EdgePruning
    from trainers.session import Session

# Noise keys: (seed, step, draw). Steps count from 0, so the initial values take step -1.
INITIAL = -1
CUT = 1e30  # a finite rank below every log_alpha


@dataclass(frozen=True)
class GatedEdges:
    """log_alpha of every allowed edge, in the graph's order; of every writer, if writers have
    gates; and (λ1, λ2) of each sparsity target, where Adam moves them. fp32, whatever the model's dtype."""

    edges: nn.Parameter
    writers: nn.Parameter | None
    multipliers: tuple[nn.Parameter, ...]
    edge_writer: Tensor  # int64 [edges]: the writer of each edge
    num_writers: int  # with a gate
    published: bool

    @classmethod
    def initial(
        cls, method: "EdgePruning", session: "Session", centers: Float[Tensor, " edges"] | None = None
    ) -> Self:
        """Normal around `init_log_alpha`, keyed by the trial's seed; `centers` are other means for edges."""
        graph, device = session.graph, session.ranks.device

        def normal(count: int, draw: int, mean: float | Tensor) -> nn.Parameter:
            return nn.Parameter(
                initial_values(count, session.spec.seed, draw, mean, method.init_std).to(device)
            )

        trained = method.constraints if method.multipliers == "adam" else 0
        return cls(
            normal(graph.num_edges, 0, method.init_log_alpha if centers is None else centers),
            normal(len(graph.writers), 1, method.init_log_alpha) if method.writer_gates else None,
            tuple(nn.Parameter(torch.zeros(2, device=device)) for _ in range(trained)),
            (graph.flat_index // len(graph.readers)).to(device),
            len(graph.writers) if method.writer_gates else 0,
            method.final_gates == "published",
        )

    @property
    def num_noise(self) -> int:
        """Uniform numbers that a sample takes."""
        return self.edge_writer.numel() + self.num_writers

    def parameters(self) -> dict[str, nn.Parameter]:
        named = {"edges": self.edges}
        if self.writers is not None:
            named["writers"] = self.writers
        return named | {
            f"lambda_{name}": pair for name, pair in zip(("edges", "writers"), self.multipliers, strict=False)
        }

    def sample(self, noise: Float[Tensor, "samples gates"]) -> tuple[Tensor, Tensor | None]:
        """Gates of edges [samples, edges], times their writer's gate; and of writers, if any."""
        noise = noise.to(self.edges)
        edges = hard_concrete.sample(self.edges, noise[:, : self.edge_writer.numel()])
        if self.writers is None:
            return edges, None
        writers = hard_concrete.sample(self.writers, noise[:, self.edge_writer.numel() :])
        return edges * writers[:, self.edge_writer], writers

    def expected(self) -> Float[Tensor, " edges"]:
        """E[gate] of every edge."""
        return _product(hard_concrete.expected, self.edges, self.writers, self.edge_writer)

    def trained(self, engine: Engine) -> Float[Tensor, " edges"]:
        """E[gate] of every edge as the engine holds it now, on the CPU."""
        writers = engine.value("writers").cpu() if self.writers is not None else None
        return _product(
            hard_concrete.expected, engine.value("edges").cpu(), writers, self.edge_writer.cpu()
        ).detach()

    def probability_open(self) -> Float[Tensor, " edges"]:
        return _product(hard_concrete.probability_open, self.edges, self.writers, self.edge_writer)

    def order(self, engine: Engine, graph: EdgeGraph) -> Float[Tensor, "writers readers"]:
        """Scores that rank all edges by their gates: log_alpha, or log (E[gate] · E[writer's gate]), which
        tells gates near 1 apart.

        Raises Diverged when a gate is not finite.
        """
        ranked = engine.value("edges").cpu().double()
        if self.writers is not None:
            writers = hard_concrete.expected(engine.value("writers").cpu().double())
            ranked = hard_concrete.expected(ranked).log() + writers.log()[self.edge_writer.cpu()]
        if not ranked.isfinite().all():
            raise Diverged("the gates: not all of them are finite")
        scores = torch.zeros(graph.allowed.numel()).index_copy(0, graph.flat_index, ranked.float())
        return scores.view(graph.allowed.shape)

    def circuit(self, engine: Engine, graph: EdgeGraph) -> Circuit:
        """Keeps round(Σ gates) edges, those with the largest gates, ties by edge index.

        Raises Diverged when a gate is not finite.
        """
        edges = engine.value("edges").cpu()
        writers = engine.value("writers").cpu() if self.writers is not None else None
        of_edge = self.edge_writer.cpu()
        if not all(values.isfinite().all() for values in (edges, writers) if values is not None):
            raise Diverged("the gates: not all of them are finite")
        if self.published:
            gates = hard_concrete.published_mask(edges, published_tensors(graph))
            if writers is not None:
                kinds = _numbered((node.kind, node.layer) for node in graph.writers)
                gates = gates * hard_concrete.published_mask(writers, kinds)[of_edge]
        else:
            gates = _product(hard_concrete.expected, edges, writers, of_edge)
        num_edges = round(float(gates.double().sum()))
        # Gates saturate at 1; log_alpha, monotone in those above 0, still tells them apart. A product of
        # two gates has no such stand-in, and needs none: between the number of gates that are 1 and of
        # those above 0 lies their sum, so the cut never falls among equal ones.
        ranked = edges.masked_fill(gates == 0, -CUT) if writers is None else gates
        scores = torch.zeros(graph.allowed.numel()).index_copy(0, graph.flat_index, ranked.float())
        return Circuit.top(graph, scores.view(graph.allowed.shape), num_edges)


def published_tensors(graph: EdgeGraph) -> Int[Tensor, " edges"]:
    """Numbers the log_alpha tensor of the published code that holds each edge: one per layer for
    all queries, all keys, all values, the MLP, and one for the output."""
    of_reader = _numbered((node.kind, node.layer, node.part) for node in graph.readers)
    return of_reader[graph.flat_index % len(graph.readers)]


def _numbered(keys: Iterable[Hashable]) -> Int[Tensor, " items"]:
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])


def _product(
    gate: Callable[[Tensor], Tensor], edges: Tensor, writers: Tensor | None, edge_writer: Tensor
) -> Tensor:
    return gate(edges) if writers is None else gate(edges) * gate(writers)[edge_writer]


def initial_values(
    count: int, seed: int, draw: int, mean: float | Tensor, std: float
) -> Float[Tensor, " gates"]:
    """float32 log_alphas, normal, keyed by the trial's seed."""
    uniform = hard_concrete.noise((count,), seed, INITIAL, draw)
    return (mean + std * torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))).float()


def noise_for(seed: int, step: int, samples: int, count: int) -> Float[Tensor, "samples gates"]:
    """Uniform noise of a step, `count` numbers a sample; each sample has a key of its own."""
    return torch.stack([hard_concrete.noise((count,), seed, step, sample) for sample in range(samples)])
