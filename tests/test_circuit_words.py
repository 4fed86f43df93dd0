"""How the circuit commands say what they found: one edge, an empty name."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from orchestrator.circuits.answers import answer_text
from orchestrator.cli.main import main
from trainers.evaluation.request import Answer, Gap, Row

GRAPH = EdgeGraph(Shape(2, 2, 2, ("tok_embeds",)))


@pytest.fixture
def one_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A circuit file of one edge in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("one.safetensors").write_bytes(Circuit.from_edges(GRAPH, [("tok_embeds", "resid_post")]).save())
    return "one.safetensors"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["circuit", *arguments])


def test_one_edge_is_not_one_edges(one_edge: str) -> None:
    assert "kept       1 edge, 1 of them on a path" in run("show", one_edge).stdout
    saved = run("union", one_edge, one_edge, "--out", "both.safetensors").stdout
    assert saved.startswith("both.safetensors: 1 edge kept, 1 on a path")


def test_one_edge_in_what_an_evaluation_found() -> None:
    row = Row(
        kind="circuit", name="C", source=0, num_edges=1, sparsity=0.9, num_edges_connected=1,
        metrics={"kl": 1.0}, intervals={"kl": (0.9, 1.1)}, faithfulness={"kl": None},
        faithfulness_intervals={"kl": None}, mistakes_reproduced=0.5,
    )  # fmt: skip
    answer = Answer(
        model="m", task="t", test_set="s", split="test", ablation="zero", edge_convention="maskable",
        num_edges_total=10, num_examples=8, in_sample=False, metrics=("kl",), rows=[row], mistakes=2,
        completeness={0: {"kl": Gap(gap=0.1, num_edges=1, model=1.0, circuit=0.9, subsets=1)}},
        ranks=1, seconds=1.0, examples_per_second=8.0,
    )  # fmt: skip
    text = answer_text(answer)
    assert "C, 1 edge: reproduces 50.0 % of them" in text and "C, 1 edge: largest" in text


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        (["show", ""], "SOURCE"),
        (["show", "{one}", "--like", ""], "--like"),
        (["compare", "{one}", "--truth", ""], "--truth"),
    ],
)
def test_an_empty_name_is_refused_as_such(one_edge: str, arguments: list[str], argument: str) -> None:
    result = run(*(text.format(one=one_edge) for text in arguments))
    assert result.exit_code == 2 and not result.stdout
    told = f"Error: {argument}: found an empty name; allowed: a trial's id, or the path of a file or a folder"
    assert result.stderr.strip() == told
