"""Frames for notebooks: tidy, documented, the same circuits as the report's. And what importing costs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestrator import Results
from tests.run_folders import EDGES, GROUP, TRUTH, Runs, point, small_sweep, trial
from trainers.folder import Folder
from trainers.spec import SpecError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results.load(small_sweep(tmp_path / "runs").path)


def frames_of(results: Results) -> Any:
    """Any: pandas' own types say too little of a column."""
    return results.frames


def test_one_row_per_trial_and_per_circuit(results: Results) -> None:
    trials, points = frames_of(results).trials, frames_of(results).points
    assert trials["trial_id"].tolist() == ["ep0", "ep1", "random0", "random1", "bad", "waiting"]
    assert trials["status"].value_counts().to_dict() == {"complete": 4, "failed": 1, "unfinished": 1}
    assert trials.loc[0, "spec"]["method"]["target_sparsity"] == 0.95, "JSON columns are Python values"
    assert trials["versions"].iloc[-1] is None
    assert len(points) == results.points.num_rows == 12
    assert points["scene"].unique().tolist() == ["tracr reverse · in-sample · zero ablation"]
    assert points["sweeps"].map(list).tolist() == [["small"]] * 12
    best = points[points["num_edges"] <= 6].groupby("method")["divergence_test"].min()
    assert best["edge pruning"] == 0.0


def test_numbers_that_are_missing_stay_missing_and_integers_stay_integers(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("aa", 0, [point(0, 3, 0.5, step=7), point(1, 4, float("nan"))]))
    points = frames_of(Results.load(tmp_path)).points
    assert points["step"].tolist() == [7, pd.NA] and str(points["step"].dtype) == "Int64"
    assert np.isnan(points["divergence_test"].iloc[1])
    assert points["truth_recall"].isna().all()


def test_every_column_says_its_unit_and_meaning(results: Results, tmp_path: Path) -> None:
    frames = frames_of(results)
    consensus = frames_of(consensus_runs(tmp_path / "three")).consensus(3)
    for frame in (frames.trials, frames.points, frames.front, consensus):
        assert set(frame.attrs["units"]) == set(frame.attrs["meanings"]) == set(frame.columns)
        assert all(frame.attrs["meanings"].values())
    assert frames.trials.attrs["units"]["seconds"] == "s"
    assert frames.front.attrs["units"]["num_edges"] == "edges"
    assert consensus.attrs["units"]["share"] == "share of seeds"


def test_the_front_is_the_reports(results: Results) -> None:
    front = frames_of(results).front
    found = {method: rows["num_edges"].tolist() for method, rows in front.groupby("method")}
    assert found == {"edge pruning": [3], "random": [1, 10, 50, 94]}
    volumes = front.groupby("method")["hypervolume"].unique()
    assert volumes["edge pruning"][0] > volumes["random"][0] > 0
    assert "hypervolume" not in frames_of(results).points, "a front leaves the points as they are"


def consensus_runs(path: Path) -> Results:
    """Three seeds: all keep TRUTH's first edge, two its second; the third seed's circuit is larger."""
    runs = Runs(path)
    kept = [[TRUTH[0], TRUTH[1]], [TRUTH[0], TRUTH[1]], [TRUTH[0], EDGES[3], EDGES[4]]]
    for seed, edges in enumerate(kept):
        points = [point(0, len(edges), 0.1), point(1, len(EDGES), 0.0)]
        runs.trial(trial(f"s{seed}", seed, points), edges={0: edges, 1: EDGES})
    return Results.load(path)


def test_consensus_counts_how_many_seeds_keep_an_edge(tmp_path: Path) -> None:
    frame = frames_of(consensus_runs(tmp_path)).consensus(3)
    told = {(row.writer, row.reader): (row.kept, row.num_seeds, row.share) for row in frame.itertuples()}
    third = pytest.approx(1 / 3)
    assert told == {
        TRUTH[0]: (3, 3, 1.0), TRUTH[1]: (2, 3, pytest.approx(2 / 3)),
        EDGES[3]: (1, 3, third), EDGES[4]: (1, 3, third),
    }  # fmt: skip
    assert frame["kept"].is_monotonic_decreasing and set(frame["budget"]) == {3}


def test_consensus_has_a_budget_of_its_own(tmp_path: Path) -> None:
    """The smallest within which every seed of every method of the scene has a circuit."""
    frames = frames_of(consensus_runs(tmp_path))
    assert set(frames.consensus()["budget"]) == {3} and frames.consensus().equals(frames.consensus(3))
    group = GROUP.model_copy(update={"method": "coarse"})
    Runs(tmp_path).trial(trial("c0", 0, [point(0, 5, 0.1)], group=group), edges={0: EDGES[:5]})
    told = frames_of(Results.load(tmp_path)).consensus()
    assert set(told["budget"]) == {5} and set(told["method"]) == {"edge pruning", "coarse"}


def test_frames_are_shown_in_one_line(results: Results) -> None:
    assert repr(results.frames) == "Frames(1 sweep, 6 trials, 12 points, 2 methods)"


def test_consensus_leaves_out_seeds_without_so_small_a_circuit(tmp_path: Path) -> None:
    frames = frames_of(consensus_runs(tmp_path))
    assert set(frames.consensus(2)["num_seeds"]) == {2}
    assert set(frames.consensus(6)["kept"]) == {3} and len(frames.consensus(6)) == len(EDGES)
    empty = frames.consensus(1)
    assert len(empty) == 0 and "share" in empty
    assert frames.consensus(6 / 94).equals(frames.consensus(6)), "a share of the scene's 94 edges"
    assert frames.consensus(frames.points["num_edges"].max()).equals(frames.consensus(6)), (
        "as a frame gives it"
    )
    assert frames.consensus(np.float32(0.5)).equals(frames.consensus(0.5))


def test_consensus_warns_of_an_edge_list_that_cannot_be_read(tmp_path: Path) -> None:
    results = consensus_runs(tmp_path)
    (tmp_path / "trials/s0/edges-000.json").unlink()
    with pytest.warns(UserWarning, match="edge list of a circuit cannot be read; left out: s0"):
        frame = frames_of(results).consensus(3)
    assert set(frame["num_seeds"]) == {2}


@pytest.mark.parametrize("budget", [-1, 1.5, -0.1, True, "3", float("nan")])
def test_a_budget_that_is_none_is_refused(results: Results, budget: object) -> None:
    with pytest.raises(SpecError, match="^budget: found .*; allowed: a number of edges"):
        frames_of(results).consensus(budget)


def test_results_are_loaded_from_a_path_a_text_a_uri_or_several(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path / "runs")
    for sources in (runs.path, str(runs.path), f"file://{runs.path}", runs.folder, [runs.path, runs.path]):
        results = Results.load(sources)
        assert results.trials.num_rows == 6 and [sweep.name for sweep in results.sweeps] == ["small"]
    assert Results.load([str(runs.path / "small"), Folder.open(runs.path)]).points.num_rows == 12


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import orchestrator", {"torch", "ray", "pandas", "pyarrow", "mlflow", "numpy"}),
        ("import orchestrator.cli.main", {"torch", "ray", "pandas", "pyarrow", "mlflow", "matplotlib"}),
        ("from orchestrator import Results", {"torch", "ray", "pandas", "mlflow", "plotly", "matplotlib"}),
        ("import orchestrator.report.watch", {"ray", "mlflow"}),
    ],
)
def test_imports_stay_cheap(code: str, absent: set[str]) -> None:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & absent


def test_the_package_has_nothing_else_to_offer() -> None:
    import orchestrator

    with pytest.raises(AttributeError, match="no attribute 'Resluts'"):
        _ = orchestrator.Resluts  # pyright: ignore[reportAttributeAccessIssue]


def test_folders_are_given_one_by_one_or_in_lists(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path / "runs")
    other = Runs(tmp_path / "other")
    other.trial(trial("else", 0, [point(0, 3, 0.1)]))
    both = Results.load([runs.path, other.path])
    assert both.trials.num_rows == Results.load(runs.path).trials.num_rows + 1
    for sources in ((runs.path, other.path), (str(other.path), runs.folder), ([runs.path], other.folder)):
        assert Results.load(*sources).trials.equals(both.trials)


@pytest.mark.parametrize("sources", [(), ([],), (7,), ({"runs": 1},), (None,)], ids=str)
def test_what_is_no_folder_is_named(sources: tuple[Any, ...]) -> None:
    found = repr(sources[0]) if sources and sources[0] not in ([], None) else "no folder"
    with pytest.raises(SpecError) as refused:
        Results.load(*sources)
    assert str(refused.value).startswith(f"Results.load: found {found}; allowed: paths or URIs")


@pytest.mark.parametrize("given", [("a", "b"), ("a",), (Path("a"),), (["a"],)], ids=str)
def test_results_are_loaded_not_made_of_folders(given: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"allowed: the tables that Results.load\(folder, ...\) reads"):
        Results(*given)
