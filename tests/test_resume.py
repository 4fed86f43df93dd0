"""A trial that is killed at any step and resumed ends as an undisturbed one does, bit for bit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import one_rank
from tests.tiny_models import save_tiny
from trainers.checkpoint import Checkpoints
from trainers.distributed import Ranks
from trainers.folder import Folder
from trainers.result import TrialResult
from trainers.worker import Worker

STEPS = 9
METHOD = {
    "name": "edge_pruning", "target_sparsity": 0.6, "steps": STEPS, "path_points": 4, "batch_size": 5,
    "init_log_alpha": 0, "init_std": 2, "gate_lr": 0.3, "writer_gates": True,
}  # fmt: skip
ONE_RANK = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[[], Worker]]:
    """Workers that write a checkpoint at every step."""
    with one_rank.working(checkpoint_seconds=0) as make:
        yield make


@pytest.fixture(scope="module")
def quick() -> Iterator[Callable[[], Worker]]:
    """The same without ZeRO: every stage computes the same bits, this one in the shortest time."""
    with one_rank.working(checkpoint_seconds=0, zero_stage=0) as make:
        yield make


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = {"path": str(save_tiny("gpt2", tmp_path_factory.mktemp("models") / "tiny-gpt2"))}
    return {"model": model, "task": one_rank.TINY_TASK, "method": METHOD, "seed": 1}


@pytest.fixture(scope="module")
def undisturbed(
    make: Callable[[], Worker], spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert one_rank.run(make(), folder, spec).status == "complete"
    return folder


def killed_at(make: Callable[[], Worker], folder: Path, spec: dict[str, Any], step: int) -> None:
    """Attempt 1 reports `step` steps and is never heard of again."""
    worker = make()
    trial = one_rank.write_spec(folder, spec)
    worker.begin(trial.plain(), str(folder), 1)
    assert [p.step for p in one_rank.advance(worker, step + 1)] == list(range(step + 1))
    assert worker.trial is not None
    worker.trial.close()


def assert_same_trial(folder: Path, undisturbed: Path) -> TrialResult:
    """The same files with the same bytes, but for times and the number of the attempt."""
    found, expected = one_rank.result(folder), one_rank.result(undisturbed)
    assert found.points == expected.points and found.full == expected.full and found.empty == expected.empty
    assert (found.examples, found.backward_examples) == (expected.examples, expected.backward_examples)
    names = {path.name for path in undisturbed.iterdir()}
    kept = {path.name for path in folder.iterdir()}
    assert kept - {"checkpoint"} == names, "no checkpoint stays, but for damaged ones"
    assert all(path.suffix == ".corrupt" for path in folder.glob("checkpoint/*"))
    for name in names - {"result.json", "progress.jsonl", "attempt.json"}:
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    return found


def progress(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("step", [0, 1, 4, STEPS])
def test_killed_and_resumed(
    step: int, make: Callable[[], Worker], spec: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    killed_at(make, tmp_path, spec, step)
    names = sorted(path.name for path in tmp_path.glob("checkpoint/*"))
    assert names == [f"step-{n:09d}.safetensors" for n in range(max(1, step - 1), step + 1)]
    result = one_rank.run(make(), tmp_path, spec, attempt=2)
    assert assert_same_trial(tmp_path, undisturbed).warnings == one_rank.result(undisturbed).warnings
    assert result.execution["attempt"] == 2
    second = [
        line["step"] for line in progress(tmp_path) if line["attempt"] == 2 and line["phase"] == "train"
    ]
    assert second == list(range(step + 1, STEPS + 1)), "it went on where it was"


@pytest.mark.parametrize("ablation", ["interchange", "mean"])
def test_what_is_only_made_again_is_not_counted_again(
    ablation: str, quick: Callable[[], Worker], spec: dict[str, Any], tmp_path: Path
) -> None:
    """The references of a batch that is trained on at every step, and the means of the training split."""
    whole = spec | {"ablation": ablation, "method": METHOD | {"batch_size": None}}
    expected = one_rank.run(quick(), tmp_path / "undisturbed", whole)
    killed_at(quick, tmp_path / "killed", whole, 4)
    found = one_rank.run(quick(), tmp_path / "killed", whole, attempt=2)
    assert found.points == expected.points
    assert (found.examples, found.backward_examples) == (expected.examples, expected.backward_examples)


def test_killed_again_and_again(
    make: Callable[[], Worker], spec: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    for attempt, reports in ((1, 3), (2, 1), (3, 4)):
        worker = make()
        trial = one_rank.write_spec(tmp_path, spec, attempt)
        worker.begin(trial.plain(), str(tmp_path), attempt)
        one_rank.advance(worker, reports)
        assert worker.trial is not None
        worker.trial.close()
    one_rank.run(make(), tmp_path, spec, attempt=4)
    assert_same_trial(tmp_path, undisturbed)
    told = {(line["step"], line["kl"]) for line in progress(tmp_path) if line["phase"] == "train"}
    assert len(told) == STEPS, "what is told twice is told alike"


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": flipped,
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "another file": lambda content: b'{"step": 3}',
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_its_predecessor(
    damage: str, quick: Callable[[], Worker], spec: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    killed_at(quick, tmp_path, spec, 5)
    newest = tmp_path / "checkpoint" / "step-000000005.safetensors"
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    worker = quick()
    trial = one_rank.write_spec(tmp_path, spec, 2)
    worker.begin(trial.plain(), str(tmp_path), 2)
    assert [p.step for p in one_rank.advance(worker, 2)] == [0, 5], "step 5 is done again"
    aside = newest.with_name(f"{newest.name}.corrupt")
    assert aside.exists() and newest.exists(), "moved aside, and written anew"
    one_rank.advance(worker)
    result = assert_same_trial(tmp_path, undisturbed)
    warnings = [text for text in result.warnings if "damaged" in text]
    assert len(warnings) == 1 and warnings[0].startswith(
        "checkpoint step-000000005.safetensors was damaged ("
    )


def test_without_a_whole_checkpoint_it_starts_anew(
    quick: Callable[[], Worker], spec: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    killed_at(quick, tmp_path, spec, 5)
    for path in (tmp_path / "checkpoint").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    result = one_rank.run(quick(), tmp_path, spec, attempt=2)
    assert_same_trial(tmp_path, undisturbed)
    assert sum("was damaged" in text for text in result.warnings) == 2
    assert [line["step"] for line in progress(tmp_path) if line["attempt"] == 2][1] == 1


@pytest.mark.parametrize("first, second", [(3, 0), (1, 3), (0, 2)])
def test_a_trial_may_change_its_zero_stage(
    first: int, second: int, spec: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    """The checkpoint does not know of stages."""
    with one_rank.working(checkpoint_seconds=0, zero_stage=first) as make:
        killed_at(make, tmp_path, spec, 4)
    with one_rank.working(zero_stage=second) as make:
        one_rank.run(make(), tmp_path, spec, attempt=2)
    assert_same_trial(tmp_path, undisturbed)


def test_killed_while_it_evaluates(
    quick: Callable[[], Worker], spec: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    worker = quick()
    worker.begin(one_rank.write_spec(tmp_path, spec).plain(), str(tmp_path), 1)
    phases = [report.phase for report in one_rank.advance(worker, STEPS + 3)]
    assert phases == ["load"] + ["train"] * STEPS + ["evaluate"] * 2
    one_rank.run(quick(), tmp_path, spec, attempt=2)
    assert_same_trial(tmp_path, undisturbed)


# ---- checkpoints by themselves


def checkpoints(folder: Path, seconds: float = 0) -> Checkpoints:
    return Checkpoints(Folder.open(folder), ONE_RANK, seconds, lambda: None)


def state(value: float) -> dict[str, torch.Tensor]:
    return {"edges": torch.full((7,), value), "kept": torch.tensor([True, False]), "none": torch.zeros(0)}


def test_a_checkpoint_comes_back_and_one_predecessor_is_kept(tmp_path: Path) -> None:
    saved = checkpoints(tmp_path)
    assert saved.latest() is None and saved.warnings == []
    for step in (3, 20, 100):
        saved.save(step, state(step))
    step, found = checkpoints(tmp_path).latest() or (0, {})
    assert step == 100 and found.keys() == state(0).keys()
    assert all(torch.equal(found[name], value) for name, value in state(100).items())
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-000000020.safetensors", "step-000000100.safetensors",
    ]  # fmt: skip
    saved.clear()
    assert checkpoints(tmp_path).latest() is None and not tmp_path.exists()


def test_an_interrupted_write_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = checkpoints(tmp_path)
    saved.save(1, state(1))

    def full(folder: Folder, name: str, content: bytes) -> None:
        (Path(folder.path) / f"{name}.1234.part").write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write", full)
    with pytest.raises(OSError, match="No space left"):
        saved.save(2, state(2))
    assert (checkpoints(tmp_path).latest() or (0,))[0] == 1


def test_checkpoints_are_due_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("trainers.checkpoint.time.monotonic", lambda: now[0])
    saved = Checkpoints(Folder.open(tmp_path), ONE_RANK, 120, lambda: None, last=now[0])
    now[0] += 119
    assert not saved.due()
    now[0] += 1
    assert saved.due()
    saved.save(1, state(1))
    assert not saved.due()


def test_another_rank_than_the_first_writes_nothing(tmp_path: Path) -> None:
    second = Checkpoints(Folder.open(tmp_path), Ranks(1, 2, torch.device("cpu")), 0, lambda: None)
    second.save(1, state(1))
    second.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_walk_through_targets_is_resumed_within_a_hold(
    quick: Callable[[], Worker], spec: dict[str, Any], tmp_path: Path
) -> None:
    walking = {"target_path": [0.3, 0.5, 0.6], "target_sparsity": None, "settle_steps": 1, "warmup_steps": 3}
    walk = spec | {"method": METHOD | walking}
    whole = one_rank.run(quick(), tmp_path / "whole", walk)
    assert sum(point.kind == "final" for point in whole.points) == 3
    for step in (2, 4, whole.steps):
        killed_at(quick, tmp_path / str(step), walk, step)
        assert one_rank.run(quick(), tmp_path / str(step), walk, attempt=2).status == "complete"
        assert_same_trial(tmp_path / str(step), tmp_path / "whole")


def test_multipliers_that_follow_the_error_are_resumed(
    quick: Callable[[], Worker], spec: dict[str, Any], tmp_path: Path
) -> None:
    following = {"multipliers": "pi", "writer_target_sparsity": 0.3}
    trial = spec | {"method": METHOD | following}
    one_rank.run(quick(), tmp_path / "whole", trial)
    told = progress(tmp_path / "whole")[-2]
    assert told["lambda_1"] != 0 and told["writer_lambda_2"] == 15
    killed_at(quick, tmp_path / "killed", trial, 5)
    assert one_rank.run(quick(), tmp_path / "killed", trial, attempt=2).status == "complete"
    assert_same_trial(tmp_path / "killed", tmp_path / "whole")
