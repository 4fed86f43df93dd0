"""Targets that were missed: on which side, and what to do about it; and no warning of what chance does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.records.results import Results
from orchestrator.report.aims import missed
from orchestrator.report.doubt import Doubt
from orchestrator.report.doubts import doubts
from orchestrator.report.findings import Findings
from tests.run_folders import EDGES, GROUP, TRUTH, Runs, point, trial

OTHERS = [(f"a0.h{head}", "m0") for head in range(len(EDGES))]
OWN = "target sparsity 0.9 did not bind: the final circuit's is 0.68"


def told(runs: Runs) -> list[Doubt]:
    return list(doubts(Findings.of(Results.load(runs.folder))))


def add(
    runs: Runs, seed: int, edges: int, target: float, method: str = "edge_pruning", **others: Any
) -> None:
    spec = {"method": {"name": method}, "seed": seed}
    circuit = point(0, edges, 0.1, target_sparsity=target)
    runs.trial(trial(f"t{seed}", seed, [circuit], spec=spec, **others))


def test_overshoot_and_shortfall_are_told_apart(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed, edges in enumerate((30, 9, 9, 2, 4)):
        add(runs, seed, edges, 0.9, warnings=[OWN] * (edges == 30))
    found = [doubt for doubt in told(runs) if "target" in doubt.what]
    assert [(doubt.what, list(doubt.trials)) for doubt in found] == [
        ("1 of 5 final circuits fell short of the target sparsity 0.9: kept are 30 edges, where the target "
         "keeps 9.4.", ["t0"]),
        ("2 of 5 final circuits overshot the target sparsity 0.9: kept are 3 (2 – 4) edges, where the target "
         "keeps 9.4.", ["t3", "t4"]),
    ]  # fmt: skip
    short, past = (doubt.advice for doubt in found)
    assert short.startswith("Raise multiplier_lr") and past.startswith("Lower multiplier_lr")


@pytest.mark.parametrize(
    ("total", "edges", "target", "off"),
    [
        (32, 1, 0.95, False),  # of 1.6 edges either whole number is near enough
        (32, 2, 0.95, False),
        (32, 3, 0.95, True),
        (32, 16, 0.5, False),
        (32, 15, 0.5, True),
        (32, 0, 0.99, False),
        (32, 1, 0.99, False),
        (32, 30, 1.2, False),  # none that could be met
        (70_651, 3_885, 0.95, False),  # half a percent point
        (70_651, 3_886, 0.95, True),
    ],
)
def test_no_more_is_asked_than_whole_edges_allow(total: int, edges: int, target: float, off: bool) -> None:
    row = {"num_edges": edges, "num_edges_total": total, "target_sparsity": target}
    assert missed(row) == off


def test_nobody_is_told_to_push_where_no_circuit_can_be(tmp_path: Path) -> None:
    """The known circuit of 3 edges; a target that keeps 0.9 of one; and one that can be met."""
    runs = Runs(tmp_path / "truth")
    add(runs, 0, 9, 0.98, ground_truth=TRUTH)
    (advice,) = (doubt.advice for doubt in told(runs) if "fell short" in doubt.what)
    assert (
        advice
        == "Ask for at most 96.8 %: of 94 edges the target keeps 1.88, and the known circuit has 3 edges."
    )
    smaller = point(0, 2, 0.0, target_sparsity=0.9)
    runs.trial(trial("t1", 1, [smaller], spec={"method": {"name": "edge_pruning"}, "seed": 1}))
    (advice,) = (doubt.advice for doubt in told(runs) if "fell short" in doubt.what)
    assert advice.startswith("Ask for at most 97.9 %")
    assert advice.endswith("and the smallest that was found to change nothing has 2 edges.")
    runs = Runs(tmp_path / "none")
    add(runs, 0, 9, 0.99)
    (advice,) = (doubt.advice for doubt in told(runs) if "fell short" in doubt.what)
    assert (
        advice
        == "Ask for at most 98.9 %: of 94 edges the target keeps 0.94, and a circuit has at least one edge."
    )
    add(runs, 0, 9, 0.95, ground_truth=TRUTH)
    (advice,) = (doubt.advice for doubt in told(runs) if "fell short" in doubt.what)
    assert advice.startswith("Raise multiplier_lr")


def test_of_groups_of_edges_only_the_trial_knows_how_large_they_are(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    add(runs, 0, 14, 0.9, "node_pruning")
    assert not [doubt for doubt in told(runs) if "target" in doubt.what]
    add(runs, 0, 14, 0.9, "node_pruning", warnings=[OWN])
    assert len([doubt for doubt in told(runs) if "fell short of the target" in doubt.what]) == 1


@pytest.mark.parametrize(("name", "warns"), [("random", False), ("edge_pruning", True)])
def test_chance_disagrees_by_construction(tmp_path: Path, name: str, warns: bool) -> None:
    """No overlap of faithful circuits, none of circuits of one size, quartiles that are far apart."""
    runs = Runs(tmp_path)
    lists: Sequence[Sequence[tuple[str, str]]] = (EDGES, OTHERS)
    for seed, edges in enumerate(lists):
        points = [point(0, 3, 1.9 - 1.8 * seed), point(1, 60, 1e-4)]
        spec = {"method": {"name": name}, "seed": seed}
        group = GROUP.model_copy(update={"method": name})
        runs.trial(
            trial(f"t{seed}", seed, points, spec=spec, group=group), edges={0: edges[:3], 1: edges[:6]}
        )
    found = [doubt.what for doubt in told(runs) if doubt.what.startswith("Seeds disagree")]
    assert len(found) == 3 * warns
