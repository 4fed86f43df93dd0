"""Fronts, faithfulness and comparisons in the report: numbers checked by hand on synthetic run folders."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from orchestrator.report.panels.blocks import Block, Details, Paragraph, Table
from orchestrator.report.panels.comparison import comparison, has_pairs
from orchestrator.report.panels.faithfulness import faithfulness
from orchestrator.report.panels.fronts import fronts
from tests.run_folders import GROUP, Runs, hostile_sweep, point, store_test_values, trial
from trainers.record import TEST_VALUES

Panel = Callable[[Findings], Sequence[Block]]
OFFSETS = (-0.05, 0.02, 0.01, 0.02)  # of four examples, hard and easy ones; they sum to 0


def group(method: str, **others: str) -> dict[str, Any]:
    name = {"edge pruning": "edge_pruning", "EAP": "eap"}.get(method, "random")
    spec = {"model": {"builtin": "tracr-reverse"}, "method": {"name": name}}
    return {"group": GROUP.model_copy(update={"method": method, **others}), "spec": spec}


def add(
    runs: Runs, method: str, seed: int, tests: Mapping[int, float], stored: bool = True, **others: Any
) -> str:
    """A trial of `method` with a circuit of each size and its test divergence, also example by example."""
    trial_id = f"{''.join(method.split())}{seed}"
    points = [point(number, edges, value) for number, (edges, value) in enumerate(tests.items())]
    if stored:
        rows = [[0.0] * 4, [2.0] * 4, *([value + offset for offset in OFFSETS] for value in tests.values())]
        store_test_values(runs, trial_id, {"kl": rows})
        others = {"test_values": TEST_VALUES} | others
    runs.trial(trial(trial_id, seed, points, **(group(method) | others)))
    return trial_id


def blocks(runs: Runs, panel: Panel) -> list[Block]:
    found: list[Block] = []
    waiting = list(panel(Findings.of(Results.load([runs.folder]))))
    while waiting:
        block = waiting.pop(0)
        found.append(block)
        if isinstance(block, Details):
            waiting = [*block.blocks, *waiting]
    return found


def table(runs: Runs, panel: Panel, caption: str) -> list[dict[str, str]]:
    tables = [b for b in blocks(runs, panel) if isinstance(b, Table) and b.caption.startswith(caption)]
    assert tables, f"no table {caption}"
    titles = [column.title for column in tables[0].columns]
    return [dict(zip(titles, row, strict=True)) for row in tables[0].rows]


def text(runs: Runs, panel: Panel) -> str:
    return " ".join(b.text for b in blocks(runs, panel) if isinstance(b, Paragraph))


def folded(runs: Runs) -> list[str]:
    return [block.summary for block in blocks(runs, comparison) if isinstance(block, Details)]


def pairs(runs: Runs) -> list[dict[str, str]]:
    return table(runs, comparison, "Pairs of methods")


def pair(runs: Runs) -> dict[str, str]:
    rows = pairs(runs)
    assert len(rows) == 1
    return rows[0]


def test_six_paired_seeds_can_tell(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(6):
        value = 0.1 * (seed + 1)
        add(runs, "edge pruning", seed, {10: value})
        add(runs, "random", seed, {10: value + 0.1 * (seed + 1)})
    found = pair(runs)
    assert (found["First"], found["Second"], found["Edge budgets"]) == ("edge pruning", "random", "10")
    assert found["Difference"] == "−0.350"
    assert found["95 % over examples"] == "[−0.350, −0.350]", "hard examples are hard for both"
    assert found["95 % over seeds"] == "[−0.483, −0.217]", "means of six of 0.1 ... 0.6"
    assert found["95 % over both"].startswith("[−0.4") and found["95 % over both"].endswith("−0.217]")
    assert found["p (corrected)"] == "0.031 (0.031)", "2^(1 - 6)"
    assert found["Seeds"] == "6, paired"
    assert any("edge pruning is better on 100.0 % of" in summary for summary in folded(runs))
    assert found["Which is better"] == "edge pruning"


def test_five_seeds_never_can(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(5):
        add(runs, "edge pruning", seed, {10: 0.0})
        add(runs, "random", seed, {10: 1.9})
    found = pair(runs)
    assert (found["Which is better"], found["p (corrected)"]) == (
        "cannot tell (5 seeds, 6 needed)",
        "0.062 (0.062)",
    )


def test_no_winner_where_the_interval_holds_0(tmp_path: Path) -> None:
    """Seven seeds whose signs differ: a mean difference, a p of 1 and an interval around 0."""
    runs = Runs(tmp_path)
    for seed in range(7):
        add(runs, "edge pruning", seed, {10: 1 + 0.1 * (-1) ** seed})
        add(runs, "random", seed, {10: 1.0})
    found = pair(runs)
    assert found["Difference"] == "+0.0143" and found["p (corrected)"] == "1.0 (1.0)"
    assert found["Which is better"] == "cannot tell (7 seeds)"
    low, high = found["95 % over both"].strip("[]").split(", ")
    assert low.startswith("−0.0") and high.startswith("0.0")


def test_no_winner_where_other_examples_may_say_otherwise(tmp_path: Path) -> None:
    """Every seed is better on these examples, but all by one hard example: the test over seeds cannot see
    that, the interval over both does."""
    runs = Runs(tmp_path)
    for seed in range(6):
        for method, hard in (("edge pruning", 1.0), ("random", 2.0 + 0.01 * seed)):
            rows = [[0.0] * 4, [2.0] * 4, [hard, 1.0, 1.0, 1.0]]
            trial_id = add(
                runs, method, seed, {10: float(np.mean(rows[2]))}, stored=False, test_values=TEST_VALUES
            )
            store_test_values(runs, trial_id, {"kl": rows})
    found = pair(runs)
    assert found["p (corrected)"] == "0.031 (0.031)" and found["95 % over both"].endswith(", 0]")
    assert found["Which is better"] == "cannot tell (6 seeds)"


def test_a_method_without_seeds_and_too_few_seeds(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    add(runs, "EAP", 0, {10: 0.5})
    for seed in range(3):
        add(runs, "random", seed, {10: 1 + 0.1 * seed})
    found = pair(runs)
    assert found["Seeds"] == "none and 3"
    assert found["Difference"] == "−0.600" and found["p (corrected)"] == "0.25 (0.25)"
    assert found["Which is better"] == "cannot tell (3 seeds, 6 needed)"
    assert found["95 % over seeds"] == "[−0.700, −0.500]"


def test_seven_seeds_against_a_method_without_seeds_can_tell(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    add(runs, "EAP", 0, {10: 0.5})
    for seed in range(7):
        add(runs, "random", seed, {10: 1 + 0.05 * seed})
    found = pair(runs)
    assert found["p (corrected)"] == "0.016 (0.016)", "2^(1 - 7)"
    assert found["Which is better"] == "EAP" and found["Seeds"] == "none and 7"
    assert "a method that does not depend on them" in text(runs, comparison)


def test_methods_that_are_the_same_everywhere_do_not_differ(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(2):
        add(runs, "edge pruning", seed, {10: 0.1 * (seed + 1), 20: 0.05})
        add(runs, "random", seed, {10: 0.1 * (seed + 1), 20: 0.05})
    assert pair(runs)["Which is better"] == "no difference"


def test_other_seeds_are_not_paired(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(4):
        add(runs, "edge pruning", seed, {10: 0.1 + 0.01 * seed})
        add(runs, "random", seed + 1, {10: 1 + 0.01 * seed})
    found = pair(runs)
    assert found["Seeds"] == "4 and 4"
    assert found["p (corrected)"] == "0.029 (0.029)", "2 of 70 splits"
    assert found["Which is better"] == "cannot tell (4 seeds, 6 needed)", "never with fewer than 6"


def test_one_run_each(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    add(runs, "EAP", 0, {10: 0.5})
    add(runs, "EAP (signed)", 0, {10: 0.7}, spec=group("EAP")["spec"])
    found = pair(runs)
    assert found["Seeds"] == "none" and found["p (corrected)"] == found["95 % over seeds"] == "–"
    assert found["Which is better"] == "cannot tell (no seeds)"
    assert found["95 % over examples"] == "[−0.200, −0.200]" and found["95 % over both"] == "–"
    assert "One seed only" not in text(runs, comparison)


def test_the_mean_is_the_area_over_the_logarithm_of_the_budget(tmp_path: Path) -> None:
    """Difference −1 on [10, 20) and −0.2 on [20, 80]: one of three octaves and two of three."""
    runs = Runs(tmp_path)
    for seed in range(2):
        add(runs, "edge pruning", seed, {10: 0.5, 20: 0.3, 80: 0.1})
        add(runs, "random", seed, {5: 1.8, 10: 1.5, 20: 0.5, 90: 0.0})
    found = pair(runs)
    assert found["Edge budgets"] == "10 – 80"
    assert found["Difference"] == "−0.467"
    assert found["95 % over examples"] == "[−0.467, −0.467]", "the same area, example by example"
    single = table(runs, comparison, "edge pruning and random at single budgets")
    assert [single[0]["Edge budget"], single[-1]["Edge budget"]] == ["10", "80"]
    assert [single[0]["Difference"], single[-1]["Difference"]] == ["−1.00", "−0.400"]


def test_circuits_are_chosen_on_validation(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(2):
        points = [point(0, 10, 0.2, 0.9), point(1, 12, 0.1, 0.3), point(2, 12, 0.5, 0.0)]
        runs.trial(trial(f"ep{seed}", seed, points))
        add(runs, "random", seed, {12: 1.0}, stored=False)
    assert pair(runs)["Difference"] == "−0.700", "0.3, not the 0 that validation misses"


def test_why_there_is_no_interval_over_examples(tmp_path: Path) -> None:
    def remark(name: str, change: Callable[[Runs], None], **others: Any) -> str:
        runs = Runs(tmp_path / name)
        for seed in range(2):
            add(runs, "edge pruning", seed, {10: 0.1})
            add(runs, "random", seed, {10: 1.0}, **others)
        change(runs)
        assert pair(runs)["95 % over examples"] == "–" and pair(runs)["Difference"] == "−0.900"
        return text(runs, comparison)

    rows = [[0.0] * 4, [2.0] * 4, [1.0] * 4]
    old = remark("old", lambda runs: None, stored=False)
    assert "No interval over examples: the trials were run before per-example values were stored." in old

    def elsewhere(runs: Runs) -> None:
        for seed in range(2):
            store_test_values(runs, f"random{seed}", {"kl": rows}, "e")

    other = remark("other", elsewhere)
    assert "the two methods were measured on different examples" in other
    mixed = remark("mixed", lambda runs: store_test_values(runs, "random0", {"kl": rows}, "e"))
    assert "the trials of random were measured on different examples" in mixed
    wrong = [*rows[:2], [0.5] * 4]
    stale = remark("stale", lambda runs: store_test_values(runs, "random1", {"kl": wrong}))
    assert "the per-example values of trial random1 are not those of its result" in stale
    torn = remark("torn", lambda runs: runs.folder.write(f"trials/random0/{TEST_VALUES}", b"abc"))
    assert f"trial random0: {TEST_VALUES} is damaged" in torn
    gone = remark("gone", lambda runs: runs.folder.delete(f"trials/random0/{TEST_VALUES}"))
    assert f"trial random0: {TEST_VALUES} is missing" in gone
    lacking = remark("lacking", lambda runs: store_test_values(runs, "random0", {"accuracy": rows}))
    assert "trial random0 has no per-example kl" in lacking


def test_many_methods_are_compared_with_the_best_on_validation(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for number in range(6):
        for seed in range(6):
            add(runs, f"m{number}", seed, {10: 1.2 - 0.2 * number + 0.001 * seed}, in_sample=number == 0)
    rows = pairs(runs)
    assert [(row["First"], row["Second"]) for row in rows] == [("m5", f"m{n}") for n in range(5)]
    assert {row["p (corrected)"] for row in rows} == {"0.031 (0.16)"}
    assert {row["Which is better"] for row in rows} == {"cannot tell (6 seeds, 8 needed)"}
    remarks = text(runs, comparison)
    assert "With so few seeds, the corrected p of 5 comparisons cannot be below 0.16." in remarks
    assert "6 methods make 15 pairs" in remarks and "its lead is flattered" in remarks
    assert "The test examples are the training examples" in remarks


def test_single_budgets_are_listed_for_so_many_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(tmp_path)
    for number in range(3):
        add(runs, f"m{number}", 0, {10: 0.5 + 0.1 * number})
    assert "Single budgets" not in text(runs, comparison)
    monkeypatch.setitem(comparison.__globals__, "DETAILED", 2)  # the package names the function alike
    assert "Single budgets are listed for the first 2 pairs of the report only." in text(runs, comparison)
    assert sum(isinstance(block, Details) for block in blocks(runs, comparison)) == 1 + 2


def test_scenes_are_never_mixed(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(2):
        add(runs, "edge pruning", seed, {10: 0.1})
        add(runs, "random", seed, {10: 1.0}, **group("random", ablation="interchange"))
    findings = Findings.of(Results.load([runs.folder]))
    assert len(findings.scenes) == 2 and not has_pairs(findings)


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(2):
        add(runs, "edge pruning", seed, {10: 0.1})
        add(runs, "far", seed, {50: 0.2})
        runs.trial(trial(f"nan{seed}", seed, [point(0, 10, math.nan)], **group("nan")))
        runs.trial(trial(f"inf{seed}", seed, [point(0, 10, 0.1, math.inf)], **group("inf")))
    told = {(r["First"], r["Second"]): r["Which is better"] for r in pairs(runs)}
    assert told["edge pruning", "far"] == (
        "not compared: no edge budget at which every seed of both has a circuit"
    )
    assert "nan has no circuit with a finite validation divergence" in told["edge pruning", "nan"]
    assert "a circuit of inf that counts has no finite test divergence" in told["edge pruning", "inf"]


def test_names_from_outside_do_not_break_it(tmp_path: Path) -> None:
    assert page(Findings.of(Results.load([hostile_sweep(tmp_path).folder]))).count("<script>alert") == 0


def test_the_same_folders_give_the_same_blocks(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in range(9):
        add(runs, "edge pruning", seed, {10: 0.1 + 0.03 * seed, 30: 0.05})
        add(runs, "random", seed, {10: 1 + 0.01 * seed * seed, 40: 0.3})
    for panel in (fronts, faithfulness, comparison):
        assert blocks(runs, panel) == blocks(runs, panel)
