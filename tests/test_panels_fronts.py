"""Fronts, knees and budgets in the report: numbers checked by hand on synthetic run folders."""

import math
from pathlib import Path

import numpy as np
import pytest

from orchestrator.records.results import Results
from orchestrator.report.figures import Drawn
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from orchestrator.report.panels.curve_data import band_data
from orchestrator.report.panels.faithfulness import faithfulness
from orchestrator.report.panels.fronts import fronts
from orchestrator.report.summary import summary
from orchestrator.statistics.bootstrap import over_examples
from orchestrator.statistics.pareto import bands
from tests.run_folders import TOTAL, Runs, point, small_sweep, trial
from tests.test_panels_comparison import OFFSETS, add, group, pair, table, text


def test_smallest_budgets(tmp_path: Path) -> None:
    """f = 1 − kl / 2."""
    runs = Runs(tmp_path)
    add(runs, "edge pruning", 0, {5: 1.0, 10: 0.15, 40: 0.01})
    add(runs, "edge pruning", 1, {5: 1.0, 10: 0.3, 40: 0.15})
    add(runs, "random", 0, {50: 0.001, 60: 0.0})
    rows = table(runs, faithfulness, "Smallest faithful edge budgets by KL")
    columns = [f"|1 − f| ≤ {tolerance} from (edges)" for tolerance in ("0.10", "0.05", "0.01")]
    assert [rows[0][name] for name in columns] == [
        "25 (10 – 40)",
        "40, never on 1 of 2",
        "40, never on 1 of 2",
    ]
    assert [rows[1][name] for name in columns] == ["at most 50"] * 3
    assert [row["Evaluated at (edges)"] for row in rows] == ["5 – 40", "50 – 60"]


def test_never_is_not_the_same_as_not_evaluated(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    add(runs, "edge pruning", 0, {5: 1.0, 10: 0.9})
    add(runs, "random", 0, {5: 1.0, 10: 0.9}, empty={"test": {"kl": 0.0}}, full={"test": {"kl": 0.0}})
    rows = table(runs, faithfulness, "Smallest faithful edge budgets by KL")
    assert [row["|1 − f| ≤ 0.10 from (edges)"] for row in rows] == ["never", "not evaluated"]


def test_areas(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed, cpr in enumerate((0.5, 0.7, 0.9)):
        areas = {"test": {"kl": {"cpr": cpr, "cmd": 1 - cpr, "cpr_log": 3.0, "cmd_log": 4.0}, "tau": None}}
        points = [point(0, 5, 0.5, kind="budget")]
        runs.trial(trial(f"r{seed}", seed, points, areas=areas, **group("random")))
    add(runs, "edge pruning", 0, {5: 0.5})
    runs.trial(trial("e0", 0, [point(0, 5, 0.5, kind="budget")], **group("EAP")))
    (row,) = table(runs, faithfulness, "CPR and CMD of KL")
    assert (row["Method"], row["Trials"]) == ("random", "3 of 3")
    assert row["CPR, median"] == "0.700 (0.500 – 0.900)"
    assert row["CMD, log, median"] == "4.00"
    told = text(runs, faithfulness)
    # Of 94 edges the grid has 0 0 0 0 1 4 9 18 47 94; 0 and 94 need no circuit.
    assert "No CPR and CMD; 5 of the grid's 5 budgets not evaluated: EAP; no ranking: edge pruning." in told


def test_hypervolume_per_seed_and_the_knee(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    add(runs, "edge pruning", 0, {2: 1.8, 4: 0.4, 50: 0.2})
    add(runs, "edge pruning", 1, {4: 1.0})
    add(runs, "edge pruning", 2, {4: 1.0})
    row = table(runs, fronts, "Hypervolume per seed")[0] | table(runs, fronts, "Knee of each front")[0]
    width = math.log(TOTAL)
    first = (math.log(2) * 0.1 + math.log(50 / 4) * 0.8 + math.log(TOTAL / 50) * 0.9) / width
    second = math.log(TOTAL / 4) * 0.5 / width
    mean = (first + 2 * second) / 3
    assert row["Hypervolume of a seed, mean"] == f"{mean:.3f}"
    assert row["95 % over seeds"] == f"[{second:.3f}, {first:.3f}]", "with three seeds it is their range"
    low, high = map(float, row["95 % over examples"].strip("[]").split(", "))
    assert second < low <= mean <= high < first
    wide = [float(end) for end in row["95 % over both"].strip("[]").split(", ")]
    assert wide[0] < low and high < wide[1]
    assert (row["Knee of the front: edges"], row["Seeds with a knee"]) == ("4", "1 of 3")


def test_the_knee_is_told_over_seeds_and_over_examples_apart(tmp_path: Path) -> None:
    """Medians 4 edges and 0.4; with three seeds the interval over seeds is their range. Over examples all
    three seeds move together, and no number of edges does."""
    runs = Runs(tmp_path)
    add(runs, "edge pruning", 0, {2: 1.8, 4: 0.4, 50: 0.2})
    add(runs, "edge pruning", 1, {2: 1.8, 3: 0.5, 50: 0.2})
    add(runs, "edge pruning", 2, {2: 1.8, 6: 0.3, 50: 0.2})
    (row,) = table(runs, fronts, "Knee of each front")
    assert row["Seeds with a knee"] == "3 of 3"
    assert (row["Edges, median over seeds"], row["Edges, 95 % over seeds"]) == ("4", "[3, 6]")
    assert row["Divergence, median over seeds"] == "0.400"
    assert row["Divergence, 95 % over seeds"] == "[0.300, 0.500]"
    low, high = map(float, row["Divergence, 95 % over examples"].strip("[]").split(", "))
    assert 0.3 < low < 0.4 <= high < 0.5, "narrower than over seeds: four examples that differ little"
    findings = Findings.of(Results.load([runs.folder]))
    told = summary(findings, Drawn())["scenes"][0]["methods"][0]["knee_over_seeds"]
    assert (told["num_edges"], told["num_edges_seeds"]) == (4, {"low": 3, "high": 6})
    assert told["divergence_test_examples"]["low"] == pytest.approx(low, abs=1e-3) and told["why"] == ""


def test_the_band_over_examples_is_of_the_median_over_seeds(tmp_path: Path) -> None:
    """Seeds at 0.4, 0.5 and 0.9 on the same examples: the interval of the middle one."""
    runs = Runs(tmp_path)
    for seed, value in enumerate((0.4, 0.5, 0.9)):
        add(runs, "edge pruning", seed, {10: value})
    findings = Findings.of(Results.load([runs.folder]))
    ((_, (curve,)),) = findings.scenes.items()
    (band,) = [value for value in band_data(findings, curve, ["kl"], TOTAL)["values"] if value]
    ends = over_examples([0.5 + offset for offset in OFFSETS])
    assert (band["from"][0], band["to"][0]) == pytest.approx((ends.low, ends.high), abs=1e-3)
    stored = Runs(tmp_path / "without")
    for seed, value in enumerate((0.4, 0.5, 0.9)):
        add(stored, "edge pruning", seed, {10: value}, stored=False)
    findings = Findings.of(Results.load([stored.folder]))
    ((_, (curve,)),) = findings.scenes.items()
    assert "from" not in band_data(findings, curve, ["kl"], TOTAL)["values"][0]


def test_two_seeds_are_too_few_for_an_interval(tmp_path: Path) -> None:
    """Two that agree would have [0.365, 0.365]."""
    runs = Runs(tmp_path)
    for seed in range(2):
        add(runs, "edge pruning", seed, {2: 1.8, 4: 0.4, 50: 0.2})
        add(runs, "random", seed, {4: 1.0})
    row = table(runs, fronts, "Hypervolume per seed")[0] | table(runs, fronts, "Knee of each front")[0]
    for name in ("95 % over seeds", "95 % over both", "Edges, 95 % over seeds"):
        assert row[name] == "too few seeds"
    assert row["95 % over examples"].startswith("["), "examples there are enough"
    assert pair(runs)["95 % over seeds"] == pair(runs)["95 % over both"] == "too few seeds"


def test_over_common_budgets_it_does_not_count_where_a_method_was_evaluated(tmp_path: Path) -> None:
    """From 10 to 40 edges both have circuits. The first is better there by far; the second, evaluated at 1
    edge as well, has the larger hypervolume of the whole box."""
    runs = Runs(tmp_path)
    for seed in range(2):
        add(runs, "edge pruning", seed, {10: 0.2, 20: 0.1, 40: 0.1})
        add(runs, "random", seed, {1: 1.0, 10: 0.6, 60: 0.5})
    first, second = table(runs, fronts, "Hypervolume per method")
    assert (first["Method"], second["Method"]) == ("edge pruning", "random")
    assert first["Hypervolume"] < second["Hypervolume"]
    assert first["Common budgets"] == second["Common budgets"] == "10 – 40"
    assert first["Hypervolume over common budgets"] == "0.925", "half at 1 - 0.2 / 2, half at 1 - 0.1 / 2"
    assert second["Hypervolume over common budgets"] == "0.700", "1 - 0.6 / 2"
    add(runs, "far", 0, {90: 0.1})
    for row in table(runs, fronts, "Hypervolume per method"):
        assert (row["Common budgets"], row["Hypervolume over common budgets"]) == ("none", "–")


def test_the_sparsest_faithful_circuit_shows_what_chose_it(tmp_path: Path) -> None:
    """The validation divergence is within epsilon; the test divergence, beside it, need not be."""
    runs = Runs(tmp_path)
    for seed in range(2):
        runs.trial(trial(f"ep{seed}", seed, [point(0, 9, 5e-4, 2e-3), point(1, 40, 1e-4, 1e-4)]))
    (row,) = table(
        runs, fronts, "Sparsest circuit per method whose validation divergence is at most ε = 0.001"
    )
    assert row["Seeds with validation KL ≤ 0.001"] == "2 of 2" and row["Edges"] == "9"
    assert (row["Validation KL"], row["Test KL"]) == ("5.00e-04", "0.00200")
    runs.trial(trial("other", 0, [point(0, 9, 5e-4, 2e-3)], divergence="same_output"))
    rows = table(runs, fronts, "Sparsest circuit per method whose validation divergence is at most ε = 0.001")
    assert rows[0]["Test divergence"] == "0.00200 (KL)", "a scene of another divergence"


def test_examples_move_the_hypervolume(tmp_path: Path) -> None:
    """One circuit: the hypervolume under a resample is (1 − kl / empty) · width, by its examples."""
    runs = Runs(tmp_path)
    add(runs, "edge pruning", 0, {10: 0.5})
    (row,) = table(runs, fronts, "Hypervolume per seed")
    low, high = map(float, row["95 % over examples"].strip("[]").split(", "))
    width = math.log(TOTAL / 10) / math.log(TOTAL)
    assert low == pytest.approx(width * (1 - 0.52 / 2), abs=0.002), "all hard examples"
    assert width * (1 - 0.5 / 2) < high <= width * (1 - 0.45 / 2)


def test_runs_without_values_still_make_a_report(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path)
    html = page(Findings.of(Results.load([runs.folder])))
    assert 'id="comparison"' in html and 'id="faithfulness"' in html
    found = pair(runs)
    assert (found["First"], found["Second"], found["Seeds"]) == ("edge pruning", "random", "2, paired")
    assert found["Which is better"] == "cannot tell (2 seeds, 6 needed)"
    assert found["p (corrected)"] == "0.50 (0.50)"


def test_the_band_drawn_is_the_band_at_every_budget(tmp_path: Path) -> None:
    """Five seeds of which mostly the worst or the best changes, so that the median stays."""
    runs = Runs(tmp_path)
    add(runs, "random", 0, {2: 0.9, 6: 0.8, 12: 0.75})
    for seed in (1, 2, 3):
        add(runs, "random", seed, {2: 0.5, 14: 0.1 * seed})
    add(runs, "random", 4, {2: 0.4, 4: 0.3, 8: 0.2})
    findings = Findings.of(Results.load([runs.folder]))
    ((_, (curve,)),) = findings.scenes.items()
    drawn = band_data(findings, curve, ["kl"], TOTAL)
    every = np.arange(2, int(drawn["edges"][-1]) + 1)
    whole = bands(curve.test, curve.choices(every), every)
    at = np.searchsorted(drawn["edges"], every, side="right") - 1
    expected = {
        "median": whole.median, "low": whole.quartile_1, "high": whole.quartile_3,
        "min": whole.minimum, "max": whole.maximum,
    }  # fmt: skip
    for name, values in expected.items():
        assert drawn["values"][0][name][at] == pytest.approx(values, rel=1e-3), name
    assert drawn["of"] == len(drawn["edges"])
