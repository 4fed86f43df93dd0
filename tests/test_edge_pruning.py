"""Edge pruning: its schedules, its loss by an independent computation, and the circuit it ends with."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_patches import gates as hard_concrete
from model_patches.graph import EdgeGraph, Shape
from tests import one_rank
from trainers.distributed import Engine, Ranks
from trainers.methods.base import Diverged
from trainers.methods.edge_pruning import EdgePruning
from trainers.methods.gated_edges import GatedEdges
from trainers.methods.schedules import rate_at, target_at
from trainers.model import Loaded
from trainers.spec import SpecError

FAST = {"name": "edge_pruning", "target_sparsity": 0.9, "steps": 4, "path_points": 0}


@pytest.fixture(scope="module")
def gpt2() -> Loaded:
    return one_rank.loaded("gpt2", "float64")


def parse(**fields: Any) -> EdgePruning:
    return EdgePruning.parse({"target_sparsity": 0.9, **fields}, "method")


# ---- schedules


def test_linear_targets_by_hand() -> None:
    found = [target_at(step, 0.2, 1.0, 4, "linear") for step in (0, 1, 2, 3, 4, 9)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_logarithmic_targets_shrink_what_is_kept_by_equal_ratios() -> None:
    """From 0 to 15/16 in four steps: every step halves what is kept."""
    found = [target_at(step, 0.0, 15 / 16, 4, "logarithmic") for step in range(6)]
    assert found == pytest.approx([0, 1 / 2, 3 / 4, 7 / 8, 15 / 16, 15 / 16])
    assert target_at(1, 0.5, 1 - 1 / 32, 2, "logarithmic") == pytest.approx(1 - 1 / 8)


def test_without_a_warmup_the_target_holds_from_the_start() -> None:
    assert target_at(0, 0.0, 0.9, 0, "linear") == target_at(0, 0.0, 0.9, 0, "logarithmic") == 0.9


def test_learning_rates_by_hand() -> None:
    assert [rate_at(step, 12, 4, "linear") for step in (0, 1, 3, 4, 8, 11)] == pytest.approx(
        [0, 1 / 4, 3 / 4, 1, 1 / 2, 1 / 8]
    )
    assert [rate_at(step, 12, 4, "constant") for step in (0, 2, 4, 11)] == [0, 0.5, 1, 1]
    assert rate_at(0, 10, 0, "linear") == 1 and rate_at(3, 4, 4, "linear") == 3 / 4


# ---- the spec


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"target_sparsity": None}, "found none of them; allowed: exactly one of target_sparsity,"),
        ({"penalty": 0.1}, "found target_sparsity and penalty; allowed: exactly one of"),
        ({"warmup": "logarithmic", "target_sparsity": 1.0}, "target_sparsity: found 1.0; allowed with logar"),
        (
            {"warmup": "logarithmic", "writer_gates": True, "writer_target_sparsity": 1.1},
            "writer_target_sparsity: found 1.1; allowed with logarithmic warm-up: below 1",
        ),
        ({"warmup": "cosine"}, "warmup: found 'cosine'. Allowed: 'linear' or 'logarithmic'"),
        ({"steps": 10, "warmup_steps": 11}, "warmup_steps: found 11; allowed: at most steps (10)"),
        ({"steps": 10, "lr_warmup_steps": 11}, "lr_warmup_steps: found 11; allowed: at most steps (10)"),
        ({"steps": 0}, "steps: found 0; allowed: greater than or equal to 1"),
        ({"gate_samples": 0}, "gate_samples: found 0"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"gate_lr": 0}, "gate_lr: found 0; allowed: greater than 0"),
        ({"start_sparsity": 1}, "start_sparsity: found 1; allowed: less than 1"),
        ({"writer_target_sparsity": 0.5}, "writer_target_sparsity needs writer_gates: true"),
        (
            {"writer_target_sparsity": 0.5, "writer_gates": True, "target_sparsity": None, "penalty": 1},
            "writer_target_sparsity needs target_sparsity",
        ),
        (
            {"start_sparsity": 0.95},
            "start_sparsity: found 0.95; allowed: at most target_sparsity (0.9)",
        ),
        (
            {"target_sparsity": None, "penalty": 1, "multiplier_lr": 0.3},
            "multiplier_lr does nothing with penalty; leave it out",
        ),
        (
            {"target_sparsity": None, "penalty": 1, "warmup": "logarithmic"},
            "warmup does nothing with penalty; leave it out",
        ),
        ({"preset": "published"}, "preset: found 'published'. Allowed: 'reproduce'"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(**fields)
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("fields", [{"target_sparsity": 2}, {"target_sparsity": None, "penalty": 3.0}])
def test_possible_settings(fields: dict[str, Any]) -> None:
    assert parse(**fields).points_planned() == parse(**fields).path_points + 1
    assert parse(**fields, steps=7, path_points=0).steps_planned() == 7


def test_reproduce_fills_in_the_published_values() -> None:
    """The reference's table for GPT-2, and its hard-concrete constants."""
    method = parse(preset="reproduce", target_sparsity=1.02)
    assert (method.gate_lr, method.multiplier_lr) == (0.8, 0.8)
    assert (method.steps, method.warmup_steps, method.lr_warmup_steps) == (3000, 2500, 200)
    assert (method.init_log_alpha, method.init_std, method.weight_decay) == (10, 0.01, 0.01)
    assert (method.warmup, method.sparsity_estimate, method.gate_samples) == ("linear", "sampled", 1)
    assert (method.batch_size, method.start_sparsity, method.divergence_weight) == (32, 0, 1)
    assert (method.final_gates, method.writer_gates, method.writer_target_sparsity) == (
        "published",
        True,
        None,
    )
    assert (hard_concrete.TEMPERATURE, hard_concrete.LEFT, hard_concrete.RIGHT) == (2 / 3, -0.1, 1.1)


def test_a_field_that_is_given_wins_over_the_preset() -> None:
    method = parse(preset="reproduce", gate_lr=0.03, steps=6000, max_gradient_norm=None)
    assert (method.gate_lr, method.steps, method.max_gradient_norm) == (0.03, 6000, None)
    assert method.warmup_steps == 2500
    assert EdgePruning.parse(method.plain(), "again") == method


def test_default_warmups_are_shares_of_the_steps() -> None:
    assert parse(steps=1000).warmup_length == 800 and parse(warmup_steps=0).warmup_length == 0


# ---- the circuit


def gated(edges: Tensor, writers: Tensor | None, graph: EdgeGraph, published: bool = False) -> GatedEdges:
    return GatedEdges(
        nn.Parameter(edges), None if writers is None else nn.Parameter(writers), (),
        graph.allowed.nonzero()[:, 0], 0 if writers is None else len(writers), published,
    )  # fmt: skip


def circuit_of(found: GatedEdges, graph: EdgeGraph) -> set[int]:
    """Indices of the kept edges, in the graph's order."""
    engine: Any = SimpleNamespace(value=lambda name: getattr(found, name).detach())
    kept = found.circuit(engine, graph).kept
    return set(kept.flatten()[graph.flat_index].nonzero().flatten().tolist())


GRAPH = EdgeGraph(Shape(2, 2, 2, ("tok_embeds", "pos_embeds")))


def largest(gates: Tensor) -> set[int]:
    """The round(Σ gates) largest, ties by index."""
    order = sorted(range(len(gates)), key=lambda index: (-float(gates[index]), index))
    return set(order[: round(float(gates.double().sum()))])


def by_the_book(log_alpha: Tensor) -> Tensor:
    """The published mask of the graph's edges or of its writers: in each layer's parameter tensor the
    round(expected zeros) smallest soft gates are 0."""
    if len(log_alpha) == GRAPH.num_edges:
        readers = [GRAPH.readers[column].name for column in GRAPH.allowed.nonzero()[:, 1].tolist()]
        tensors = [re.sub(r"h\d+", "", name) for name in readers]
    else:
        tensors = [re.sub(r"h\d+", "", node.name) for node in GRAPH.writers]
    soft = torch.sigmoid(0.8 * log_alpha / (2 / 3))
    for tensor in set(tensors):
        members = [index for index, name in enumerate(tensors) if name == tensor]
        zeros = round(sum(1 - float(hard_concrete.probability_open(log_alpha[[i]])) for i in members))
        for index in sorted(members, key=lambda index: float(soft[index]))[:zeros]:
            soft[index] = 0
    return soft


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("published", [False, True])
def test_a_circuit_keeps_as_many_edges_as_its_gates_sum_to(seed: int, published: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    gate: Callable[[Tensor], Tensor] = by_the_book if published else hard_concrete.expected
    edges = 3 * torch.randn(GRAPH.num_edges, generator=generator)
    writers = 3 * torch.randn(len(GRAPH.writers), generator=generator)
    assert circuit_of(gated(edges, None, GRAPH, published), GRAPH) == largest(gate(edges))
    product = gate(edges) * gate(writers)[GRAPH.allowed.nonzero()[:, 0]]
    assert circuit_of(gated(edges, writers, GRAPH, published), GRAPH) == largest(product)


def test_ties_go_by_index() -> None:
    """log_alpha 0: every one of 61 gates is expected to be 1/2."""
    assert circuit_of(gated(torch.zeros(GRAPH.num_edges), None, GRAPH), GRAPH) == set(range(30))
    edges = torch.full((GRAPH.num_edges,), -20.0)
    edges[[50, 7, 30]] = torch.tensor([20.0, 20.0, 0.9])
    assert circuit_of(gated(edges, None, GRAPH), GRAPH) == {7, 30, 50}
    edges[30] = -0.9
    assert circuit_of(gated(edges, None, GRAPH), GRAPH) == {7, 50}


def test_a_closed_writer_closes_its_edges() -> None:
    writers = torch.full((len(GRAPH.writers),), 20.0)
    writers[1] = -20.0
    found = circuit_of(gated(torch.full((GRAPH.num_edges,), 20.0), writers, GRAPH), GRAPH)
    of_writer = GRAPH.allowed.nonzero()[:, 0]
    assert found == {index for index in range(GRAPH.num_edges) if of_writer[index] != 1}


def test_gates_that_are_not_finite_are_a_divergence() -> None:
    edges = torch.zeros(GRAPH.num_edges)
    edges[3] = math.nan
    with pytest.raises(Diverged, match="not all of them are finite"):
        circuit_of(gated(edges, None, GRAPH), GRAPH)


@pytest.mark.parametrize("embeddings", ["maskable", "always_on"])
def test_the_final_circuit_is_that_of_the_last_gates(
    embeddings: str, gpt2: Loaded, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = one_rank.session(
        gpt2, ranks, tmp_path, FAST | {"init_log_alpha": 0, "init_std": 2}, embeddings=embeddings
    )
    last: dict[str, Tensor] = {}
    step = Engine.step

    def spy(engine: Engine, loss: Tensor, learning_rates: list[float]) -> bool:
        applied = step(engine, loss, learning_rates)
        last["edges"] = engine.value("edges")
        return applied

    monkeypatch.setattr(Engine, "step", spy)
    circuit = one_rank.discover(session)[0].found[0].circuit
    kept = circuit.kept.flatten()[session.graph.flat_index]
    assert set(kept.nonzero().flatten().tolist()) == largest(hard_concrete.expected(last["edges"]))
    assert circuit.num_edges == int(kept.sum()) > 0
    embeds = circuit.kept[: session.graph.num_embeddings]
    assert embeds.any() == (embeddings == "maskable")
    assert (circuit.keep()[:2][session.graph.exists[:2]] == 1).all() == (embeddings == "always_on")


def test_always_on_embeddings_have_no_gate_and_are_never_cut(
    gpt2: Loaded, ranks: Ranks, tmp_path: Path
) -> None:
    session = one_rank.session(gpt2, ranks, tmp_path, FAST, embeddings="always_on")
    assert session.graph.num_edges < gpt2.graph("maskable").num_edges
    keep = session.keep(torch.zeros(2, session.graph.num_edges))
    assert keep.shape == (2, *session.graph.allowed.shape)
    assert torch.equal(keep[0].bool(), session.graph.always_on) and torch.equal(keep[0], keep[1])


@pytest.mark.parametrize(
    "fields, warns",
    [
        ({"target_sparsity": 0.9}, True),  # four small steps reach nothing
        ({"target_sparsity": 0.9, "init_log_alpha": -20}, True),  # beyond it is not at it either
        ({"target_sparsity": 1.2}, False),
        ({"target_sparsity": None, "penalty": 1.0}, False),
    ],
)
def test_a_target_that_does_not_bind_is_told(
    fields: dict[str, Any], warns: bool, gpt2: Loaded, ranks: Ranks, tmp_path: Path
) -> None:
    found, _ = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path, FAST | fields))
    assert len(found.warnings) == warns
    if warns:
        assert "target sparsity 0.9 did not bind: the final circuit's is " in found.warnings[0]


def test_a_target_that_binds_is_not_warned_of(gpt2: Loaded, ranks: Ranks, tmp_path: Path) -> None:
    """Within half a percent point. Gates that stay where they start keep 69 of 137 edges."""
    reached = 1 - 69 / gpt2.graph("maskable").num_edges
    for shift, warns in ((0.0049, False), (0.0051, True), (-0.0049, False), (-0.0051, True)):
        still = {"init_log_alpha": 0.01, "init_std": 0, "gate_lr": 1e-9, "target_sparsity": reached + shift}
        found, _ = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path, FAST | still))
        assert found.found[0].circuit.sparsity == pytest.approx(reached)
        assert bool(found.warnings) == warns


def test_in_a_small_graph_the_nearest_number_of_edges_is_near_enough(ranks: Ranks, tmp_path: Path) -> None:
    """16 of 32 edges: a target of 0.51 allows no better."""
    program = one_rank.loaded("tracr-xproportion", "float32")
    for target, warns in ((0.51, False), (0.52, True)):
        still = {"init_log_alpha": 0.01, "init_std": 0, "gate_lr": 1e-9, "target_sparsity": target}
        found, _ = one_rank.discover(
            one_rank.session(program, ranks, tmp_path, FAST | still, ablation="zero")
        )
        assert found.found[0].circuit.num_edges == 16
        assert bool(found.warnings) == warns


# ---- the path


def test_circuits_are_taken_on_the_way(gpt2: Loaded, ranks: Ranks, tmp_path: Path) -> None:
    method = FAST | {
        "steps": 12, "path_points": 4, "gate_lr": 1.0, "lr_warmup_steps": 0, "init_log_alpha": 0,
        "init_std": 3, "target_sparsity": 0.8, "warmup_steps": 10,
    }  # fmt: skip
    found, reports = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path, method))
    assert [item.kind for item in found.found] == ["final", "path", "path", "path"]
    assert [item.step for item in found.found] == [12, 3, 6, 9]
    assert [item.target_sparsity for item in found.found] == pytest.approx([0.8, 0.16, 0.4, 0.64])
    assert found.steps == len(reports) == 12
    assert [report.values["target_sparsity"] for report in reports][8] == pytest.approx(0.64)


def test_of_equal_circuits_on_the_way_the_latest_stays(gpt2: Loaded, ranks: Ranks, tmp_path: Path) -> None:
    method = FAST | {"steps": 12, "path_points": 4, "gate_lr": 1e-9}
    found, _ = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path, method))
    assert [(item.kind, item.step) for item in found.found] == [("final", 12)]


def test_what_is_not_finite_ends_the_trial_on_all_ranks_alike(ranks: Ranks, tmp_path: Path) -> None:
    broken = one_rank.loaded("gpt2", "float32")
    with torch.no_grad():
        next(iter(broken.model.model.parameters())).fill_(math.nan)
    session = one_rank.session(broken, ranks, tmp_path, FAST)
    with pytest.raises(Diverged, match="step 0: .*kl = nan"):
        one_rank.discover(session)
    session.close()


@pytest.mark.parametrize("writer_gates", [False, True])
def test_the_final_gates_rank_at_budgets_they_were_not_trained_for(
    writer_gates: bool, gpt2: Loaded, ranks: Ranks, tmp_path: Path
) -> None:
    method = FAST | {"init_log_alpha": 0, "init_std": 3, "writer_gates": writer_gates, "path_points": 2}
    plain = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path, method))[0].found
    session = one_rank.session(gpt2, ranks, tmp_path, method | {"ranking_budgets": "mib"})
    found = one_rank.discover(session)[0].found
    assert session.spec.method.points_planned() == 3 + 10
    assert [item.kind for item in found[len(plain) :]] == 7 * ["ranking"], "at the end, beside the rest"
    assert [item.circuit.num_edges for item in found[len(plain) :]] == [1, 2, 6, 13, 27, 68, 137]
    for one, other in zip(plain, found, strict=False):
        assert torch.equal(one.circuit.scores, other.circuit.scores) and one.kind == other.kind
    final = found[0].circuit  # the order is the final circuit's
    for item in found[len(plain) :]:
        kept = item.circuit.kept
        smaller, larger = (kept, final.kept) if kept.sum() <= final.num_edges else (final.kept, kept)
        assert not (smaller & ~larger).any()
