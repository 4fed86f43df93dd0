"""Of which circuits the page holds what, and how it says of which it does not."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import CircuitsView, Paragraph
from orchestrator.report.panels.circuits import circuits
from orchestrator.report.room import Held, room
from tests.circuit_runs import BIG, Given, top, write
from tests.run_folders import GROUP, Runs


def two_scenes(path: Path) -> Findings:
    """In each scene a small and a large circuit on the front of each of two seeds; seed 0 is the better."""
    runs = Runs(path)
    for scene in ("zero", "interchange"):
        for seed in (0, 1):
            given = [Given(top(BIG, seed, n), 1.0 / n + seed) for n in (60, 3000)]
            group = GROUP.model_copy(update={"ablation": scene})
            write(runs, f"{scene}{seed}", seed, given, group=group)
    return Findings.of(Results.load([runs.folder]))


def test_a_large_circuit_of_a_seed_does_not_take_the_scores_of_its_small_one(tmp_path: Path) -> None:
    found = two_scenes(tmp_path)
    everything = sum(size.cost(Held.DETAIL) for view in room(found).views for size in view.sizes.values())
    held = room(found, everything // 2).held
    small = [of for (_, _, point), of in held.items() if point == 0]
    assert len(small) == 4 and set(small) == {Held.DETAIL}
    assert {of for (_, _, point), of in held.items() if point == 1} != {Held.DETAIL}, "not all fits"


def test_no_more_fits_where_something_is_lacking(tmp_path: Path) -> None:
    found = two_scenes(tmp_path)
    for budget in range(2_000, 60_000, 4_000):
        given = room(found, budget)
        sizes = {one: size for view in given.views for one, size in view.sizes.items()}
        left = budget - sum(size.cost(given.held[one]) for one, size in sizes.items())
        lacking = [one for one, of in given.held.items() if of == Held.EDGES]
        steps = [sizes[one].cost(Held.DETAIL) - sizes[one].cost(Held.EDGES) for one in lacking]
        assert left < min(steps, default=left + 1)


def test_a_method_of_one_seed_takes_no_room_for_stability(tmp_path: Path) -> None:
    """What is reckoned for circuits in detail is what they take, with stability and without."""
    for seeds in (1, 2):
        runs = Runs(tmp_path / str(seeds))
        for seed in range(seeds):
            write(runs, f"t{seed}", seed, [Given(top(BIG, seed, n), 1.0 / n) for n in (1000, 2000, 3000)])
        found = Findings.of(Results.load([runs.folder]))
        reckoned = sum(
            size.cost(Held.DETAIL) for view in room(found).views[:1] for size in view.sizes.values()
        )
        (view,) = (block for block in circuits(found) if isinstance(block, CircuitsView))
        numbers = view.data["scenes"][0]["methods"][0]["views"][0]["circuits"]
        taken = sum(len(json.dumps(view.data["circuits"][number])) for number in numbers)
        assert 0.85 * reckoned < taken < 1.1 * reckoned, seeds


@pytest.mark.parametrize(
    ("budget", "told"),
    [(1_500, "4 circuits only summarised"), (9_000, "circuits without scores"), (900, "left out: edge")],
)
def test_what_is_lacking_is_told_with_its_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, told: str
) -> None:
    monkeypatch.setattr(import_module("orchestrator.report.room"), "BUDGET", budget)
    found = two_scenes(tmp_path)
    text = " ".join(block.text for block in circuits(found) if isinstance(block, Paragraph))
    assert told in text
    for title in found.titles.values():
        assert f"edge pruning, {title}" in text, "which of the scenes"
        assert f"edge pruning, {title}, seeds 0, 1" in text or budget > 2_000
