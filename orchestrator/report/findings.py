"""Findings: results with everything the panels share, computed once."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from orchestrator.records.results import Results
from orchestrator.report.scenes import Curve, Scene, curves, settings, titles
from orchestrator.report.slots import assigned

Known = TypeVar("Known")
SCENE_COLUMNS = ("model", "task", "test_set", "ablation", "edge_convention")


@dataclass(frozen=True)
class Findings:
    """`trials` holds the rows of the trials table by id, in order; `slots` (slots.py) gives every method
    one colour and marker on the whole page."""

    results: Results
    trials: Mapping[str, Mapping[str, Any]]
    scenes: Mapping[Scene, Sequence[Curve]]
    titles: Mapping[Scene, str]
    settings: Mapping[str, str]
    slots: Mapping[str, int]
    known: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, results: Results) -> Self:
        scenes = curves(results)
        rows = {row["trial_id"]: row for row in results.trials.to_pylist()}
        slots = assigned([[curve.method for curve in group] for group in scenes.values()])
        return cls(results, rows, scenes, titles(scenes), settings(results), slots)

    def epsilon(self, scene: Scene) -> float:
        """The strictest that the scene's sweeps ask for; what other scenes' sweeps ask changes nothing."""
        return self.epsilons(scene)[0]

    def epsilons(self, scene: Scene) -> list[float]:
        """All that the scene's sweeps ask for, the strictest first."""

        def asked() -> list[float]:
            trials = {row["trial_id"] for curve in self.scenes[scene] for row in curve.rows}
            found = {sweep.epsilon for sweep in self.results.sweeps if trials.intersection(sweep.trial_ids)}
            return sorted(found) or [self.results.epsilon]

        return self.once(("epsilons", scene), asked)

    def once(self, key: Hashable, compute: Callable[[], Known]) -> Known:
        """What `compute` returned the first time for this key: page, tables and report.json share it."""
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    def with_status(self, *statuses: str) -> list[Mapping[str, Any]]:
        return [row for row in self.trials.values() if row["status"] in statuses]

    def ground_truth(self, curve: Curve) -> frozenset[tuple[str, str]] | None:
        """The known circuit of a curve's task; None when there is none."""
        for trial_id in {row["trial_id"]: None for row in curve.rows}:
            truth = self.trials[trial_id]["ground_truth"]
            if truth is not None:
                return frozenset((writer, reader) for writer, reader in json.loads(truth))
        return None

    def seeds_run(self, curve: Curve) -> int:
        """Seeds of a curve's group with at least one trial that ended, failed ones included."""
        group = tuple(getattr(curve.scene, name) for name in SCENE_COLUMNS) + (curve.method,)
        columns = (*SCENE_COLUMNS, "method")
        ended = self.with_status("complete", "failed")
        return len({row["seed"] for row in ended if tuple(row[name] for name in columns) == group})

    def scene_title(self, row: Mapping[str, Any]) -> str:
        """The title of a trial's scene, also for a trial that has no circuit."""
        for scene, title in self.titles.items():
            if all(row[name] == getattr(scene, name) for name in SCENE_COLUMNS):
                return title
        return ", ".join(row[name] for name in ("model", "task") if row[name]) or "–"

    def about(self, row: Mapping[str, Any]) -> str:
        """What sets a trial apart: its settings and its seed, `target_sparsity 0.9, seed 2`."""
        told = self.settings.get(row["trial_id"], "")
        return ", ".join(part for part in (told, f"seed {row['seed']}") if part)
