"""Scenes: points sorted into what may share axes, and each method's curve within a scene.

Circuits are chosen on the validation examples and reported on the test examples, everywhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from orchestrator.records.results import Results
from orchestrator.settings import varied
from orchestrator.statistics.knee import knee
from orchestrator.statistics.pareto import (
    Bands,
    Floats,
    Ints,
    bands,
    best_within,
    edge_budgets,
    front,
    hypervolume,
    log_kept,
    seed_choices,
    sparsest_within,
)
from trainers.evaluation.faithfulness import ROUNDING
from trainers.result import IN_SAMPLE

DISTINCTIONS = {
    "test_set": "test set {}",
    "ablation": "{} ablation",
    "edge_convention": "embeddings {}",
    "divergence": "{}",
    "num_edges_total": "{:,} edges",
}

DRAWN_WITH = ", data seed "  # ends the test set of a task that draws examples; before it, how many of which
USUAL_ABLATION = "interchange"


@dataclass(frozen=True, order=True)
class Scene:
    """What curves must have in common to share axes. The first five fields are a group's without
    its method; two models of one name differ in their number of edges."""

    model: str
    task: str
    test_set: str
    ablation: str
    edge_convention: str
    divergence: str
    num_edges_total: int

    @property
    def details(self) -> str:
        return (
            f"model {self.model} · task {self.task} · test set {self.test_set} · {self.ablation} ablation · "
            f"embeddings {self.edge_convention} · {self.num_edges_total:,} edges"
        )


@dataclass(frozen=True)
class Curve:
    """The circuits of one group: one method in one scene, over all its settings and seeds.

    `rows` are rows of the points table; the arrays hold one value per row.
    """

    scene: Scene
    method: str
    rows: Sequence[Mapping[str, Any]]
    num_edges: Ints
    validation: Floats
    test: Floats
    seeds: Ints
    empty: float  # test divergence of the empty circuit: the top of the reference box
    in_sample: bool  # some circuit was tested on examples that it was trained on

    @property
    def rounding(self) -> float:
        """What float32 may make of two equal divergences: up to so much is no difference, wherever circuits
        or methods are told apart."""
        return ROUNDING * abs(self.empty) if np.isfinite(self.empty) else 0.0

    @cached_property
    def front(self) -> Ints:
        """Row indices of the circuits that no other dominates on validation, fewest edges first."""
        return self._front(np.arange(len(self.rows)))

    def _front(self, own: Ints) -> Ints:
        costs = np.column_stack((log_kept(self.num_edges, self.scene.num_edges_total), self.validation))
        return own[front(costs[own], self.rounding)]

    @cached_property
    def hypervolume(self) -> float:
        """Share of the reference box that the test divergences of the front dominate; NaN if the
        empty circuit, or all of these, are not known."""
        total = self.scene.num_edges_total
        costs = np.column_stack((log_kept(self.num_edges, total), self.test))[self.front]
        return self._volume(costs, (np.log10(1 / total), 0.0), (0.0, self.empty))

    @cached_property
    def seed_fronts(self) -> list[Ints]:
        """Row indices of each seed's own front, in the order of `all_seeds`."""
        return [self.seed_front(seed) for seed in self.all_seeds]

    def seed_front(self, seed: int) -> Ints:
        """Row indices of a seed's own front on validation, fewest edges first."""
        return self._front(np.flatnonzero(self.seeds == seed))

    @cached_property
    def hypervolumes(self) -> Floats:
        """Each seed's hypervolume on its own, [seeds]; NaN where no test divergence of its front is known."""
        total = self.scene.num_edges_total
        costs = np.column_stack((log_kept(self.num_edges, total), self.test))
        low, high = (np.log10(1 / total), 0.0), (0.0, self.empty)
        return np.array([self._volume(costs[rows], low, high) for rows in self.seed_fronts])

    @staticmethod
    def _volume(costs: Floats, low: Sequence[float], high: Sequence[float]) -> float:
        """What is not known (NaN) dominates nothing; where nothing is known, neither is the volume."""
        unknown = bool(np.isnan(costs[:, 1]).all())  # also without any circuit on a front
        return float("nan") if unknown else hypervolume(costs, low, high)

    @cached_property
    def knee(self) -> int | None:
        """Row index of the circuit at the knee of the front on validation; None when it has none."""
        return self._knee(self.front)

    @cached_property
    def seed_knees(self) -> list[int]:
        """Row indices of the knees of the seeds' own fronts, of those that have one."""
        return [found for found in map(self._knee, self.seed_fronts) if found is not None]

    def _knee(self, rows: Ints) -> int | None:
        x = log_kept(self.num_edges, self.scene.num_edges_total)[rows]
        found = knee(x, self.validation[rows], self.rounding)
        return None if found is None else int(rows[found.index])

    @cached_property
    def bands(self) -> Bands:
        budgets = edge_budgets(self.scene.num_edges_total, self.num_edges)
        return bands(self.test, self.choices(budgets), budgets)

    def choices(self, budgets: Ints) -> Ints:
        """The row of each seed's best circuit by validation of at most so many edges, [seeds, budgets], in
        the order of `all_seeds`; -1 for none."""
        return seed_choices(self.num_edges, self.validation, self.seeds, budgets, self.rounding)

    def best_of_seed(self, seed: int, budget: int) -> int | None:
        """One of `choices`; None for none."""
        own = np.flatnonzero(self.seeds == seed)
        found = best_within(self.num_edges[own], self.validation[own], np.array([budget]), self.rounding)
        return None if found[0] < 0 else int(own[found[0]])

    def nearest_of_seed(self, seed: int, budget: int) -> int | None:
        """Like `best_of_seed`, but of a seed without a circuit so small the sparsest one on its front."""
        best = self.best_of_seed(seed, budget)
        if best is not None:
            return best
        own = self.seed_front(seed)
        return int(own[0]) if len(own) else None

    @cached_property
    def all_seeds(self) -> list[int]:
        return sorted({int(seed) for seed in self.seeds})

    def sparsest(self, epsilon: float) -> dict[int, int]:
        """Per seed, the row of its sparsest circuit with validation divergence <= epsilon; a seed
        that has none is left out."""
        chosen: dict[int, int] = {}
        for seed in self.all_seeds:
            own = np.flatnonzero(self.seeds == seed)
            best = sparsest_within(self.num_edges[own], self.validation[own], epsilon)
            if best is not None:
                chosen[seed] = int(own[best])
        return chosen


def curves(results: Results) -> dict[Scene, list[Curve]]:
    """Every scene with its curves, sorted by name. Points without a group or a divergence have no
    place on any axis and are left out."""
    groups: dict[tuple[Scene, str], list[Mapping[str, Any]]] = {}
    for row in results.points.to_pylist():
        if row["method"] is None or row["divergence"] is None:
            continue
        scene = Scene(**{field.name: row[field.name] for field in fields(Scene)})
        groups.setdefault((scene, row["method"]), []).append(row)
    empties = _empty_divergences(groups)
    columns = results.trials.select(["trial_id", "in_sample"]).to_pylist()
    seen = {row["trial_id"] for row in columns if row["in_sample"]}
    scenes: dict[Scene, list[Curve]] = {}
    for (scene, method), rows in sorted(groups.items(), key=lambda item: item[0]):
        in_sample = any(row["trial_id"] in seen for row in rows)
        scenes.setdefault(scene, []).append(_curve(scene, method, rows, empties[scene], in_sample))
    return scenes


def _empty_divergences(groups: Mapping[tuple[Scene, str], Sequence[Mapping[str, Any]]]) -> dict[Scene, float]:
    """One value per scene: trials measure it each, and their dtypes may differ in the last digits."""
    measured: dict[Scene, list[float]] = {}
    for (scene, _), rows in groups.items():
        measured.setdefault(scene, []).extend(
            row["divergence_empty"] for row in rows if row["divergence_empty"] is not None
        )
    finite = {scene: [v for v in values if np.isfinite(v)] for scene, values in measured.items()}
    return {scene: float(np.median(values)) if values else float("nan") for scene, values in finite.items()}


def _curve(
    scene: Scene, method: str, rows: Sequence[Mapping[str, Any]], empty: float, in_sample: bool
) -> Curve:
    def floats(name: str) -> Floats:
        return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)

    def ints(name: str) -> Ints:
        return np.array([row[name] for row in rows], dtype=np.int64)

    validation, test = floats("divergence_validation"), floats("divergence_test")
    return Curve(scene, method, rows, ints("num_edges"), validation, test, ints("seed"), empty, in_sample)


def titles(scenes: Mapping[Scene, Sequence[Curve]]) -> dict[Scene, str]:
    """A short title for each scene: model and task, how many examples with which options where the task
    has any, whether a test is in-sample, an ablation that is not the usual one, and whatever else tells the
    scenes apart."""
    told: dict[Scene, str] = {}
    for scene, group in scenes.items():
        rivals = [other for other in scenes if (other.model, other.task) == (scene.model, scene.task)]
        model, task = _letters(scene.model), _letters(scene.task)
        both = f"{scene.model}, {scene.task}"
        parts = [scene.task if model in task else scene.model if task in model else both]
        differing = {name for name in DISTINCTIONS if len({getattr(other, name) for other in rivals}) > 1}
        drawn = scene.test_set.partition(DRAWN_WITH)
        if drawn[1] and "test_set" not in differing:
            parts.append(drawn[0])
        told_by_name = scene.test_set.endswith(IN_SAMPLE) and "test_set" in differing
        if any(curve.in_sample for curve in group) and not told_by_name:
            parts.append(IN_SAMPLE.removeprefix(", "))
        if scene.ablation != USUAL_ABLATION:
            differing.add("ablation")
        parts += [
            words.format(getattr(scene, name)) for name, words in DISTINCTIONS.items() if name in differing
        ]
        told[scene] = " · ".join(parts)
    return told


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def settings(results: Results) -> dict[str, str]:
    """Trial id -> what sets it apart from the other trials of its method, e.g. `target_sparsity 0.9,
    steps 3000`: the fields of the method (and other fields, but seeds) that vary among them."""
    columns = ["trial_id", "spec", "model", "task", "method"]
    specs = {
        row["trial_id"]: ((row["model"], row["task"], row["method"]), json.loads(row["spec"]))
        for row in results.trials.select(columns).to_pylist()
        if row["spec"] is not None and row["method"] is not None
    }
    return {
        trial_id: ", ".join(
            f"{path.removeprefix('method.')} {_told(value)}"
            for path, value in sorted(fields, key=lambda field: field[0])
            if path != "seed"
        )
        for trial_id, fields in varied(specs).items()
    }


def _told(value: object) -> str:
    return "none" if value is None else str(value)
