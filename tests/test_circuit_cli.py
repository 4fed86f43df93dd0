"""circuit-sweep circuit: sources, outputs, exit codes, and one clear message for every mistake."""

import json
from pathlib import Path

import pytest
from click import Group
from click.testing import CliRunner, Result

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from model_patches.tracr import TracrProgram
from orchestrator.cli.main import main
from tests.run_folders import GROUP, Runs, point, trial

GRAPH = EdgeGraph(Shape(2, 2, 2, ("tok_embeds", "pos_embeds")))
TRUTH = [("tok_embeds", "m0"), ("m0", "m1"), ("m1", "resid_post")]
MORE = [*TRUTH, ("pos_embeds", "a0.h0.q"), ("a0.h0", "m1")]
IDS = ("aaaa000000000001", "aaab000000000002", "bbbb000000000003", "cccc000000000004")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Two trials with two points each (3 and 5 edges; the first has a ground truth), a failed one,
    and one that is not finished. The working directory is theirs."""
    monkeypatch.chdir(tmp_path)
    made = Runs(tmp_path / "runs")
    for trial_id in IDS[:2]:
        points = [
            point(number, len(edges), 0.0, num_edges_total=GRAPH.num_edges, kind=kind)
            for number, (edges, kind) in enumerate([(TRUTH, "final"), (MORE, "path")])
        ]
        truth = TRUTH if trial_id == IDS[0] else None
        made.trial(trial(trial_id, 0, points, ground_truth=truth, group=GROUP))
        for number, edges in enumerate((TRUTH, MORE)):
            circuit = Circuit.from_edges(GRAPH, edges)
            made.folder.write(f"trials/{trial_id}/circuit-{number:03d}.safetensors", circuit.save())
    made.trial(trial(IDS[2], 2, [], status="failed", error="RuntimeError: loss is NaN"))
    made.folder.write(f"trials/{IDS[3]}/spec.json", b"{}")
    (tmp_path / "edges.json").write_text(json.dumps(MORE))
    return made


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["circuit", *map(str, arguments)])


def refused(*arguments: str | Path) -> str:
    """The message of a command that must end with exit code 2 and say nothing else."""
    result = run(*arguments)
    assert result.exit_code == 2 and not result.stdout, result.output
    assert result.stderr.startswith("Error: ") or "Usage:" in result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def edges_in(path: str) -> list[tuple[str, str]]:
    return Circuit.load(Path(path)).edges


@pytest.mark.usefixtures("runs")
def test_a_trial_is_found_by_id_prefix_and_point() -> None:
    for arguments, edges in (
        ((IDS[0],), 3), (("aaaa",), 3), (("aaaa:1",), 5), (("aaaa", "--point", "1"), 5),
        (("aaaa:0", "--point", "1"), 3),
    ):  # fmt: skip
        shown = json.loads(run("show", *arguments, "--json").stdout)
        assert shown["num_edges"] == shown["num_edges_connected"] == edges
        assert shown["trial"]["trial_id"] == IDS[0] and shown["trial"]["point"]["num_edges"] == edges
    assert shown["graph"]["num_edges"] == GRAPH.num_edges


@pytest.mark.usefixtures("runs")
def test_show_counts_by_kind_and_layer_and_lists_edges() -> None:
    shown = run("show", "aaaa:1", "--edges").stdout
    assert "kept       5 edges, 5 of them on a path" in shown
    assert "2 embedding writers, maskable" in shown and "validation  kl" in shown
    assert "pos_embeds -> a0.h0.q  1" in shown
    data = json.loads(run("show", "aaaa:1", "--edges", "--json").stdout)
    kinds = {(row["from"], row["to"]): row["edges"] for row in data["by_kind"]}
    assert kinds == {
        ("embeddings", "mlp"): 1, ("embeddings", "q"): 1, ("MLPs", "mlp"): 1, ("MLPs", "output"): 1,
        ("heads", "mlp"): 1,
    }  # fmt: skip
    assert sum(row["edges"] for row in data["by_layer"]) == 5
    assert [(edge["writer"], edge["reader"]) for edge in data["edges"]] == Circuit.from_edges(
        GRAPH, MORE
    ).edges


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("aaa", ["the start of 2 trials", IDS[0], IDS[1], "edge pruning, seed 0"]),
        ("aaac", ["no such file, and none of the 4 trials", "Did you mean", IDS[1]]),
        ("aaaa:7", [f"trial {IDS[0]}: no point 7; it has (kind, edges): 0 (final, 3), 1 (path, 5)"]),
        ("bbbb", [f"trial {IDS[2]}: failed, it has no circuit: RuntimeError: loss is NaN"]),
        ("cccc", [f"trial {IDS[3]}: not finished"]),
        ("gone.json", ["gone.json: no such file"]),
        ("edges.json", ["says nothing of the graph", "--like", "--layers", "--model"]),
        (".", ["a folder without safetensors that hold log-alphas"]),
    ],
)
def test_what_cannot_be_opened_is_said(source: str, told: list[str]) -> None:
    message = refused("show", source)
    assert all(text in message for text in told), message


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("graph.pt", b"PK\x03\x04rest"), ("edges.pkl", b"\x80\x04\x95"),
        ("named.json", b"\x80\x04\x95" + b"\x00" * 40),
        ("zip.json", b"PK\x03\x04" + b"\x00" * 60),
    ],
)  # fmt: skip
def test_pickles_are_refused_with_the_reason(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    message = refused("import", name, "--layers", "2", "--heads", "2", "--out", "x.safetensors")
    assert f"{name}: a pickle, which can run any code" in message and "to_json" in message
    assert not Path("x.safetensors").exists()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("length", range(64, 1600, 64))
def test_a_circuit_file_is_told_from_a_pickle_whatever_its_length(length: int) -> None:
    """The header's length is the file's first byte, and may be that of a pickle (0x80)."""
    content = Circuit.from_edges(GRAPH, TRUTH).save()
    size = int.from_bytes(content[:8], "little")
    padded = max(size, length)
    header = content[8 : 8 + size].ljust(padded)
    Path("c.safetensors").write_bytes(padded.to_bytes(8, "little") + header + content[8 + size :])
    assert json.loads(run("show", "c.safetensors", "--json").stdout)["num_edges"] == 3


@pytest.mark.usefixtures("runs")
def test_the_graph_of_an_edge_list() -> None:
    config = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8}
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps(config))
    sizes = ("--layers", "2", "--heads", "2", "--pos-embeds")
    for graph in (("--like", "aaaa"), sizes, ("--model", "model")):
        shown = json.loads(run("show", "edges.json", *graph, "--json").stdout)
        assert shown["num_edges"] == 5 and shown["graph"]["num_edges"] == GRAPH.num_edges
    assert "one way of saying the graph" in refused("show", "edges.json", "--like", "aaaa", *sizes)
    assert "both are needed" in refused("show", "edges.json", "--layers", "2")
    assert "no config.json" in refused("show", "edges.json", "--model", "runs")
    assert "--adapt-embeddings merge" in refused("show", "edges.json", *sizes[:4])
    merged = run("show", "edges.json", *sizes[:4], "--adapt-embeddings", "merge", "--json")
    assert json.loads(merged.stdout)["num_edges"] == 5 and "pos_embeds merged" in merged.stderr
    dropped = run(
        "show", "edges.json", *sizes, "--embeddings", "always_on", "--adapt-embeddings", "drop", "--json"
    )
    assert json.loads(dropped.stdout)["num_edges"] == 3 and "2 edges of embeddings dropped" in dropped.stderr


@pytest.mark.usefixtures("runs")
def test_compare_takes_any_number_and_a_truth() -> None:
    told = json.loads(run("compare", "aaaa", "aaab:1", "edges.json", "--truth", "trial", "--json").stdout)
    assert told["edge_iou"] == [[1, 0.6, 0.6], [0.6, 1, 1], [0.6, 1, 1]]
    assert [one["precision"] for one in told["against"]] == [1, 0.6, 0.6]
    assert told["against"][1]["recall"] == 1 and 0.9 < told["against"][1]["ranking"]["auc"] < 1
    assert len(told["against"][1]["ranking"]["false_positive_rate"]) == 3
    text = run("compare", "aaaa", "aaab:1").stdout
    assert "edge IoU  1      2" in text and "against 1" in text and "0.600" in text
    assert "knows no ground truth" in refused("compare", "aaab", "--truth", "trial")
    other = Circuit.from_edges(EdgeGraph(Shape(3, 2, 2, ("tok_embeds",))), [])
    Path("other.safetensors").write_bytes(other.save())
    assert "other.safetensors: on another graph (3 layers" in refused("compare", "aaaa", "other.safetensors")


@pytest.mark.usefixtures("runs")
def test_compare_knows_the_truth_of_tracr() -> None:
    Path("e.json").write_text('[["a3.h0", "resid_post"], ["m0", "resid_post"]]')
    graph = ("--layers", "4", "--heads", "1", "--pos-embeds")
    truth = json.loads(run("compare", "e.json", *graph, "--truth", "tracr-reverse", "--json").stdout)
    assert truth["reference"]["num_edges"] == 11
    assert truth["against"][0]["precision"] == 0.5 and truth["against"][0]["recall"] == pytest.approx(1 / 11)


@pytest.mark.usefixtures("runs")
def test_set_operations_write_a_circuit_and_its_edges() -> None:
    for operation, edges in (("union", MORE), ("intersect", TRUTH), ("subtract", MORE[3:])):
        result = run(operation, "aaab:1", "aaaa", "--out", f"{operation}.safetensors")
        assert result.exit_code == 0 and f"{len(edges)} edges kept" in result.stdout
        expected = Circuit.from_edges(GRAPH, edges).edges
        assert edges_in(f"{operation}.safetensors") == expected
        listed = json.loads(Path(f"{operation}.edges.json").read_text())
        assert [tuple(edge) for edge in listed] == expected
    run("union", "aaab:1", "aaaa", "--votes", "--out", "votes.safetensors")
    votes = Circuit.load(Path("votes.safetensors"))
    assert votes.scores[GRAPH.locate(*TRUTH[0])] == 2 and votes.scores[GRAPH.locate(*MORE[4])] == 1
    before = Path("union.safetensors").read_bytes()
    assert "is a source" in refused("union", "union.safetensors", "aaaa", "-o", "union.safetensors")
    assert Path("union.safetensors").read_bytes() == before
    assert "allowed: .safetensors" in refused("union", "aaaa", "-o", "union.json")
    assert "there is no folder" in refused("union", "aaaa", "-o", "nowhere/union.safetensors")


@pytest.mark.usefixtures("runs")
def test_draw_by_ending() -> None:
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")):
        assert run("draw", "aaaa:1", f"c.{ending}").exit_code == 0
        assert Path(f"c.{ending}").read_bytes().startswith(start)
    assert "allowed: .pdf, .svg, .png" in refused("draw", "aaaa", "c.gif")


@pytest.mark.usefixtures("runs")
def test_export_and_import_again() -> None:
    assert run("export", "aaaa:1", "--out", "e.json").exit_code == 0
    assert [tuple(edge) for edge in json.loads(Path("e.json").read_text())] == Circuit.from_edges(
        GRAPH, MORE
    ).edges
    assert run("export", "aaaa:1", "--out", "g.graphml").exit_code == 0
    assert "say the --format" in refused("export", "aaaa", "--out", "g.txt")
    mib = ("export", "aaaa:1", "--format", "mib", "--out", "m.json")
    assert "--merge-embeddings" in refused(*mib, "--d-model", "8")
    result = run(*mib, "--d-model", "8", "--merge-embeddings")
    total = EdgeGraph(Shape(2, 2, 2, ("tok_embeds",))).num_edges
    assert f"m.json: mib, 5 of {total} edges" in result.stdout
    assert f"counted anew: 5 of {total} edges (before: 5 of {GRAPH.num_edges}" in result.stderr
    assert json.loads(Path("m.json").read_text())["cfg"]["d_model"] == 8
    assert run("import", "m.json", "--out", "m.safetensors").exit_code == 0
    assert len(edges_in("m.safetensors")) == 5
    told = json.loads(run("import", "m.json", "--num-edges", "2", "-o", "two.safetensors", "--json").stdout)
    assert told["num_edges"] == 2 == len(edges_in("two.safetensors"))
    assert "only with --num-edges" in refused("import", "m.json", "--absolute", "-o", "x.safetensors")
    assert f"the graph has {total}" in refused(
        "import", "m.json", "--num-edges", "999", "-o", "x.safetensors"
    )


@pytest.mark.usefixtures("runs")
def test_mib_needs_the_width() -> None:
    told = run("export", "aaaa", "--format", "mib", "--merge-embeddings", "--out", "m.json")
    assert told.exit_code == 0, "the trial's model, tracr-reverse, is known"
    assert (
        json.loads(Path("m.json").read_text())["cfg"]["d_model"]
        == TracrProgram.builtin("reverse").config.hidden_size
    )
    Path("c.safetensors").write_bytes(
        Circuit.from_edges(EdgeGraph(Shape(1, 1, 1, ("tok_embeds",))), []).save()
    )
    assert "--d-model N, or --model FOLDER" in refused(
        "export", "c.safetensors", "--format", "mib", "-o", "m.json"
    )


def test_every_command_has_help_with_an_example() -> None:
    group = main.commands["circuit"] if isinstance(main, Group) else None
    assert isinstance(group, Group)
    for name in ("show", "draw", "compare", "union", "intersect", "subtract", "export", "import"):
        assert name in group.commands
        text = run(name, "--help").stdout
        assert (
            f"circuit-sweep circuit {name} " in text and "Example:" in text and "A SOURCE is one of" in text
        )


@pytest.mark.usefixtures("runs")
def test_draw_says_what_is_not_drawn() -> None:
    Path("more.safetensors").write_bytes(Circuit.from_edges(GRAPH, [*TRUTH, ("a0.h0", "m0")]).save())
    drawn = run("draw", "more.safetensors", "c.svg")
    told = "3 of 4 kept edges lie on a path; 1 is not drawn"
    assert drawn.exit_code == 0 and told in drawn.stdout and drawn.stderr.startswith("Next: ")
    assert told in Path("c.svg").read_text()
    assert run("draw", "more.safetensors", "t.svg", "--title", "mine").exit_code == 0
    assert told in Path("t.svg").read_text()
    Path("none.safetensors").write_bytes(Circuit.from_edges(GRAPH, [("a0.h0", "m0")]).save())
    empty = run("draw", "none.safetensors", "e.svg")
    assert empty.exit_code == 0 and "Warning: none.safetensors: no kept edge lies on a path" in empty.stderr
    assert "no edges on a path" in Path("e.svg").read_text()


@pytest.mark.usefixtures("runs")
def test_a_wrong_edge_list_without_a_graph_tells_its_names_and_that_a_graph_is_needed() -> None:
    Path("u.json").write_text(json.dumps([["foo", "bar"], ["a9.h1", "m1"]]))
    message = refused("show", "u.json")
    assert all(text in message for text in ("'foo'", "'bar'", "says nothing of the graph")), message
    message = refused("show", "u.json", "--like", "aaaa")
    assert all(text in message for text in ("'foo'", "'bar'", "unknown writer a9.h1")), message
