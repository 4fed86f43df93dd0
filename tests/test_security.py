"""Files from outside run no code and lead nowhere."""

import ast
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from orchestrator.cli.main import main
from orchestrator.records.results import Results
from orchestrator.records.trial_result import read_result
from tests.run_folders import Runs, point, small_sweep, trial
from tests.tiny_models import save_tiny
from trainers.checkpoint import Checkpoints
from trainers.distributed import Ranks
from trainers.folder import Folder
from trainers.model import ModelSpec
from trainers.sources.pretrained import load_tokenizer, load_weights
from trainers.spec import SpecError
from trainers.tasks.dataset_source import digest_of, from_folder

ROOT = Path(__file__).parents[1]
LONG = "x" * 10_000
HOSTILE = f"=cmd()<script>alert(1)</script>/../../\n\x1b[31m$\\frac$ {LONG}"


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """What must not be there afterwards. First: the bomb itself works."""
    mark = tmp_path / "code-has-run"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()
    mark.unlink()
    yield mark
    assert not mark.exists(), "code of a file from outside has run"


def poison(mark: Path, zipped: bool = False) -> bytes:
    """A pickle, or one in a zip as torch.save writes it."""
    content = pickle.dumps({"scores": Bomb(mark)})
    if not zipped:
        return content
    file = mark.with_name("poison.zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return file.read_bytes()


def test_our_own_code_unpickles_and_evaluates_nothing() -> None:
    """Every call that could, by name, in every module of ours."""
    banned = {
        "pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
        "eval", "exec", "compile", "__import__", "torch.load", "np.load", "yaml.load", "yaml.unsafe_load",
        "load_checkpoint", "os.system",
    }  # fmt: skip
    allowed = {("orchestrator/cluster/rank.py", "import_module")}
    found = []
    for package in ("model_patches", "trainers", "orchestrator"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names: list[str] = []
                if isinstance(node, ast.Call):
                    names = [ast.unparse(node.func), ast.unparse(node.func).rpartition(".")[2]]
                    names = names[:1] if names[1] in ("load", "compile", "eval", "exec") else names
                    shell = [k for k in node.keywords if k.arg in ("shell", "allow_pickle", "weights_only")]
                    names += [f"{k.arg}=True" for k in shell]
                    banned |= {"shell=True", "allow_pickle=True", "weights_only=True"}
                elif isinstance(node, ast.Import):
                    names = [alias.name.partition(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [(node.module or "").partition(".")[0]]
                where = file.relative_to(ROOT).as_posix()
                found += [(where, name) for name in names if name in banned and (where, name) not in allowed]
    assert found == []


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_model_folder_with_pickled_weights(tmp_path: Path, mark: Path, weights: str) -> None:
    folder = save_tiny("gpt2", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / weights).write_bytes(poison(mark, zipped=True))
    with pytest.raises(SpecError, match=r"model.path: .* allowed: \*.safetensors"):
        ModelSpec(path=str(folder)).identity()
    with pytest.raises(SpecError, match="cannot load|lacks|hold"):
        load_weights(folder, torch.float32)


@pytest.mark.parametrize("part", ["evil.bin", "../model.safetensors", "/etc/passwd", 7])
def test_an_index_that_names_other_files(tmp_path: Path, mark: Path, part: object) -> None:
    folder = save_tiny("gpt2", tmp_path / "model")
    (folder / "evil.bin").write_bytes(poison(mark, zipped=True))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SpecError, match=r"index.json: found the part .*; allowed: \*.safetensors beside it"):
        load_weights(folder, torch.float32)


def _with(config: Path, **changes: Any) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


@pytest.mark.parametrize("family", ["gpt2", "unheard-of"])
def test_a_model_that_brings_its_own_code(tmp_path: Path, mark: Path, family: str) -> None:
    """Of a family that transformers knows, and of one that it does not."""
    folder = save_tiny("gpt2", tmp_path / "model")
    for module in ("configuration_evil", "modeling_evil", "tokenization_evil"):
        (folder / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    auto = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    _with(folder / "config.json", auto_map=auto, model_type=family)
    with pytest.raises(SpecError, match="config.json: found auto_map, which asks to run Python code"):
        load_weights(folder, torch.float32)
    (folder / "vocab.json").write_text("{}")
    tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SpecError, match="tokenizer_config.json: found auto_map"):
        load_tokenizer(folder, "tiny")


def test_code_of_a_local_folder_cannot_be_trusted(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="trust_remote_code belongs to a hub model only"):
        ModelSpec.parse({"path": str(tmp_path), "trust_remote_code": True}, "spec")


def test_a_config_that_asks_for_a_kernel_or_another_model(tmp_path: Path) -> None:
    folder = save_tiny("gpt2", tmp_path / "model")
    before = (folder / "config.json").read_text()
    for changes in ({"attn_implementation": "evil/kernel"}, {"text_config": {"_attn_implementation": "e/k"}}):
        _with(folder / "config.json", **changes)
        with pytest.raises(SpecError, match="compiled code from the hub"):
            load_weights(folder, torch.float32)
        (folder / "config.json").write_text(before)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(SpecError, match="holds adapter_config.json"):
        load_weights(folder, torch.float32)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["graph.pt", "circuit.safetensors", "edges.json", "edges.txt", "circuit"])
def test_a_pickle_for_a_circuit(tmp_path: Path, mark: Path, name: str, zipped: bool) -> None:
    file = tmp_path / name
    file.write_bytes(poison(mark, zipped))
    told = CliRunner().invoke(main, ["circuit", "show", str(file)])
    assert told.exit_code == 2 and told.output.startswith("Error: ") and "Traceback" not in told.output
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(poison(mark, zipped))
    told = CliRunner().invoke(main, ["circuit", "show", str(folder)])
    assert told.exit_code == 2 and "pickles are never read" in told.output


def test_pickles_in_a_runs_folder(tmp_path: Path, mark: Path) -> None:
    runs = small_sweep(tmp_path / "runs")
    content = poison(mark)
    home = runs.folder / "trials" / "ep0"
    for name in ("circuit-000.safetensors", "test_values.safetensors", "spec.json", "attempt.json"):
        home.write(name, content)
    for file in ("trials/ep1/result.json", "trials/ep1/progress.jsonl", "small/lease.json"):
        runs.folder.write(file, content)
    assert CliRunner().invoke(main, ["status", str(runs.path)]).exit_code == 0
    assert Results.load(runs.path).trials.num_rows == 6
    told = CliRunner().invoke(main, ["circuit", "show", "ep0", "--runs", str(runs.path)])
    assert told.exit_code == 2 and "not a circuit file" in told.output


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_for_a_checkpoint(tmp_path: Path, mark: Path, zipped: bool) -> None:
    folder = Folder.open(tmp_path / "checkpoint")
    folder.write("step-000000009.safetensors", poison(mark, zipped))
    checkpoints = Checkpoints(folder, Ranks(0, 1, torch.device("cpu")), 1.0, lambda: None)
    assert checkpoints.latest() is None
    assert folder.names() == ["step-000000009.safetensors.corrupt"]
    assert "moved aside" in checkpoints.warnings[0]


def saved_data(folder: Path) -> Path:
    from datasets import Dataset

    Dataset.from_dict({"a": ["x", "y"], "b": [1, 2]}).save_to_disk(folder)
    return folder


def test_a_data_set_runs_no_script_and_reads_no_other_file(tmp_path: Path, mark: Path) -> None:
    folder = saved_data(tmp_path / "data")
    (folder / "data.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert len(from_folder(folder)) == 2
    for files_ in ([{"filename": "../../secret"}], [{"filename": "/dev/zero"}], [{}], "x", []):
        _with(folder / "state.json", _data_files=files_)
        with pytest.raises(SpecError, match="state.json: _data_files: found .*; allowed: files beside it"):
            digest_of(folder, {"train"}, {"a"})


def test_a_column_of_images_is_not_decoded(tmp_path: Path) -> None:
    """Its rows would name a file, or an address, that is opened when the row is read."""
    folder = saved_data(tmp_path / "data")
    info = json.loads((folder / "dataset_info.json").read_text())
    info["features"]["a"] = {"_type": "Image"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(SpecError, match="column 'a' holds Image; allowed: texts, numbers|cannot load"):
        from_folder(folder)


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../../x", "/etc/passwd", "a//b", ".", "a\\b", "a\0b", "\x1b"]
)
def test_a_folder_has_no_way_out(tmp_path: Path, name: str) -> None:
    folder = Folder.open(tmp_path / "runs")
    (tmp_path / "x").write_text("outside")
    calls: list[Callable[[], object]] = [
        lambda: folder.read(name), lambda: folder.exists(name), lambda: folder.write(name, b""),
        lambda: folder.create(name, b""), lambda: folder.append(name, b""), lambda: folder.delete(name),
        lambda: folder.rename(name, "a"), lambda: folder.rename("a", name), lambda: folder / name,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(SpecError, match="found the name"):
            call()
    assert (tmp_path / "x").read_text() == "outside"


def test_symbolic_links_that_leave_the_runs_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s3cret")
    runs = Folder.open(tmp_path / "runs")
    runs.write("trials/real/result.json", b"here")
    (tmp_path / "runs/trials/linked").symlink_to(outside)
    (tmp_path / "runs/trials/real/progress.jsonl").symlink_to(outside / "secret")
    (tmp_path / "runs/trials/same").symlink_to(tmp_path / "runs/trials/real")
    for call in (
        lambda: runs / "trials" / "linked",
        lambda: runs.read("trials/linked/secret"),
        lambda: runs.append("trials/real/progress.jsonl", b"x"),
        lambda: (runs / "trials" / "real").read("progress.jsonl"),
        lambda: (runs / "trials").delete("linked"),
    ):
        with pytest.raises(SpecError, match="symbolic link that leads out"):
            call()
    assert (outside / "secret").read_text() == "s3cret"
    assert runs.read("trials/same/result.json") == b"here", "a link inside the folder is no way out"
    (tmp_path / "elsewhere").symlink_to(tmp_path / "runs")
    assert Folder.open(tmp_path / "elsewhere").read("trials/real/result.json") == b"here", (
        "the user's own link"
    )


@pytest.mark.parametrize("field", ["circuit", "test_values"])
@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "a/b", HOSTILE, ""])
def test_a_result_that_names_files_elsewhere(tmp_path: Path, field: str, name: str) -> None:
    runs = Runs(tmp_path / "runs")
    of_point: dict[str, Any] = {"circuit": name} if field == "circuit" else {}
    of_trial: dict[str, Any] = {"test_values": name or "/"} if field == "test_values" else {}
    runs.trial(trial("bad", 0, [point(0, 3, 0.1, **of_point)], **of_trial))
    result, problem = read_result(runs.folder / "trials" / "bad")
    assert result is None and "allowed: files of the trial's folder" in problem and len(problem) < 300


@pytest.mark.parametrize("name", ["../../secret", "/etc", "a/b", "", "..", "\x1b[2J", "<script>", LONG])
def test_a_sweep_that_names_trials_elsewhere(tmp_path: Path, name: str) -> None:
    runs = small_sweep(tmp_path / "runs")
    runs.sweep("other", ["ep0", name])
    results = Results.load(runs.path)
    assert [p.what for p in results.problems if "other" in p.where][0].startswith(
        "is not a list of trial ids"
    )
    told = CliRunner().invoke(main, ["status", str(runs.path)])
    assert told.exit_code in (0, 2) and "\x1b" not in told.output
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
