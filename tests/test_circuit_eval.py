"""`circuit-sweep circuit eval`: against the trial's own evaluation, on other tasks and models, on ranks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from model_patches.circuit import Circuit
from orchestrator.cli.main import main
from tests import one_rank
from tests.tiny_models import save_tiny
from trainers.evaluate import evaluate
from trainers.result import TrialResult
from trainers.trial import TrialSpec

TASK = {"name": "induction", "period": 4, "shown": 2, "train": 13, "validation": 5, "test": 7}
BUDGETS = [4, 30]


@dataclass(frozen=True)
class World:
    """A runs folder with one finished trial, and another checkpoint of its model."""

    runs: Path
    trial: TrialResult
    other_model: Path

    @property
    def circuit(self) -> Path:
        return self.runs / "trials" / self.trial.trial_id / self.trial.points[1].circuit


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    model = save_tiny("gpt2", root / "gpt2")
    spec = {
        "model": {"path": str(model)},
        "task": TASK,
        "method": {"name": "random", "edge_budgets": BUDGETS},
        "embeddings": "always_on",
    }
    folder = root / "runs" / "trials" / TrialSpec.parse(spec, "").trial_id
    with one_rank.working() as make:
        result = one_rank.run(make(), folder, spec)
        yield World(root / "runs", result, save_tiny("gpt2", root / "other", seed=5))


def command(world: World, *arguments: str) -> tuple[int, str, str]:
    ended = CliRunner().invoke(main, ["circuit", "eval", "--runs", str(world.runs), *arguments])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.stdout, ended.stderr


def answer(world: World, *arguments: str) -> dict[str, Any]:
    code, out, error = command(world, *arguments, "--json")
    assert code == 0, error
    return json.loads(out)


def by_kind(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["kind"] == kind]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_point_is_what_its_trial_measured(world: World, split: str) -> None:
    found = answer(world, f"{world.trial.trial_id}:1", "--split", split)
    (row,), (full,), (empty,) = (by_kind(found, kind) for kind in ("circuit", "full", "empty"))
    assert row["metrics"] == pytest.approx(world.trial.points[1].metrics[split], abs=1e-5)
    assert full["metrics"] == pytest.approx(world.trial.full[split], abs=1e-5)
    assert empty["metrics"] == pytest.approx(world.trial.empty[split], abs=1e-5)
    assert (row["num_edges"], found["num_edges_total"]) == (30, world.trial.points[1].num_edges_total)
    assert found["num_examples"] == TASK[split] and found["split"] == split
    for name, value in row["metrics"].items():
        low, high = row["intervals"][name]
        assert low <= value <= high
        span = full["metrics"][name] - empty["metrics"][name]
        if span:
            assert row["faithfulness"][name] == pytest.approx(
                (value - empty["metrics"][name]) / span, abs=1e-4
            )
    assert set(full["faithfulness"].values()) <= {1.0, None}


def test_tops_of_the_scores_and_what_is_without_them(world: World, tmp_path: Path) -> None:
    """The trial's points are the tops of one ranking: budgets find them again from one of them."""
    values = tmp_path / "values.safetensors"
    found = answer(
        world, str(world.circuit), "--task", str(task_file(tmp_path, world)), "--budgets", "4,30",
        "--necessity", "--values", str(values),
    )  # fmt: skip
    rows, without = by_kind(found, "circuit"), by_kind(found, "without")
    for row, point in zip(rows, world.trial.points, strict=True):
        assert row["metrics"] == pytest.approx(point.metrics["test"], abs=1e-5)
    total = found["num_edges_total"]
    assert [row["num_edges"] for row in without] == [total - 4, total - 30]
    assert [row["top"] for row in rows] == [row["top"] for row in without] == [4, 30]
    read = load_file(values)["values"]
    assert read.shape == (6, len(found["metrics"]), TASK["test"])
    means = torch.tensor([list(row["metrics"].values()) for row in found["rows"]])
    assert torch.allclose(read.mean(-1), means, atol=1e-5)
    for option in (["--num-edges", "4"], ["--sparsity", str(1 - 4 / total)]):
        (row,) = by_kind(answer(world, world.trial.trial_id, *option), "circuit")
        assert row["num_edges"] == 4 and row["metrics"] == rows[0]["metrics"]


def test_mibs_grid_has_areas_and_subsets_are_knocked_out(world: World) -> None:
    found = answer(world, world.trial.trial_id, "--budgets", "mib", "--completeness", "3")
    total = found["num_edges_total"]
    shares = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
    assert [row["num_edges"] for row in by_kind(found, "circuit")] == sorted({int(s * total) for s in shares})
    assert set(found["areas"]["0"]) == set(found["metrics"])
    area = found["areas"]["0"]["kl"]
    assert area["intervals"]["cpr"][0] <= area["value"]["cpr"] <= area["intervals"]["cpr"][1]
    rows = found["rows"]
    assert {rows[int(place)]["kind"] for place in found["completeness"]} == {"circuit"}
    assert all(gap["kl"]["gap"] >= 0 and gap["kl"]["subsets"] <= 3 for gap in found["completeness"].values())
    assert any("different subsets" in warning for warning in found["warnings"]), "a circuit of one edge"


def task_file(folder: Path, world: World, **task: Any) -> Path:
    path = folder / "task.yaml"
    model = {} if task else {"model": world.trial.spec["model"]}
    path.write_text(json.dumps(model | {"task": TASK | task}))
    return path


def test_another_task_on_another_checkpoint(world: World, tmp_path: Path) -> None:
    """The same as evaluating in a session of that task and model."""
    other = {"period": 6, "data_seed": 3}
    path = task_file(tmp_path, world, **other)
    found = answer(world, f"{world.trial.trial_id}:1", "--task", str(path), "--model", str(world.other_model))
    with one_rank.joined() as ranks:
        spec = TrialSpec.parse(
            world.trial.spec | {"model": {"path": str(world.other_model)}, "task": TASK | other}, ""
        )
        from trainers.model import load

        loaded = load(spec.model, ranks, 0)
        session = one_rank.session(loaded, ranks, tmp_path, {"name": "random"}, embeddings="always_on")
        session.spec = spec
        session.open()
        full, (own,) = one_rank.finish(evaluate(session, [Circuit.load(world.circuit)], "test"))
        session.close()
    assert by_kind(found, "full")[0]["metrics"] == pytest.approx(full, abs=1e-5)
    assert by_kind(found, "circuit")[0]["metrics"] == pytest.approx(own, abs=1e-5)
    assert own["kl"] != pytest.approx(world.trial.points[1].metrics["test"]["kl"], rel=1e-2)
    assert (found["model"], found["test_set"][:15]) == ("other", "7 of period 6, ")


def test_two_ranks_measure_what_one_does(world: World, tmp_path: Path) -> None:
    """7 examples on 2 ranks: the values come back in the split's order."""
    arguments = [world.trial.trial_id, "--budgets", "4,30", "--batch-examples", "2", "--values"]
    one = answer(world, *arguments, str(tmp_path / "one"))
    two = answer(world, *arguments, str(tmp_path / "two"), "--ranks", "2", "--cpus-per-rank", "1")
    assert (one["ranks"], two["ranks"]) == (1, 2)
    for first, second in zip(one["rows"], two["rows"], strict=True):
        assert first["metrics"] == pytest.approx(second["metrics"], abs=1e-5)
        for name, ends in first["intervals"].items():
            assert ends == pytest.approx(second["intervals"][name], abs=1e-5)
    values = [load_file(tmp_path / name)["values"] for name in ("one", "two")]
    assert torch.allclose(values[0], values[1], atol=1e-5) and values[0].std() > 0


@pytest.mark.slow
def test_ranks_refuse_a_mistake_with_one_message(world: World, tmp_path: Path) -> None:
    llama = save_tiny("llama", tmp_path / "llama")
    code, _, error = command(world, world.trial.trial_id, "--ranks", "2", "--model", str(llama))
    assert code == 2 and "Error: " in error and "a circuit of another graph than the model llama" in error


def test_an_edge_list_on_the_models_graph_and_the_text(world: World, tmp_path: Path) -> None:
    edges = tmp_path / "edges.json"
    edges.write_text(json.dumps([["a0.h0", "m0"], ["m0", "resid_post"]]))
    task = task_file(tmp_path, world)
    code, out, error = command(world, str(edges), "--task", str(task), "--num-edges", "1")
    assert code == 0, error
    assert "full model" in out and "empty circuit" in out and "examples a second" in out
    assert "cuts through edges of one score" in out
    blocks = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert {"KL (nats)", "accuracy (share)"} <= set(blocks)
    (row,) = [
        line for line in out.split("KL (nats)")[1].split("\n\n")[0].splitlines() if "edges.json" in line
    ]
    assert row.split()[:5] == ["top", "1", "by", "the", "scores"] and "[" in row


def test_an_edge_list_on_a_compiled_program(world: World, tmp_path: Path) -> None:
    """Of a model without a config.json, the graph is that of the loaded model."""
    from model_patches.tracr import TracrProgram

    (tmp_path / "truth.json").write_text(json.dumps(TracrProgram.builtin("xproportion").ground_truth))
    (tmp_path / "task.yaml").write_text(
        json.dumps({"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "ablation": "zero"})
    )
    found = answer(world, str(tmp_path / "truth.json"), "--task", str(tmp_path / "task.yaml"), "--necessity")
    (row,), (without,) = by_kind(found, "circuit"), by_kind(found, "without")
    assert row["metrics"]["same_output"] == 1 and row["num_edges"] == 7
    assert row["faithfulness"]["same_output"] == 1 and without["metrics"]["same_output"] < 0.5
    assert found["mistakes"] is None and found["num_edges_total"] == 32


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["nowhere.json"], "nowhere.json: no such file"),
        (["{circuit}"], "comes from no trial that says task and model; give --task and --model"),
        (["{trial}", "--num-edges", "9999"], "--num-edges: found 9,999; the graph has"),
        (["{trial}", "--num-edges", "3", "--sparsity", "0.5"], "found --num-edges and --sparsity"),
        (["{trial}", "--budgets", "1,x"], "--budgets: found '1,x'; allowed: mib, or numbers of edges"),
        (["{trial}", "--budgets", "1,9999"], "allowed: mib, or numbers of edges from 0 to"),
        (["{trial}", "--model", "nope"], "--model: no file or folder nope; allowed: tracr-reverse"),
        (["{trial}", "--model", "tracr-reverse"], "task induction needs a language model"),
        (["{trial}", "--ablation", "noise"], "ablation: found 'noise'"),
        (["{trial}", "--task", "{missing}"], "missing.yaml"),
        (["{trial}", "--task", "{wrong}"], "unknown key. Did you mean 'period'?"),
        (["{trial}", "--task", "{sweep}"], "its trials have 2 different tasks; give a YAML with one task"),
        (["{trial}", "--model", "{llama}"], "a circuit of another graph than the model llama"),
        (["{trial}", "--values", "{missing}/values"], "--values: there is no folder"),
    ],
)
def test_mistakes_are_told_and_exit_with_2(
    world: World, tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "wrong.yaml").write_text("{name: induction, perod: 4}")
    sweep = {
        "name": "two", "question": "?", "vary": {"task.period": [4, 6]},
        "base": {key: world.trial.spec[key] for key in ("model", "task", "method")},
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    if "{llama}" in arguments:
        save_tiny("llama", tmp_path / "llama")
    places = {name: str(tmp_path / f"{name}.yaml") for name in ("missing", "wrong", "sweep")}
    places |= {"trial": world.trial.trial_id, "circuit": str(world.circuit), "llama": str(tmp_path / "llama")}
    code, out, error = command(world, *(argument.format(**places) for argument in arguments))
    assert code == 2 and not out
    assert told in error and "Traceback" not in error
