"""Gate training: gates learned by gradient descent until few edges are left (Bhaskar et al., NeurIPS 2024).

    loss = divergence(full model, circuit) + λ1 · (s − t) + λ2 · (s − t)²

s is the circuit's sparsity, the mean cut of the sampled gates of all edges; t its target, which rises
over a warm-up; the multipliers λ climb the loss (gradient ascent, or multipliers.py's rule) while the
gates descend it. What has a gate is a method's own: every edge (edge_pruning.py), or every writer
(node_pruning.py).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from model_patches.circuit import Circuit
from model_patches.lazy import torch
from trainers.data import batch_order
from trainers.methods.base import GATE_BINS, Discovery, Diverged, Found, Method, PlannedPass
from trainers.methods.ranking import EdgeBudgets, budgets_in, count_budgets, top_circuits
from trainers.methods.schedules import relative_error, target_at
from trainers.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from trainers.distributed import Engine
    from trainers.methods.gated_edges import GatedEdges
    from trainers.methods.gated_nodes import GatedNodes
    from trainers.methods.multipliers import PiMultipliers
    from trainers.methods.path import Path
    from trainers.methods.walk import Walk
    from trainers.session import Session

    Gates = GatedEdges | GatedNodes


def gate_histogram(gates: Float[Tensor, " edges"]) -> tuple[int, ...]:
    """How many gates lie in each of GATE_BINS equal bins of [0, 1]; a bin holds its lower end, the last
    one 1 as well."""
    bins = (gates.double() * GATE_BINS).long().clamp(0, GATE_BINS - 1)
    return tuple(bins.bincount(minlength=GATE_BINS).tolist())


class GateTraining(Method):
    """The common fields of methods that train gates, and the training."""

    trains_gates: ClassVar[bool] = True
    smoke: ClassVar[Mapping[str, Any]] = {
        "steps": 6, "warmup_steps": 4, "lr_warmup_steps": 2, "gate_samples": 2, "batch_size": 4,
        "path_points": 3,
    }  # fmt: skip

    target_sparsity: float | None = Field(
        None, gt=0, le=2, description="share of edges to cut; above 1 pushes harder"
    )
    target_path: tuple[Annotated[float, Field(gt=0, le=2)], ...] | None = Field(
        None,
        min_length=2,
        strict=False,
        description="instead of a target: path mode, one run that visits these targets, dense to sparse, and "
        "takes a circuit at each; steps, warmup_steps and lr_decay are shared out among them",
    )
    penalty: float | None = Field(
        None,
        gt=0,
        description="instead of a target: a fixed weight of the mean P(gate > 0), after the warm-up",
    )
    start_sparsity: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="where the target starts; below the gates' own sparsity then, it first opens gates",
    )
    warmup: Literal["linear", "logarithmic"] = Field(
        "linear", description="how the target rises; logarithmic below 1"
    )
    steps: int = Field(1000, ge=1)
    warmup_steps: int | None = Field(
        None, ge=0, description="of the target or penalty; default 80 % of steps"
    )
    gate_lr: float = Field(0.1, gt=0)
    multiplier_lr: float = Field(
        0.1,
        gt=0,
        description="of gradient ascent on λ1 and λ2; a gate's share of the pressure is λ / edges, so few "
        "steps on a large graph need more: 0.1 for 100 edges, 30 for 70,000 (published: 0.8, 3,000 steps)",
    )
    multipliers: Literal["adam", "pi"] = Field(
        "adam",
        description="how λ1 and λ2 move: adam, as published, at one pace however small the error is; pi: by "
        "the error, which follows a target closely at the same settings for graphs of any size",
    )
    multiplier_gain: float = Field(
        30.0, gt=0, description="of pi: pressure where twice as many edges are kept as the target's"
    )
    integral_steps: int = Field(
        30, ge=1, description="of pi: steps of the same error that weigh as much as the last one; fewer swing"
    )
    settle_steps: int | None = Field(
        None,
        ge=1,
        description="a target reached is left, and the last ends the run, once the divergence over so "
        "many steps is not below that over as many before",
    )
    lr_warmup_steps: int | None = Field(None, ge=0, description="default 5 % of steps")
    lr_decay: Literal["linear", "constant"] = "linear"
    weight_decay: float = Field(0.01, ge=0, description="of the gates; thaws gates far from their threshold")
    max_gradient_norm: float | None = Field(None, gt=0, description="published: 1, a default of its trainer")
    init_log_alpha: float = Field(2.0, description="mean; at the published 10 no gate gets a gradient")
    init_std: float = Field(0.01, ge=0)
    batch_size: int | None = Field(None, ge=1, description="examples per step; default: all of them")
    gate_samples: int = Field(8, ge=1, description="independent draws of all gates per step")
    sparsity_estimate: Literal["sampled", "expected"] = "sampled"
    divergence_weight: float = Field(1.0, gt=0)
    path_points: int = Field(40, ge=0, description="circuits taken on the way, at equal steps")

    refine_epsilon: float | None = Field(
        None,
        gt=0,
        description="also take the sparsest circuit within this divergence (on training examples) and cut, "
        "weakest first, every edge it can spare; one evaluation per edge",
    )
    ranking_budgets: EdgeBudgets = Field(
        None,
        description="also evaluates the top of the final gates' order at these numbers of edges (or mib), "
        "for which nothing was trained: a curve of its own",
    )

    @model_validator(mode="after")
    def _consistent(self) -> GateTraining:
        aims = [
            key for key in ("target_sparsity", "target_path", "penalty") if getattr(self, key) is not None
        ]
        if len(aims) != 1:
            found = " and ".join(aims) or "none of them"
            raise ValueError(f"found {found}; allowed: exactly one of target_sparsity, target_path, penalty")
        self._check_targets(aims[0])
        if self.penalty is not None:
            for key in ("start_sparsity", "warmup", "multipliers", "multiplier_lr", "settle_steps"):
                if self._is_set(key):
                    raise ValueError(f"{key} does nothing with penalty; leave it out")
        others = {"adam": ("multiplier_gain", "integral_steps"), "pi": ("multiplier_lr",)}[self.multipliers]
        for key in filter(self._is_set, others):
            raise ValueError(f"{key} does nothing with multipliers: {self.multipliers}; leave it out")
        for key in ("warmup_steps", "lr_warmup_steps"):
            value = getattr(self, key)
            if value is not None and value > self.steps:
                source = " (from the preset)" if value == self._filled().get(key) else ""
                raise ValueError(f"{key}: found {value}{source}; allowed: at most steps ({self.steps})")
        return self

    def _check_targets(self, key: str) -> None:
        targets = self.targets
        if any(later <= earlier for earlier, later in pairwise(targets)):
            raise ValueError(f"{key}: found {list(targets)}; allowed: each above the one before")
        if self.warmup == "logarithmic" and targets and targets[-1] >= 1:
            raise ValueError(f"{key}: found {targets[-1]}; allowed with logarithmic warm-up: below 1")
        if self.multipliers == "pi" and targets and targets[-1] >= 1:
            raise ValueError(f"{key}: found {targets[-1]}; allowed with multipliers: pi: below 1")
        if targets and self.start_sparsity > targets[0]:
            first = (
                "at most target_sparsity" if key == "target_sparsity" else "at most the first of target_path"
            )
            raise ValueError(f"start_sparsity: found {self.start_sparsity}; allowed: {first} ({targets[0]})")
        if len(targets) > self.steps:
            raise ValueError(f"{key}: found {len(targets)} targets; allowed: at most steps ({self.steps})")
        hold = -(-self.steps // max(1, len(targets)))
        if self.settle_steps is not None and 2 * self.settle_steps > hold:
            raise ValueError(
                f"settle_steps: found {self.settle_steps}; allowed: at most {hold // 2}, half of the steps "
                "that a target has"
            )

    def _is_set(self, key: str) -> bool:
        """Whether a field is neither its default nor what a preset makes of it."""
        default = type(self).model_fields[key].default
        return getattr(self, key) != self._filled().get(key, default)

    def _filled(self) -> Mapping[str, Any]:
        """The values of a preset that was asked for."""
        return {}

    def cut(self, small: Mapping[str, Any]) -> Self:
        """Of a path with less than two steps a target the two ends; a hold may settle at once."""
        path = self.target_path
        if path is not None and 2 * len(path) > small.get("steps", self.steps):
            small = {**small, "target_path": [path[0], path[-1]]}
        if self.settle_steps is not None:
            small = {**small, "settle_steps": 1}
        return super().cut(small)

    def steps_planned(self) -> int:
        return self.steps

    def points_planned(self) -> int:
        ranked = 0 if self.ranking_budgets is None else count_budgets(self.ranking_budgets)
        return self.path_points + max(1, len(self.targets)) + (self.refine_epsilon is not None) + ranked

    def passes_planned(self, examples: int) -> tuple[PlannedPass, ...]:
        return (PlannedPass(self.gate_samples, min(self.batch_size or examples, examples)),)

    def initial(self, session: Session, resumed: bool) -> Generator[Progress, None, tuple[Gates, int]]:
        """The gates before the first step, and the steps that making them took. `resumed` says that a
        checkpoint holds their values."""
        raise TypeError(f"{type(self).__name__} does not implement initial")

    def discover(self, session: Session) -> Generator[Progress, None, Discovery]:
        from trainers.methods.multipliers import PiMultipliers
        from trainers.methods.path import Path
        from trainers.methods.refine import refine
        from trainers.methods.walk import Walk

        start, state = session.checkpoints.latest() or (0, None)
        gates, before = yield from self.initial(session, resumed=state is not None)
        walk = Walk(self)
        walk.restore(state or {})
        path = Path(walk, session.graph)
        path.restore(state or {})
        pi = PiMultipliers(self)
        pi.restore(state or {})
        engine = session.open(gates.parameters(), self._groups(gates), self.max_gradient_norm, state)
        earlier = (self._indices(session, step) for step in range(start))
        engine.run(partial(session.resume, state or {}, self._indices(session, max(0, start - 1)), earlier))
        rates = [self.gate_lr] + [self.multiplier_lr] * (len(self._groups(gates)) - 1)
        step = start
        while not walk.over:
            share = walk.rate(step)
            multipliers = gates.multipliers or pi.pairs()
            loss, values = engine.run(self._loss, session, gates, multipliers, step, walk.target(step))
            if not all(map(math.isfinite, values.values())):
                raise Diverged(f"step {step}: {', '.join(f'{k} = {v}' for k, v in values.items())}")
            if not engine.step(loss, [rate * share for rate in rates]):
                raise Diverged(f"step {step}: a gradient is not finite")
            pi.follow(values, share)
            ended = walk.ends(step, values[session.divergence], values["sparsity"])
            if (ended or walk.wants(step)) and not walk.over:
                path.add(step, gates.circuit(engine, session.graph))
            step += 1
            if session.checkpoints.due():
                session.checkpoints.save(step, self._state(session, engine, walk, path, pi))
            try:
                yield Progress(step, self.steps, values | {"gate_lr": self.gate_lr * share})
            except GeneratorExit:  # stopped between two steps, on all ranks alike: nothing is lost
                session.checkpoints.save(step, self._state(session, engine, walk, path, pi))
                raise
        final = gates.circuit(engine, session.graph)
        found = path.found(final, step)
        if self.refine_epsilon is not None:
            refined = yield from refine(session, found, self.refine_epsilon, step)
            found = [refined, *found] if refined is not None else found
        if self.ranking_budgets is not None:
            budgets = budgets_in(self.ranking_budgets, session.graph)
            found += top_circuits(session.graph, gates.order(engine, session.graph), budgets, "ranking")
        histogram = gate_histogram(gates.trained(engine))
        return Discovery(
            found, before + step, *session.cost(), self._reached(found), gate_histogram=histogram
        )

    def _indices(self, session: Session, step: int) -> list[int]:
        """The training examples of a step's global batch."""
        return batch_order(len(session.examples["train"]), self.batch_size, session.spec.seed, step)

    def _loss(
        self,
        session: Session,
        gates: Gates,
        multipliers: Sequence[Tensor],
        step: int,
        target: float | None,
    ) -> tuple[Tensor, dict[str, float]]:
        """The step's loss on this rank; the mean over ranks is the loss of the global batch."""
        from trainers.methods.gated_edges import noise_for

        indices = self._indices(session, step)
        batch, references = session.train_batch(indices)
        edges, writers = gates.sample(noise_for(session.spec.seed, step, self.gate_samples, gates.num_noise))
        logits = session.logits(batch, session.keep(edges), references)
        per_example = session.measure(session.divergence, logits, references, batch).mean(0)
        divergence = (per_example * batch.weight).sum() * session.ranks.world_size / len(indices)
        pressure, values = self._pressure(gates, edges, writers, multipliers, step, target)
        if session.cache.budget:
            values |= {"reference_hits": session.cache.hit_rate}
        values |= {
            session.divergence: float(session.ranks.total(divergence.detach())) / session.ranks.world_size
        }
        return self.divergence_weight * divergence + pressure, values

    def _pressure(
        self,
        gates: Gates,
        edges: Tensor,
        writers: Tensor | None,
        multipliers: Sequence[Tensor],
        step: int,
        target: float | None,
    ) -> tuple[Tensor, dict[str, float]]:
        """What drives sparsity: the Lagrangian terms, or the fixed penalty."""
        sparsity = 1 - (edges.mean() if self.sparsity_estimate == "sampled" else gates.expected().mean())
        values = {"sparsity": float(sparsity.detach())}
        if target is None:
            assert self.penalty is not None, "checked by the spec"
            weight = target_at(step, 0.0, self.penalty, self.warmup_length, "linear")
            return weight * gates.probability_open().mean(), values | {"penalty": weight}
        terms = torch.zeros((), device=edges.device)
        targets = [("", sparsity, target)]
        if self.writer_target is not None and writers is not None:
            of_writers = target_at(step, 0.0, self.writer_target, self.warmup_length, self.warmup)
            targets.append(("writer_", 1 - writers.mean(), of_writers))
        for (prefix, reached, aim), pair in zip(targets, multipliers, strict=True):
            error = relative_error(reached, aim) if self.multipliers == "pi" else reached - aim
            terms = terms + pair[0] * error + pair[1] * error**2
            values |= {f"{prefix}sparsity": float(reached.detach()), f"{prefix}target_sparsity": aim}
            values |= {f"{prefix}lambda_{i + 1}": float(pair[i].detach()) for i in range(2)}
        return terms, values

    def _groups(self, gates: Gates) -> list[dict[str, Any]]:
        names = list(gates.parameters())
        ascent = {"weight_decay": 0.0, "maximize": True}
        trained = {
            "names": [n for n in names if not n.startswith("lambda")],
            "weight_decay": self.weight_decay,
        }
        return [trained] + [{"names": [name], **ascent} for name in names if name.startswith("lambda")]

    def _state(
        self, session: Session, engine: Engine, walk: Walk, path: Path, pi: PiMultipliers
    ) -> dict[str, Tensor]:
        return engine.state() | walk.state() | path.state() | pi.state() | session.cost_state()

    @property
    def targets(self) -> tuple[float, ...]:
        """The target sparsities that a run visits, from dense to sparse; none with a penalty."""
        if self.target_path is not None:
            return self.target_path
        return () if self.target_sparsity is None else (self.target_sparsity,)

    @property
    def writer_target(self) -> float | None:
        """The target of the node loss, for methods that have one."""
        return None

    @property
    def constraints(self) -> int:
        """How many sparsities have a target, and so multipliers: that of edges, and that of writers."""
        return (1 + (self.writer_target is not None)) if self.targets else 0

    @property
    def warmup_length(self) -> int:
        return round(0.8 * self.steps) if self.warmup_steps is None else self.warmup_steps

    @property
    def lr_warmup_length(self) -> int:
        return round(0.05 * self.steps) if self.lr_warmup_steps is None else self.lr_warmup_steps

    def smallest_cut(self, final: Circuit) -> int:
        """How many edges the method may have to cut or to keep together."""
        del final
        return 1

    def _reached(self, found: list[Found]) -> tuple[str, ...]:
        """A warning per target that did not bind. The nearest number of edges is always near enough."""
        warnings = []
        for one in found:
            target, circuit = one.target_sparsity, one.circuit
            if one.kind != "final" or target is None or target >= 1:
                continue
            tolerance = max(0.005, 0.5 * self.smallest_cut(circuit) / circuit.graph.num_edges)
            if abs(circuit.sparsity - target) > tolerance:
                side = "overshot" if circuit.sparsity > target else "not reached"
                told = (
                    f"target sparsity {target:g} did not bind: the final circuit's is {circuit.sparsity:.4f}"
                )
                warnings.append(f"{told} ({side})")
        return tuple(warnings)
