"""The engine: DeepSpeed at every ZeRO stage is AdamW, bit for bit, and goes on from its state."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_patches.circuit_model import CircuitModel
from tests.tiny_models import tiny_model, tokens
from trainers.distributed import Engine, Ranks, digest

STAGES = (0, 1, 2, 3)
each_stage = pytest.mark.parametrize("stage", STAGES)
GROUPS: list[dict[str, Any]] = [
    {"names": ["edges", "writers"], "weight_decay": 0.01},
    {"names": ["lambda_edges"], "weight_decay": 0.0, "maximize": True},
]
STEPS = 8


def model(dtype: torch.dtype = torch.float32) -> CircuitModel:
    """A new one for each stage: what ZeRO-3 has partitioned stays so."""
    return CircuitModel(tiny_model("gpt2", dtype))


def parameters() -> dict[str, nn.Parameter]:
    """Sizes that no number of ranks or vector lanes divides."""
    generator = torch.Generator().manual_seed(0)
    start = {name: torch.randn(size, generator=generator) for name, size in (("edges", 41), ("writers", 7))}
    return {name: nn.Parameter(value) for name, value in (start | {"lambda_edges": torch.zeros(2)}).items()}


def loss(trained: dict[str, nn.Parameter], step: int) -> Tensor:
    """What a trial's loss is made of: data of the step, and multipliers on a constraint."""
    generator = torch.Generator().manual_seed(step)
    gates, weights = torch.sigmoid(trained["edges"]), torch.randn(41, generator=generator)
    data = (gates * weights).sum() + (trained["writers"] * torch.randn(7, generator=generator)).square().sum()
    gap, multipliers = gates.mean() - 0.3, trained["lambda_edges"]
    return 3 * data + multipliers[0] * gap + multipliers[1] * gap**2


def rates(step: int) -> list[float]:
    return [0.05 * min(1.0, step / 5), 0.1]


def plain(steps: int = STEPS, norm: float | None = None) -> dict[str, Tensor]:
    """The same training with torch alone."""
    trained = parameters()
    groups = [
        {
            **{key: value for key, value in group.items() if key != "names"},
            "params": [trained[n] for n in group["names"]],
        }
        for group in GROUPS
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates(step), strict=True):
            group["lr"] = rate
        optimizer.zero_grad()
        loss(trained, step).backward()
        if norm is not None:
            nn.utils.clip_grad_norm_(list(trained.values()), norm)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in trained.items()}


def train(engine: Engine, trained: dict[str, nn.Parameter], steps: range) -> None:
    def forward(step: int) -> Tensor:
        engine.root.model.full(tokens(1, 3, step))  # frozen weights take part, as in a trial
        return loss(trained, step)

    for step in steps:
        engine.step(engine.run(forward, step), rates(step))


def values(engine: Engine) -> dict[str, Tensor]:
    return {name: engine.value(name) for name in ("edges", "writers", "lambda_edges")}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_multipliers_climb_and_parameters_descend() -> None:
    """The reference itself: λ rises while the constraint is violated from above."""
    start, end = parameters(), plain()
    gap = torch.sigmoid(start["edges"]).mean() - 0.3
    assert gap > 0 and end["lambda_edges"].gt(0).all()


@pytest.mark.parametrize(
    "stage, dtype",
    [(stage, torch.float32) for stage in STAGES]
    + [(0, torch.bfloat16), (3, torch.bfloat16), (3, torch.float64)],
)
def test_every_stage_is_plain_adamw(stage: int, dtype: torch.dtype, ranks: Ranks) -> None:
    """Whatever the dtype of the frozen weights: what trains is float32."""
    trained, frozen = parameters(), model(dtype)
    engine = Engine(frozen, trained, GROUPS, ranks, stage)
    assert_equal(values(engine), {name: value.detach() for name, value in parameters().items()})
    train(engine, trained, range(STEPS))
    assert_equal(values(engine), plain())
    assert next(frozen.model.parameters()).dtype == dtype
    engine.close()


@each_stage
def test_training_goes_on_from_a_state_bit_for_bit(stage: int, ranks: Ranks) -> None:
    frozen = model()
    trained = parameters()
    engine = Engine(frozen, trained, GROUPS, ranks, stage)
    train(engine, trained, range(5))
    state = engine.state()
    train(engine, trained, range(5, STEPS))
    undisturbed = engine.state()
    engine.close()
    trained = parameters()
    engine = Engine(frozen, trained, GROUPS, ranks, stage, state=state)
    assert_equal(engine.state(), state)
    train(engine, trained, range(5, STEPS))
    assert_equal(engine.state(), undisturbed)
    assert_equal(values(engine), plain())
    engine.close()


def test_a_state_of_one_stage_serves_every_other(ranks: Ranks) -> None:
    states = {}
    for stage in STAGES:
        trained = parameters()
        engine = Engine(model(), trained, GROUPS, ranks, stage)
        train(engine, trained, range(3))
        states[stage] = engine.state()
        engine.close()
    names = {f"{kind}.{name}" for kind in ("parameter", "exp_avg", "exp_avg_sq") for name in parameters()}
    assert states[0].keys() == names | {"adam_steps"} and states[0]["adam_steps"] == 3
    assert states[0]["exp_avg_sq.edges"].shape == (41,) and states[0]["exp_avg_sq.edges"].gt(0).all()
    for stage in STAGES[1:]:
        assert_equal(states[stage], states[0])


@each_stage
def test_gradients_are_clipped_when_asked_for_only(stage: int, ranks: Ranks) -> None:
    assert not torch.equal(plain(norm=0.5)["edges"], plain()["edges"]), "the norm binds"
    trained = parameters()
    engine = Engine(model(), trained, GROUPS, ranks, stage, max_gradient_norm=0.5)
    train(engine, trained, range(STEPS))
    found, expected = values(engine), plain(norm=0.5)
    engine.close()
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=0, atol=1e-6), name


@each_stage
def test_one_model_serves_engine_after_engine(stage: int, ranks: Ranks) -> None:
    frozen = model()
    logits = None
    for number in range(3):
        trained = parameters()
        engine = Engine(frozen, trained, GROUPS, ranks, stage)
        now = engine.run(frozen.full, tokens(2, 5, 0))
        assert logits is None or torch.equal(now, logits)
        logits = now
        train(engine, trained, range(STEPS if number != 1 else 2))  # the second one is abandoned
        if number != 1:
            assert_equal(values(engine), plain())
        engine.close()


@each_stage
def test_an_engine_without_parameters_runs_the_model(stage: int, ranks: Ranks) -> None:
    frozen = model()
    expected = model().full(tokens(2, 5, 0))
    for _ in range(2):
        engine = Engine(frozen, {}, [], ranks, stage)
        assert torch.equal(engine.run(frozen.full, tokens(2, 5, 0)), expected)
        with pytest.raises(AssertionError, match="without groups does not train"):
            engine.step(torch.zeros(()), [])
        engine.close()


def test_one_rank_is_a_group_of_its_own(ranks: Ranks) -> None:
    assert ranks.is_first and ranks.world_size == 1 and ranks.slice(7) == slice(0, 7)
    assert ranks.share(b"abc") == b"abc" and ranks.share(None) == b""
    assert ranks.agree(True) and not ranks.agree(False)
    assert ranks.total(torch.tensor([2.0])).tolist() == [2.0]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 10])
def test_shares_cover_everything_once_and_evenly(world_size: int, count: int) -> None:
    shares = [Ranks(rank, world_size, torch.device("cpu")).slice(count) for rank in range(world_size)]
    assert [i for share in shares for i in range(count)[share]] == list(range(count))
    sizes = [len(range(count)[share]) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_a_digest_sees_names_shapes_dtypes_and_values() -> None:
    state = {"a": torch.arange(6.0), "b": torch.zeros(2)}
    others = [
        {"a": torch.arange(6.0), "c": torch.zeros(2)},
        {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)},
        {"a": torch.arange(6.0).double(), "b": torch.zeros(2)},
        {"a": torch.arange(6.0) + 1, "b": torch.zeros(2)},
    ]
    assert digest(state) == digest(dict(reversed(state.items())))
    assert len({digest(state), *map(digest, others)}) == 5
