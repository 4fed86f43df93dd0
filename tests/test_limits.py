"""Files from outside take no more than they are: sizes are looked at before anything is made of them."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from model_patches.graph import Shape
from model_patches.tracr import TracrFileError, TracrProgram
from orchestrator.cli.main import main
from orchestrator.lease import Holder, sweep_is_driven
from orchestrator.records.results import Results
from orchestrator.records.trial_result import read_result
from orchestrator.yaml_source import parse_yaml
from tests.run_folders import small_sweep
from tests.tiny_models import save_tiny
from trainers.outside import parse_json
from trainers.sources.gguf_file import read_header
from trainers.sources.pretrained import load_weights
from trainers.spec import SpecError
from trainers.tasks.jsonl_file import read


def _with(config: Path, **changes: Any) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def test_a_header_that_claims_ten_terabytes(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2_500_000, 1_000_000], "data_offsets": [0, 10**13]}})
    content = len(header).to_bytes(8, "little") + header.encode()
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    for command in (["circuit", "show", str(file)], ["circuit", "show", str(tmp_path)]):
        told = CliRunner().invoke(main, command)
        assert told.exit_code == 2 and told.output.startswith("Error: "), told.output
    folder = save_tiny("gpt2", tmp_path / "model")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(SpecError, match="is cut short: found .* its header tells of 1000000000"):
        load_weights(folder, torch.float32)
    (folder / "model.safetensors").write_bytes((10**13).to_bytes(8, "little") + b"{}")
    with pytest.raises(SpecError, match="not a safetensors file|cut short"):
        load_weights(folder, torch.float32)


@pytest.mark.parametrize("changes", [{"n_layer": 10**9}, {"vocab_size": 10**12}, {"n_embd": 10**9}])
def test_a_config_that_describes_more_than_its_weights(tmp_path: Path, changes: dict[str, int]) -> None:
    folder = save_tiny("gpt2", tmp_path / "model")
    _with(folder / "config.json", **changes)
    with pytest.raises(
        SpecError, match=f"config.json: found .*{next(iter(changes.values()))}; its weights hold"
    ):
        load_weights(folder, torch.float32)


def test_a_graph_of_a_billion_edges(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than any model has"):
        Shape(10_000, 10_000, 10_000, ("tok_embeds",))
    assert Shape(126, 128, 8, ("tok_embeds",)).size == (16255, 18271), "the largest published models fit"
    mib = {"cfg": {"n_layers": 10**9, "n_heads": 10**9}, "edges": {}}
    (tmp_path / "g.json").write_text(json.dumps(mib))
    edges = tmp_path / "e.json"
    edges.write_text('[["tok_embeds", "m0"]]')
    wide = ["circuit", "show", str(edges), "--layers", "999999", "--heads", "999999"]
    for command in (["circuit", "show", str(tmp_path / "g.json")], wide):
        told = CliRunner().invoke(main, command)
        assert told.exit_code == 2 and "more than any model has" in told.output, told.output


def test_files_larger_than_allowed_are_not_read(tmp_path: Path) -> None:
    """Sparse files: they claim gigabytes and hold nothing."""
    runs = small_sweep(tmp_path / "runs")
    big = tmp_path / "big.json"
    for file in (big, runs.path / "trials/ep0/result.json", runs.path / "small/trials.json"):
        with file.open("r+b" if file.exists() else "wb") as stream:
            stream.truncate(2 << 30)
    told = CliRunner().invoke(main, ["circuit", "show", str(big), "--layers", "2", "--heads", "2"])
    assert told.exit_code == 2 and "found 2,147,483,648 bytes; allowed: at most" in told.output
    with pytest.raises(SpecError, match="found 2,147,483,648 bytes; allowed"):
        read(big)
    result, problem = read_result(runs.folder / "trials" / "ep0")
    assert result is None and "2,147,483,648 bytes" in problem
    problems = [problem.what for problem in Results.load(runs.path / "small").problems]
    assert any("2,147,483,648 bytes" in what for what in problems)
    program = tmp_path / "program.json"
    with program.open("wb") as stream:
        stream.truncate(2 << 30)
    with pytest.raises(TracrFileError, match="found 2,147,483,648 bytes"):
        TracrProgram.load(tmp_path / "program")


def test_nesting_and_numbers_without_end(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    for text in (deep, '{"a":' * 50_000, '"\\ud800"', "1" * 10_000 + "x"):
        with pytest.raises(ValueError) as caught:
            parse_json(text)
        assert not isinstance(caught.value, RecursionError)
    assert parse_json("1" + "0" * 400) == float("inf")
    file = tmp_path / "deep.json"
    file.write_text(deep)
    for command in (["circuit", "show", str(file)], ["plan", str(file)], ["task", "show", str(file)]):
        told = CliRunner().invoke(main, command)
        assert told.exit_code == 2 and told.output.startswith("Error: "), told.output
    with pytest.raises(SpecError, match="1 bad entry|bad entries"):
        read(file)


def test_a_yaml_bomb() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(SpecError, match="more than 100000 values"):
        parse_yaml("\n".join(levels), "bomb.yaml")
    with pytest.raises(SpecError, match="found the tag"):
        parse_yaml("a: !!python/object/apply:os.system [true]", "bomb.yaml")


def test_a_yaml_bomb_in_a_runs_folder(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path / "runs")
    levels = ["name: small", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    runs.folder.write("small/sweep.yaml", "\n".join([*levels, "question: *a9"]).encode())
    problems = Results.load(runs.path).problems
    assert any("more than 100000 values" in problem.what for problem in problems)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"gpt2.block_count": 10**9}, "found 1000000000 blocks; it holds"),
        ({"general.alignment": 0}, "damaged"),
        ({"split.count": 2}, "several parts"),
        ({"split.count": "two"}, "several parts"),
    ],
)
def test_a_gguf_file_with_absurd_keys(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    file = tmp_path / "m.gguf"
    content = b"GGUF" + struct.pack("<IQQ", 3, 0, 1 + len(keys))
    for name, value in {"general.architecture": "gpt2", **keys}.items():
        content += struct.pack("<Q", len(name)) + name.encode()
        if isinstance(value, str):
            content += struct.pack("<IQ", 8, len(value)) + value.encode()
        else:
            content += struct.pack("<IQ", 10, value)
    file.write_bytes(content)
    with pytest.raises(SpecError, match=said):
        read_header(file)


def test_a_gguf_file_with_absurd_counts(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    for tensors, keys in ((2**63, 0), (0, 2**63), (1, 0)):
        file.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + tensors.to_bytes(8, "little")
                         + keys.to_bytes(8, "little") + b"\xff" * 64)  # fmt: skip
        with pytest.raises(SpecError, match="damaged GGUF"):
            read_header(file)


@pytest.mark.parametrize("strange", [{"pid": -1}, {"pid": 2**63}, {"process_started": float("nan")}])
def test_a_lease_of_no_process(tmp_path: Path, strange: dict[str, Any]) -> None:
    content = json.dumps(json.loads(Holder.here("small").content()) | strange).encode()
    runs = small_sweep(tmp_path / "runs")
    runs.folder.write("small/lease.json", content)
    assert sweep_is_driven(runs.folder, "small") is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    told = CliRunner().invoke(main, ["circuit", "show", str(tmp_path / "pipe")])
    assert told.exit_code == 2 and "neither a file nor a folder" in told.output
    with pytest.raises(SpecError, match="no ordinary file"):
        read(tmp_path / "pipe")


def test_garbage_lines_are_not_searched_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "garbage.jsonl"
    file.write_text("{\n" * 300_000)
    with pytest.raises(SpecError) as caught:
        read(file)
    assert len(str(caught.value)) < 50_000
