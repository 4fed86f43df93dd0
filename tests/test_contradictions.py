"""A result that contradicts itself is told and left out, and what names hold cannot turn text round."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli.main import main
from orchestrator.records.results import Results
from orchestrator.report.budget import within
from orchestrator.report.doubts import doubts
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from orchestrator.report.pareto_table import pareto_table
from tests.run_folders import GROUP, Runs, point, trial

TURNED = "fair\u202emodel\u2066 \u200f"


def two_trials(path: Path, *points: Any) -> Results:
    runs = Runs(path)
    runs.trial(trial("good", 0, [point(0, 9, 0.1)], examples=10))
    runs.trial(trial("bad", 1, points or [point(0, 12, 0.1)], examples=99))
    runs.sweep("two", ["good", "bad"])
    return Results.load(runs.path)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([point(0, -5, 0.1)], "points.0: found num_edges -5; allowed: 0 to 94"),
        ([point(0, 95, 0.1)], "points.0: found num_edges 95; allowed: 0 to 94"),
        ([point(0, 9, 0.1, sparsity=0.5)], "points.0: found sparsity 0.5; 9 of 94 edges are 0.904255"),
        ([point(0, 9, 0.1, sparsity=float("nan"))], "points.0: found sparsity nan"),
        ([point(0, 9, 0.1, num_edges_connected=10)], "found num_edges_connected 10; allowed: 0 to 9"),
        ([point(0, 9, 0.1, num_edges_connected=-1)], "found num_edges_connected -1"),
        (
            [point(0, 9, 0.1), point(1, 9, 0.1, num_edges_total=90)],
            "found num_edges_total 90; the trial has 94",
        ),
        ([point(0, 9, 0.1, truth_recall=1.5)], "found truth_recall 1.5; allowed: 0 to 1"),
        ([point(3, 9, 0.1), point(3, 8, 0.2)], "two points have the same number"),
    ],
)
def test_a_result_that_contradicts_itself_is_told_and_left_out(
    tmp_path: Path, points: list[Any], told: str
) -> None:
    results = two_trials(tmp_path, *points)
    assert results.points["trial_id"].to_pylist() == ["good"]
    assert results.trials["status"].to_pylist() == ["complete", "unreadable"]
    (problem,) = results.problems
    assert problem.where.endswith("bad") and told in problem.what
    assert told in page(Findings.of(results)).replace("<wbr>", "")


def test_an_option_of_the_report_is_no_damaged_file(tmp_path: Path) -> None:
    results = within(two_trials(tmp_path), 50)
    (doubt,) = [doubt for doubt in doubts(Findings.of(results)) if "more than 50 examples" in doubt.what]
    assert doubt.where == "equal budget, edge pruning on tracr-reverse"
    assert "Run the sweep again" not in doubt.advice and "--max-examples" in doubt.advice
    table = pareto_table(results)
    assert "with the files" not in table and "took more than 50 examples" in table


def test_a_nan_is_not_told_as_infinity(tmp_path: Path) -> None:
    """Three seeds at 12 edges, of which one has no test divergence."""
    runs = Runs(tmp_path)
    runs.trial(trial("a", 0, [point(0, 9, 0.2), point(1, 12, 0.01)]))
    runs.trial(trial("b", 1, [point(0, 9, 0.1)]))
    runs.trial(trial("c", 2, [point(0, 12, 0.05, test=float("nan"))]))
    runs.sweep("three", ["a", "b", "c"])
    table = pareto_table(Results.load(runs.path))
    assert "not finite" in table and "∞" not in table


def test_no_name_turns_the_text_after_it_round(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    group = GROUP.model_copy(update={"model": TURNED, "method": TURNED})
    runs.trial(
        trial("aa", 0, [point(0, 2, 0.1)], group=group, warnings=[TURNED]), edges={0: [(TURNED, "m0")]}
    )
    runs.sweep("turned", ["aa"], question="why")
    html = page(Findings.of(Results.load(runs.path)))
    for sign in "\u202e\u2066\u200f":
        assert sign not in html
        assert rf"\u{ord(sign):04x}" in html, "it is told, not dropped"
    for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL):
        parsed = json.dumps(json.loads(data), ensure_ascii=False)
        assert not set("\u202e\u2066\u200f") & set(parsed)
    told = CliRunner().invoke(main, ["report", str(runs.path), "--out", str(tmp_path / "out")])
    assert told.exit_code == 0 and not set("\u202e\u2066\u200f") & set(told.output)
