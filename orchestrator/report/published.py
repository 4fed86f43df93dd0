"""Published circuits of GPT-2 small: reference points for curves of the same model and task.

published_points.csv, beside this file, holds what was stated, with its sources; nothing is converted.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from orchestrator.report.scenes import Scene

# What a trial calls GPT-2 small: the hub's ids, and the names of folders that hold it.
GPT2_SMALL = frozenset({"gpt2", "openai-community/gpt2", "gpt2-small"})
# Its edges, with embeddings maskable and always on. Another model in a folder of that name has others.
GPT2_SMALL_EDGES = frozenset({32_936, 32_046})

METRICS = ("kl", "logit_difference", "probability_difference", "exact_match", "accuracy")
SOURCES = {
    "P": "Bhaskar et al. 2024 (Edge Pruning), table",
    "D": "Bhaskar et al. 2024 (Edge Pruning), read off Figure 3, ± 0.03",
    "L1": "logs of the published code, GitHub melodyycui/Edge-Pruning",
    "L2": "logs of the published code, GitHub tony10101105/iclr2026-query-circuit-rebuttal",
}
# The names in the file, as methods are called here.
METHODS = {"edge_pruning": "edge pruning", "acdc": "ACDC", "eap": "EAP"}
TASKS = {"ioi": "ioi", "greater_than": "gt", "gendered_pronoun": "gp"}
ALL_TEMPLATES = 16  # of the task ioi by default; with one it is IOI-t1
# How many templates the other published tasks have where a trial's spec says nothing; published is one.
TEMPLATES = {"gt": 1, "gp": 6}


@dataclass(frozen=True)
class PublishedPoint:
    """`sparsity`: share of the source's `num_edges_total` edges that were cut, None where the source does
    not say how many it counts. `metrics` as in trainers/metrics.py, of the source's test examples."""

    task: str  # ioi, ioi_t1, gt, gp
    method: str  # as methods are called here
    sparsity: float
    num_edges_total: int | None
    metrics: Mapping[str, float]
    source: str  # a key of SOURCES

    @property
    def num_edges(self) -> float | None:
        """Kept edges, by the source's own count."""
        return None if self.num_edges_total is None else (1 - self.sparsity) * self.num_edges_total


@cache
def published_points() -> tuple[PublishedPoint, ...]:
    """All of published_points.csv."""
    text = (files("orchestrator.report") / "published_points.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(_point(row) for row in csv.DictReader(lines))


def _point(row: Mapping[str, str]) -> PublishedPoint:
    total = row["num_edges_total"]
    return PublishedPoint(
        task=row["task"],
        method=METHODS[row["method"]],
        sparsity=float(row["sparsity_percent"]) / 100,
        num_edges_total=int(total) if total else None,
        metrics={name: float(row[name]) for name in METRICS if row[name]},
        source=row["source"],
    )


def matching(scene: Scene, spec: Mapping[str, Any]) -> tuple[PublishedPoint, ...]:
    """The published points of a scene's model and task; none where either is another, or where a cut
    edge carries anything but the corrupted prompt. `spec` is that of one of the scene's trials."""
    task = published_task(spec)
    if not is_gpt2_small(scene) or scene.ablation != "interchange":
        return ()
    return tuple(point for point in published_points() if point.task == task)


def is_gpt2_small(scene: Scene) -> bool:
    """By name and by the number of edges: neither alone is enough."""
    return scene.model in GPT2_SMALL and scene.num_edges_total in GPT2_SMALL_EDGES


def published_task(spec: Mapping[str, Any]) -> str | None:
    """The published task that a trial's task is: `ioi` with all its templates, `ioi_t1` with one; the others
    with one template alone."""
    task = spec.get("task")
    if not isinstance(task, Mapping) or task.get("by_digit"):
        return None
    name = TASKS.get(str(task.get("name")))
    if name == "ioi":
        return {1: "ioi_t1", ALL_TEMPLATES: "ioi"}.get(task.get("templates", ALL_TEMPLATES))
    return name if name is not None and task.get("templates", TEMPLATES[name]) == 1 else None


def unlike(scene: Scene, spec: Mapping[str, Any], points: Sequence[PublishedPoint]) -> tuple[str, ...]:
    """In sentences, what keeps published points from being the same measurement as the scene's."""
    told = ["Published points are of other test examples."]
    totals = sorted({point.num_edges_total for point in points if point.num_edges_total})
    others = [f"{total:,}" for total in totals if total != scene.num_edges_total]
    if others:
        told.append(
            f"Some count other edges: {' and '.join(others)}, here {scene.num_edges_total:,}. Their sparsity "
            "is a share of their own count, and so are the edges they keep."
        )
    if any(point.num_edges_total is None for point in points):
        told.append("A source that does not say how many edges it counts is shown against sparsity only.")
    task = spec.get("task")
    if isinstance(task, Mapping) and task.get("name") == "greater_than":
        start = task.get("corrupted_start", "01")
        if start != "random":
            told.append(
                f"The published code corrupts with a random century and digits, these trials with {start}."
            )
    return tuple(told)
