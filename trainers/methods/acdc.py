"""ACDC (Conmy et al. 2023, Algorithm 1): cuts edges one by one, from the output to the embeddings.

An edge stays cut when cutting it makes the metric worse by less than the threshold, given all cuts so
far. Edges are tried reader by reader in reverse topological order, as published: the output; then layer
by layer from the last, the MLP, the queries, the keys, the values, higher heads first; into a reader,
later writers first.

Many edges are tried at once, and the circuit is that of trying them one after another. For the next
edges of the order it is guessed which will be cut, and the circuits that this order would try if the
guesses held are measured side by side. Going through them in order, the first is the very circuit that
comes next, whatever was guessed; and while a decision is the guessed one, so is the next. The first
decision that is not the guessed one still counts; what was measured beyond it is dropped, and the
guessing starts anew there. The same circuits are compared with the same threshold, so the result can
differ only where rounding, which depends on how many circuits share a pass, decides.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, field_validator

from model_patches.circuit import Circuit, feeding_readers
from model_patches.graph import EdgeGraph
from model_patches.lazy import torch
from trainers.methods.base import Discovery, Diverged, Found, Method, told_as
from trainers.methods.ranking import EdgeBudgets, budgets_in, count_budgets, top_circuits
from trainers.metrics import METRICS
from trainers.progress import Progress
from trainers.spec import Misfit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from trainers.session import Session

SMALLEST, LARGEST = 4, 128  # edges tried at once: doubled when all guesses held, else halved


class Acdc(Method):
    """One circuit per threshold. A circuit's scores are how much worse cutting each edge made the metric,
    its mean over the training examples, when it was tried."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "ACDC"
    smoke: ClassVar[Mapping[str, Any]] = {"thresholds": (0.01,)}
    uses_seed: ClassVar[bool] = False

    name: Literal["acdc"] = "acdc"
    thresholds: tuple[PositiveFloat, ...] = Field(
        (0.001, 0.003, 0.01, 0.03, 0.1), description="one circuit each"
    )
    metric: str | None = Field(
        None,
        description="what a cut may cost; default: the task's divergence from the full model (published)",
    )
    ranking_budgets: EdgeBudgets = Field(
        None,
        description="also evaluates, at these numbers of edges (or mib), the top of the ranking by the "
        "largest threshold that keeps an edge, then by what cutting it cost there",
    )

    @field_validator("thresholds")
    @classmethod
    def _some(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if not thresholds:
            raise ValueError("found []; allowed: at least 1 entry")
        return thresholds

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str | None) -> str | None:
        if metric is not None and metric not in METRICS:
            raise ValueError(f"found '{metric}'; allowed: {', '.join(METRICS)}")
        return metric

    def check(self, metrics: tuple[str, ...]) -> None:
        if self.metric is not None and self.metric not in metrics:
            said = f"found {self.metric}, which the task does not measure; allowed: {', '.join(metrics)}"
            raise Misfit("method.metric", said)

    def steps_planned(self) -> int:
        return len(set(self.thresholds))  # in proportion to it, for one model

    def points_planned(self) -> int:
        ranked = 0 if self.ranking_budgets is None else count_budgets(self.ranking_budgets)
        return len(set(self.thresholds)) + ranked

    def discover(self, session: Session) -> Generator[Progress, None, Discovery]:
        graph, thresholds = session.graph, sorted(set(self.thresholds))
        engine = session.open()
        done, state = session.checkpoints.latest() or (0, None)
        search = Search.of(graph, len(thresholds), state)
        engine.run(session.resume, state or {})
        total = graph.num_edges * len(thresholds)
        while done < total:
            number, place = divmod(done, graph.num_edges)
            told = Progress(done, total, {"threshold": thresholds[number]})
            steps = self._decide(session, search, number, place, thresholds[number])
            done += yield from told_as(steps, told)
            if session.checkpoints.due():
                session.checkpoints.save(done, search.state() | session.cost_state())
            values = {"threshold": thresholds[number], "num_edges": float(search.kept[number].sum())}
            yield Progress(done, total, values)
        found = [
            Found(Circuit(graph, costs.float(), kept), "threshold", threshold=threshold)
            for costs, kept, threshold in zip(search.costs, search.kept, thresholds, strict=True)
        ]
        if self.ranking_budgets is not None:
            budgets = budgets_in(self.ranking_budgets, graph)
            found += top_circuits(graph, search.ranking(), budgets, "ranking")
        return Discovery(found, total, *session.cost())

    def _decide(
        self, session: Session, search: Search, number: int, place: int, threshold: float
    ) -> Generator[Progress, None, int]:
        """Decides on the next edges of a threshold's order, at least one; returns how many."""
        from trainers.evaluate import evaluate

        name, kept = self.metric or session.divergence, search.kept[number]
        guesses, circuits = search.guess(number, place, threshold)
        first = 0
        if search.now is None:
            circuits, first = [kept.clone(), *circuits], 1
        worse: list[float] = []
        if circuits:
            none = torch.zeros(kept.shape)
            tried = [Circuit(session.graph, none, one) for one in circuits]
            _, values = yield from evaluate(session, tried, "train")
            sign = -1 if METRICS[name].higher_is_better else 1
            worse = [sign * value[name] for value in values]
        if not all(map(math.isfinite, worse)):
            raise Diverged(f"edge {place} at threshold {threshold:g}: {name} is not finite")
        if first:
            search.now = worse.pop(0)
        measured = iter(worse)
        done = 0
        for guess in guesses:
            done += 1
            after = search.now if guess.unread else next(measured)
            assert search.now is not None and after is not None, "measured above"
            cost = after - search.now
            search.costs[number].view(-1)[guess.edge] = cost
            if cost < threshold:
                kept.view(-1)[guess.edge] = False
                search.now = after
            if (cost < threshold) != guess.cut:
                search.window = max(SMALLEST, search.window // 2)
                break
        else:
            search.window = min(LARGEST, 2 * search.window)
        if place + done == session.graph.num_edges:
            search.now = None  # the next threshold starts from all edges
        return done


@dataclass(frozen=True)
class Guess:
    """An edge, by its place in the flattened matrix; whether it will be cut; `unread` when no kept edge
    leads from its reader's node to the output, so that cutting it costs exactly 0 and needs no run."""

    edge: int
    cut: bool
    unread: bool


@dataclass
class Search:
    """Where a search stands. kept, costs: [thresholds, writers, readers]; now: how bad the metric of the
    circuit at hand is, None before it is measured."""

    graph: EdgeGraph
    kept: Bool[Tensor, "thresholds writers readers"]
    costs: Float[Tensor, "thresholds writers readers"]
    now: float | None
    order: list[int]
    fed: list[list[int]]  # by writer: the columns of the readers that feed it
    window: int = SMALLEST

    @classmethod
    def of(cls, graph: EdgeGraph, thresholds: int, state: Mapping[str, Tensor] | None) -> Self:
        """At its beginning, or where a checkpoint left it."""
        kept = graph.allowed.expand(thresholds, -1, -1).clone()
        costs, now = torch.zeros(kept.shape, dtype=torch.float64), None
        if state is not None:
            kept, costs = state["kept"].cpu().bool(), state["costs"].cpu()
            now = None if state["now"].isnan() else float(state["now"])
        return cls(graph, kept, costs, now, order(graph), feeding_readers(graph))

    def state(self) -> dict[str, Tensor]:
        now = torch.tensor(math.nan if self.now is None else self.now, dtype=torch.float64)
        return {"kept": self.kept, "costs": self.costs, "now": now}

    def guess(self, number: int, place: int, threshold: float) -> tuple[list[Guess], list[Tensor]]:
        """Guesses for the edges from `place` of the order on, and the circuits to measure: one for each
        that is read, what is kept if the guesses before it hold, less the edge itself.

        At the first threshold all edges are guessed to be cut, as most are; then those that cost less
        at the threshold before.
        """
        kept, columns = self.kept[number].clone(), len(self.graph.readers)
        guesses: list[Guess] = []
        circuits: list[Tensor] = []
        reader, read = -1, False
        for edge in self.order[place:]:
            if edge % columns != reader:
                reader = edge % columns
                read = bool(self.read(kept)[reader])
            if read and len(circuits) == self.window:
                break
            without = kept.clone()
            without.view(-1)[edge] = False
            cut = not read or number == 0 or self._was_cheap(number - 1, edge, threshold)
            if read:
                circuits.append(without)
            if cut:
                kept = without
            guesses.append(Guess(edge, cut, not read))
        return guesses, circuits

    def _was_cheap(self, number: int, edge: int, threshold: float) -> bool:
        kept, cost = self.kept[number].view(-1)[edge], self.costs[number].view(-1)[edge]
        return not kept or bool(cost < threshold)

    def read(self, kept: Bool[Tensor, "writers readers"]) -> Bool[Tensor, " readers"]:
        """The readers from whose node kept edges lead to the output; those of later nodes are decided."""
        read = torch.zeros(len(self.graph.readers), dtype=torch.bool)
        read[-1] = True
        for writer in reversed(range(self.graph.num_embeddings, len(self.graph.writers))):
            if (kept[writer] & read).any():
                read[self.fed[writer]] = True
        return read

    def ranking(self) -> Float[Tensor, "writers readers"]:
        """As many as there are edges for the most important one, down to 1: by the largest threshold that
        keeps an edge, then by its cost there (of an edge that none keeps: at the smallest)."""
        edges = self.graph.flat_index
        kept, costs = self.kept.flatten(1)[:, edges], self.costs.flatten(1)[:, edges]
        level = (kept * torch.arange(1, len(kept) + 1)[:, None]).amax(0)
        cost = costs.gather(0, (level - 1).clamp(min=0)[None])[0]
        by_cost = torch.sort(cost, stable=True, descending=True).indices
        best = by_cost[torch.sort(level[by_cost], stable=True, descending=True).indices]
        scores = torch.zeros(self.graph.allowed.numel())
        scores[edges[best]] = torch.arange(len(best), 0, -1).float()
        return scores.view(self.graph.allowed.shape)


def order(graph: EdgeGraph) -> list[int]:
    """All edges as ACDC tries them, by their places in the flattened matrix; the token embeddings come
    before those of positions."""
    columns = {part: sorted(_columns(graph, part), reverse=True) for part in ("", "q", "k", "v")}
    by_layer = [
        column
        for layer in reversed(range(graph.shape.layers))
        for part in ("", "q", "k", "v")
        for column in columns[part]
        if graph.readers[column].layer == layer
    ]
    embeddings = range(graph.num_embeddings)
    writers = [*reversed(range(graph.num_embeddings, len(graph.writers))), *embeddings]
    return [
        writer * len(graph.readers) + column
        for column in [len(graph.readers) - 1, *by_layer]
        for writer in writers
        if graph.allowed[writer, column]
    ]


def _columns(graph: EdgeGraph, part: str) -> list[int]:
    return [column for column, node in enumerate(graph.readers) if node.part == part and node.layer >= 0]
