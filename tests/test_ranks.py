"""Two ranks find what one rank finds, and go on where one rank stopped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import gang, one_rank
from tests.tiny_models import save_tiny
from trainers.distributed import Ranks
from trainers.worker import Worker

PRUNING: dict[str, Any] = {
    "name": "edge_pruning", "steps": 12, "target_sparsity": 0.6, "path_points": 4, "gate_lr": 0.3,
    "init_log_alpha": 0, "init_std": 2, "gate_samples": 2,
}  # fmt: skip
EAP: dict[str, Any] = {"name": "eap"}
KILLED_AT = 5


def specs(models: Path) -> dict[str, dict[str, Any]]:
    """Numbers of examples and of edges that two ranks cannot share evenly, and a batch of one."""
    xproportion = {"model": {"builtin": "tracr-xproportion", "dtype": "float64"}, "ablation": "zero"}
    reverse = {"model": {"builtin": "tracr-reverse", "dtype": "float64"}, "embeddings": "always_on"}
    programs = {"task": {"name": "tracr"}}
    gpt2 = {"model": {"path": str(models / "gpt2")}, "task": one_rank.TINY_TASK}
    llama = {"model": {"path": str(models / "llama")}, "task": one_rank.TINY_TASK}
    exact = {"model": gpt2["model"] | {"dtype": "float64"}, "task": one_rank.TINY_TASK}
    return {
        "xproportion": {
            **xproportion,
            **programs,
            "method": PRUNING | {"batch_size": 1, "multipliers": "pi"},
        },
        "reverse": {**reverse, **programs, "method": PRUNING | {"batch_size": 7}},
        "reverse eap": {**reverse, **programs, "method": EAP},
        "gpt2 float64": {**exact, "method": PRUNING | {"writer_gates": True}},
        "gpt2": {**gpt2, "method": PRUNING},
        "llama": {**llama, "method": PRUNING | {"max_gradient_norm": 1.0}},
        "llama eap": {**llama, "method": EAP},
    }


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with one_rank.working(checkpoint_seconds=0) as make:
        yield make()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("gpt2", "llama"):
        save_tiny(kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """Some trials on two ranks, and one that two ranks left midway."""
    root = tmp_path_factory.mktemp("two")
    one_rank.write_spec(root / "left by two", specs(models)["reverse"])
    (root / "left by two" / "stop.json").write_text(str(KILLED_AT + 1))
    return on_two_ranks(root, models, ["reverse", "gpt2"], "left by two")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, models: Path, worker: Worker) -> Path:
    """Every other trial on two ranks, one that a single rank left, and `gang.engines`."""
    root = tmp_path_factory.mktemp("many")
    trial = one_rank.write_spec(root / "left by one", specs(models)["gpt2 float64"])
    worker.begin(trial.plain(), str(root / "left by one"), 1)
    one_rank.advance(worker, KILLED_AT + 1)
    names = [name for name in specs(models) if name not in ("reverse", "gpt2")]
    return on_two_ranks(root, models, names, "left by one", out=str(root / "said.json"))


@pytest.mark.slow
def test_four_ranks_hold_a_quarter_of_the_weights_each_and_find_the_circuit_of_one(
    models: Path, worker: Worker, tmp_path: Path
) -> None:
    spec = specs(models)["gpt2 float64"]
    one_rank.write_spec(tmp_path / "four", spec)
    resources = json.dumps({"ranks": 4, "checkpoint_seconds": 0})
    ran = gang.torchrun(4, "tests.gang", resources, "", str(tmp_path / "four"))
    assert ran.returncode == 0, ran.stderr[-4000:]
    alone = one_rank.run(worker, tmp_path / "one", spec)
    (whole,) = alone.execution["weight_bytes"]
    held = one_rank.result(tmp_path / "four").execution["weight_bytes"]
    assert len(held) == 4 and whole <= sum(held)
    assert max(held) <= 1.1 * whole / 4, "but for parameters that four do not share evenly"
    assert edges(tmp_path / "four") == edges(tmp_path / "one")


def on_two_ranks(root: Path, models: Path, names: list[str], *others: str, out: str = "") -> Path:
    for name in names:
        one_rank.write_spec(root / name, specs(models)[name])
    folders = [str(root / name) for name in (*names, *others)]
    resources = json.dumps({"ranks": 2, "checkpoint_seconds": 0})
    ended = gang.torchrun(2, "tests.gang", resources, out, *folders)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return root


def edges(folder: Path) -> list[set[tuple[str, str]]]:
    """Of every point, in order."""
    return [set(map(tuple, json.loads(path.read_bytes()))) for path in sorted(folder.glob("edges-*.json"))]


def assert_same_circuits(folder: Path, alone: Path) -> None:
    first, second = one_rank.result(alone), one_rank.result(folder)
    assert (second.status, second.execution["ranks"], first.execution["ranks"]) == ("complete", 2, 1)
    assert edges(folder) == edges(alone) and len(edges(alone)) == len(first.points) >= 2
    for one, other in zip(first.points, second.points, strict=True):
        assert (one.kind, one.step, one.num_edges) == (other.kind, other.step, other.num_edges)
        for split, scores in one.metrics.items():
            assert other.metrics[split] == pytest.approx(scores, rel=1e-6, abs=1e-9)
    assert second.num_examples == first.num_examples and second.trial_id == first.trial_id


def assert_nearly_the_same(folder: Path, alone: Path) -> None:
    (one, *_), (other, *_) = edges(alone), edges(folder)
    assert len(one & other) >= 0.99 * len(one | other)
    first, second = one_rank.result(alone), one_rank.result(folder)
    for split, scores in first.empty.items():
        assert second.empty[split] == pytest.approx(scores, rel=1e-4, abs=1e-5)


def test_two_ranks_find_the_circuits_of_one(two: Path, models: Path, worker: Worker, tmp_path: Path) -> None:
    """27 examples, 7 at a step, float64: every circuit of the trial is the same."""
    one_rank.run(worker, tmp_path, specs(models)["reverse"])
    assert_same_circuits(two / "reverse", tmp_path)


def test_in_float32_two_ranks_find_nearly_the_same(
    two: Path, models: Path, worker: Worker, tmp_path: Path
) -> None:
    """13 examples, 137 edges."""
    one_rank.run(worker, tmp_path, specs(models)["gpt2"])
    assert_nearly_the_same(two / "gpt2", tmp_path)


def test_what_two_ranks_left_one_finishes(two: Path, models: Path, worker: Worker) -> None:
    folder = two / "left by two"
    assert not (folder / "result.json").exists()
    saved = sorted(path.name for path in (folder / "checkpoint").iterdir())
    assert saved[-1] == f"step-{KILLED_AT:09d}.safetensors"
    result = one_rank.run(worker, folder, specs(models)["reverse"], attempt=2)
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["attempt"] == 2][:2] == [0, KILLED_AT + 1]
    assert result.execution["ranks"] == 1
    assert edges(folder) == edges(two / "reverse")


def test_reports_are_written_once(two: Path) -> None:
    lines = [json.loads(line) for line in (two / "gpt2" / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["phase"] == "train"] == list(range(1, 13))
    assert not list(two.rglob("*.part")) and not list((two / "gpt2").glob("checkpoint*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xproportion", "reverse eap", "gpt2 float64"])
def test_more_trials_are_the_same(
    name: str, many: Path, models: Path, worker: Worker, tmp_path: Path
) -> None:
    one_rank.run(worker, tmp_path, specs(models)[name])
    assert_same_circuits(many / name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "llama eap"])
def test_more_trials_are_nearly_the_same(
    name: str, many: Path, models: Path, worker: Worker, tmp_path: Path
) -> None:
    one_rank.run(worker, tmp_path, specs(models)[name])
    assert_nearly_the_same(many / name, tmp_path)


@pytest.mark.slow
def test_what_one_rank_left_two_finish(many: Path) -> None:
    folder = many / "left by one"
    steps = [json.loads(line)["step"] for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert steps[KILLED_AT + 1 : KILLED_AT + 3] == [0, KILLED_AT + 1]
    assert edges(folder) == edges(many / "gpt2 float64")


@pytest.mark.slow
def test_an_engine_on_two_ranks_is_an_engine_on_one(many: Path, worker: Worker) -> None:
    """Sizes that two ranks do not share evenly; the state holds them in full."""
    said, expected = json.loads((many / "said.json").read_text()), gang.engines(worker.ranks)
    for stage in (0, 1, 2, 3):
        assert said[f"stage {stage} goes on"] and expected[f"stage {stage} goes on"]
        assert said[f"stage {stage}"] == expected[f"stage {stage}"] == expected["stage 0"]
    assert len(said["stage 3"]["exp_avg.edges"]) == 41 and said["stage 3"]["adam_steps"] == 6


@pytest.mark.slow
def test_what_ranks_tell_each_other(many: Path) -> None:
    said = json.loads((many / "said.json").read_text())
    assert said["shared"] == "\x00from the first" and said["nothing"] == ""
    assert said["agreed"] == [True, False] and said["total"] == [[2.0, 1.0], True]


@pytest.mark.slow
def test_by_hand_on_two_ranks(tmp_path: Path) -> None:
    """`torchrun -m trainers.trial FOLDER`, and once more: there is nothing left to do."""
    spec = {
        "model": {"builtin": "tracr-xproportion"},
        "task": {"name": "tracr"},
        "method": PRUNING,
        "ablation": "zero",
    }
    one_rank.write_spec(tmp_path, spec)
    ended = gang.torchrun(2, "trainers.trial", str(tmp_path))
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert "train 12/12" in ended.stdout and "squared_error" in ended.stdout
    assert one_rank.result(tmp_path).execution["ranks"] == 2
    again = gang.torchrun(2, "trainers.trial", str(tmp_path))
    assert again.returncode != 0 and "has a result.json already" in again.stderr


def test_a_rank_without_a_gpu_says_so() -> None:
    with pytest.raises(RuntimeError, match="gpus_per_rank is 1.0, but this rank sees no GPU"):
        Ranks.join(0, 1, "127.0.0.1", 1, one_rank.Resources(gpus_per_rank=1.0))
