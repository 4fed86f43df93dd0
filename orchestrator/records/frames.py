"""Frames: results as tidy pandas frames, for notebooks.

    from orchestrator import Results
    frames = Results.load("runs").frames
    frames.front[["method", "num_edges", "divergence_test"]]

Every frame says in `frame.attrs["units"]` and `frame.attrs["meanings"]` what its columns hold. A number
that was not measured is missing, in integer and text columns as `pandas.NA`, in float columns as NaN,
where a measured NaN looks the same (`Results.points`, an Arrow table, tells them apart).
"""

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from orchestrator.records.tables import POINT_COLUMNS, TRIAL_COLUMNS, Column, column_of
from orchestrator.report.scenes import Curve, Scene, curves, settings, titles
from orchestrator.wording import count
from trainers.spec import SpecError

if TYPE_CHECKING:
    from orchestrator.records.results import Results

ADDED = (
    Column("scene", pa.string(), "", "what the circuit may share axes with, in words"),
    Column("settings", pa.string(), "", "what sets its trial apart from the others of its method"),
    Column("hypervolume", pa.float64(), "share of the reference box", "that the whole front dominates"),
)
CONSENSUS_COLUMNS = (
    Column("scene", pa.string(), "", "what the circuits may share axes with, in words"),
    *(column for column in POINT_COLUMNS if column.name in ("model", "task", "method")),
    Column("budget", pa.int64(), "edges", "each seed's best circuit by validation of at most so many edges"),
    Column("writer", pa.string(), "", "where the edge comes from"),
    Column("reader", pa.string(), "", "where the edge goes to"),
    Column("kept", pa.int64(), "seeds", "whose circuit keeps the edge"),
    Column("num_seeds", pa.int64(), "seeds", "with a circuit within the budget"),
    Column("share", pa.float64(), "share of seeds", "kept / num_seeds"),
)


@dataclass(frozen=True)
class Frames:
    """What `Results.frames` holds. Each frame is made when it is first asked for."""

    results: "Results"

    def __repr__(self) -> str:
        points = self.results.points
        numbers = (
            (len(self.results.sweeps), "sweep"),
            (self.results.trials.num_rows, "trial"),
            (points.num_rows, "point"),
            (len(set(points["method"].drop_null().to_pylist())), "method"),
        )
        return f"Frames({', '.join(count(*number) for number in numbers)})"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial: TRIAL_COLUMNS in tables.py. JSON columns hold Python values."""
        frame = _frame(self.results.trials)
        for column in TRIAL_COLUMNS:
            if column.unit == "JSON":
                texts = self.results.trials[column.name].to_pylist()
                values = [None if text is None else json.loads(text) for text in texts]
                frame[column.name] = pd.Series(values, dtype=object)
        frame["settings"] = _texts([self._settings.get(trial_id) for trial_id in frame["trial_id"]])
        return _described(frame, (*TRIAL_COLUMNS, *ADDED))

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per circuit: orchestrator/records/tables.py, POINT_COLUMNS, with `scene` and `settings`."""
        frame = _frame(self.results.points)
        rows = self.results.points.to_pylist()
        scenes = {
            (row["trial_id"], row["point"]): self._titles[curve.scene]
            for curve in self._curves
            for row in curve.rows
        }
        frame["scene"] = _texts([scenes.get((row["trial_id"], row["point"])) for row in rows])
        frame["settings"] = _texts([self._settings.get(row["trial_id"]) for row in rows])
        return _described(frame, (*POINT_COLUMNS, *ADDED))

    @cached_property
    def front(self) -> pd.DataFrame:
        """The rows of `points` that no other circuit of their scene and method beats in both edges and
        validation divergence, fewest edges first, with the front's `hypervolume` (test divergence)."""
        places = {key: place for place, key in enumerate(_keys(self.results.points.to_pylist()))}
        chosen, volumes = [], []
        for curve in self._curves:
            own = [places[key] for key in _keys([curve.rows[int(index)] for index in curve.front])]
            chosen += own
            volumes += [curve.hypervolume] * len(own)
        frame = self.points.iloc[chosen].reset_index(drop=True)
        frame["hypervolume"] = np.array(volumes, dtype=np.float64)
        return _described(frame, (*POINT_COLUMNS, *ADDED))

    def consensus(self, budget: int | float | np.integer | np.floating | None = None) -> pd.DataFrame:
        """How often each edge is kept over seeds, per scene and method; the most frequent first.

        Of each seed the circuit with the lowest validation divergence counts that has at most
        `budget` edges, as in the report's curves: a number of edges (int), a share of the scene's
        edges (float, at most 1), or by default the smallest number of edges within which every seed of
        every method of the scene has a circuit. Edges that no seed keeps have no row. A circuit whose edge
        list cannot be read is left out of `num_seeds`, with a warning. Raises SpecError for any
        other budget.
        """
        rows: list[dict[str, Any]] = []
        for curve in self._curves:
            edges = _edges_within(budget, self._by_scene[curve.scene])
            circuits = self._circuits(curve, edges)
            kept = Counter(edge for circuit in circuits for edge in set(circuit))
            names = {"scene": self._titles[curve.scene], "model": curve.scene.model}
            names |= {"task": curve.scene.task, "method": curve.method}
            for (writer, reader), times in sorted(kept.items(), key=lambda item: (-item[1], item[0])):
                told = {"budget": edges, "writer": writer, "reader": reader, "kept": times}
                told |= {"num_seeds": len(circuits), "share": times / len(circuits)}
                rows.append(names | told)
        columns = {column.name: [row[column.name] for row in rows] for column in CONSENSUS_COLUMNS}
        schema = pa.schema([(column.name, column.type) for column in CONSENSUS_COLUMNS])
        return _described(_frame(pa.table(columns, schema=schema)), CONSENSUS_COLUMNS)

    def _circuits(self, curve: Curve, budget: int) -> list[list[tuple[str, str]]]:
        found, unread = [], []
        for seed in curve.all_seeds:
            best = curve.best_of_seed(seed, budget)
            if best is None:
                continue
            row = curve.rows[best]
            edges = self.results.edges(row["trial_id"], row["circuit"])
            if edges is None:
                unread.append(row["trial_id"])
            else:
                found.append(edges)
        if unread:
            told = f"{curve.method}: the edge list of a circuit cannot be read; left out: {', '.join(unread)}"
            warnings.warn(told, stacklevel=3)
        return found

    @cached_property
    def _by_scene(self) -> Mapping[Scene, Sequence[Curve]]:
        return curves(self.results)

    @property
    def _curves(self) -> list[Curve]:
        return [curve for group in self._by_scene.values() for curve in group]

    @cached_property
    def _titles(self) -> Mapping[Scene, str]:
        return titles(self._by_scene)

    @cached_property
    def _settings(self) -> Mapping[str, str]:
        return settings(self.results)


def _edges_within(budget: int | float | np.integer | np.floating | None, group: Sequence[Curve]) -> int:
    if budget is None:
        usable = [(curve, np.isfinite(curve.validation)) for curve in group]
        owns = (
            curve.num_edges[some & (curve.seeds == seed)]
            for curve, some in usable
            for seed in curve.all_seeds
        )
        return max((int(own.min()) for own in owns if own.size), default=0)
    # Also numpy's numbers, which a frame's columns give.
    if isinstance(budget, int | np.integer) and not isinstance(budget, bool) and budget >= 0:
        return int(budget)
    if isinstance(budget, float | np.floating) and 0 <= budget <= 1:
        return round(float(budget) * group[0].scene.num_edges_total)
    raise SpecError(
        f"budget: found {budget!r}; allowed: a number of edges (int), or a share of the scene's edges "
        "(float from 0 to 1)"
    )


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [(row["trial_id"], row["point"]) for row in rows]


def _frame(table: pa.Table) -> pd.DataFrame:
    kinds = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype(), pa.string(): pd.StringDtype()}
    frame = table.to_pandas(types_mapper=kinds.get)
    frame.attrs = {}
    return frame


def _texts(values: Sequence[str | None]) -> pd.Series:
    return pd.Series(values, dtype=pd.StringDtype())


def _described(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    known = {name: column for name in frame.columns if (column := column_of(name, columns)) is not None}
    frame.attrs["units"] = {name: column.unit for name, column in known.items()}
    frame.attrs["meanings"] = {name: column.meaning for name, column in known.items()}
    return frame
