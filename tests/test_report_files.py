"""What a report writes beside its page: report.json, report.pdf, all files to the byte, all or nothing."""

import csv
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pyarrow import fs

from orchestrator.records import tables
from orchestrator.records.results import Results
from orchestrator.report import publish
from orchestrator.report.delivery import deliver
from orchestrator.report.figures import FIGURES, Drawn, figures_of
from orchestrator.report.findings import Findings
from orchestrator.report.pdf.document import Cover
from orchestrator.report.publish import ReportFiles, write_files, write_report
from tests.run_folders import (
    GROUP,
    HOSTILE,
    TOTAL,
    Runs,
    gated_sweep,
    hostile_sweep,
    point,
    small_sweep,
    training,
    trial,
)
from trainers.folder import Folder
from trainers.spec import SpecError

ROOT = Path(__file__).parent.parent


def findings_of(runs: Runs) -> Findings:
    return Findings.of(Results.load([runs.folder]))


def contents(files: ReportFiles) -> dict[str, bytes]:
    return {name: (files.out / name).read_bytes() for name in files.names}


def summary_of(files: ReportFiles) -> dict[str, Any]:
    return json.loads(files.summary.read_text("utf-8"), parse_constant=lambda name: pytest.fail(name))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, ReportFiles]:
    home = tmp_path_factory.mktemp("gated")
    runs = gated_sweep(home / "runs")
    return runs, write_report([runs.folder], home / "out")


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with their first figure only: drawing is what takes the time."""

    def first(findings: Findings) -> Drawn:
        return Drawn(figures_of(findings).plots[:1])

    monkeypatch.setattr(publish, "figures_of", first)


def test_other_process_other_place_same_bytes(tmp_path: Path) -> None:
    """Nothing depends on the time, on paths, or on the order in which Python keeps sets. Both in processes of
    their own, as the command line writes them: fonts that a long-lived process has drawn with keep a state
    that has been seen to change report.pdf."""
    runs = gated_sweep(tmp_path / "runs")
    shutil.copytree(runs.path, tmp_path / "elsewhere" / "copied runs")
    first = written_apart(runs.path, tmp_path / "out", {"PYTHONHASHSEED": "1", "TZ": "UTC"})
    other = written_apart(
        tmp_path / "elsewhere" / "copied runs",
        tmp_path / "other" / "report",
        {"PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "86400"},
    )
    assert first.keys() == other.keys() and {"report.html", "report.pdf", "report.json"} <= first.keys()
    for name, content in first.items():
        assert other[name] == content, name
        assert str(tmp_path).encode() not in content, name


def written_apart(runs: Path, out: Path, environment: dict[str, str]) -> dict[str, bytes]:
    """The files of a report that another process writes."""
    code = (
        "import sys; from pathlib import Path; from orchestrator.report.publish import write_report; "
        "from trainers.folder import Folder; write_report([Folder.open(sys.argv[1])], Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(runs), str(out)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | environment)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def two_folders(home: Path) -> tuple[Runs, Runs]:
    """Sweeps that share a trial, with other numbers in the second folder; a damaged result; a stray trial."""
    one, other = small_sweep(home / "b"), Runs(home / "a")
    other.trial(trial("ep0", 0, [point(0, 5, 0.3)], finished="2026-01-02T00:00:00Z"))
    other.trial(trial("aa", 3, [point(0, 5, 0.3)], group=GROUP.model_copy(update={"task": "another"})))
    other.trial(trial("stray", 3, [point(0, 5, 0.3)]))
    (other.path / "trials" / "torn").mkdir()
    (other.path / "trials" / "torn" / "result.json").write_text("{")
    other.sweep("later", ["aa", "torn", "ep0"])
    return one, other


def test_the_order_of_the_folders_does_not_matter(tmp_path: Path) -> None:
    folders = [runs.folder for runs in two_folders(tmp_path)]
    written = [
        contents(write_files(Results.load(sources), tmp_path / f"out{number}", figures=False))
        for number, sources in enumerate((folders, folders[::-1]))
    ]
    assert written[0] == written[1]
    (scene, _) = json.loads(written[0]["report.json"])["scenes"]
    assert scene["task"] == "another", "two scenes, in order"
    results = Results.load(folders[::-1])
    assert results.folders["ep0"] == folders[0] / "trials" / "ep0", "of two results the one that ended first"
    assert [problem.where for problem in results.problems] == ["a/trials", "a/trials/ep0", "a/trials/torn"]


def test_where_the_folder_lies_is_told_nowhere(tmp_path: Path) -> None:
    _, runs = two_folders(tmp_path)
    shutil.copytree(runs.path, tmp_path / "elsewhere" / "under another name")
    first, other = (Results.load(path) for path in (runs.path, tmp_path / "elsewhere" / "under another name"))
    assert first.problems == other.problems and first.trials.equals(other.trials)
    assert {problem.where for problem in first.problems} == {"trials", "trials/torn"}


def test_a_uri_gets_its_summary_last_and_keeps_no_stale_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_figure: None
) -> None:
    runs, bucket = small_sweep(tmp_path / "runs"), tmp_path / "bucket"
    for name in ("figures", "tables"):  # a bucket has no folders to make
        (bucket / "report" / name).mkdir(parents=True)
    target = Folder(fs.SubTreeFileSystem(str(bucket), fs.LocalFileSystem()), "report", "s3://bucket/report")
    order: list[str] = []
    write = Folder.write

    def noted(folder: Folder, name: str, content: bytes) -> None:
        order.append(name)
        write(folder, name, content)

    monkeypatch.setattr(Folder, "write", noted)
    results = Results.load(runs.path)
    deliver(results, target)
    assert order[-1] == "report.json" and "report.pdf" in order
    (bucket / "report" / "notes.txt").write_text("mine")
    order.clear()
    deliver(results, target, figures=False)
    assert order[-1] == "report.json" and not any("/" in name for name in order)
    left = {path.relative_to(bucket / "report").as_posix() for path in bucket.rglob("*") if path.is_file()}
    assert left == {*order, "notes.txt"}


def test_the_paged_report_says_that_a_sweep_is_not_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_figure: None
) -> None:
    covers: list[Cover] = []
    monkeypatch.setattr(publish, "write_pdf", lambda path, cover, *_: covers.append(cover))
    runs = small_sweep(tmp_path / "runs")
    write_report([runs.folder], tmp_path / "out")
    runs.trial(trial("waiting", 3, [point(0, 3, 0.0)]))
    write_report([runs.folder], tmp_path / "out")
    told = "Unfinished: 1 of the trials is not over; curves, fronts and tables will change."
    assert [cover.banner for cover in covers] == [told, ""]


def test_a_curves_data_hold_what_was_evaluated(tmp_path: Path) -> None:
    """No sizes between those of the circuits, and no quartiles of one seed."""
    runs = Runs(tmp_path)
    runs.trial(trial("a", 0, [point(0, 5, 0.5), point(1, 40, 0.1)]))
    runs.trial(trial("b", 1, [point(0, 20, 0.3)]))
    (plot,) = (plot for kind, plot in figures_of(findings_of(runs)).plots if kind.key == "curve")
    told = [
        (row["num_edges"], row["num_seeds"], row["value"], row["low"], row["high"])
        for row in csv.DictReader(io.StringIO(plot.csv()))
        if row["part"] == "band"
    ]
    last = ("40", "2", "0.2", "0.15", "0.25")
    assert told == [("5", "1", "0.5", "", ""), ("20", "2", "0.4", "0.35", "0.45"), last]


def test_hostile_names_break_no_file(tmp_path: Path) -> None:
    runs = hostile_sweep(tmp_path / "runs")
    long = {name: f"../{HOSTILE * 100}\n漢字 \\input{{/etc/passwd}}" for name in ("model", "task", "method")}
    group = GROUP.model_copy(update=long)
    runs.trial(trial("long", 0, [point(0, 5, 0.1)], group=group), training(100, 0.9))
    runs.sweep("long", ["long"], question="\\write18{x} ^^5c % " + "q" * 10_000)
    files = write_report([runs.folder], tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "out"}
    for name in files.names:
        assert re.fullmatch(r"(figures/|tables/)?[a-z0-9-]{1,100}\.[a-z]+", name)
        if name.endswith(".svg"):
            ElementTree.fromstring((files.out / name).read_bytes())
    told = summary_of(files)
    assert {scene["model"] for scene in told["scenes"]} == {HOSTILE, long["model"]}, "in full"


def test_the_summary_says_what_the_page_says(written: tuple[Runs, ReportFiles]) -> None:
    told = summary_of(written[1])
    assert (told["format"], told["schema"], told["tables_schema"]) == ("circuit-sweep/report", 4, 1)
    assert [sweep["name"] for sweep in told["sweeps"]] == ["gated", "small"]
    assert told["trials"] == {"all": 8, "complete": 6, "failed": 1, "unreadable": 0, "unfinished": 1}
    (scene,) = told["scenes"]
    assert (scene["model"], scene["divergence_empty"], scene["num_edges_truth"]) == ("tracr-reverse", 2.0, 3)
    pruned, random = scene["methods"]
    assert (pruned["method"], pruned["seeds"], pruned["seeds_run"]) == ("edge pruning", [0, 1], 3)
    assert [(c["num_edges"], c["trial_id"], c["circuit"]) for c in pruned["front"]] == [
        (3, "ep0", "circuit-000.safetensors")
    ]
    assert pruned["hypervolume"] == pytest.approx(1 - 0.4771213 / 1.9731279)
    assert [(circuit["seed"], circuit["num_edges"]) for circuit in pruned["sparsest"]] == [(0, 3), (1, 3)]
    assert pruned["cost"]["trials"] == 4 and pruned["cost"]["cpu_seconds"] == 44.0
    assert pruned["cost"]["examples"] is None, "not counted by these trials"
    assert [circuit["num_edges"] for circuit in random["front"]] == [1, 10, 50, TOTAL]
    assert told["versions"]["torch"] == {"2.13.0": 6, "2.14.0": 1}
    assert [failure["trial_id"] for failure in told["failures"]] == ["bad"]
    assert any("training examples" in warning["what"] for warning in told["warnings"])
    assert {kind.key for kind in FIGURES} == {figure["kind"] for figure in told["figures"]}
    raw = written[1].summary.read_text("utf-8")
    assert raw == json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_summary_holds_the_comparisons_and_where_methods_are_faithful(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    areas = {"test": {"kl": {"cpr": 0.5, "cmd": 0.4, "cpr_log": 3.0, "cmd_log": 4.0}}}
    for seed in range(6):
        runs.trial(trial(f"ep{seed}", seed, [point(0, 9, 0.1 + 0.01 * seed), point(1, 40, 0.01)]))
        group = GROUP.model_copy(update={"method": "random"})
        points = [point(0, 9, 1 + 0.01 * seed * seed, kind="budget"), point(1, 60, 0.9, kind="budget")]
        runs.trial(trial(f"r{seed}", seed, points, group=group, areas=areas))
    (scene,) = summary_of(write_files(Results.load(runs.path), tmp_path / "out", figures=False))["scenes"]
    (pair,) = scene["comparisons"]
    assert (pair["first"], pair["second"], pair["better"]) == ("edge pruning", "random", "edge pruning")
    assert (pair["p"], pair["p_corrected"], pair["p_smallest"]) == (2**-5, 2**-5, 2**-5)
    assert pair["seeds"] == [6, 6] and pair["paired"] and pair["edge_budgets"] == [9, 40]
    low, high = pair["interval_seeds"]["low"], pair["interval_seeds"]["high"]
    assert low < pair["mean_difference"] < high < 0
    assert pair["interval_examples"] is None and "before per-example" in pair["why_no_examples"]
    pruned, random = scene["methods"]
    reached = [{"seed": seed, "state": "reached", "edges": 40} for seed in range(6)]
    assert pruned["faithful_from"]["kl"]["0.01"] == reached, "1 - 0.01 / 2"
    assert {one["state"] for one in random["faithful_from"]["kl"]["0.10"]} == {"never"}
    assert random["areas"] == {"kl": [areas["test"]["kl"]] * 6} and pruned["areas"] == {}
    assert scene["common_budgets"] == [9, 40]
    assert pruned["hypervolume_over_common_budgets"] > 0.9 > random["hypervolume_over_common_budgets"]


def test_the_summary_lists_all_files_with_their_digests(written: tuple[Runs, ReportFiles]) -> None:
    content = contents(written[1])
    content.pop("report.json")
    assert summary_of(written[1])["files"] == {name: sha256(c).hexdigest() for name, c in content.items()}


def test_the_paged_report_is_a_pdf_with_text(written: tuple[Runs, ReportFiles]) -> None:
    content = written[1].paged.read_bytes()
    assert content.startswith(b"%PDF-1.4") and content.rstrip().endswith(b"%%EOF")
    assert b"/CreationDate" not in content and b"/Type3" not in content
    assert b"/FontFile2" in content, "embedded TrueType: text can be selected"
    assert len(content) < 5_000_000


@pytest.mark.usefixtures("one_figure")
def test_an_error_leaves_the_report_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = small_sweep(tmp_path / "runs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    files = write_report([runs.folder], tmp_path / "out")
    before = contents(files)
    runs.trial(trial("ep0", 0, [point(0, 7, 0.2)]))

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a figure that cannot be drawn")

    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(publish, "write_pdf", broken)
        write_report([runs.folder], tmp_path / "out")
    assert contents(files) == before
    everything = {p.relative_to(files.out).as_posix() for p in files.out.rglob("*") if p.is_file()}
    assert everything == {*before, "notes.txt"}, "no temporary folder stays"


@pytest.mark.usefixtures("one_figure")
def test_files_of_the_report_before_go_and_others_stay(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path / "runs")
    results = Results.load([runs.folder])
    first = write_files(results, tmp_path / "out")
    (tmp_path / "out" / "figures" / "mine.png").write_bytes(b"mine")
    summary = summary_of(first) | {
        "files": {"../runs/small/sweep.yaml": "", "figures/../../runs": "", "x.txt": ""}
    }
    live = write_files(results, tmp_path / "out", figures=False)
    assert "report.pdf" not in live.names and not any("/" in name for name in live.names)
    left = {path.relative_to(live.out).as_posix() for path in live.out.rglob("*") if path.is_file()}
    assert left == {*live.names, "figures/mine.png"}
    (tmp_path / "out" / "x.txt").write_text("mine")
    live.summary.write_text(json.dumps(summary))
    write_files(results, tmp_path / "out", figures=False)
    assert (tmp_path / "out" / "x.txt").exists() and (runs.path / "small" / "sweep.yaml").exists()


def test_an_empty_sweep_and_one_of_failures(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    runs.sweep("empty", [])
    files = write_report([runs.folder], tmp_path / "empty")
    told = summary_of(files)
    assert (told["scenes"], told["figures"], told["trials"]["all"]) == ([], [], 0)
    runs.trial(trial("bad", 0, [], status="failed", error="no", group=None, divergence=None))
    runs.sweep("failed", ["bad"])
    told = summary_of(write_report([runs.folder / "failed"], tmp_path / "failed"))
    assert told["failures"] == [{"trial_id": "bad", "status": "failed", "error": "no"}]


@pytest.mark.usefixtures("one_figure")
def test_metrics_that_are_not_finite_become_null(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    nan = float("nan")
    odd = [point(0, 5, nan), point(1, 6, 0.1, float("inf")), point(2, 9, 0.2, nan), point(3, 20, 0.1)]
    runs.trial(trial("aa", 0, odd, empty={}, full={"test": {"kl": nan}}))
    runs.sweep("odd", ["aa"])
    files = write_report([runs.folder], tmp_path / "out")
    (scene,) = summary_of(files)["scenes"]
    assert scene["divergence_empty"] is None and scene["methods"][0]["hypervolume"] is None
    (curve,) = (name for name in files.names if re.match(r"figures/curve-.*csv", name))
    text = (files.out / curve).read_text()
    assert "nan" not in text and "inf" not in text


@pytest.mark.slow
def test_ten_thousand_circuits(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    for number in range(50):
        points = [
            point(n, 1 + (7 * n + number) % 9999, 1 / (n + 1), num_edges_total=10_000) for n in range(200)
        ]
        runs.trial(trial(f"t{number}", number % 5, points))
    runs.sweep("large", [f"t{number}" for number in range(50)])
    files = write_report([runs.folder], tmp_path / "out")
    assert summary_of(files)["circuits"] == 10_000
    sizes = {name: (files.out / name).stat().st_size for name in files.names}
    assert sizes["report.html"] < 6_000_000
    assert max(size for name, size in sizes.items() if name.startswith("figures/")) < 1_000_000


def test_the_documentation_is_in_step() -> None:
    text = (ROOT / "docs" / "report.md").read_text("utf-8")
    match = re.search(r"<!-- columns -->\n(.*)<!-- /columns -->", text, re.DOTALL)
    assert match and match[1].strip() == tables.markdown().strip(), (
        "put what `python -m orchestrator.records.tables` prints between the markers of docs/report.md"
    )
    assert f"The schema is {tables.TABLES_SCHEMA}." in text
    for kind in FIGURES:
        assert f"`{kind.key}`" in text


def test_the_keys_of_the_summary_are_documented(written: tuple[Runs, ReportFiles]) -> None:
    text = (ROOT / "docs" / "report.md").read_text("utf-8")
    told = summary_of(written[1])
    keys = set(told) | set(told["scenes"][0]) | set(told["scenes"][0]["methods"][0])
    keys |= set(told["scenes"][0]["methods"][0]["front"][0]) | set(told["scenes"][0]["methods"][0]["cost"])
    keys |= set(told["scenes"][0]["comparisons"][0])
    undocumented = {key for key in keys if f"`{key}`" not in text and f"`{key}[]`" not in text}
    assert undocumented == set()


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="the report cannot be written"):
        write_report([small_sweep(tmp_path / "runs").folder], tmp_path / "file" / "out")


def test_what_a_crashed_report_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Not what another report that is still being written holds."""
    runs, out = small_sweep(tmp_path / "runs"), tmp_path / "out"
    dead, alive, other = (out / name for name in (".0123abcd.part", ".89abcdef.part", ".hidden"))
    for folder in (dead, alive, other):
        folder.mkdir(parents=True)
        (folder / "report.html").write_text("half")
    held = os.open(alive, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    write_files(Results.load([runs.folder]), out, figures=False)
    assert not dead.exists() and alive.exists() and other.exists()
    os.close(held)
    write_files(Results.load([runs.folder]), out, figures=False)
    assert not alive.exists() and other.exists() and (out / "report.html").exists()
