"""A mistake in a task names the file that says it: `circuit eval --task FILE`, `task show SPEC`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from orchestrator.cli.main import main
from tests.tiny_models import save_tiny

TASK = "{name: induction, train: 5, validation: 5, test: 5}"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder in the working directory, beside a circuit file."""
    monkeypatch.chdir(tmp_path)
    graph = EdgeGraph(Shape(2, 4, 4, ("tok_embeds", "pos_embeds")))
    Path("c.safetensors").write_bytes(Circuit.from_edges(graph, [("tok_embeds", "resid_post")]).save())
    return save_tiny("gpt2", tmp_path / "gpt2")


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 2 and not result.stdout and "Traceback" not in result.stderr, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("name: inductio\n", "t.yaml:1: name: found 'inductio'. Did you mean 'induction'?"),
        ("task:\n  name: inductio\n", "t.yaml:2: task.name: found 'inductio'. Did you mean 'induction'?"),
        ("name: induction\nperiod: x\n", "t.yaml:2: period: found 'x'; allowed: "),
        (f"task: {TASK}\nablation: noise\n", "t.yaml:2: ablation: found 'noise'"),
    ],
)
def test_a_mistake_in_the_task_file_is_told_there(model: Path, content: str, told: str) -> None:
    Path("t.yaml").write_text(content)
    message = refused("circuit", "eval", "c.safetensors", "--task", "t.yaml", "--model", str(model))
    assert message.startswith(f"Error: {told}") and "trial." not in message


def test_a_mistake_in_an_option_is_told_as_the_options(model: Path) -> None:
    Path("t.yaml").write_text(TASK)
    told = refused(
        "circuit", "eval", "c.safetensors", "--task", "t.yaml", "--model", str(model), "--ablation", "noise"
    )
    assert told.startswith("Error: --ablation: found 'noise'")


def test_what_only_the_loaded_model_shows_names_the_file_too(model: Path) -> None:
    Path("t.yaml").write_text("name: induction\nperiod: 500\n")
    told = refused("circuit", "eval", "c.safetensors", "--task", "t.yaml", "--model", str(model))
    assert told.startswith("Error: t.yaml:2: period: found 500; this vocabulary"), told
    Path("s.yaml").write_text(
        "name: q\nquestion: Is it?\nbase:\n  model: {path: gpt2}\n  method: {name: random}\n"
        "  task: {name: induction, period: 500}\n"
    )
    told = refused("task", "show", "s.yaml", "--device", "cpu")
    assert told.startswith("Error: s.yaml: task.period: found 500"), told
