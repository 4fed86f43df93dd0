"""What lets a reader trust a report: gate histograms, warnings with advice, what it cost, its own charts."""

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.records.results import Results
from orchestrator.report.certainty import common_hypervolumes, hypervolume_certainty
from orchestrator.report.doubts import Doubt, doubts
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from orchestrator.report.panels.blocks import Block, Chart, Details, Paragraph, Table
from orchestrator.report.panels.comparable import comparable
from orchestrator.report.panels.consensus import consensus
from orchestrator.report.panels.curve_data import band_data, metrics_of
from orchestrator.report.panels.curves import curves
from orchestrator.report.panels.fronts import fronts
from orchestrator.report.panels.gates import gates, has_gates
from orchestrator.report.panels.training import training
from orchestrator.report.panels.versions import versions
from tests import one_rank
from tests.run_folders import GROUP, TOTAL, Runs, point, small_sweep, trial
from trainers.hardware import hardware
from trainers.methods.base import GATE_BINS
from trainers.methods.gate_training import gate_histogram
from trainers.result import TrialResult

ROOT = Path(__file__).parent.parent


def findings_of(runs: Runs) -> Findings:
    return Findings.of(Results.load([runs.folder]))


def told(runs: Runs, start: str) -> list[Doubt]:
    return [doubt for doubt in doubts(findings_of(runs)) if doubt.what.startswith(start)]


def the_table(blocks: Sequence[Block], caption: str) -> Table:
    (found,) = (b for b in blocks if isinstance(b, Table) and b.caption.startswith(caption))
    return found


def test_a_gate_histogram_counts_every_gate() -> None:
    gates = torch.tensor([0.0, 0.049, 0.05, 0.5, 0.949, 0.951, 1.0])
    counts = gate_histogram(gates)
    assert len(counts) == GATE_BINS and sum(counts) == 7
    assert counts[0] == 2 and counts[1] == 1 and counts[10] == 1 and counts[18] == 1 and counts[19] == 2


@pytest.mark.parametrize("zero_stage", [0, 3])
@pytest.mark.parametrize("method", ["edge_pruning", "node_pruning", "eap"])
def test_a_trial_records_its_final_gates(tmp_path: Path, method: str, zero_stage: int) -> None:
    trained = {"target_sparsity": 0.5, "steps": 3, "path_points": 0} if method != "eap" else {}
    spec = {
        "model": {"builtin": "tracr-xproportion"},
        "task": {"name": "tracr"},
        "method": {"name": method, **trained},
        "ablation": "zero",
    }
    with one_rank.working(zero_stage=zero_stage) as make:
        result = one_rank.run(make(), tmp_path, spec)
    if method == "eap":
        assert result.gate_histogram is None
        return
    counts = result.gate_histogram
    assert counts is not None and len(counts) == GATE_BINS
    assert sum(counts) == result.num_edges_total
    final = next(one for one in result.points if one.kind == "final")
    low, high = (sum(count * (place + up) for place, count in enumerate(counts)) for up in (0, 1))
    if method == "edge_pruning":
        assert low / GATE_BINS - 0.5 <= final.num_edges <= high / GATE_BINS + 0.5, (
            "as many as the gates sum to"
        )


def test_results_without_a_gate_histogram_still_load() -> None:
    old = trial("old", 0, [point(0, 3, 0.0)]).model_dump(mode="json")
    del old["gate_histogram"]
    assert TrialResult.model_validate(old).gate_histogram is None


def test_the_panel_shows_how_binary_gates_are(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path)
    (why,) = gates(findings_of(runs))
    assert has_gates(findings_of(runs)) and isinstance(why, Paragraph), "old results have none: it says why"
    assert why.text == (
        "2 trials trained gates without recording how binary they were, as earlier versions of circuit-sweep "
        "did (0.1.0+abc): edge pruning, tracr reverse · in-sample · zero ablation (2)."
    )
    for seed in (2, 3):
        spec = {"method": {"name": "edge_pruning", "target_sparsity": 0.8}, "seed": seed}
        counts = [80, *[1] * 18, 2] if seed == 2 else [90, *[0] * 18, 10]
        result = trial(f"new{seed}", seed, [point(0, 3, 0.0)], spec=spec, gate_histogram=counts)
        runs.trial(result)
    runs.sweep("small", ["ep0", "ep1", "new2", "new3"])
    found = findings_of(runs)
    assert has_gates(found)
    details, remark = gates(found)
    assert isinstance(details, Details)
    chart, table = details.blocks
    assert isinstance(chart, Chart) and isinstance(table, Table)
    (setting,) = chart.data["settings"]
    assert setting["share"].sum() == pytest.approx(1) and setting["share"][0] == pytest.approx(0.85)
    assert table.rows[0][1:5] == ["2", "85.0 %", "9.0 %", "6.0 %"]
    assert table.rows[0][5] == "0.45 (0 – 0.90)", "18 of 20 gates that are not closed are undecided"
    assert "2 trials trained gates without recording" in str(remark)


def test_a_front_of_one_seed_is_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    good = [point(k, 4 + 3 * k, 0.5 - 0.1 * k) for k in range(4)]
    runs.trial(trial("a", 0, good))
    runs.trial(trial("b", 1, [point(0, 20, 1.5)]))
    (doubt,) = told(runs, "All 4 circuits of the front")
    assert "of seed 0, of 2 seeds" in doubt.what and doubt.trials == ["a"] and doubt.advice
    runs.trial(trial("c", 2, [point(0, 2, 1.0)]))
    assert not told(runs, "All 4 circuits"), "two seeds are on the front"


def test_wide_bands_are_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("a", 0, [point(0, 5, 0.01)]))
    runs.trial(trial("b", 1, [point(0, 5, 0.02)]))
    assert not told(runs, "Seeds disagree: at")
    runs.trial(trial("b", 1, [point(0, 5, 1.9)]))
    assert told(runs, "Seeds disagree: at")


def test_seeds_whose_edges_differ_are_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    lists = {
        "a": [("tok_embeds", "m0"), ("m0", "resid_post")],
        "b": [("pos_embeds", "m0"), ("m0", "resid_post")],
    }
    for seed, (name, edges) in enumerate(lists.items()):
        runs.trial(trial(name, seed, [point(0, 2, 0.0)]), edges={0: edges})
    (doubt,) = told(runs, "Seeds disagree on the edges")
    assert "overlap by 0.33 on average" in doubt.what and doubt.trials == ["a", "b"]
    runs.trial(trial("b", 1, [point(0, 2, 0.0)]), edges={0: lists["a"]})
    assert not told(runs, "Seeds disagree on the edges")


def test_disconnected_edges_are_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    group = GROUP.model_copy(update={"ablation": "interchange"})
    runs.trial(trial("a", 0, [point(0, 20, 0.1, num_edges_connected=14)], group=group))
    (doubt,) = told(runs, "Edges on no path")
    assert "6 of the 20" in doubt.what and "the others change no output" in doubt.advice
    runs.trial(trial("a", 0, [point(0, 20, 0.1, num_edges_connected=20)], group=group))
    assert not told(runs, "Edges on no path")


@pytest.mark.parametrize(
    ("warning", "advice"),
    [
        ("the full model is not above chance: accuracy 0.5", "circuit-sweep task show"),
        ("too few examples to judge whether the full model is above chance: found 7", "test examples"),
        ("every EAP score is zero", "integrated gradients"),
    ],
)
def test_warnings_of_trials_say_what_to_do(tmp_path: Path, warning: str, advice: str) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("a", 0, [point(0, 20, 0.1)], warnings=[warning]))
    (doubt,) = told(runs, warning)
    assert advice in doubt.advice and doubt.trials == ("a",)


def test_one_row_per_cause(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed, achieved in enumerate((0.8511, 0.9, 0.8617)):
        text = f"every EAP score of {achieved} is zero"
        runs.trial(trial(f"t{seed}", seed, [point(0, 3, 0.1)], warnings=[text]))
    found = [doubt for doubt in told(runs, "") if "score of" in doubt.what]
    assert [doubt.what for doubt in found] == ["every EAP score of 0.8511 – 0.9 is zero"]
    assert found[0].trials == ("t0", "t1", "t2") and "integrated gradients" in found[0].advice


def test_no_seeds_are_asked_of_a_method_without_any(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for name, method in (("eap", "EAP"), ("edge_pruning", "edge pruning")):
        group = GROUP.model_copy(update={"method": method})
        spec = {"method": {"name": name}, "seed": 0}
        runs.trial(trial(name, 0, [point(0, 3, 0.1)], group=group, spec=spec))
    asked = [doubt.where for doubt in told(runs, "") if "One seed" in doubt.what]
    assert len(asked) == 1 and asked[0].startswith("edge pruning")


def test_a_method_without_gates_is_not_said_to_lack_them(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    histogram = [50, *[0] * 18, 44]
    runs.trial(trial("with", 0, [point(0, 3, 0.1)], gate_histogram=histogram))
    other = GROUP.model_copy(update={"method": "ACDC"})
    spec = {"method": {"name": "acdc"}, "seed": 0}
    runs.trial(trial("acdc", 0, [point(0, 3, 0.1)], group=other, steps=40, spec=spec))
    runs.trial(trial("bad", 2, [], status="failed", error="no gates either"))
    assert not any(isinstance(block, Paragraph) for block in gates(findings_of(runs)))
    runs.trial(trial("without", 1, [point(0, 3, 0.1)], steps=40))
    (told_of,) = (block.text for block in gates(findings_of(runs)) if isinstance(block, Paragraph))
    assert told_of.startswith("1 trial trained gates without recording how binary they were")


def test_hardware_and_where_the_same_bits_cannot_be_promised(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    machine = {"processor": "Some CPU 9000", "cores": 64, "memory_bytes": 512 * 2**30, "gpu": "Some GPU"}
    runs.trial(trial("old", 0, [point(0, 3, 0.1)], execution={"processor": "x86_64", "device": "cpu"}))
    runs.trial(trial("new", 1, [point(0, 3, 0.1)], execution={**machine, "device": "cuda:0", "attempt": 1}))
    runs.sweep("one", ["old"])
    runs.sweep("two", ["new"])
    tables = {
        b.columns[0].title: {row[0]: row[1] for row in b.rows}
        for b in versions(findings_of(runs))
        if isinstance(b, Table)
    }
    assert tables["Hardware"]["gpu"] == "Some GPU (1 trial)" and tables["Hardware"]["cores"] == "64 (1 trial)"
    assert tables["Hardware"]["memory"] == "512.0 GiB (1 trial)" and "attempt" in tables["Execution"]
    (bits,) = (b.text for b in versions(findings_of(runs)) if isinstance(b, Paragraph))
    assert bits.startswith("1 trial ran on a GPU. There the same bits cannot be promised")
    ran = the_table(comparable(findings_of(runs)), "When and where")
    assert [row[0] for row in ran.rows] == ["one", "two"]
    assert ran.rows[0][1:] == ["2026-01-01", "2026-01-01", "not recorded", "x86_64", "none recorded"]
    assert ran.rows[1][4:] == ["Some CPU 9000", "Some GPU"]


def test_what_a_machine_tells_of_itself(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU 9000\nprocessor\t: 1\nmodel name\t: Other\n")
    found = hardware(torch.device("cpu"), info)
    assert found["processor"] == "Some CPU 9000" and "gpu" not in found
    assert isinstance(found["cores"], int) and found["cores"] >= 1
    assert hardware(torch.device("cpu"), tmp_path / "none")["processor"], "the architecture, where no name is"


def test_a_value_that_is_not_known_is_not_zero(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("good", 0, [point(0, 3, 0.0)]), edges={0: [("tok_embeds", "m0")] * 3})
    runs.trial(trial("unknown", 1, [point(0, 3, 0.0, math.nan)]))
    findings = findings_of(runs)
    ((scene, (curve,)),) = findings.scenes.items()
    shared = common_hypervolumes([curve])
    np.testing.assert_array_equal(shared.by_method[curve.method], [1.0, np.nan])
    assert shared.mean(curve.method) == 1.0, "not halved"
    table = the_table(fronts(findings), "Hypervolume per method")
    assert table.rows[0][5] == "1.000 (1 of 2 seeds)"
    assert hypervolume_certainty(findings, curve).mean == pytest.approx(curve.hypervolumes[0])
    runs.trial(trial("diverged", 2, [point(0, 3, math.nan)]))
    (curve,) = next(iter(findings_of(runs).scenes.values()))
    np.testing.assert_array_equal(np.isnan(curve.hypervolumes), [False, True, True])
    alone = Runs(tmp_path / "alone")
    alone.trial(trial("unknown", 0, [point(0, 3, 0.0, math.nan)]))
    table = the_table(fronts(findings_of(alone)), "Hypervolume per method")
    assert (table.rows[0][5], table.rows[0][7]) == ("–", "–")
    assert [b for b in consensus(findings_of(alone)) if isinstance(b, Table) and not b.rows] == []


def test_warnings_name_their_scene(tmp_path: Path) -> None:
    """Two tasks in one report: of which is it?"""
    runs = Runs(tmp_path)
    for task in ("ioi", "greater_than"):
        group = GROUP.model_copy(update={"model": "gpt2", "task": task, "ablation": "interchange"})
        runs.trial(trial(task, 0, [], group=group, warnings=["checkpoint lost"]))
        runs.trial(trial(f"{task}2", 0, [point(0, 9, 0.1)], group=group))
    found = list(doubts(findings_of(runs)))
    for what in ("One seed", "without any circuit", "checkpoint lost"):
        places = {doubt.where for doubt in found if what in doubt.what}
        assert places == {"edge pruning, gpt2, ioi", "edge pruning, gpt2, greater_than"}, what


def test_training_curves_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    reports = [{"step": step, "kl": 1 / step, "sparsity": 0.1 * step} for step in (1, 2, 3)]
    runs.trial(trial("trained", 0, [point(0, 9, 0.1)]), progress=reports)
    eap = GROUP.model_copy(update={"method": "EAP"})
    attributed = trial("attributed", 0, [point(0, 9, 0.1)], group=eap, steps=4)
    runs.trial(attributed, progress=[{"step": step} for step in (1, 2, 3, 4)])
    blocks = list(training(findings_of(runs)))
    (details,) = (block for block in blocks if isinstance(block, Details))
    chart, table = details.blocks
    assert isinstance(chart, Chart) and "edge pruning" in chart.description
    assert isinstance(table, Table) and table.rows[0][1:] == ["3", "0.333", "0.300", "–"]
    told = [block.text for block in blocks if isinstance(block, Paragraph)]
    assert any(text.startswith("No curve was reported by EAP, ") for text in told)


def test_costs_are_told_once(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path)
    captions = re.findall(r"<caption[^>]*>([^<]*)", page(findings_of(runs)))
    assert sum("cost" in caption for caption in captions) == 1


def test_the_advice_fits_what_trials_warn_of() -> None:
    """The texts are matched by how they start: they must still be there."""
    sources = " ".join(path.read_text("utf-8") for path in (ROOT / "trainers").rglob("*.py"))
    for text in ("the full model is not above chance", "target sparsity", "score is zero", "was damaged ("):
        assert text in sources


def test_curves_tell_what_they_cost(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in (0, 1):
        execution = {"ranks": 2, "code": "a"}
        cost = {"steps": 30, "examples": 100, "backward_examples": 40, "seconds": 10.0, "cpu_seconds": 15.0}
        runs.trial(trial(f"t{seed}", seed, [point(0, 3, 0.1)], execution=execution, **cost))
    table = next(block for block in curves(findings_of(runs)) if isinstance(block, Table))
    assert table.rows == [["edge pruning", "2", "2", "2", "60", "200", "80", "40 s", "30 s"]]


def test_bands_of_a_metric_that_should_be_high(tmp_path: Path) -> None:
    """Chosen by validation divergence; a value that is not finite counts as the worst."""
    runs = Runs(tmp_path)
    for seed, (accuracy, divergence) in enumerate([(0.9, 0.1), (0.5, 0.2), (float("nan"), 0.3)]):
        chosen = {"validation": {"kl": divergence}, "test": {"kl": divergence, "accuracy": accuracy}}
        worse = {"validation": {"kl": 1.0}, "test": {"kl": 1.0, "accuracy": 1.0}}
        ends = {"test": {"accuracy": (accuracy - 0.1, accuracy + 0.1)}}
        points = [point(0, 5, 0, metrics=chosen, intervals=ends), point(1, 5, 0, metrics=worse, kind="path")]
        runs.trial(trial(f"t{seed}", seed, points))
    findings = findings_of(runs)
    ((scene, (curve,)),) = findings.scenes.items()
    metrics = metrics_of(scene, [curve])
    assert metrics == ["kl", "accuracy"]
    band = band_data(findings, curve, metrics, TOTAL)
    divergence, accuracy = (value for value in band["values"])
    assert band["edges"][0] == 5 and band["seeds"][0] == 3
    assert divergence["median"][0] == 0.2 and divergence["min"][0] == 0.1 and divergence["max"][0] == 0.3
    assert accuracy["median"][0] == 0.5 and accuracy["max"][0] == 0.9
    assert not torch.isfinite(torch.tensor(accuracy["min"][0])), "drawn nowhere"
    assert "from" not in accuracy, "three intervals are not the interval of a median"


def test_the_charting_library_is_the_one_that_make_fetches() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    checksum = re.search(r"PLOTLY_SHA256 := ([0-9a-f]{64})", makefile)
    version = re.search(r"PLOTLY_VERSION := (\S+)", makefile)
    assert checksum and version
    assets = ROOT / "orchestrator" / "report" / "assets"
    content = (assets / "plotly-basic.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == checksum[1]
    assert f"plotly.js (basic - minified) v{version[1]}".encode() in content[:200]
    assert "MIT License" in (assets / "plotly-basic.LICENSE").read_text("utf-8")
