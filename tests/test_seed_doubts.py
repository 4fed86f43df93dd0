"""Warnings about seeds and targets, and the sizes beside an overlap: told where they hold, and only there."""

from collections.abc import Sequence
from pathlib import Path

from orchestrator.records.results import Results
from orchestrator.report.doubt import Doubt
from orchestrator.report.doubts import doubts
from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Matrix
from orchestrator.report.panels.consensus import consensus
from tests.run_folders import EDGES, GROUP, Runs, point, trial

OTHERS = [(f"a0.h{head}", "m0") for head in range(len(EDGES))]
SPEC = {"method": {"name": "edge_pruning"}, "seed": 0}


def told(runs: Runs, start: str) -> list[Doubt]:
    runs.sweep("all", runs.folder.__truediv__("trials").names())
    return [doubt for doubt in doubts(Findings.of(Results.load(runs.path))) if doubt.what.startswith(start)]


def add(
    runs: Runs, name: str, seed: int, edges: Sequence[Sequence[tuple[str, str]]], **others: object
) -> None:
    """A trial with one circuit of each edge list; none is faithful."""
    points = [point(number, len(own), 1.0 / len(own)) for number, own in enumerate(edges)]
    spec = {"method": {"name": "edge_pruning"}, "seed": seed}
    runs.trial(trial(name, seed, points, spec=spec, **others), edges=dict(enumerate(edges)))


def test_seeds_that_disagree_on_circuits_that_are_not_faithful_are_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "apart")
    for seed, edges in enumerate((EDGES, OTHERS)):
        add(runs, f"t{seed}", seed, [edges[:3], edges[:6]])
    (doubt,) = told(runs, "Seeds disagree on the edges of circuits")
    assert "mean IoU 0 at 3 edges (by chance" in doubt.what and "0 at 6 edges" in doubt.what
    runs = Runs(tmp_path / "alike")
    for seed in (0, 1):
        add(runs, f"t{seed}", seed, [EDGES[:3], EDGES[:6]])
    assert told(runs, "Seeds disagree on the edges") == []


def test_circuits_of_other_sizes_are_not_called_at_odds(tmp_path: Path) -> None:
    """Within 6 edges one seed has a circuit of 6, the other one of 1: that says nothing."""
    runs = Runs(tmp_path)
    add(runs, "t0", 0, [EDGES[:6]])
    add(runs, "t1", 1, [EDGES[:1]])
    assert told(runs, "Seeds disagree on the edges") == []


def test_seeds_with_unequal_tries_are_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        add(runs, name, seed, [EDGES[:3]])
    assert told(runs, "Seeds had unequal tries") == []
    add(runs, "c", 1, [EDGES[:4]])
    (doubt,) = told(runs, "Seeds had unequal tries")
    assert "1 to 2 trials with circuits each; fewest: seed 0." in doubt.what


def test_an_overlap_of_circuits_of_very_different_sizes_says_so(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    other = GROUP.model_copy(update={"method": "random"})
    add(runs, "t0", 0, [EDGES[:6]])
    add(runs, "t1", 0, [OTHERS[:2]], group=other)
    runs.sweep("all", ["t0", "t1"])
    found = consensus(Findings.of(Results.load(runs.path)))
    (matrix,) = [block for block in found if isinstance(block, Matrix)]
    assert list(matrix.columns) == ["edge pruning: 6 edges", "random: 2 edges"]
    assert "circuits of 2 and of 6 edges (medians) cannot overlap by more than 0.33" in matrix.caption
