"""Recorder: everything a trial writes to its folder, by rank 0 alone."""

import hashlib
import json
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import isnan
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from model_patches.circuit import Circuit
from trainers.data import Example
from trainers.distributed import held_bytes
from trainers.evaluate import Evaluation
from trainers.evaluation.curves import areas, on_grid
from trainers.evaluation.faithfulness import faithfulness
from trainers.hardware import hardware
from trainers.memory import peak, restart_peak
from trainers.methods.base import Discovery, Found
from trainers.model import Loaded
from trainers.progress import Progress
from trainers.result import Point, TrialResult
from trainers.session import Session
from trainers.tasks.base import SPLITS

if TYPE_CHECKING:
    from trainers.trial import Execution, TrialSpec

PACKAGES = ("circuit-sweep", "torch", "transformers", "deepspeed", "ray", "mlflow", "numpy", "safetensors")
TEST_VALUES = "test_values.safetensors"
RESULT = "result.json"
REPORTS = 200  # lines of progress.jsonl that a trial writes, about


class Superseded(RuntimeError):
    """A newer attempt at the trial has begun: this one must not write."""


class Recorder:
    """Writes progress.jsonl, circuits, edges, test values and result.json of one attempt at a trial."""

    def __init__(self, spec: "TrialSpec", loaded: Loaded, execution: "Execution") -> None:
        self.spec, self.loaded, self.execution = spec, loaded, execution
        self.folder, self.first = execution.folder, execution.ranks.is_first
        self.full: dict[str, dict[str, float]] = {}
        self.empty: dict[str, dict[str, float]] = {}
        self.started, self.cpu = time.time(), time.process_time()
        self.trained = False
        self.reference_hits: float | None = None  # a share; None: no cache
        restart_peak(execution.ranks.device)
        self.last_step, self.last_time, self.passed = 0, self.started, 0
        self.lines: list[str] = []

    def report(self, progress: Progress) -> Progress:
        """Adds the step's time, writes a line now and then, and hands the progress on."""
        self.passed += 1  # not the difference of two steps: a resumed trial does not start at 0
        every = max(1, progress.total // REPORTS)
        last = progress.step == progress.total
        training = progress.phase == "train"
        if training and self.trained and not last and progress.step - self.last_step < every:
            return progress
        self.trained = self.trained or training  # the first step is always told
        now = time.time()
        if progress.phase == "train":
            progress = progress.timed((now - self.last_time) / self.passed)
        self.last_step, self.last_time, self.passed = progress.step, now, 0
        line = {"time": round(now, 3), "attempt": self.execution.attempt, "phase": progress.phase}
        line |= {"step": progress.step, "total": progress.total} | progress.values
        if self.first:
            self.lines.append(json.dumps(line))
            self._flush()
        return progress

    def point(
        self,
        number: int,
        found: Found,
        metrics: dict[str, dict[str, float]],
        truth: list[tuple[str, str]] | None,
        intervals: dict[str, dict[str, tuple[float, float]]] | None = None,
    ) -> Point:
        """Writes the circuit and its edges; returns its row."""
        circuit, name = found.circuit, f"circuit-{number:03d}.safetensors"
        if self.first:
            self.check_attempt()
            self.folder.write(name, circuit.save())
            self.folder.write(f"edges-{number:03d}.json", _edges(circuit))
            if number == 0:
                self.folder.write("edges.json", _edges(circuit))
        precision, recall = _against(circuit, truth)
        return Point(
            point=number,
            kind=found.kind,
            num_edges=circuit.num_edges,
            num_edges_total=circuit.graph.num_edges,
            num_edges_connected=circuit.connected().num_edges,
            sparsity=circuit.sparsity,
            target_sparsity=found.target_sparsity,
            step=found.step,
            threshold=found.threshold,
            metrics=metrics,
            intervals=intervals or {},
            circuit=name,
            truth_precision=precision,
            truth_recall=recall,
        )

    def test_values(self, evaluation: Evaluation, examples: Sequence[Example]) -> None:
        """Writes every example's test value: per metric a float32 tensor [2 + points, examples]; its rows
        are the full model, the empty circuit, and the points by number.

        `evaluation` holds the full model, the points and the empty circuit, in this order. The metadata's
        `examples` is a digest of the examples: files with one digest hold the same examples in the same
        order. Bytes: 4 · metrics · (2 + points) · examples and a header of about 100 a metric; 10 points,
        4 metrics and 1,000 examples take 192 kB.
        """
        if not self.first:
            return
        values = torch.cat((evaluation.values[:1], evaluation.values[-1:], evaluation.values[1:-1]))
        by_metric = {name: values[:, at].contiguous() for at, name in enumerate(evaluation.metrics)}
        self.check_attempt()
        self.folder.write(TEST_VALUES, safetensors.torch.save(by_metric, {"examples": _digest(examples)}))

    def complete(
        self, session: Session, discovery: Discovery, points: list[Point], warnings: tuple[str, ...]
    ) -> None:
        task = self.spec.task
        self.reference_hits = session.cache.hit_rate if session.cache.budget else None
        if self.first and discovery.signed is not None:
            self.check_attempt()
            nothing = torch.zeros_like(session.graph.allowed)
            signed = Circuit.from_arrays(session.graph, discovery.signed, nothing)
            self.folder.write("signed.safetensors", signed.save())
        self._finish(
            self._result(
                status="complete",
                divergence=session.divergence,
                points=points,
                full=self.full,
                empty=self.empty,
                areas=_areas(points, self.full, self.empty),
                ground_truth=task.ground_truth(self.loaded),
                num_edges_total=session.graph.num_edges,
                num_examples={split: len(session.examples[split]) for split in SPLITS},
                in_sample=session.dataset.in_sample,
                dropped_examples=dict(session.dataset.dropped),
                steps=discovery.steps,
                examples=discovery.examples,
                backward_examples=discovery.backward_examples,
                gate_histogram=discovery.gate_histogram,
                test_values=TEST_VALUES,
                warnings=[*discovery.warnings, *warnings],
            )
        )

    def fail(self, error: str) -> None:
        self._finish(self._result(status="failed", error=error))

    def _result(self, **fields: object) -> TrialResult:
        finished, ranks = time.time(), self.execution.ranks
        above = peak(ranks.device) - self.loaded.resident_bytes
        common = {
            "trial_id": self.spec.trial_id,
            "spec": self.spec.plain(),
            "group": self.spec.group(self.loaded),
            "seed": self.spec.seed,
            "seconds": finished - self.started,
            "cpu_seconds": sum(ranks.gather(time.process_time() - self.cpu)),
            "peak_memory_bytes": max(0, int(max(ranks.gather(above)))),
            "execution": self._execution(),
            "versions": _versions(),
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "finished": datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds"),
        }
        return TrialResult.model_validate(common | fields)

    def _execution(self) -> dict[str, object]:
        resources = self.execution.resources
        weights = self.execution.ranks.gather(held_bytes(self.loaded.model))
        return {
            "ranks": self.execution.ranks.world_size,
            "threads": resources.threads,
            "zero_stage": resources.zero_stage,
            "recompute_blocks": resources.recompute_blocks,
            "reference_cache_gib": resources.reference_cache_gib,
            "reference_cache_on": resources.reference_cache_on,
            "reference_hits": self.reference_hits,
            "weight_bytes": [int(held) for held in weights],
            "device": str(self.execution.ranks.device),
            "attempt": self.execution.attempt,
            "host": socket.gethostname(),
            "process": os.getpid(),
            **hardware(self.execution.ranks.device),
            "code": os.environ.get("CIRCUIT_SWEEP_COMMIT", "unknown"),
            "model_commit": self.loaded.commit,  # what a hub model's revision stood for
            "model_digest": self.spec.model.identity().get("digest"),  # None of a hub model
            "method_version": self.spec.method.version,
            "task_version": self.spec.task.version,
        }

    def _finish(self, result: TrialResult) -> None:
        if not self.first:
            return
        self._flush()
        self.check_attempt()
        if self.folder.exists(RESULT):
            return  # the trial was given up or cancelled while its ranks lived on: that is its result
        self.folder.write(RESULT, result.model_dump_json(indent=1).encode())

    def _flush(self) -> None:
        self.check_attempt()
        if self.lines:
            self.folder.append("progress.jsonl", "".join(f"{line}\n" for line in self.lines).encode())
            self.lines.clear()

    def check_attempt(self) -> None:
        """No zombie writers: whoever finds a newer attempt in the folder ends itself."""
        content = self.folder.read("attempt.json")
        newest = json.loads(content)["attempt"] if content else self.execution.attempt
        if newest != self.execution.attempt:
            raise Superseded(f"attempt {self.execution.attempt} was superseded by attempt {newest}")


def _digest(examples: Sequence[Example]) -> str:
    """SHA-256 of what is in the examples, in their order."""
    content = [(one.clean, one.corrupted, one.positions, one.answers, one.distractors) for one in examples]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _edges(circuit: Circuit) -> bytes:
    """A list of [writer, reader] names: the format that circuit tools exchange."""
    return json.dumps(circuit.edges).encode()


def _areas(
    points: Sequence[Point], full: Mapping[str, dict[str, float]], empty: Mapping[str, dict[str, float]]
) -> dict[str, dict[str, dict[str, float] | None]]:
    """By split and metric: CPR, CMD and their log variants of a ranking that was evaluated at every
    budget of MIB's grid; empty for any other trial."""
    ranked = [point for point in points if point.kind in ("budget", "ranking")]
    found: dict[str, dict[str, dict[str, float] | None]] = {}
    for split in full if ranked else ():
        measured = {point.num_edges: point.metrics[split] for point in ranked}
        curve = on_grid(measured, ranked[0].num_edges_total, empty[split], full[split])
        for name in full[split] if curve is not None else ():
            values = [one[name] for one in curve or ()]
            f = faithfulness(values, full[split][name], empty[split][name])
            by_area = {area: float(value) for area, value in areas(f).items()}
            found.setdefault(split, {})[name] = None if isnan(by_area["cpr"]) else by_area
    return found


def _against(circuit: Circuit, truth: list[tuple[str, str]] | None) -> tuple[float | None, float | None]:
    """Precision and recall of a circuit's edges; None without a ground truth or without edges."""
    if truth is None:
        return None, None
    known = {edge for edge in truth if _counted(circuit, edge)}
    hits = len(known.intersection(circuit.edges))
    return (hits / circuit.num_edges if circuit.num_edges else None), (hits / len(known) if known else None)


def _counted(circuit: Circuit, edge: tuple[str, str]) -> bool:
    """False for an embedding's edge where embeddings are always on: no circuit can keep or cut it."""
    graph = circuit.graph
    return bool(graph.allowed[graph.writer_index[edge[0]], graph.reader_index[edge[1]]])


def _versions() -> Mapping[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
