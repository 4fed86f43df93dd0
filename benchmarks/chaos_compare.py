"""Are two runs folders of one sweep the same but for when, where and how fast their trials ran?"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.records.results import Results
from trainers.folder import Folder

# May differ between two runs of one trial; of `execution` everything else is where it ran.
VOLATILE = ("seconds", "cpu_seconds", "peak_memory_bytes", "started", "finished")
EXECUTION = ("ranks", "threads", "zero_stage", "device", "model_digest", "method_version", "task_version")
# Circuits are compared byte for byte, and all else that a trial writes once.
WRITTEN_ONCE = ("circuit-*.safetensors", "edges*.json", "test_values.safetensors", "signed.safetensors")
UNFINISHED = ("*.part", "*.claim", "checkpoint/*.safetensors")


def differences(reference: Path, runs: Path, more: bool = False) -> list[str]:
    """What differs, and what is lying about; empty when nothing is. With `more`, `runs` may hold further
    trials."""
    return [*_tables(reference, runs, more), *_files(reference, runs), *_unfinished(runs)]


def _tables(reference: Path, runs: Path, more: bool) -> Iterator[str]:
    expected, found = Results.load(Folder.open(reference)), Results.load(Folder.open(runs))
    yield from (f"{problem.where}: {problem.what}" for problem in found.problems)
    for title, one, other in (
        ("trials", expected.trials.to_pylist(), found.trials.to_pylist()),
        ("points", expected.points.to_pylist(), found.points.to_pylist()),
    ):
        known = {row["trial_id"] for row in one}
        other = [row for row in other if not more or row["trial_id"] in known]
        if len(one) != len(other):
            yield f"{title}: {len(other)} rows, expected {len(one)}"
        for row, its in zip(one, other, strict=False):
            for column, value in _comparable(row).items():
                if repr(value) != repr(_comparable(its).get(column)):  # repr: NaN is NaN, -0.0 is not 0.0
                    yield f"{title}: {row['trial_id']}: {column}: {its.get(column)!r}, expected {value!r}"


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in VOLATILE}
    if execution := kept.get("execution"):
        ran = json.loads(execution)
        kept["execution"] = {name: ran.get(name) for name in EXECUTION}
    return kept


def _files(reference: Path, runs: Path) -> Iterator[str]:
    for trial in sorted((reference / "trials").iterdir()):
        other = runs / "trials" / trial.name
        for pattern in WRITTEN_ONCE:
            names = {file.name for file in trial.glob(pattern)}
            if extra := names ^ {file.name for file in other.glob(pattern)}:
                yield f"{trial.name}: {sorted(extra)} in one of the two only"
            for name in sorted(names):
                if (other / name).is_file() and (other / name).read_bytes() != (trial / name).read_bytes():
                    yield f"{trial.name}/{name}: other bytes"


def _unfinished(runs: Path) -> Iterator[str]:
    for pattern in UNFINISHED:
        yield from (f"left behind: {file.relative_to(runs)}" for file in sorted(runs.rglob(pattern)))


def mirrored(uri: str) -> dict[str, Any]:
    """By trial (or `sweep NAME`): what MLflow shows of it, without times and ids of its own."""
    from mlflow import MlflowClient

    client, shown = MlflowClient(tracking_uri=uri), {}
    experiments = [one.experiment_id for one in client.search_experiments()]
    for run in client.search_runs(experiments, max_results=1000):
        tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
        key = tags.get("trial_id") or f"sweep {tags.get('sweep')}"
        assert key not in shown, f"{uri} has two runs of {key}"
        shown[key] = (run.info.status, tags, dict(run.data.params), dict(run.data.metrics))
    return shown
