"""Synthetic run folders for tests: trials with known numbers, written like a real sweep writes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainers.folder import Folder
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


def training(steps: int, target: float, every: int = 20) -> list[dict[str, Any]]:
    """Progress of a training run whose sparsity climbs to its target over two thirds of the steps."""
    lines = []
    for step in range(0, steps + 1, every):
        share = min(1.0, 1.5 * step / steps)
        values = {"kl": 0.5 * 0.995 ** (step / 2) + 0.02 * share, "sparsity": 0.98 * share * target}
        lines.append({"time": 1e9 + step, "attempt": 1, "phase": "train", "step": step, "total": steps, **values})
        lines[-1]["target_sparsity"] = share * target
    return lines
