"""Results on examples that were trained on are marked wherever a number or a title stands alone."""

from pathlib import Path

import pytest
import torch

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from orchestrator.circuits.source import Source
from orchestrator.circuits.summary import show_text
from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.pareto_table import pareto_table
from tests.run_folders import GROUP, Runs, point, trial


@pytest.mark.parametrize("test_set", ["9 examples of a file (1480f16f)", "whole domain"])
@pytest.mark.parametrize(
    ("suffix", "flag"), [("", False), (", in-sample", True), ("", True), (", in-sample", False)]
)
def test_the_mark(tmp_path: Path, test_set: str, suffix: str, flag: bool) -> None:
    """By what the record says, also where the test set's name does not: a compiled program's never does."""
    group = GROUP.model_copy(update={"test_set": test_set + suffix})
    result = trial("t", 0, [point(0, 9, 0.1)], group=group, in_sample=flag)
    marked = bool(suffix) or flag
    assert result.tested_in_sample == marked

    runs = Runs(tmp_path)
    runs.trial(result)
    found = Results.load(runs.sweep("s", ["t"]))
    (title,) = Findings.of(found).titles.values()
    assert title.count("in-sample") == marked, "of a scene: in figures, tables and the page"
    assert "in-sample" in pareto_table(found) or not marked
    assert found.trials["in_sample"].to_pylist() == [marked]

    graph = EdgeGraph(Shape(1, 1, 1, ("tok_embeds",), False))
    circuit = Circuit(graph, torch.zeros(graph.allowed.shape), graph.allowed)
    told = show_text(Source("t:0", circuit, result, result.points[0], ()), edges=False)
    assert f"test{', in-sample' * marked} " in told and "validation, in-sample" not in told


def test_two_test_sets_are_marked_once_each(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for number, (test_set, flag) in enumerate(
        (("9 of a file", True), ("9 of a file, in-sample", True), ("7", False))
    ):
        group = GROUP.model_copy(update={"test_set": test_set})
        runs.trial(trial(f"t{number}", 0, [point(0, 9, 0.1)], group=group, in_sample=flag))
    titles = Findings.of(Results.load(runs.folder)).titles
    assert {scene.test_set: title.count("in-sample") for scene, title in titles.items()} == {
        "9 of a file": 1, "9 of a file, in-sample": 1, "7": 0,
    }  # fmt: skip
    assert len(set(titles.values())) == 3
