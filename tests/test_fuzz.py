"""Whatever a file from outside holds: a clean answer or one clean message, soon, and nothing is changed.

Valid files are broken byte by byte and value by value, and made up from nothing; they are read through
the functions that the commands use, and some through the commands themselves.
"""

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.attempt import Attempt
from orchestrator.circuits.source import GraphChoice, Sources
from orchestrator.cli.main import main
from orchestrator.lease import Holder
from orchestrator.records.results import Results
from orchestrator.records.trial_result import main_point, read_result
from orchestrator.status import status
from orchestrator.sweep import SweepSpec
from tests.broken_files import STRANGE, broken, places, put
from tests.circuit_runs import GRAPH, top
from tests.run_folders import EDGES, point, small_sweep, training, trial
from trainers.checkpoint import Checkpoints
from trainers.distributed import Ranks, digest
from trainers.folder import Folder
from trainers.spec import SpecError
from trainers.tasks.jsonl_file import read as read_jsonl

QUICK, SLOW = 25, 800  # cases of each kind; there are 13 kinds: 325 and 10,400
SECONDS = 20.0  # a case that takes longer hangs
LOCATION = "found"

SPEC = """\
name: fuzzed
question: Does anything here break?
base:
  model: {builtin: tracr-reverse}
  task: {name: tracr}
  ablation: zero
  method: {name: edge_pruning, target_sparsity: 0.9, steps: 10}
vary:
  - grid: {method.target_sparsity: [0.8, 0.95]}
  - set: {model.builtin: tracr-xproportion}
    grid: {method: [{name: eap}, {name: random}]}
seeds: 2
resources: {ranks: 1, cpus_per_rank: 1}
objectives: {epsilon: 1.0e-3}
"""
SEARCH = """\
name: fuzzed
question: Does anything here break?
base: {model: {builtin: tracr-reverse}, task: {name: tracr}, method: {name: edge_pruning, steps: 10}}
search:
  space:
    method.target_sparsity: {uniform: [0.5, 0.95]}
    method.gate_lr: {log: [0.01, 1]}
    method.gate_samples: {integer: [1, 4]}
    method.warmup: {choice: [linear, logarithmic]}
  trials: 8
  round: 2
"""
EXAMPLES = "".join(
    json.dumps({"clean": f"{n} + 1 = <predict>{n}</predict>", "corrupted": "2 + 2 = <predict>4</predict>"})
    + "\n"
    for n in range(4)
)


@dataclass(frozen=True)
class Kind:
    """A kind of file: valid examples of it, where it lies, and how it is read."""

    examples: Callable[[], Sequence[bytes]]
    place: str
    read: Callable[[Path], object]


def _spec_files() -> list[bytes]:
    return [SPEC.encode(), yaml.safe_dump(yaml.safe_load(SPEC)).encode(), SEARCH.encode()]


@cache
def _circuit() -> bytes:
    return top(GRAPH, 0, 20).save()


def _edge_lists() -> list[bytes]:
    named = [list(edge) for edge in top(GRAPH, 0, 6).edges]
    hooks = [[["blocks.1.attn.hook_result", [None, None, 2], "blocks.0.hook_mlp_out", [None]], 0.5]]
    forms: list[Any] = [
        named, [[*edge, 0.5] for edge in named], ["->".join(edge) for edge in named], {"edges": named}, hooks,
        [{"from": a, "to": b, "score": 1} for a, b in named], {"->".join(edge): True for edge in named},
    ]  # fmt: skip
    return [json.dumps(form).encode() for form in forms] + [b"m0->m1\nm0 m2\n# comment\n"]


def _mib() -> list[bytes]:
    edges = {
        "input->a0.h0<q>": {"score": 0.5, "in_graph": True},
        "m0->logits": {"score": -1, "in_graph": False},
    }
    cfg = {"n_layers": 3, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 8}
    return [json.dumps({"cfg": cfg, "nodes": {}, "edges": edges}).encode()]


def _published() -> list[bytes]:
    """A checkpoint of the published code, of one layer with two heads."""
    writers = 5
    tensors = {f"h.0.{part}_read_log_alphas": torch.ones(writers, 2) for part in "qkv"}
    tensors |= {"h.0.mlp_read_log_alphas": torch.ones(writers), "final_read_log_alpha": torch.ones(writers)}
    tensors |= {"h.0.attn_write_log_alphas": torch.ones(2), "h.0.mlp_write_log_alphas": torch.ones(1)}
    tensors |= {"token_write_log_alpha": torch.ones(1), "pos_write_log_alpha": torch.ones(1)}
    return [safetensors.torch.save(tensors)]


def _results() -> list[bytes]:
    points = [point(n, 3 + n, 0.1 / (n + 1), truth_precision=1.0) for n in range(3)]
    full = trial("ep0", 0, points, ground_truth=EDGES, warnings=["w"], gate_histogram=[1, 2])
    return [
        full.model_dump_json().encode(),
        trial("ep0", 0, [], status="failed", error="E").model_dump_json().encode(),
    ]


def _checkpoints() -> list[bytes]:
    state = {"gates": torch.ones(3, 4), "steps": torch.tensor(7.0), "path": torch.tensor([1, 2])}
    return [safetensors.torch.save(state, {"step": "7", "sha256": digest(state)})]


def _attempts() -> list[bytes]:
    owner = {"sweep": "small", "host": "here", "pid": 12}
    return [json.dumps({"attempt": 2, "owner": owner, "started": "2026-01-01T00:00:00+00:00"}).encode()]


def _leases() -> list[bytes]:
    here = Holder.here("small")
    return [here.content(), here.model_copy(update={"machine": "elsewhere", "heartbeat": 1.0}).content()]


def _progress() -> list[bytes]:
    return ["".join(json.dumps(line) + "\n" for line in training(100, 0.9)).encode()]


def _lists() -> list[bytes]:
    return [json.dumps(["ep0", "ep1", "random0", "waiting"]).encode()]


def _open_circuit(file: Path) -> object:
    choice = GraphChoice(layers=3, heads=4)
    try:
        return Sources("runs", choice=choice).open_all([str(file)])
    except SpecError:
        return Sources("runs").open_all([str(file)])


def _read_trial(file: Path) -> object:
    result, _ = read_result(Folder.open(file.parent))
    return main_point(result) if result else None, _whole(file)


def _whole(file: Path) -> object:
    """The runs folder that the file lies in, as `status` and the report see it."""
    runs = next(above for above in file.parents if (above / "trials").is_dir())
    results = Results.load(runs)
    for trial_id in results.folders:
        results.progress(trial_id)
        results.edges(trial_id, "circuit-000.safetensors")
    return results, status(Folder.open(runs))


def _read_lease(file: Path) -> object:
    holder = Holder.read(Folder.open(file.parent))
    return holder.is_alive() if holder else None, _whole(file)


def _read_checkpoint(file: Path) -> object:
    copy = file.parent.with_name("checkpoint-copy")  # what is damaged is moved aside
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(file.parent, copy)
    try:
        return Checkpoints(Folder.open(copy), Ranks(0, 1, torch.device("cpu")), 1.0, lambda: None).latest()
    finally:
        shutil.rmtree(copy)


HOME = "runs/trials/ep0"
KINDS = {
    "spec": Kind(_spec_files, "sweep.yaml", lambda file: SweepSpec.load(file).trials()),
    "examples": Kind(lambda: [EXAMPLES.encode()], "examples.jsonl", read_jsonl),
    "edges": Kind(_edge_lists, "edges.json", _open_circuit),
    "graph": Kind(_mib, "graph.json", _open_circuit),
    "circuit": Kind(lambda: [_circuit()], "circuit.safetensors", _open_circuit),
    "published": Kind(_published, "model.safetensors", _open_circuit),
    "result": Kind(_results, f"{HOME}/result.json", _read_trial),
    "checkpoint": Kind(_checkpoints, f"{HOME}/checkpoint/step-000000007.safetensors", _read_checkpoint),
    "attempt": Kind(_attempts, f"{HOME}/attempt.json", lambda file: Attempt.last(Folder.open(file.parent))),
    "lease": Kind(_leases, "runs/small/lease.json", _read_lease),
    "progress": Kind(_progress, "runs/trials/waiting/progress.jsonl", _whole),
    "trials": Kind(_lists, "runs/small/trials.json", _whole),
    "snapshot": Kind(_spec_files, "runs/small/sweep.yaml", _whole),
}


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    runs = small_sweep(root / "runs")
    runs.folder.write("trials/waiting/spec.json", b'{"seed": 1}')
    return root


def content_of(kind: Kind) -> st.SearchStrategy[bytes]:
    """Broken valid files, mostly, and bytes and JSON from nothing."""
    examples = kind.examples()
    mutated = st.builds(
        lambda example, seed: broken(example, random.Random(seed)),
        st.sampled_from(examples),
        st.integers(0, 2**32),
    )
    plain = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
    made_up = plain.map(lambda data: json.dumps(data).encode())
    return st.one_of(mutated, mutated, mutated, mutated, made_up, st.binary(max_size=200))


def check(kind: Kind, root: Path, content: bytes) -> None:
    file = root / kind.place
    file.parent.mkdir(parents=True, exist_ok=True)
    before_file = file.read_bytes() if file.exists() else None
    file.write_bytes(content)
    before = tree(root)
    try:
        kind.read(file)
    except SpecError as error:
        message = str(error)
        assert message and "Traceback" not in message and len(message) < 20_000
    finally:
        after = tree(root)
        file.unlink() if before_file is None else file.write_bytes(before_file)
    assert after == before, "reading changes nothing"


def fuzz(name: str, root: Path, cases: int) -> None:
    kind = KINDS[name]
    for example in kind.examples():
        check(kind, root, example)

    @settings(
        max_examples=cases, deadline=1000 * SECONDS, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )  # fmt: skip
    @given(content_of(kind))
    def case(content: bytes) -> None:
        check(kind, root, content)

    case()


@pytest.mark.parametrize("name", KINDS)
def test_a_few_broken_files(name: str, home: Path) -> None:
    fuzz(name, home, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_broken_files(name: str, home: Path) -> None:
    fuzz(name, home, SLOW)


@pytest.mark.slow
def test_every_value_of_a_result(home: Path) -> None:
    """Each in turn is each strange value."""
    (example, *_) = _results()
    data = json.loads(example)
    for place in places(data):
        for strange in STRANGE:
            check(KINDS["result"], home, json.dumps(put(data, place, strange)).encode())


COMMANDS = {
    "spec": lambda root: ["plan", str(root / "sweep.yaml"), "--runs", str(root / "runs")],
    "edges": lambda root: ["circuit", "show", str(root / "edges.json"), "--layers", "3", "--heads", "4"],
    "circuit": lambda root: ["circuit", "show", str(root / "circuit.safetensors"), "--json"],
    "graph": lambda root: ["circuit", "compare", str(root / "graph.json"), str(root / "graph.json")],
    "result": lambda root: ["circuit", "show", "ep0", "--runs", str(root / "runs")],
    "progress": lambda root: ["status", str(root / "runs")],
    "trials": lambda root: ["status", str(root / "runs"), "--json"],
    "lease": lambda root: ["status", str(root / "runs")],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_on_broken_files(name: str, home: Path) -> None:
    """Exit code 0 or 2, and never a traceback."""
    kind = KINDS[name]
    invoke = Kind(kind.examples, kind.place, lambda _: _invoked(COMMANDS[name](home)))
    chooser = random.Random(0)
    for _ in range(25):
        check(invoke, home, broken(chooser.choice(list(kind.examples())), chooser))


def _invoked(command: list[str]) -> None:
    told = CliRunner().invoke(main, command)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code in (0, 2), told.output
    assert "Traceback" not in told.output and "\x1b" not in told.output
    assert told.exit_code == 0 or told.stderr.startswith(("Error: ", "Usage: ")), told.output


def test_the_fuzzer_would_see_a_change_and_a_crash(home: Path) -> None:
    """A test of the test: a reader that writes, and one that raises what is no clean error."""
    with pytest.raises(AssertionError, match="reading changes nothing"):
        check(Kind(_lists, "x.json", lambda file: file.with_name("new").touch()), home, b"[]")
    (home / "new").unlink()
    with pytest.raises(KeyError):
        check(Kind(_lists, "x.json", lambda file: {}["missing"]), home, b"[]")
