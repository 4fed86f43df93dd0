"""Per-example test values: what a trial writes, and what is read back of it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from orchestrator.records.per_example import Unreadable, read_per_example
from orchestrator.records.results import Results
from orchestrator.records.trial_result import read_result
from tests import one_rank
from tests.run_folders import Runs, point, store_test_values, trial
from trainers.folder import Folder
from trainers.record import TEST_VALUES
from trainers.worker import Worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with one_rank.working() as make:
        yield make()


def tracr(program: str, method: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "model": {"builtin": program},
        "task": {"name": "tracr"},
        "method": method,
        "ablation": "zero",
    } | fields


RANDOM = {"name": "random", "edge_budgets": [5, 28, 32]}


def test_a_trial_writes_what_its_means_are_means_of(worker: Worker, tmp_path: Path) -> None:
    result = one_rank.run(worker, tmp_path / "t", tracr("tracr-xproportion", RANDOM))
    assert result.test_values == TEST_VALUES
    folder = Folder.open(tmp_path / "t")
    for metric in result.full["test"]:
        stored = read_per_example(folder, TEST_VALUES, metric)
        assert stored is not None
        assert stored.values.shape == (2 + len(result.points), result.num_examples["test"])
        right = [result.full["test"][metric], result.empty["test"][metric]]
        right += [one.metrics["test"][metric] for one in sorted(result.points, key=lambda one: one.point)]
        assert stored.values.astype(float).mean(axis=1) == pytest.approx(right, rel=1e-4, abs=1e-6)
    found = [one.metrics["test"][str(result.divergence)] for one in result.points]
    assert len(set(found)) > 1 and 0 in found, "rows differ; all 32 edges are the full model"


def test_the_digest_is_of_the_examples_alone(worker: Worker, tmp_path: Path) -> None:
    specs = {
        "one": tracr("tracr-xproportion", RANDOM),
        "seed": tracr("tracr-xproportion", RANDOM, seed=1),
        "other": tracr("tracr-reverse", RANDOM),
    }
    digests = {}
    for name, spec in specs.items():
        result = one_rank.run(worker, tmp_path / name, spec)
        stored = read_per_example(Folder.open(tmp_path / name), TEST_VALUES, str(result.divergence))
        assert stored is not None
        digests[name] = stored.digest
    assert digests["one"] == digests["seed"] != digests["other"]


def test_the_same_trial_writes_the_same_bytes(worker: Worker, tmp_path: Path) -> None:
    for name in ("a", "b"):
        one_rank.run(worker, tmp_path / name, tracr("tracr-xproportion", RANDOM))
    first, second = ((tmp_path / name / TEST_VALUES).read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_result_without_them_is_read(tmp_path: Path) -> None:
    """As results were before there were any: the field is not there at all."""
    runs = Runs(tmp_path)
    runs.trial(trial("old", 0, [point(0, 5, 0.1)]))
    file = tmp_path / "trials" / "old" / "result.json"
    content = json.loads(file.read_text())
    del content["test_values"]
    file.write_text(json.dumps(content))
    result, problem = read_result(Folder.open(file.parent))
    assert result is not None and result.test_values is None and not problem
    assert Results.load([runs.folder]).trials["test_values"].to_pylist() == [None]


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    store_test_values(Runs(tmp_path), "t", {"kl": [[0, 0], [2, 3], [1, 0.5]], "accuracy": [[1, 1]] * 3})
    file = tmp_path / "trials" / "t" / TEST_VALUES
    with safe_open(file, "np") as theirs:
        assert theirs.metadata() == {"examples": "d"}
        for metric in ("kl", "accuracy"):
            found = read_per_example(Folder.open(file.parent), TEST_VALUES, metric)
            assert found is not None and found.digest == "d"
            assert (found.values == theirs.get_tensor(metric)).all() and found.values.dtype == np.float32
    assert read_per_example(Folder.open(file.parent), TEST_VALUES, "tau") is None


def header(content: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


KL = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "damaged"),
        (b"abc", "damaged"),
        (struct.pack("<Q", 2**62), "damaged: a header of"),
        (struct.pack("<Q", 4) + b"\x00\x01\x02\x03", "damaged"),
        (header({"kl": KL}), "damaged"),
        (header({"kl": KL, "__metadata__": {"examples": "d"}}, b"1234"), "damaged"),
        (header({"kl": KL | {"dtype": "F64"}, "__metadata__": {"examples": "d"}}, b"12345678"), "holds F64"),
        (header({"kl": KL | {"shape": [7]}, "__metadata__": {"examples": "d"}}, b"12345678"), "damaged"),
        (header({"kl": KL}, b"12345678"), "damaged"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / TEST_VALUES).write_bytes(content)
    with pytest.raises(Unreadable, match=told):
        read_per_example(Folder.open(tmp_path), TEST_VALUES, "kl")


def test_only_files_of_the_trials_own_folder_are_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="is missing"):
        read_per_example(Folder.open(tmp_path), TEST_VALUES, "kl")
    for name in ("../other/test_values.safetensors", "/etc/hostname", "..", ""):
        with pytest.raises(Unreadable):
            read_per_example(Folder.open(tmp_path / "trial"), name, "kl")
