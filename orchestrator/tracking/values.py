"""What MLflow is told of a trial, as plain values: params, metrics, tags, files. No MLflow here."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from model_patches.circuit import Circuit
from orchestrator.drawing import draw, draw_circuit
from orchestrator.records.trial_result import main_point
from orchestrator.wording import masked, printable
from trainers.folder import Folder
from trainers.outside import parse_json
from trainers.progress import Progress
from trainers.result import Point, TrialResult

PARAM_CHARACTERS = 500  # what every MLflow server since 1.28 takes
TAG_CHARACTERS = 5000
NAME_CHARACTERS = 250
# Bounded: text from outside must not cost the square of its length.
Metric = tuple[str, float, int]  # name, value, step


def params(spec: Mapping[str, Any]) -> dict[str, str]:
    """The spec by dotted path; fields without a value are left out, long values are cut."""
    return {metric_name(path): _cut(masked(text), PARAM_CHARACTERS) for path, text in _flattened(spec)}


def run_name(spec: Mapping[str, Any], trial_id: str) -> str:
    """What tells a trial's run from its neighbours in MLflow's list."""
    task, method = (
        part if isinstance(part := spec.get(name), Mapping) else {} for name in ("task", "method")
    )
    parts = [task.get("name"), method.get("name"), method.get("variant")]
    for name in ("target_sparsity", "penalty"):
        if isinstance(value := method.get(name), int | float):
            parts.append(f"{name} {value:g}")
    told = " ".join(str(part) for part in (*parts, f"seed {spec.get('seed')}", trial_id[:6]) if part)
    return _cut(" ".join(told.split()), NAME_CHARACTERS)


def step_metrics(progress: Progress) -> list[Metric]:
    """Training metrics keep their names; those of other phases start with the phase."""
    prefix = "" if progress.phase == "train" else f"{progress.phase}/"
    return [
        (metric_name(prefix + name), float(value), progress.step) for name, value in progress.values.items()
    ]


def progress_of(line: Mapping[str, Any]) -> Progress:
    """A line of progress.jsonl as Progress again."""
    rest = {
        name: value
        for name, value in line.items()
        if name not in ("time", "attempt", "phase", "step", "total")
    }
    values = {name: float(value) for name, value in rest.items() if isinstance(value, int | float | str)}
    return Progress(int(line["step"]), int(line.get("total", 0)), values, str(line.get("phase", "train")))


def final_metrics(result: TrialResult, epsilon: float) -> list[Metric]:
    """Of the trial's main circuit (main_point) by `test_kl`, `num_edges` ...; of every circuit by
    `points/test_kl` ..., where the step is the circuit's number of edges."""
    values = [
        ("seconds", result.seconds),
        ("cpu_seconds", result.cpu_seconds),
        ("steps", float(result.steps)),
    ]
    values.append(("peak_memory_mb", result.peak_memory_bytes / 2**20))
    main = main_point(result, epsilon)
    if main is not None:
        values += _point_values(main)
    metrics = [(metric_name(name), value, result.steps) for name, value in values]
    if len(result.points) > 1:
        for point in sorted(result.points, key=lambda point: point.num_edges):
            metrics += [
                (metric_name(f"points/{name}"), value, point.num_edges)
                for name, value in _point_values(point)
            ]
    return metrics


def tags(result: TrialResult) -> dict[str, str]:
    """Status, code, versions and machine of a trial that is over."""
    found: dict[str, Any] = {"status": result.status, "error": result.error}
    found |= {f"version.{name}": version for name, version in result.versions.items()}
    found["git_commit"] = result.execution.get("code")
    found |= {f"execution.{name}": value for name, value in result.execution.items()}
    if result.group is not None:
        found |= {f"group.{name}": value for name, value in result.group.model_dump().items()}
    if result.warnings:
        found["warnings"] = "\n".join(result.warnings)
    return {
        metric_name(name): _cut(masked(str(value)), TAG_CHARACTERS)
        for name, value in found.items()
        if value is not None
    }


def files(trial: Folder, result: TrialResult, epsilon: float) -> Iterator[tuple[str, bytes]]:
    """Name and content of what is kept as artifacts: the spec, the result, the main circuit, its picture."""
    for name in ("spec.json", "result.json"):
        content = trial.read(name)
        if content is not None:
            yield name, masked(content.decode(errors="replace")).encode()
    point = main_point(result, epsilon)
    if point is None:
        return
    circuit = trial.read(point.circuit)
    if circuit is not None:
        yield point.circuit, circuit
    listed = trial.read(point.circuit.replace("circuit-", "edges-").replace(".safetensors", ".json"))
    if listed is not None:
        yield "edges.json", listed
        with suppress(ValueError, TypeError):  # a damaged list has no picture
            edges = [(str(writer), str(reader)) for writer, reader in parse_json(listed)]
            yield "circuit.png", _picture(circuit, edges, _title(result, point))


def metric_name(name: str) -> str:
    """As MLflow allows names of metrics, params and tags: few characters, no path that leads anywhere."""
    plain = name.replace(" · ", " - ")  # between the parts of a title
    parts = re.sub(r"[^\w./ :-]", "_", plain[:NAME_CHARACTERS]).split("/")
    return "/".join(part if part.strip(".") else "_" for part in parts if part) or "_"


def _picture(circuit: bytes | None, edges: list[tuple[str, str]], title: str) -> bytes:
    """Of the circuit; where its file cannot be read, of its edges, which know no scores."""
    try:
        return draw(Circuit.loads(circuit or b"", "circuit"), title)
    except ValueError:
        return draw_circuit(edges, title)


def _title(result: TrialResult, point: Point) -> str:
    group = result.group
    what = f"{group.model}, {group.task}, {group.method}, " if group else ""
    return printable(f"{what}seed {result.seed}: {point.num_edges:,} of {point.num_edges_total:,} edges")


def _point_values(point: Point) -> list[tuple[str, float]]:
    values = [
        (f"{split}_{name}", value) for split, named in point.metrics.items() for name, value in named.items()
    ]
    for name in (
        "num_edges",
        "num_edges_connected",
        "sparsity",
        "target_sparsity",
        "truth_precision",
        "truth_recall",
    ):
        value = getattr(point, name)
        if value is not None:
            values.append((name, float(value)))
    return values


def _flattened(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flattened(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        yield path, json.dumps(value)
    elif value is not None:
        yield path, str(value)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
