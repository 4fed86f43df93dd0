"""Synthetic run folders for tests: trials with known numbers, written like a real sweep writes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import yaml

from trainers.folder import Folder
from trainers.record import TEST_VALUES
from trainers.result import Group, Point, TrialResult

GROUP = Group(
    model="tracr-reverse",
    task="tracr reverse",
    test_set="whole domain",
    ablation="zero",
    edge_convention="maskable",
    method="edge pruning",
)
TRUTH = [("tok_embeds", "m0"), ("m0", "resid_post"), ("pos_embeds", "a0.h0.q")]
EDGES = [*TRUTH, ("tok_embeds", "a0.h0.v"), ("a0.h0", "resid_post"), ("pos_embeds", "m0")]
TOTAL = 94


def point(number: int, num_edges: int, validation: float, test: float | None = None, **others: Any) -> Point:
    """A circuit with these divergences, called kl; test as good as validation unless given."""
    test = validation if test is None else test
    total = others.pop("num_edges_total", TOTAL)
    metrics = {"validation": {"kl": validation}, "test": {"kl": test, "same_output": float(test <= 1e-3)}}
    content: dict[str, Any] = {
        "kind": "final",
        "num_edges_total": total,
        "num_edges_connected": num_edges,
        "sparsity": 1 - num_edges / total,
        "metrics": metrics,
        "circuit": f"circuit-{number:03d}.safetensors",
    }
    return Point(point=number, num_edges=num_edges, **(content | others))


def trial(trial_id: str, seed: int, points: Sequence[Point], **others: Any) -> TrialResult:
    """A complete trial of `GROUP` unless `others` says otherwise."""
    spec = {"model": {"builtin": "tracr-reverse"}, "method": {"name": "edge_pruning"}, "seed": seed}
    content: dict[str, Any] = {
        "status": "complete",
        "spec": spec,
        "group": GROUP,
        "divergence": "kl",
        "empty": {"validation": {"kl": 2.0}, "test": {"kl": 2.0}},
        "full": {"validation": {"kl": 0.0}, "test": {"kl": 0.0}},
        "num_edges_total": points[0].num_edges_total if points else TOTAL,
        "num_examples": {"test": 27},
        "steps": 1000,
        "seconds": 12.5,
        "cpu_seconds": 11.0,
        "execution": {"ranks": 1, "threads": 1, "zero_stage": 3, "code": "0.1.0+abc", "attempt": 1},
        "versions": {"python": "3.11.4", "torch": "2.13.0"},
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:00:12Z",
    }
    return TrialResult(trial_id=trial_id, seed=seed, points=list(points), **(content | others))


@dataclass(frozen=True)
class Runs:
    """A runs folder under construction."""

    path: Path

    @property
    def folder(self) -> Folder:
        return Folder.open(self.path)

    def sweep(self, name: str, trial_ids: Sequence[str], **snapshot: Any) -> Folder:
        """Writes `sweep.yaml` and `trials.json`; returns the sweep's folder."""
        content = {"name": name, "question": f"What does {name} show?"} | snapshot
        self.folder.write(f"{name}/sweep.yaml", yaml.safe_dump(content).encode())
        self.folder.write(f"{name}/trials.json", json.dumps(list(trial_ids)).encode())
        return self.folder / name

    def trial(
        self,
        result: TrialResult,
        progress: Sequence[Mapping[str, Any]] = (),
        edges: Mapping[int, Sequence[tuple[str, str]]] | None = None,
    ) -> None:
        """Writes a finished trial with its progress and the edge lists of its points."""
        home = self.folder / "trials" / result.trial_id
        home.write("spec.json", json.dumps(result.spec).encode())
        home.write("progress.jsonl", "".join(json.dumps(line) + "\n" for line in progress).encode())
        for number, listed in (edges or {}).items():
            home.write(f"edges-{number:03d}.json", json.dumps(list(listed)).encode())
        home.write("result.json", result.model_dump_json().encode())


def store_test_values(
    runs: Runs, trial_id: str, by_metric: Mapping[str, Sequence[Sequence[float]]], digest: str = "d"
) -> None:
    """Per-example test values as a trial writes them: by metric [2 + points, examples], the full model, the
    empty circuit, the points. The trial's result should name the file: `test_values=TEST_VALUES`."""
    arrays = {name: np.array(values, dtype=np.float32) for name, values in by_metric.items()}
    content = safetensors.numpy.save(arrays, {"examples": digest})
    runs.folder.write(f"trials/{trial_id}/{TEST_VALUES}", content)


def training(steps: int, target: float, every: int = 20) -> list[dict[str, Any]]:
    """Progress of a training run whose sparsity climbs to its target over two thirds of the steps."""
    lines = []
    for step in range(0, steps + 1, every):
        share = min(1.0, 1.5 * step / steps)
        values = {"kl": 0.5 * 0.995 ** (step / 2) + 0.02 * share, "sparsity": 0.98 * share * target}
        report = {"time": 1e9 + step, "attempt": 1, "phase": "train", "step": step, "total": steps}
        lines.append(report | values | {"target_sparsity": share * target})
    return lines


def small_sweep(path: Path) -> Runs:
    """Three methods on one program, two seeds each, a failed and an unfinished trial, two warnings."""
    runs = Runs(path)
    exact = {0: TRUTH, 1: EDGES}
    for seed in (0, 1):
        points = [
            point(0, 3, 0.0, truth_precision=1.0, truth_recall=1.0, target_sparsity=0.95, step=900),
            point(1, 6, 1e-12, truth_precision=0.5, truth_recall=1.0, kind="path"),
        ]
        spec = {"method": {"name": "edge_pruning", "target_sparsity": 0.95}, "seed": seed}
        result = trial(f"ep{seed}", seed, points, spec=spec, ground_truth=TRUTH, in_sample=True)
        runs.trial(result, training(1000, 0.95), exact)
        group = GROUP.model_copy(update={"method": "random"})
        points = [point(n, edges, 2.0 - edges / TOTAL * 2) for n, edges in enumerate((1, 10, 50, TOTAL))]
        spec = {"method": {"name": "random"}, "seed": seed}
        others: dict[str, Any] = {"group": group, "spec": spec, "ground_truth": TRUTH, "in_sample": True}
        runs.trial(trial(f"random{seed}", seed, points, steps=1, **others))
    other = {"python": "3.11.4", "torch": "2.14.0"}
    code = {"execution": {"ranks": 2, "code": "0.1.0+def", "attempt": 2}, "versions": other}
    runs.trial(trial("bad", 2, [], status="failed", error="RuntimeError: loss is NaN\n  at step 4", **code))
    runs.sweep("small", ["ep0", "ep1", "random0", "random1", "bad", "waiting"])
    return runs


def gated_sweep(path: Path) -> Runs:
    """The small sweep with gates recorded, and a second metric that has no end at the full model."""
    runs = small_sweep(path)
    for seed in (0, 1):
        metrics = {
            split: {"kl": 0.1 / (seed + 1), "logit_difference": 2.0} for split in ("validation", "test")
        }
        ends: dict[str, Any] = {
            "full": {"test": {"kl": 0.0, "logit_difference": 3.0}},
            "empty": {"test": {"kl": 2.0, "logit_difference": -1.0}},
            "gate_histogram": [50, *[0] * 18, 44],
        }
        result = trial(f"gated{seed}", seed, [point(0, 9, 0.1, metrics=metrics, target_sparsity=0.9)], **ends)
        runs.trial(result, training(100, 0.9), {0: [("tok_embeds", "m0")]})
    runs.sweep("gated", ["gated0", "gated1"])
    return runs


HOSTILE = (
    '<script>alert("x")</script>\n</script><img src=http://evil.example onerror=alert(1)> $\\frac$ & {{7*7}}'
)


def hostile_sweep(path: Path) -> Runs:
    runs = Runs(path)
    names = {name: HOSTILE for name in type(GROUP).model_fields}
    for seed in (0, 1):
        metrics = {split: {HOSTILE: 0.1, "same_output": 1.0} for split in ("validation", "test")}
        result = trial(
            f"hostile{seed}",
            seed,
            [point(0, 5, 0.1, metrics=metrics, target_sparsity=0.9)],
            group=GROUP.model_copy(update=names),
            divergence=HOSTILE,
            empty={"test": {HOSTILE: 2.0}},
            spec={"method": {HOSTILE: f"{HOSTILE}{seed}"}, "seed": seed},
            warnings=[HOSTILE],
            versions={HOSTILE: HOSTILE},
            execution={HOSTILE: HOSTILE, "code": HOSTILE},
            ground_truth=[(HOSTILE, HOSTILE)],
        )
        runs.trial(result, training(100, 0.9), {0: [(HOSTILE, "m0")]})
    runs.trial(trial("failed", 2, [], status="failed", error=HOSTILE))
    runs.sweep("hostile", ["hostile0", "hostile1", "failed"], question=HOSTILE)
    return runs
