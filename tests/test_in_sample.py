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
from tests.run_folders import GROUP, Runs, point, trial


@pytest.mark.parametrize("test_set", ["9 examples of a file (1480f16f)", "whole domain"])
@pytest.mark.parametrize("mark", ["", ", in-sample"])
def test_the_mark(tmp_path: Path, test_set: str, mark: str) -> None:
    group = GROUP.model_copy(update={"test_set": test_set + mark})
    result = trial("t", 0, [point(0, 9, 0.1)], group=group)
    assert group.in_sample == bool(mark)

    runs = Runs(tmp_path)
    runs.trial(result)
    (title,) = Findings.of(Results.load(runs.sweep("s", ["t"]))).titles.values()
    assert ("in-sample" in title) == bool(mark), "of a scene: in figures, tables and the page"

    graph = EdgeGraph(Shape(1, 1, 1, ("tok_embeds",), False))
    circuit = Circuit(graph, torch.zeros(graph.allowed.shape), graph.allowed)
    told = show_text(Source("t:0", circuit, result, result.points[0], ()), edges=False)
    assert f"test{mark} " in told and "validation, in-sample" not in told
