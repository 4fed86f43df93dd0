"""The report of a sweep with more circuits than a page can draw."""

from pathlib import Path

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Chart
from orchestrator.report.panels.targets import DRAWN, targets
from tests.run_folders import Runs, point, trial


def test_of_many_circuits_some_of_each_target_are_drawn(tmp_path: Path) -> None:
    """It says so; the table counts all of them; a page of fewer draws every one."""
    runs, number = Runs(tmp_path), DRAWN + 200
    for place in range(number):
        aimed = 0.5 if place % 10 else 0.9
        runs.trial(trial(f"t{place}", place, [point(0, 9 + place % 7, 0.1, target_sparsity=aimed)]))
    runs.sweep("large", [f"t{place}" for place in range(number)])
    (chart, table) = targets(Findings.of(Results.load(runs.path)))
    assert isinstance(chart, Chart)
    (group,) = chart.data["groups"]
    assert {len(group[name]) for name in ("target", "sparsity", "text")} == {DRAWN}
    assert 80 <= group["target"].count(0.9) <= 120
    assert {min(group["sparsity"]), max(group["sparsity"])} == {1 - 15 / 94, 1 - 9 / 94}
    assert "1,000 of 1,200 circuits are drawn" in repr(chart)
    assert all(str(told) in repr(table) for told in ("1,080", "120"))
