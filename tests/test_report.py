"""The report: what the page says, that names stay text, that it is the same bytes twice."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli.main import main
from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.front_csv import front_csv
from orchestrator.report.page import page, plain
from orchestrator.report.panels import PANELS
from orchestrator.report.pareto_table import pareto_table
from orchestrator.report.publish import write_report
from orchestrator.wording import duration, percent, significant, spread
from tests.run_folders import GROUP, TOTAL, Runs, hostile_sweep, point, small_sweep, trial
from trainers.spec import SpecError


def section(html: str, key: str) -> str:
    """The text of a section of the page, tags left out."""
    match = re.search(rf'<section id="{key}".*?</section>', html, re.DOTALL)
    assert match, f"no section {key}"
    return " ".join(re.sub(r"<[^>]*>", " ", match.group()).split())


def html_of(runs: Runs) -> str:
    return page(Findings.of(Results.load([runs.folder])))


def sections_of(html: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', html)


def test_the_files_and_what_the_page_says(tmp_path: Path) -> None:
    files = write_report([small_sweep(tmp_path / "runs").folder], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "figures",
        "pareto.csv",
        "pareto.pdf",
        "pareto.png",
        "points.parquet",
        "report.html",
        "report.json",
        "report.pdf",
        "tables",
        "trials.parquet",
    ]
    html = files.html.read_text("utf-8")
    assert len(html) < 6_000_000
    shown = [panel.key for panel in PANELS if panel.key != "comparable"]
    assert sections_of(html) == shown, "one scene: every other panel applies"
    assert "What does small show?" in html
    assert "4 of 6" in html
    assert "edge pruning 2 of 3 3 3 edges 1.00 1.00 2 of 3 2 of 3" in section(html, "recovery")
    assert "3 edges on seeds 0, 1: the known circuit." in section(html, "recovery")
    assert "random 2 of 2 94 3 edges – – 2 of 2 0 of 2" in section(html, "recovery")
    assert "RuntimeError: loss is NaN at step 4" in section(html, "failures")
    assert "0.1.0+abc (4 trials), 0.1.0+def (1 trial)" in section(html, "warnings")
    assert "The test examples are the training examples" in section(html, "warnings")
    assert "2.13.0 (4 trials); 2.14.0 (1 trial)" in section(html, "versions")
    assert "0.95 2 96.8 % 96.8 % 0.018 2" in section(html, "targets")
    assert files.png.read_bytes()[:4] == b"\x89PNG" and files.pdf.read_bytes()[:4] == b"%PDF"


def test_the_front_is_written_as_csv(tmp_path: Path) -> None:
    findings = Findings.of(Results.load([small_sweep(tmp_path).folder]))
    rows = list(csv.DictReader(io.StringIO(front_csv(findings), newline="")))
    pruned = [row for row in rows if row["method"] == "edge pruning"]
    told = [(row["num_edges"], row["trial_id"], row["divergence_test"]) for row in pruned]
    assert told == [("3", "ep0", "0.0")]
    assert [row["num_edges"] for row in rows if row["method"] == "random"] == ["1", "10", "50", str(TOTAL)]
    # One exact circuit of 3 of 94 edges dominates everything to its right.
    assert float(pruned[0]["hypervolume"]) == pytest.approx(1 - 0.4771213 / 1.9731279)


def test_an_out_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="the report cannot be written"):
        write_report([small_sweep(tmp_path / "runs").folder], tmp_path / "file" / "out")


def test_an_empty_sweep_says_so(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    runs.sweep("empty", [])
    html = write_report([runs.folder], tmp_path / "out").html.read_text("utf-8")
    assert sections_of(html) == ["asked", "versions"]
    assert "No trial has been planned or run yet." in html
    assert pareto_table(Results.load([runs.folder])) == "No circuits yet."


def test_all_failed(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    for number in range(300):
        runs.trial(trial(f"t{number:03d}", number, [], status="failed", error=f"no {number}", group=None))
    html = html_of(runs)
    table = pareto_table(Results.load([runs.folder]))
    assert table == "No circuits yet.\nOf 300 trials: 300 failed. First: t000: no 0"
    assert sections_of(html) == ["asked", "failures", "versions"]
    assert "The first 200 of 300" in section(html, "failures")


def test_metrics_that_are_not_finite_are_told_not_drawn(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    nan = float("nan")
    runs.trial(trial("aa", 0, [point(0, 5, nan), point(1, 6, 0.1, float("inf")), point(2, 9, 0.2)]))
    runs.trial(trial("bb", 1, [point(0, 5, nan)], empty={}))
    html = html_of(runs)
    assert "edge pruning: 3 circuits without a finite test divergence not drawn." in section(html, "curves")
    assert "3 circuits without a finite divergence." in section(html, "warnings")
    assert "NaN" not in re.findall(r'<script type="application/json".*?</script>', html, re.DOTALL)[0]


def test_chart_data_is_json_whatever_was_measured() -> None:
    data = plain({"a": [float("nan"), 1 / 3, (2, None)], "b": {"c": float("inf")}})
    assert data == {"a": [None, 0.333333, [2, None]], "b": {"c": None}}


ADDRESSES = ("src", "href", "action", "srcset", "poster", "data")


class Tags(HTMLParser):
    """Collects what a browser would take for tags and addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ADDRESSES]


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    tags = Tags(html_of(hostile_sweep(tmp_path / "runs")))
    clean = Tags(html_of(small_sweep(tmp_path / "small")))
    assert "img" not in tags.tags
    assert tags.tags["script"] == clean.tags["script"]
    assert all(address.startswith(("#", "data:")) for address in tags.addresses)
    lines = pareto_table(Results.load([Runs(tmp_path / "runs").folder])).splitlines()
    assert lines and all(line.isprintable() and len(line) <= 100 for line in lines)


def test_the_terminal_tells_what_was_raised_not_where(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    frame = '  File "/x/y.py", line 1, in step\n    loss()\n'
    error = f"rank 0 raised an error while running its trial:\n{frame}ValueError: no loss"
    runs.trial(trial("bad", 0, [], status="failed", error=error))
    runs.sweep("small", ["bad"])
    assert pareto_table(Results.load([runs.folder])).endswith("1 failed. First: bad: ValueError: no loss")


def test_the_table_for_the_terminal(tmp_path: Path) -> None:
    text = pareto_table(Results.load([small_sweep(tmp_path).folder]))
    assert all(len(line) <= 80 for line in text.splitlines())
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert rows[1] == ["method", "edges ≤", "sparsity", "test KL: median [quartiles]", "seeds"]
    assert rows[2] == ["edge pruning", "3", "96.8 %", "0 [0, 0]", "2 of 2"]
    assert rows[3] == ["random", "1", "98.9 %", "1.98 [1.98, 1.98]", "2 of 2"]
    assert rows[-4] == [str(TOTAL), "0.0 %", "0 [0, 0]", "2 of 2"]
    told = "Of 6 trials: 1 failed, 1 not over. First: bad: RuntimeError: loss is NaN at step 4"
    assert text.split("\n\n")[-1].split() == told.split()


def test_no_heading_of_the_terminal_is_cut(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    name = "a_divergence_with_a_rather_long_name"
    metrics = {split: {name: 0.1} for split in ("validation", "test")}
    result = trial("t", 0, [point(0, 5, 0.1, metrics=metrics)], divergence=name, empty={"test": {name: 2.0}})
    runs.trial(result)
    _, metric, head, *_ = pareto_table(Results.load([runs.folder])).splitlines()
    assert "median [quartiles]" in head and "…" not in head and metric.startswith("test ")
    assert metric.replace("_", " ").endswith("a rather long name")


def test_the_table_for_the_terminal_tells_long_names_apart(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    names = [f"edge pruning (from scratch, {sampled} gates)" for sampled in ("sampled", "deterministic")]
    for number, name in enumerate([*names, "x" * 10_000]):
        group = GROUP.model_copy(update={"method": name})
        runs.trial(trial(f"t{number}", 0, [point(0, 5 + number, 0.1), point(1, 90, 0.01)], group=group))
    lines = pareto_table(Results.load([runs.folder])).splitlines()
    assert all(len(line) <= 80 for line in lines) and len(lines) < 25
    names_shown = " ".join(line[:27].strip() for line in lines)
    assert all(name in names_shown for name in names)
    assert [line.split()[-3:] for line in lines if line.endswith("1 of 1")][0] == ["1", "of", "1"]


def test_one_message_for_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    runs, file = small_sweep(tmp_path / "runs"), tmp_path / "file.txt"
    file.write_text("mine")
    for arguments, told in (
        ([str(file)], f"{file}: found a file; allowed: a runs folder, or the folder of one sweep in it"),
        (
            [str(runs.path), "--out", str(file)],
            f"{file}: found a file; allowed: a folder for the report, there or to be made",
        ),
        (
            [str(runs.path), "--out", str(file / "inside")],
            f"{file / 'inside'}: the report cannot be written: Not a directory",
        ),
    ):
        result = CliRunner().invoke(main, ["report", *arguments])
        assert (result.exit_code, result.output) == (2, f"Error: {told}\n")
    assert file.read_text() == "mine"


def test_numbers_are_written_for_people() -> None:
    assert [significant(v) for v in (0.0, 1.0, 0.01234, 4.1e-7, 1234.5, 94, None)] == [
        *("0", "1.00", "0.0123", "4.10e-07", "1,234", "94", "–"),
    ]
    assert [percent(v) for v in (0.0, 1.0, 0.875, 0.9681, 0.99951)] == [
        *("0.0 %", "100.0 %", "87.5 %", "96.8 %", "99.95 %"),
    ]
    assert [duration(v) for v in (0.25, 45, 200, 18120)] == ["0.2 s", "45 s", "3 min 20 s", "5 h 2 min"]
    assert [spread(v) for v in ([], [7, 7], [7, 9, 5])] == ["–", "7", "7 (5 – 9)"]


def test_the_data_in_the_page_is_what_was_measured(tmp_path: Path) -> None:
    html = html_of(small_sweep(tmp_path))
    match = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html)
    assert match
    curves = json.loads(match.group(1))["chart-curves-0"]["data"]
    pruned, random = curves["methods"]
    assert (curves["total"], curves["known"], curves["epsilon"]) == (TOTAL, 3, 1e-3)
    assert [metric["empty"] for metric in curves["metrics"]] == [2.0, None], "same_output of it is not known"
    assert pruned["points"]["edges"] == [3, 6, 3, 6] and pruned["points"]["values"][0] == [0, 1e-12, 0, 1e-12]
    assert pruned["points"]["front"] == [0]
    assert pruned["band"]["values"][0]["median"][0] == 0 and pruned["band"]["seeds"][0] == 2
    assert random["seeds"] == 2 and random["band"]["edges"][-1] == TOTAL


def test_a_figure_of_exact_circuits_alone_can_be_drawn(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    runs.trial(
        trial("t", 0, [point(0, 5, 0.0), point(1, 9, 1e-9, kind="path")], empty={"test": {"kl": 1e-8}})
    )
    assert write_report([runs.folder], tmp_path / "out").html.exists()
