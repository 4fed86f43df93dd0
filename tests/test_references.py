"""The cache of references: a hit and a miss give the same bits, within the budget, honestly counted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model_patches.states import WriterStates
from tests import one_rank
from tests.gang import torchrun
from tests.tiny_models import save_tiny
from trainers.references import ReferenceCache, References
from trainers.resources import Resources
from trainers.spec import SpecError

METHOD = {"name": "edge_pruning", "target_sparsity": 0.6, "steps": 9, "path_points": 2, "batch_size": 5,
          "init_log_alpha": 0, "init_std": 2}  # fmt: skip
ROOM = {"none fits": 1e-9, "some fit": 2e-4, "all fit": 1.0}


def spec(folder: Path, **changes: Any) -> dict[str, Any]:
    model = {"path": str(save_tiny("gpt2", folder / "model"))}
    return {"model": model, "task": one_rank.TINY_TASK, "method": METHOD, **changes}


@pytest.mark.parametrize("ablation", ["interchange", "zero", "mean_positional"])
def test_a_hit_and_a_miss_give_the_same_bits(ablation: str, tmp_path: Path) -> None:
    asked, found = spec(tmp_path, ablation=ablation), {}
    for name, gib in ROOM.items():
        with one_rank.working(zero_stage=0, reference_cache_gib=gib) as make:
            found[name] = one_rank.run(make(), tmp_path / name, asked)
    none, some, every = found.values()
    hits = [one.execution["reference_hits"] for one in (none, some, every)]
    assert hits[0] == 0 < hits[1] <= hits[2] == pytest.approx(32 / 45), "all but each example's first"
    assert none.status == "complete" and none.points == some.points == every.points
    for circuit in (point.circuit for point in none.points):
        contents = {(tmp_path / name / circuit).read_bytes() for name in ROOM}
        assert len(contents) == 1
    assert none.examples is not None and some.examples is not None and every.examples is not None
    assert every.examples <= some.examples <= none.examples and every.examples < none.examples
    each = 2 if ablation == "interchange" else 1
    assert none.examples - every.examples == each * (9 * 5 - 13), (
        "each training example once instead of each time"
    )


def test_a_resumed_trial_counts_and_ends_alike(tmp_path: Path) -> None:
    asked = spec(tmp_path)
    with one_rank.working(zero_stage=0, reference_cache_gib=ROOM["some fit"], checkpoint_seconds=0) as make:
        expected = one_rank.run(make(), tmp_path / "undisturbed", asked)
        worker, folder = make(), tmp_path / "killed"
        worker.begin(one_rank.write_spec(folder, asked).plain(), str(folder), 1)
        one_rank.advance(worker, 6)
        assert worker.trial is not None
        worker.trial.close()
        found = one_rank.run(make(), folder, asked, attempt=2)
    assert found.points == expected.points
    assert (found.examples, found.backward_examples) == (expected.examples, expected.backward_examples)


def test_the_budget_holds_and_the_first_stay() -> None:
    cache = ReferenceCache(100)
    for example in range(3):
        cache.add(example, References(torch.zeros(1, 1, 10), None))
    assert [example in cache for example in range(3)] == [True, True, False] and cache.closed
    assert cache[0].full.device.type == "cpu"
    cache.told(4, 3)
    assert cache.hit_rate == 0.75


def test_references_are_kept_where_the_budget_is() -> None:
    """`meta` stands for a device that is not where they were made."""
    cache, states = ReferenceCache(100, torch.device("meta")), WriterStates(torch.zeros(2), torch.zeros(1))
    cache.add(0, References(torch.zeros(1, 1, 10), states))
    kept = cache[0]
    assert kept.corrupted is not None
    assert {x.device.type for x in (kept.full, kept.corrupted.writers, kept.corrupted.residuals)} == {"meta"}


def test_a_cache_on_a_device_needs_one() -> None:
    for wrong in ({"reference_cache_gib": 1}, {"gpus_per_rank": 1}):
        with pytest.raises(SpecError, match="reference_cache_on: found device; allowed: with"):
            Resources.parse({"reference_cache_on": "device", **wrong}, "resources")


@pytest.mark.slow
def test_ranks_that_miss_differently_stay_in_step(tmp_path: Path) -> None:
    """Under ZeRO-3 every rank runs the model equally often, whatever it has at hand."""
    asked = spec(tmp_path)
    for name, gib in ROOM.items():
        one_rank.write_spec(tmp_path / name, asked)
        resources = json.dumps({"ranks": 2, "zero_stage": 3, "reference_cache_gib": gib})
        ran = torchrun(2, "tests.gang", resources, "", str(tmp_path / name))
        assert not ran.returncode, ran.stderr[-2000:]
    none, some, every = (one_rank.result(tmp_path / name) for name in ROOM)
    assert none.status == "complete" and none.points == some.points == every.points
