"""Several sweeps in one report: told apart, never on one axis by accident, and what differs is said."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from orchestrator.report.panels import PANELS
from orchestrator.report.panels.blocks import Block, Paragraph, Table
from orchestrator.report.panels.comparable import comparable, has_several
from tests.run_folders import GROUP, Runs, hostile_sweep, point, small_sweep, trial
from trainers.folder import Folder

POINTS = [point(0, 9, 0.1), point(1, 20, 0.0)]
EXECUTION = {"code": "abc", "host": "one", "method_version": 2}


def sweep(path: Path, name: str, *trial_ids: str, **others: Any) -> Folder:
    """A sweep of complete trials in a runs folder of its own."""
    runs = Runs(path)
    for seed, trial_id in enumerate(trial_ids):
        content = {"points": POINTS, "execution": EXECUTION} | others
        points = content.pop("points")
        spec = {"seed": seed, "of": trial_id}
        runs.trial(trial(trial_id, seed, points, spec=spec, **content))
    return runs.sweep(name, trial_ids)


def findings(*folders: Folder) -> Findings:
    return Findings.of(Results.load(folders))


def tables(blocks: Any) -> dict[str, list[list[str]]]:
    return {block.caption: [list(row) for row in block.rows] for block in blocks if isinstance(block, Table)}


def verdict(blocks: Any) -> str:
    found: list[Block] = list(blocks)
    assert isinstance(found[0], Paragraph)
    return found[0].text


def test_two_sweeps_of_one_kind_share_their_axes(tmp_path: Path) -> None:
    found = findings(sweep(tmp_path / "a", "first", "a0", "a1"), sweep(tmp_path / "b", "second", "b0"))
    blocks = comparable(found)
    assert verdict(blocks) == "2 sweeps, 1 scene: all circuits share the same axes."
    told = tables(blocks)
    title = "tracr reverse · zero ablation"
    assert told["What shares axes"] == [[title, "first, second", "edge pruning", "3", "2"]]
    assert told["Which sweeps share axes"] == [["first", "second", title, "–"]]
    ran = told["When and where the sweeps ran"]
    assert [row[:3] for row in ran] == [[name, "2026-01-01", "2026-01-01"] for name in ("first", "second")]
    assert set(told) == {"What shares axes", "Which sweeps share axes", "When and where the sweeps ran"}


BARS: dict[str, tuple[dict[str, Any], str, str]] = {
    "ablation": (
        {"group": GROUP.model_copy(update={"ablation": "mean"})},
        "ablation: zero against mean",
        "how far a circuit is from the full model",
    ),
    "output bias": (
        {"group": GROUP.model_copy(update={"ablation": "zero, output bias kept"})},
        "ablation: zero against zero, output bias kept",
        "how far a circuit is from the full model",
    ),
    "test set": (
        {"group": GROUP.model_copy(update={"test_set": "64 examples, data seed 1"})},
        "test set: whole domain against 64 examples, data seed 1",
        "over other examples",
    ),
    "edge convention": (
        {"group": GROUP.model_copy(update={"edge_convention": "always on"})},
        "edges counted: maskable against always on",
        "another denominator",
    ),
    "denominator": (
        {"points": [point(0, 9, 0.1, num_edges_total=1050)]},
        "edges in all: 94 against 1,050",
        "another denominator",
    ),
    "divergence": ({"divergence": "same_output"}, "divergence: KL against", "another scale"),
    "model": (
        {"group": GROUP.model_copy(update={"model": "gpt2", "ablation": "mean"})},
        "model: tracr-reverse against gpt2",
        "other edges",
    ),
}


@pytest.mark.parametrize("bar", BARS)
def test_what_differs_in_a_bar_shares_no_axis_and_the_reason_is_told(tmp_path: Path, bar: str) -> None:
    others, differ, why = BARS[bar]
    found = findings(sweep(tmp_path / "a", "first", "a0"), sweep(tmp_path / "b", "second", "b0", **others))
    assert len(found.scenes) == 2
    assert all(len(group) == 1 and len(group[0].all_seeds) == 1 for group in found.scenes.values())
    blocks = comparable(found)
    assert "No scene holds circuits of more than one sweep" in verdict(blocks)
    ((first, second, shared, reasons),) = tables(blocks)["Which sweeps share axes"]
    assert (first, second, shared) == ("first", "second", "nothing") and reasons.startswith(differ)
    assert any(why in row[3] for row in tables(blocks)["Why scenes share no axes"])


@pytest.mark.parametrize(
    ("executions", "names"),
    [
        (("commit", {"model_commit": "a" * 40}, {"model_commit": "b" * 40}), "commit aaaaaaaaaaaa"),
        (("content", {"model_digest": "c" * 64}, {"model_digest": "d" * 64}), "content cccccccccccc"),
    ],
)
def test_models_of_one_name_and_different_content_are_two_models(
    tmp_path: Path, executions: tuple[str, dict[str, str], dict[str, str]], names: str
) -> None:
    _, one, other = executions
    first = sweep(tmp_path / "a", "first", "a0", execution=EXECUTION | one)
    second = sweep(tmp_path / "b", "second", "b0", execution=EXECUTION | other)
    found = findings(first, second)
    assert [scene.model for scene in found.scenes][0] == f"tracr-reverse ({names})"
    assert len(found.scenes) == 2
    assert {row["model"] for row in found.trials.values()} == {scene.model for scene in found.scenes}
    same = sweep(tmp_path / "c", "third", "c0", execution=EXECUTION | one)
    assert [scene.model for scene in findings(first, same).scenes] == ["tracr-reverse"]


def test_a_hub_models_revisions_are_two_models_unless_they_were_one_commit(tmp_path: Path) -> None:
    folders = []
    for name, revision, commit in (("x", "v1", None), ("y", "v2", None), ("z", "main", "f" * 40)):
        runs = Runs(tmp_path / name)
        spec = {"model": {"hub": "gpt2", "revision": revision}, "seed": 0}
        runs.trial(trial(name, 0, POINTS, spec=spec, execution=EXECUTION | {"model_commit": commit}))
        folders.append(runs.sweep(name, [name]))
    models = [scene.model for scene in findings(*folders).scenes]
    assert models == [
        f"tracr-reverse ({told})" for told in ("commit ffffffffffff", "revision v1", "revision v2")
    ]


def test_versions_of_a_method_are_two_curves_on_the_same_axes(tmp_path: Path) -> None:
    newer = EXECUTION | {"method_version": 3}
    points = [*POINTS, point(2, 4, 0.3, kind="ranking")]
    found = findings(
        sweep(tmp_path / "a", "first", "a0"),
        sweep(tmp_path / "b", "second", "b0", execution=newer, points=points),
    )
    ((scene, group),) = found.scenes.items()
    assert scene.model == "tracr-reverse"
    assert [curve.method for curve in group] == [
        "edge pruning (version 2)",
        "edge pruning (version 3)",
        "edge pruning (version 3) (ranking)",
    ]


def test_results_that_did_not_record_their_version_stay_with_the_only_one_known(tmp_path: Path) -> None:
    older = {"code": "abc", "host": "one"}
    folders = [sweep(tmp_path / "a", "first", "a0"), sweep(tmp_path / "b", "second", "b0", execution=older)]
    found = findings(*folders)
    ((curve,),) = found.scenes.values()
    assert curve.method == "edge pruning"
    (row,) = tables(comparable(found))["Differences within scenes"]
    assert row[1:3] == ["method version", "edge pruning: 2 (1 trial), not recorded (1 trial)"]
    third = sweep(tmp_path / "c", "third", "c0", execution=EXECUTION | {"method_version": 1})
    ((*_, last),) = findings(*folders, third).scenes.values()
    assert last.method == "edge pruning (version 2)"
    names = {row["method"] for row in findings(*folders, third).trials.values()}
    assert "edge pruning (not recorded which)" in names


@pytest.mark.parametrize(
    ("others", "label", "told"),
    [
        ({"execution": EXECUTION | {"code": "def"}}, "code", "abc (1 trial), def (1 trial)"),
        (
            {"execution": EXECUTION | {"device": "cuda:0"}},
            "device",
            "cuda:0 (1 trial), not recorded (1 trial)",
        ),
        ({"execution": EXECUTION | {"host": "two"}}, "host", "2 different"),
        ({"versions": {"torch": "2.14.0"}}, "torch", "2.13.0 (1 trial), 2.14.0 (1 trial)"),
        (
            {"num_examples": {"validation": 8}},
            "validation examples",
            "8 (1 trial), not recorded (1 trial)",
        ),
    ],
)
def test_other_differences_are_told_and_bar_nothing(
    tmp_path: Path, others: dict[str, Any], label: str, told: str
) -> None:
    found = findings(sweep(tmp_path / "a", "first", "a0"), sweep(tmp_path / "b", "second", "b0", **others))
    assert len(found.scenes) == 1
    (row,) = tables(comparable(found))["Differences within scenes"]
    assert row[1:3] == [label, told]


def test_a_dtype_is_told_and_so_is_one_spec_with_two_ids(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for trial_id, dtype in (("aa", "float32"), ("bb", "bfloat16"), ("cc", "bfloat16")):
        runs.trial(trial(trial_id, 0, POINTS, spec={"model": {"dtype": dtype}, "seed": 0}))
    found = findings(runs.sweep("one", ["aa", "bb"]), runs.sweep("two", ["cc"]))
    rows = tables(comparable(found))["Differences within scenes"]
    assert [row[1:3] for row in rows] == [
        ["dtype", "bfloat16 (2 trials), float32 (1 trial)"],
        ["trial id", "1 trial with the spec of another and an id of its own"],
    ]


def test_sweeps_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [
        sweep(tmp_path / "laptop/runs", "same", "a0", "a1"),
        sweep(tmp_path / "cluster/runs", "same", "b0"),
        sweep(tmp_path / "copy/runs", "same", "a0", "a1"),
    ]
    for order in (folders, folders[::-1]):
        results = Results.load(order)
        assert [(one.name, len(one.trial_ids), len(one.homes)) for one in results.sweeps] == [
            ("same (cluster/runs)", 1, 1),
            ("same (copy/runs)", 2, 2),
        ]
        of = dict(zip(*(results.trials[name].to_pylist() for name in ("trial_id", "sweeps")), strict=True))
        assert of == {"a0": ["same (copy/runs)"], "a1": ["same (copy/runs)"], "b0": ["same (cluster/runs)"]}
        assert results.points["sweeps"].to_pylist()[0] == of[results.points["trial_id"].to_pylist()[0]]
        assert not results.problems


def test_a_copy_of_a_sweep_is_the_same_sweep(tmp_path: Path) -> None:
    folders = [sweep(tmp_path / name, "same", "a0", "a1") for name in "xy"]
    results = Results.load([*folders, tmp_path / "x", str(tmp_path / "y" / "same")])
    assert [sweep.name for sweep in results.sweeps] == ["same"]
    assert results.trials.num_rows == 2 and not results.problems


def test_one_trial_with_two_results_is_told(tmp_path: Path) -> None:
    first = sweep(tmp_path / "x", "same", "a0")
    second = sweep(tmp_path / "y", "same", "a0", points=[point(0, 9, 0.7)])
    (problem,) = Results.load([first, second]).problems
    assert problem.where == "y/trials/a0"
    assert problem.what == "other numbers than the same trial has in x/trials/a0, which is the one used"


def test_a_report_does_not_depend_on_where_its_folders_lie(tmp_path: Path) -> None:
    pages = []
    for place in ("here", "there/deeper"):
        first = sweep(tmp_path / place / "a", "same", "a0")
        second = sweep(tmp_path / place / "b", "same", "b0", points=[point(0, 9, 0.7)])
        (tmp_path / place / "a/trials/a0/result.json").write_text("{")
        pages.append(page(findings(first, second)))
        assert str(tmp_path) not in pages[-1]
    assert pages[0] == pages[1]


def test_the_panel_appears_for_several_sweeps_or_scenes_only(tmp_path: Path) -> None:
    single = findings(small_sweep(tmp_path / "single").folder)
    assert not has_several(single)
    assert has_several(findings(sweep(tmp_path / "a", "first", "a0"), sweep(tmp_path / "b", "second", "b0")))
    panel = next(panel for panel in PANELS if panel.key == "comparable")
    assert panel.title == "Comparability" and panel.applies is has_several


def test_sweeps_without_circuits_and_hostile_names_give_a_sensible_page(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "none")
    empty = findings(runs.sweep("one", ["waiting"]), runs.sweep("two", []))
    assert verdict(comparable(empty)) == "No circuit has been found yet."
    found = findings(hostile_sweep(tmp_path / "hostile").folder, sweep(tmp_path / "a", "first", "a0"))
    html = page(found)
    assert '<section id="comparable"' in html and "<img src=http" not in html
