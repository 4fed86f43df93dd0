"""What a trial asks of the full model first, and whose an attention layer's output bias is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import one_rank
from tests.tiny_models import save_tiny
from trainers.evaluation import knows
from trainers.spec import SpecError
from trainers.trial import TrialSpec
from trainers.worker import Worker

TASK = {"name": "induction", "period": 4, "shown": 2, "train": 13, "validation": 5, "test": 7}
RANDOM = {"name": "random", "edge_budgets": [3, 40]}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with one_rank.working() as make:
        yield make()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("gpt2", tmp_path_factory.mktemp("models") / "tiny"))


def spec(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": {"path": model}, "task": TASK, "method": RANDOM, **fields}


def test_a_lane_asks_once_whether_the_full_model_knows_the_task(
    worker: Worker, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model does not; whoever watches is told before the first step, the result at the end."""
    asked: list[str] = []
    full_model_knows = knows.full_model_knows

    def counted(*arguments: Any) -> Any:
        asked.append(arguments[1].name)
        return full_model_knows(*arguments)

    monkeypatch.setattr(knows, "full_model_knows", counted)
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        trial = one_rank.write_spec(folder, spec(model, seed=seed, task=TASK | {"test": 20}))
        worker.begin(trial.plain(), str(folder), 1)
        first, *_ = one_rank.advance(worker)
        assert any("the full model is not above chance: " in warning for warning in first.warnings)
        assert set(first.warnings) <= set(one_rank.result(folder).warnings)
    assert asked == ["induction"]


def test_a_kept_output_bias_is_another_ablation(worker: Worker, model: str, tmp_path: Path) -> None:
    """The same random circuits, other outputs: a head that is cut leaves its share of the bias behind."""
    shared = one_rank.run(worker, tmp_path / "shared", spec(model, ablation="zero"))
    kept = one_rank.run(worker, tmp_path / "kept", spec(model, ablation="zero", output_bias="kept"))
    assert shared.group is not None and kept.group is not None
    assert (shared.group.ablation, kept.group.ablation) == ("zero", "zero, output bias kept")
    assert kept.full == shared.full and kept.empty != shared.empty
    for one, other in zip(shared.points, kept.points, strict=True):
        assert one.num_edges == other.num_edges
        assert abs(one.metrics["test"]["kl"] - other.metrics["test"]["kl"]) > 1e-4


def test_a_kept_output_bias_belongs_to_zero_ablation(model: str) -> None:
    with pytest.raises(SpecError, match="output_bias: found kept; allowed with ablation zero only"):
        TrialSpec.parse(spec(model, output_bias="kept"), "spec.json")
