"""Published reference points: what the file says, and beside which curves they may stand."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.records.results import Results
from orchestrator.report.figures.curves import against_edges, against_sparsity
from orchestrator.report.figures.metrics import other_metrics
from orchestrator.report.figures.style import styled
from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Chart, Paragraph
from orchestrator.report.panels.curves import curves
from orchestrator.report.pdf.blocks import CAPTIONED
from orchestrator.report.published import (
    ALL_TEMPLATES,
    GPT2_SMALL_EDGES,
    METHODS,
    SOURCES,
    TASKS,
    TEMPLATES,
    is_gpt2_small,
    matching,
    published_points,
    published_task,
    unlike,
)
from orchestrator.report.scenes import Scene
from tests.run_folders import GROUP, Runs, point, trial
from trainers.methods.acdc import Acdc
from trainers.methods.eap import EdgeAttributionPatching
from trainers.methods.edge_pruning import EdgePruning
from trainers.metrics import METRICS
from trainers.tasks.gendered_pronoun import GenderedPronounTask
from trainers.tasks.greater_than import GreaterThanTask
from trainers.tasks.ioi import TEMPLATES as IOI_TEMPLATES
from trainers.tasks.ioi import IoiTask

SCENE = Scene("gpt2", "ioi", "200 examples", "interchange", "2 embedding writers, maskable", "kl", 32_936)
IOI: dict[str, Any] = {"task": {"name": "ioi"}}


def test_the_file_holds_what_was_published() -> None:
    points = published_points()
    assert len(points) == 52
    assert {point.source for point in points} == set(SOURCES)
    assert all(0.9 < point.sparsity < 1 and point.metrics for point in points)
    assert {name for point in points for name in point.metrics} <= set(METRICS)
    paper = next(point for point in points if point.source == "P" and point.method == "edge pruning")
    assert (paper.sparsity, paper.metrics, paper.num_edges_total) == (0.966, {"kl": 0.25}, 32_936)
    assert paper.num_edges == pytest.approx(1119.8, abs=0.1)
    totals = {(point.method, point.source): point.num_edges_total for point in points}
    assert totals["ACDC", "L1"] == 32_046, "embeddings' edges always kept"
    assert totals["ACDC", "P"] is None and totals["EAP", "P"] is None, "the table does not say"
    assert all(point.num_edges is None for point in points if point.num_edges_total is None)


def test_names_are_those_of_our_methods_and_tasks() -> None:
    ours = [EdgePruning.model_fields["name"].default, Acdc.model_fields["name"].default]
    assert list(METHODS) == [*ours, EdgeAttributionPatching.model_fields["name"].default]
    assert list(METHODS.values()) == [EdgePruning.label, Acdc.label, EdgeAttributionPatching.label]
    assert list(TASKS) == [
        task.model_fields["name"].default for task in (IoiTask, GreaterThanTask, GenderedPronounTask)
    ]
    assert len(IOI_TEMPLATES) == ALL_TEMPLATES
    assert IoiTask.model_fields["templates"].default == ALL_TEMPLATES
    others = (GreaterThanTask, GenderedPronounTask)
    defaults = {
        TASKS[task.model_fields["name"].default]: task.model_fields["templates"].default for task in others
    }
    assert defaults == TEMPLATES
    assert max(GPT2_SMALL_EDGES) == 32_936


@pytest.mark.parametrize("model", ["gpt2", "openai-community/gpt2", "gpt2-small"])
@pytest.mark.parametrize("edges", [32_936, 32_046])
def test_gpt2_small_by_its_names(model: str, edges: int) -> None:
    assert is_gpt2_small(replace(SCENE, model=model, num_edges_total=edges))


@pytest.mark.parametrize("model", ["gpt2-medium", "distilgpt2", "GPT2", "my/gpt2", "tracr-reverse"])
def test_other_models_are_not_gpt2_small(model: str) -> None:
    assert not is_gpt2_small(replace(SCENE, model=model))


def test_a_folder_called_gpt2_is_known_by_its_edges() -> None:
    assert not is_gpt2_small(replace(SCENE, num_edges_total=231_877))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"name": "ioi"}, "ioi"),
        ({"name": "ioi", "templates": ALL_TEMPLATES}, "ioi"),
        ({"name": "ioi", "templates": 1}, "ioi_t1"),
        ({"name": "ioi", "templates": 5}, None),
        ({"name": "greater_than"}, "gt"),
        ({"name": "greater_than", "by_digit": True}, None),
        ({"name": "greater_than", "templates": 4}, None),
        ({"name": "gendered_pronoun", "templates": 1}, "gp"),
        ({"name": "gendered_pronoun"}, None),
        ({"name": "docstring"}, None),
        ("ioi", None),
    ],
)
def test_tasks_that_were_published(task: object, expected: str | None) -> None:
    assert published_task({"task": task}) == expected


def test_only_the_same_model_task_and_ablation_match() -> None:
    assert len(matching(SCENE, IOI)) == 23
    assert len(matching(SCENE, {"task": {"name": "ioi", "templates": 1}})) == 9
    assert matching(replace(SCENE, model="smollm2-135m"), IOI) == ()
    assert matching(replace(SCENE, ablation="zero"), IOI) == ()
    assert matching(SCENE, {"task": {"name": "docstring"}}) == ()


def test_what_differs_is_said() -> None:
    told = " ".join(unlike(SCENE, IOI, matching(SCENE, IOI)))
    assert "other test examples" in told and "32,046, here 32,936" in told and "against sparsity only" in told
    years = {"task": {"name": "greater_than", "corrupted_start": "01"}}
    assert "random century" in " ".join(unlike(SCENE, years, matching(SCENE, years)))
    years["task"]["corrupted_start"] = "random"
    assert "random century" not in " ".join(unlike(SCENE, years, matching(SCENE, years)))


def findings_of(path: Path, model: str, **metrics: float) -> Findings:
    """Of one trial on IOI."""
    runs = Runs(path)
    group = GROUP.model_copy(update={"model": model, "task": "ioi", "ablation": "interchange"})
    measured = {"validation": metrics, "test": metrics}
    circuit = point(0, 1_000, 0.1, metrics=measured, num_edges_total=32_936)
    runs.trial(trial("t", 0, [circuit], group=group, spec={"seed": 0} | IOI, divergence=next(iter(metrics))))
    return Findings.of(Results.load([runs.folder]))


def figure(path: Path, model: str, **metrics: float) -> tuple[Chart, str]:
    """The figure of one trial on IOI, and what is said beside it."""
    blocks = curves(findings_of(path, model, **metrics))
    remarks = " ".join(block.text for block in blocks if isinstance(block, Paragraph))
    return next(block for block in blocks if isinstance(block, Chart)), remarks


def test_published_points_are_laid_over_where_they_fit(tmp_path: Path) -> None:
    chart, remarks = figure(tmp_path / "gpt2", "gpt2", kl=0.1)
    names = [entry.name for entry in chart.legend if entry.hollow]
    assert names == ["published: ACDC", "published: ACDC", "published: EAP", "published: edge pruning"]
    assert all(entry.key.startswith("published-") for entry in chart.legend if entry.hollow)
    pruned = chart.data["published"][-1]
    assert pruned["slot"] == chart.data["methods"][0]["slot"], "the colour of the method of that name"
    assert pruned["of"] == 32_936 and 0.25 in pruned["values"][0] and len(pruned["sparsity"]) == 17
    assert "Bhaskar et al. 2024 (Edge Pruning), table." in remarks
    chart, remarks = figure(tmp_path / "other", "distilgpt2", kl=0.1)
    assert chart.data["published"] == [] and not any(entry.hollow for entry in chart.legend)
    assert "Published points are of other" not in remarks
    chart, _ = figure(tmp_path / "metric", "gpt2", squared_error=0.1)
    assert chart.data["published"] == [], "another metric has no published points"


def test_figures_for_print_have_them_in_their_data_and_captions(tmp_path: Path) -> None:
    findings = findings_of(tmp_path / "gpt2", "gpt2", kl=0.1, logit_difference=2.0)
    plots = [*against_edges(findings), *against_sparsity(findings), *other_metrics(findings)]
    for plot, shown, listed in zip(plots, (21, 23, 12), (23, 23, 12), strict=True):
        rows = [row for row in plot.rows if row["part"] == "published"]
        assert len(rows) == listed
        assert {row["source"] for row in rows} <= set(SOURCES) and ",L1" in plot.csv()
        assert "other test examples" in plot.details and "Edge-Pruning" in plot.details
        assert len(f"Figure 99. {plot.details}.") <= CAPTIONED, "report.pdf has room for all of its caption"
        assert not plot.details.endswith("."), "report.pdf ends the caption"
        with styled():
            (axes, *_) = plot.figure().axes
        hollow = [own for own in axes.collections if not np.size(own.get_facecolor())]
        assert sum(len(np.asarray(own.get_offsets())) for own in hollow) == shown, (
            "what has no number of edges has no place"
        )
        low, high = axes.get_ylim()
        assert all(low < float(row["value"] or 0) < high for row in rows), "the axis has room for all"
    legend = {text.get_text() for text in plots[0].figure().legends[0].get_texts()}
    assert legend == {"edge pruning", "published: ACDC", "published: edge pruning"}
    (other, *_) = against_edges(findings_of(tmp_path / "other", "distilgpt2", kl=0.1))
    assert "published" not in other.csv() and "ublished" not in other.details


def test_the_file_is_csv_under_its_comments() -> None:
    path = Path(__file__).parent.parent / "orchestrator" / "report" / "published_points.csv"
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert len({len(row) for row in csv.reader(lines)}) == 1
