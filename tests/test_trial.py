"""A trial from spec.json to result.json, through the worker that a lane drives."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_patches.circuit import Circuit
from tests import one_rank
from tests.tiny_models import save_tiny
from trainers.folder import Folder
from trainers.record import PACKAGES, Superseded
from trainers.result import TrialResult
from trainers.trial import TRIAL_SCHEMA
from trainers.worker import Worker, run_by_hand

EDGE_PRUNING = {
    "name": "edge_pruning", "target_sparsity": 0.6, "steps": 12, "path_points": 3,
    "init_log_alpha": 0, "init_std": 2, "gate_lr": 0.3,
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "edge_pruning": EDGE_PRUNING,
    "eap": {"name": "eap", "edge_budgets": [2, 5, 11]},
    "random": {"name": "random", "edge_budgets": [5, 40, 2]},
}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with one_rank.working() as make:
        yield make()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Saved tiny models by family, and one with a weight that is not a number."""
    folder = tmp_path_factory.mktemp("models")
    paths = {kind: str(save_tiny(kind, folder / f"tiny-{kind}")) for kind in ("gpt2", "llama")}
    broken = save_tiny("gpt2", folder / "tiny-broken")
    weights = load_file(broken / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.bias"][0] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    return paths | {"broken": str(broken)}


def tracr(method: dict[str, Any], **fields: Any) -> dict[str, Any]:
    model = {"builtin": "tracr-xproportion"}
    return {"model": model, "task": {"name": "tracr"}, "method": method, **fields}


def induction(path: str, method: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": {"path": path}, "task": one_rank.TINY_TASK, "method": method, **fields}


def check(folder: Path, result: TrialResult, spec: dict[str, Any]) -> None:
    """What holds for every complete trial."""
    trial = one_rank.write_spec(folder, spec)
    assert (result.status, result.error) == ("complete", None)
    assert result.trial_id == trial.trial_id and result.seed == trial.seed
    assert result.spec == trial.plain() and type(trial).parse(result.spec, "") == trial
    assert result.group is not None and result.group.method == trial.method.title
    assert result.group.model == trial.model.label and result.group.ablation == trial.ablation
    assert result.divergence == trial.task.metrics(trial.model)[0]
    assert result.seconds > 0 and result.cpu_seconds > 0 and result.peak_memory_bytes >= 0
    assert result.started <= result.finished and result.started.endswith("+00:00")
    assert set(result.versions) <= {"python", *PACKAGES} and result.versions["torch"].startswith("2.")
    assert (result.execution["ranks"], result.execution["attempt"]) == (1, 1)
    assert result.execution["zero_stage"] == 3 and result.execution["device"] == "cpu"
    names = set(trial.task.metrics(trial.model))
    for scores in (result.full, result.empty, *(point.metrics for point in result.points)):
        assert scores.keys() == {"validation", "test"}
        assert all(set(values) == names for values in scores.values())
        assert all(math.isfinite(value) for values in scores.values() for value in values.values())
    assert result.divergence is not None
    assert all(abs(scores[result.divergence]) < 1e-5 for scores in result.full.values())
    assert all(scores[result.divergence] > 1e-3 for scores in result.empty.values())
    for number, point in enumerate(result.points):
        check_point(folder, number, point, result)


def check_point(folder: Path, number: int, point: Any, result: TrialResult) -> None:
    circuit = Circuit.load(folder / point.circuit)
    assert point.point == number and point.circuit == f"circuit-{number:03d}.safetensors"
    assert point.num_edges == circuit.num_edges
    assert point.num_edges_total == circuit.graph.num_edges == result.num_edges_total
    assert point.num_edges_connected == circuit.connected().num_edges <= circuit.num_edges
    assert point.sparsity == pytest.approx(1 - circuit.num_edges / circuit.graph.num_edges)
    edges = json.loads((folder / f"edges-{number:03d}.json").read_bytes())
    assert edges == [list(edge) for edge in circuit.edges]
    assert all(isinstance(edge, list) and list(map(type, edge)) == [str, str] for edge in edges)
    if number == 0:
        assert (folder / "edges.json").read_bytes() == (folder / "edges-000.json").read_bytes()


@pytest.mark.parametrize("ablation, embeddings", [("zero", "maskable"), ("interchange", "always_on")])
@pytest.mark.parametrize("method", METHODS)
def test_a_trial_on_a_program(
    method: str, ablation: str, embeddings: str, worker: Worker, tmp_path: Path
) -> None:
    spec = tracr(METHODS[method], ablation=ablation, embeddings=embeddings, seed=2)
    result = one_rank.run(worker, tmp_path, spec)
    check(tmp_path, result, spec)
    assert result.group is not None
    assert result.group.edge_convention == f"2 embedding writers, {embeddings.replace('_', ' ')}"
    assert result.num_edges_total == (32 if embeddings == "maskable" else 14)
    assert result.num_examples == {"train": 256, "validation": 256, "test": 256} and result.in_sample
    assert result.ground_truth is not None and len(result.ground_truth) == 7
    known = {e for e in result.ground_truth if embeddings == "maskable" or "embeds" not in e[0]}
    for point in result.points:
        hits = known & set(map(tuple, json.loads((tmp_path / f"edges-{point.point:03d}.json").read_bytes())))
        assert point.truth_precision == (len(hits) / point.num_edges if point.num_edges else None)
        assert point.truth_recall == pytest.approx(len(hits) / len(known))
        assert point.metrics["validation"] == point.metrics["test"], "the same examples"


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("method", METHODS)
def test_a_trial_on_a_language_model(
    method: str, kind: str, worker: Worker, models: dict[str, str], tmp_path: Path
) -> None:
    spec = induction(models[kind], METHODS[method])
    result = one_rank.run(worker, tmp_path, spec)
    check(tmp_path, result, spec)
    assert result.num_examples == {"train": 13, "validation": 5, "test": 7} and not result.in_sample
    assert result.ground_truth is None
    assert all(point.truth_precision is None and point.truth_recall is None for point in result.points)
    assert any(point.metrics["validation"] != point.metrics["test"] for point in result.points)


def test_points_of_each_method(worker: Worker, tmp_path: Path) -> None:
    pruned = one_rank.run(worker, tmp_path / "a", tracr(EDGE_PRUNING, ablation="zero"))
    assert pruned.steps == 12 and pruned.points[0].kind == "final" and pruned.points[0].step == 12
    assert pruned.points[0].target_sparsity == 0.6
    assert {point.kind for point in pruned.points[1:]} == {"path"}
    ranked = one_rank.run(worker, tmp_path / "b", tracr(METHODS["random"], ablation="zero"))
    assert [(point.kind, point.num_edges) for point in ranked.points] == [
        ("budget", 2), ("budget", 5), ("budget", 32),
    ]  # fmt: skip
    assert (ranked.points[0].target_sparsity, ranked.points[0].step) == (None, None)
    assert ranked.points[-1].metrics["test"]["same_output"] == 1 and ranked.points[-1].truth_recall == 1


def test_progress_is_written_line_by_line(worker: Worker, tmp_path: Path) -> None:
    trial = one_rank.write_spec(tmp_path, tracr(EDGE_PRUNING, ablation="zero"), attempt=4)
    worker.begin(trial.plain(), str(tmp_path), 4)
    reports = [report for report in one_rank.advance(worker) if report.phase != "evaluate"]
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["load"] + ["train"] * 12 + ["evaluate"]
    assert [line["step"] for line in lines[1:13]] == list(range(1, 13))
    times = [line["time"] for line in lines]
    assert times == sorted(times) and {line["attempt"] for line in lines} == {4}
    for line, report in zip(lines[:-1], reports, strict=True):
        assert line["total"] == report.total and report.values.items() <= line.items()
    train = lines[1:13]
    told = {"squared_error", "sparsity", "target_sparsity", "lambda_1", "lambda_2", "gate_lr", "step_seconds"}
    assert all(told <= line.keys() and line["step_seconds"] >= 0 for line in train)


def test_a_long_trial_writes_some_lines_only(worker: Worker, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("trainers.record.REPORTS", 4)
    one_rank.run(worker, tmp_path, tracr(EDGE_PRUNING, ablation="zero"))
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["phase"] == "train"] == [1, 4, 7, 10, 12]


def test_the_result_comes_last_and_the_checkpoints_go(tmp_path: Path, monkeypatch: Any) -> None:
    written: list[str] = []
    write, delete = Folder.write, Folder.delete

    def noted_write(folder: Folder, name: str, content: bytes) -> None:
        written.append(f"{Path(folder.path).name}/{name}")
        write(folder, name, content)

    def noted_delete(folder: Folder, name: str) -> None:
        written.append(f"delete {Path(folder.path).name}/{name}")
        delete(folder, name)

    monkeypatch.setattr(Folder, "write", noted_write)
    monkeypatch.setattr(Folder, "delete", noted_delete)
    with one_rank.working(checkpoint_seconds=0) as make:
        result = one_rank.run(make(), tmp_path / "t", tracr(EDGE_PRUNING, ablation="zero"))
    after = written[written.index("t/result.json") + 1 :]
    assert after and all(entry.startswith("delete checkpoint/") for entry in after)
    assert "checkpoint/step-000000012.safetensors" in written
    circuits = {f"circuit-{n:03d}.safetensors" for n in range(len(result.points))}
    edges = {f"edges-{n:03d}.json" for n in range(len(result.points))} | {"edges.json"}
    begun = {"spec.json", "attempt.json", "progress.jsonl"}
    ended = {"test_values.safetensors", "result.json"}
    assert {path.name for path in (tmp_path / "t").iterdir()} == circuits | edges | begun | ended


def test_one_worker_serves_models_and_methods_in_turn(
    worker: Worker, models: dict[str, str], tmp_path: Path
) -> None:
    """Also after a trial that was abandoned midway: nothing is left of it."""
    pruned, ranked = induction(models["gpt2"], EDGE_PRUNING), induction(models["llama"], METHODS["eap"])
    first = one_rank.run(worker, tmp_path / "pruned", pruned)
    held = worker.loaded
    other = one_rank.run(worker, tmp_path / "ranked", ranked)
    assert worker.loaded is not held
    for number, (spec, expected) in enumerate(((ranked, other), (pruned, first))):
        abandoned = tmp_path / f"abandoned{number}"
        worker.begin(one_rank.write_spec(abandoned, pruned | {"seed": 7}).plain(), str(abandoned), 1)
        one_rank.advance(worker, 4)
        held = worker.loaded
        again = one_rank.run(worker, tmp_path / f"again{number}", spec)
        assert [point.metrics for point in again.points] == [point.metrics for point in expected.points]
        assert not (abandoned / "result.json").exists()
    assert worker.loaded is held, "the same model is not loaded again"


@pytest.mark.parametrize("method", ["edge_pruning", "eap"])
def test_a_number_that_is_not_one_fails_the_trial_not_the_worker(
    method: str, worker: Worker, models: dict[str, str], tmp_path: Path
) -> None:
    result = one_rank.run(worker, tmp_path / "a", induction(models["broken"], METHODS[method]))
    assert result.status == "failed" and result.points == []
    assert result.error is not None
    expected = "diverged at step 0: " if method == "edge_pruning" else "diverged at example 0: an EAP score"
    assert result.error.startswith(expected)
    assert result.group is not None and result.group.model == "tiny-broken" and result.spec["seed"] == 0
    good = one_rank.run(worker, tmp_path / "b", induction(models["gpt2"], METHODS[method]))
    assert good.status == "complete"


def test_gates_that_explode_fail_the_trial(worker: Worker, tmp_path: Path) -> None:
    spec = tracr(EDGE_PRUNING | {"gate_lr": 1e37, "multiplier_lr": 1e37}, ablation="zero")
    result = one_rank.run(worker, tmp_path, spec)
    assert result.status == "failed" and (result.error or "").startswith("diverged at ")


def test_metrics_that_are_not_finite_survive_the_file(
    worker: Worker, models: dict[str, str], tmp_path: Path
) -> None:
    result = one_rank.run(worker, tmp_path, induction(models["broken"], METHODS["random"]))
    assert result.status == "complete" and math.isnan(result.points[0].metrics["test"]["kl"])
    assert TrialResult.model_validate_json(result.model_dump_json()).points[0].num_edges == 2


def test_a_superseded_attempt_never_writes(tmp_path: Path) -> None:
    """Whatever it was about to write: progress, a checkpoint, circuits or the result."""
    spec = tracr(EDGE_PRUNING | {"steps": 4, "path_points": 0}, ablation="zero")
    with one_rank.working(checkpoint_seconds=0) as make:
        worker = make()
        for done in (0, 3, 6):  # before any report, in training, before the circuits
            folder = tmp_path / str(done)
            trial = one_rank.write_spec(folder, spec)
            worker.begin(trial.plain(), str(folder), 1)
            assert len(one_rank.advance(worker, done)) == done
            (folder / "attempt.json").write_text(json.dumps({"attempt": 2}))
            before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            with pytest.raises(Superseded, match="attempt 1 was superseded by attempt 2"):
                one_rank.advance(worker)
            assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_result_of_a_trial_that_was_given_up_or_cancelled_stays(tmp_path: Path) -> None:
    """Its ranks may live on for a while, with the number of the last attempt."""
    with one_rank.working(checkpoint_seconds=0) as make:
        worker = make()
        trial = one_rank.write_spec(tmp_path, tracr(EDGE_PRUNING | {"steps": 4}, ablation="zero"))
        worker.begin(trial.plain(), str(tmp_path), 1)
        one_rank.advance(worker, 3)
        (tmp_path / "result.json").write_text("cancelled")
        one_rank.advance(worker)
        assert (tmp_path / "result.json").read_text() == "cancelled"


def test_a_checkpoint_alone_is_not_written_by_a_superseded_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.record.REPORTS", 1)  # between the first step and the last, no line is due
    with one_rank.working(checkpoint_seconds=0) as make:
        worker = make()
        trial = one_rank.write_spec(tmp_path, tracr(EDGE_PRUNING, ablation="zero"))
        worker.begin(trial.plain(), str(tmp_path), 1)
        one_rank.advance(worker, 3)
        (tmp_path / "attempt.json").write_text(json.dumps({"attempt": 2}))
        before = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
        with pytest.raises(Superseded):
            worker.advance()
        assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == before


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "spec.json: no such file"),
        ("{", "spec.json: not JSON: "),
        (json.dumps({"model": {"builtin": "tracr-reverse"}}), "spec.json: task: required, but missing"),
    ],
)
def test_by_hand_a_spec_that_cannot_be_run_is_told_in_a_line(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "spec.json").write_text(content)
    assert run_by_hand([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/{said}" in error and "Traceback" not in error


def test_by_hand_a_finished_trial_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_rank.write_spec(tmp_path, tracr(METHODS["random"]))
    (tmp_path / "result.json").write_text("{}")
    assert run_by_hand([str(tmp_path)]) == 2
    assert "has a result.json already" in capsys.readouterr().err
    assert run_by_hand([]) == run_by_hand(["--help"]) == 2
    assert "usage: torchrun" in capsys.readouterr().err


def test_by_hand_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_rank.write_spec(tmp_path, induction(str(tmp_path / "nowhere"), METHODS["random"]))
    with one_rank.joined():
        assert run_by_hand([str(tmp_path)]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_schema_is_pinned() -> None:
    """Raise TRIAL_SCHEMA when a default or a meaning changes, and this number with it."""
    assert TRIAL_SCHEMA == 1 and torch.get_default_dtype() == torch.float32
