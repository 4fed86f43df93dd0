"""Run folders -> tables: what is read, what is left out, and what is told about it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from orchestrator.records.results import EPSILON, Results
from orchestrator.records.tables import POINT_COLUMNS, TABLES_SCHEMA, TRIAL_COLUMNS, column_of
from orchestrator.records.trial_result import main_point
from orchestrator.report.scenes import curves
from tests.run_folders import GROUP, TRUTH, Runs, point, training, trial
from trainers.folder import Folder
from trainers.spec import SpecError


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Two sweeps that share a trial, and a trial of neither."""
    runs = Runs(tmp_path / "runs")
    runs.trial(trial("aa", 0, [point(0, 11, 0.0, 1e-12), point(1, 5, 0.4, 0.5)], ground_truth=TRUTH))
    runs.trial(trial("bb", 1, [point(0, 12, 0.01)], warnings=["sparsity 0.9 instead of 0.95"]))
    runs.trial(trial("cc", 2, [], status="failed", error="RuntimeError: no"))
    runs.trial(trial("zz", 3, [point(0, 30, 0.0)]))
    runs.sweep("first", ["bb", "aa"], objectives={"epsilon": 0.02})
    runs.sweep("second", ["aa", "cc", "dd"])
    return runs


def column(table: pa.Table, name: str) -> list:
    return table.column(name).to_pylist()


def test_one_row_per_trial_and_per_point(runs: Runs) -> None:
    results = Results.load([runs.folder / "first"])
    assert column(results.trials, "trial_id") == ["bb", "aa"], "in plan order"
    assert column(results.trials, "status") == ["complete", "complete"]
    assert column(results.trials, "warnings") == [["sparsity 0.9 instead of 0.95"], []]
    assert column(results.trials, "num_edges_truth") == [None, 3]
    assert column(results.trials, "code") == ["0.1.0+abc", "0.1.0+abc"]
    assert json.loads(column(results.trials, "spec")[1])["seed"] == 0
    rows = results.points.to_pylist()
    assert [(row["trial_id"], row["point"], row["num_edges"]) for row in rows] == [
        ("bb", 0, 12),
        ("aa", 0, 11),
        ("aa", 1, 5),
    ]
    last = rows[2]
    assert (last["divergence"], last["divergence_validation"], last["divergence_test"]) == ("kl", 0.4, 0.5)
    assert (last["validation_kl"], last["test_kl"], last["test_same_output"]) == (0.4, 0.5, 0.0)
    assert last["divergence_empty"] == 2.0
    assert (last["seed"], last["method"], last["ablation"]) == (0, "edge pruning", "zero")
    assert results.epsilon == 0.02


def test_a_runs_folder_stands_for_all_its_sweeps(runs: Runs) -> None:
    results = Results.load([runs.folder])
    found = dict(zip(column(results.trials, "trial_id"), column(results.trials, "status"), strict=True))
    assert found == {"bb": "complete", "aa": "complete", "cc": "failed", "dd": "unfinished"}
    assert column(results.trials, "sweeps")[1] == ["first", "second"]
    assert column(results.trials, "error")[2] == "RuntimeError: no"
    assert [(sweep.name, sweep.epsilon) for sweep in results.sweeps] == [("first", 0.02), ("second", EPSILON)]
    told = [problem.what for problem in results.problems]
    assert told == ["1 trial left out: in no sweep's current plan"]


def test_without_any_sweep_every_trial_counts(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("bb", 0, [point(0, 3, 0.1)]))
    runs.trial(trial("aa", 1, [point(0, 3, 0.1)]))
    results = Results.load([runs.folder])
    assert column(results.trials, "trial_id") == ["aa", "bb"]
    assert not results.problems


def test_a_trial_in_two_folders_counts_once_and_the_complete_one_wins(runs: Runs, tmp_path: Path) -> None:
    other = Runs(tmp_path / "other")
    other.trial(trial("cc", 2, [point(0, 9, 0.2)]))
    other.trial(trial("aa", 0, [], status="failed", error="no"))
    other.sweep("second", ["aa", "cc"])
    for order in ([runs.folder, other.folder], [other.folder, runs.folder, runs.folder / "first"]):
        results = Results.load(order)
        found = dict(zip(column(results.trials, "trial_id"), column(results.trials, "status"), strict=True))
        assert found == {"aa": "complete", "bb": "complete", "cc": "complete", "dd": "unfinished"}
        assert results.points.num_rows == 4


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "EOF"),
        (b'{"trial_id": "bb"', "EOF"),
        (b"\xff\xfe\x00", "JSON"),
        (b'{"trial_id": "bb"}', "status"),
        (b"[]", "object"),
        (trial("xx", 0, []).model_dump_json().encode(), "the result of trial xx"),
        (trial("bb", 0, [], result_schema=99).model_dump_json().encode(), "schema 99"),
    ],
)
def test_a_result_that_cannot_be_read_is_told(runs: Runs, content: bytes, told: str) -> None:
    (runs.folder / "trials" / "bb").write("result.json", content)
    results = Results.load([runs.folder / "first"])
    assert column(results.trials, "status") == ["unreadable", "complete"]
    assert told in column(results.trials, "error")[0]
    assert column(results.trials, "seed")[0] == 1, "the spec is still known"
    assert [problem.where for problem in results.problems] == ["trials/bb"]
    assert told in results.problems[0].what


def test_damaged_sweep_files_are_told(runs: Runs) -> None:
    (runs.folder / "first").write("sweep.yaml", b"question: [unclosed")
    (runs.folder / "second").write("trials.json", b'{"not": "a list"}')
    results = Results.load([runs.folder])
    assert column(results.trials, "trial_id") == ["bb", "aa"]
    told = [problem.where.rpartition("/")[2] for problem in results.problems]
    assert told == ["sweep.yaml", "trials.json", "trials"]


@pytest.mark.parametrize("name", ["nowhere", "trials/aa"])
def test_a_folder_without_runs_is_refused(runs: Runs, name: str) -> None:
    with pytest.raises(SpecError, match="allowed: a runs folder"):
        Results.load([Folder.open(runs.path / name)])


@pytest.mark.parametrize("name", ["trials", "trials/aa"])
def test_a_folder_inside_a_runs_folder_is_told_from_it(runs: Runs, name: str) -> None:
    with pytest.raises(SpecError, match=f"did you mean {runs.folder.location}\\?"):
        Results.load([runs.path / name])


def test_an_empty_sweep_gives_empty_tables(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    results = Results.load([runs.sweep("empty", [])])
    assert results.trials.num_rows == 0 and results.points.num_rows == 0
    assert results.points.schema.names == [c.name for c in POINT_COLUMNS if not c.is_family]


def test_every_column_written_is_documented_and_the_documentation_travels(runs: Runs, tmp_path: Path) -> None:
    results = Results.load([runs.folder])
    for name, table, columns in (
        ("trials", results.trials, TRIAL_COLUMNS),
        ("points", results.points, POINT_COLUMNS),
    ):
        parquet.write_table(table, tmp_path / f"{name}.parquet")
        read = parquet.read_table(tmp_path / f"{name}.parquet")
        assert read.equals(table)
        metadata = read.schema.metadata
        assert metadata[b"format"].decode() == f"circuit-sweep/{name}/{TABLES_SCHEMA}"
        assert set(json.loads(metadata[b"columns"])) == {c.name for c in columns}
        assert {c.name for c in columns if not c.is_family} <= set(read.schema.names)
        for field in read.schema:
            documented = column_of(field.name, columns)
            assert documented is not None and documented.meaning
            assert field.type == documented.type
            assert field.metadata[b"meaning"].decode() == documented.meaning
            assert field.metadata[b"unit"].decode() == documented.unit


def test_metrics_that_are_not_finite_survive(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("aa", 0, [point(0, 3, float("nan"), float("inf"))]))
    row = Results.load([runs.folder]).points.to_pylist()[0]
    assert row["divergence_validation"] != row["divergence_validation"]
    assert row["divergence_test"] == float("inf")


def test_progress_skips_a_torn_line_and_lets_the_later_line_win(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    lines = training(60, 0.9)
    again = lines[1] | {"attempt": 2, "kl": 9.0}
    runs.trial(trial("aa", 0, []), [*lines, again, {"phase": "evaluate", "step": 1, "kl": 3.0}])
    path = tmp_path / "trials" / "aa" / "progress.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 60, "kl"')
    found = Results.load([runs.folder]).progress("aa")
    assert [line["step"] for line in found] == [0, 20, 40, 60]
    assert found[1]["kl"] == 9.0


def test_edge_lists_are_read_beside_the_circuit_file(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("aa", 0, [point(2, 3, 0.0)]), edges={2: TRUTH})
    results = Results.load([runs.folder])
    assert results.edges("aa", "circuit-002.safetensors") == TRUTH
    assert results.edges("aa", "circuit-001.safetensors") is None
    (runs.folder / "trials" / "aa").write("edges-001.json", b'[["only one"]]')
    assert results.edges("aa", "circuit-001.safetensors") is None


def test_groups_never_share_a_curve(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("aa", 0, [point(0, 3, 0.1)]))
    for name in ("ablation", "edge_convention", "test_set", "method"):
        runs.trial(trial(name, 0, [point(0, 2, 0.0)], group=GROUP.model_copy(update={name: "other"})))
    runs.trial(trial("ff", 0, [point(0, 2, 0.0, num_edges_total=50)]))
    runs.trial(trial("gg", 0, [point(0, 2, 0.0)], divergence="same_output"))
    found = curves(Results.load([runs.folder]))
    assert sum(len(group) for group in found.values()) == 7
    assert len(found) == 6, "another method alone shares the axes"
    assert all(len(curve.rows) == 1 for group in found.values() for curve in group)


def test_curves_choose_on_validation_and_report_the_test_set(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("aa", 0, [point(0, 10, 0.2, 0.9), point(1, 10, 0.3, 0.1), point(2, 40, 0.0, 0.0)]))
    runs.trial(trial("bb", 1, [point(0, 20, 5e-4, 0.4)]))
    ((curve,),) = curves(Results.load([runs.folder])).values()
    assert [curve.rows[i]["num_edges"] for i in curve.front] == [10, 20, 40]
    assert [curve.test[i] for i in curve.front] == [0.9, 0.4, 0.0]
    assert curve.sparsest(1e-3) == {0: 2, 1: 3}
    assert curve.sparsest(1e-4) == {0: 2}


def test_a_ranking_at_sizes_it_was_not_run_for_is_a_curve_of_its_own(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    asked, ranked = point(0, 10, 0.5), [point(n, 5 * n, 0.0, kind="ranking") for n in (1, 2)]
    result = trial("aa", 0, [asked, *ranked])
    runs.trial(result)
    (group,) = curves(Results.load([runs.folder])).values()
    assert {curve.method: len(curve.rows) for curve in group} == {
        "edge pruning": 1,
        "edge pruning (ranking)": 2,
    }
    assert main_point(result) == asked
    swept = trial("bb", 0, [point(0, 10, 0.5, kind="threshold"), *ranked])
    assert main_point(swept) == swept.points[0], "the search's own, though the ranking's are more faithful"


def test_a_sweep_may_ask_for_another_metric_than_the_trials_own(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for trial_id, metrics in (("aa", {"kl": 0.5, "squared_error": 0.1}), ("bb", {"kl": 0.5})):
        points = [point(0, 3, 0.5, metrics={"validation": metrics, "test": metrics})]
        runs.trial(trial(trial_id, 0, points, empty={"test": {"kl": 2.0, "squared_error": 1.0}}))
    runs.sweep("other", ["aa", "bb"], objectives={"faithfulness": "squared_error"})
    results = Results.load([runs.folder])
    assert column(results.points, "divergence") == ["squared_error", "kl"]
    assert column(results.points, "divergence_validation") == [0.1, 0.5]
    assert column(results.points, "divergence_empty") == [1.0, 2.0]
    assert results.problems[0].what.startswith("faithfulness squared_error: not measured by 1 trial")
    assert len(curves(results)) == 2, "other metrics share no axis"


def test_an_epsilon_that_is_no_number_is_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.sweep("odd", [], objectives={"epsilon": "small"})
    results = Results.load([runs.folder])
    assert results.epsilon == EPSILON
    assert "objectives.epsilon: found 'small'" in results.problems[0].what


def test_files_beside_the_sweeps_are_no_sweeps(runs: Runs) -> None:
    before = Results.load([runs.folder])
    (runs.path / "mlflow.db").write_bytes(b"not a folder")
    (runs.path / "report").mkdir()
    after = Results.load([runs.folder])
    assert after.trials.equals(before.trials) and after.problems == before.problems
