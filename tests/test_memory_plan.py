"""The memory plan: what it counts, and what it says when a trial does not fit."""

from pathlib import Path
from typing import Any

import pytest

from model_patches.footprint import Sizes
from model_patches.graph import Shape
from orchestrator.cli.terminal import plan_text
from orchestrator.planning.capacity import room
from orchestrator.planning.estimate import estimate
from orchestrator.planning.memory import Memory, fitting, predict
from orchestrator.planning.plan import plan
from orchestrator.planning.weights import sizes
from orchestrator.sweep import SweepSpec
from tests.tiny_models import save_tiny
from trainers.folder import Folder
from trainers.resources import Resources
from trainers.trial import TrialSpec

CODELLAMA = Sizes(Shape(40, 40, 40, ("tok_embeds",)), 5120, 128, 13824, 32016, 2, 3)
PARAMETERS = 13_015_864_320
TASK = {"name": "induction", "period": 24, "shown": 8, "train": 64, "validation": 64, "test": 64}
H100 = {"gpus_per_rank": 1, "accelerator": "H100"}


def trial(task: dict[str, Any] = TASK, **method: Any) -> TrialSpec:
    asked = {"name": "edge_pruning", "target_sparsity": 0.9, "gate_samples": 1} | method
    data = {"model": {"path": "/nowhere/codellama", "dtype": "bfloat16"}, "task": task, "method": asked}
    return TrialSpec.parse(data, "spec.json")


def memory(spec: TrialSpec, **resources: Any) -> Memory:
    found = predict(spec, Resources.parse(H100 | resources, ""), CODELLAMA, PARAMETERS)
    assert found is not None
    return found


def test_codellama_on_one_gpu() -> None:
    """Half of what 80 GB hold are weights and a batch of 16; the other half is what a backward keeps."""
    limit = room(Resources.parse(H100, ""), None)
    assert limit is not None
    spec = trial(batch_size=16)
    assert memory(spec, recompute_blocks=True).total < limit < memory(trial(batch_size=32)).total
    assert memory(spec).weights == memory(spec, recompute_blocks=True).weights == 2 * PARAMETERS
    assert memory(spec, recompute_blocks=True).trial < 0.6 * memory(spec).trial


def test_references_may_be_kept_on_the_gpu() -> None:
    """16 of 64 prompts of 32 tokens fit 20 GiB: (1641 writers + 81 sums) x 32 x 5120 numbers of 2 bytes."""
    spec = trial(batch_size=8)
    on_host, on_gpu = (
        memory(spec, reference_cache_gib=20, reference_cache_on=on) for on in ("host", "device")
    )
    assert on_gpu.trial - on_host.trial == 20 * 2**30
    resources = Resources.parse(H100 | {"reference_cache_gib": 20, "reference_cache_on": "device"}, "")
    found = fitting(spec, resources, CODELLAMA, PARAMETERS, lambda asked: on_host.total)
    assert "resources.reference_cache_on: host" in [change.told for change in found]


def test_a_smaller_cache_is_tried_alone_and_with_others() -> None:
    """On a CPU, where the cache is in the memory that a rank has."""
    resources = Resources.parse({"reference_cache_gib": 64}, "")

    def taken(gib: float, batch: int) -> int:
        asked = Resources.parse({"reference_cache_gib": gib}, "")
        found = predict(trial(batch_size=batch), asked, CODELLAMA, PARAMETERS)
        assert found is not None
        return found.total

    def changes(limit: int, batch: int) -> list[str]:
        found = fitting(trial(batch_size=batch), resources, CODELLAMA, PARAMETERS, lambda _: limit)
        return [change.told for change in found]

    assert "resources.reference_cache_gib: 16" in changes(taken(16, 8), 8)
    assert "method.batch_size: 2, resources.reference_cache_gib: 0.5" in changes(taken(0.5, 2), 32)


def test_what_fits_is_told() -> None:
    resources, spec = Resources.parse(H100, ""), trial(batch_size=32)
    found = fitting(spec, resources, CODELLAMA, PARAMETERS, lambda asked: room(asked, None))
    assert [change.told for change in found] == [
        "resources.recompute_blocks: true", "resources.ranks: 2, zero_stage: 3", "method.batch_size: 16",
    ]  # fmt: skip
    limit = room(resources, None)
    assert limit is not None and all(change.memory.total <= limit for change in found)


def test_where_no_single_change_fits_two_are_tried() -> None:
    resources, spec = Resources.parse(H100, ""), trial(batch_size=1, gate_samples=64)
    found = fitting(spec, resources, CODELLAMA, PARAMETERS, lambda asked: room(asked, None))
    assert "method.gate_samples: 16" in [change.told for change in found]
    small = fitting(spec, resources, CODELLAMA, PARAMETERS, lambda _: memory(spec).weights + 2**30)
    assert all("recompute_blocks" in change.told or "ranks" in change.told for change in small)


def test_what_is_not_known() -> None:
    unknown = trial({"name": "jsonl", "path": "data.jsonl"})
    assert predict(unknown, Resources(), CODELLAMA, PARAMETERS) is None
    assert room(Resources.parse({"gpus_per_rank": 1}, ""), None) is None
    assert room(Resources.parse({"memory_gib_per_rank": 3}, ""), None) == 3 * 2**30


def test_the_plan_says_it(tmp_path: Path) -> None:
    model = {"path": str(save_tiny("gpt2", tmp_path / "tiny"))}
    base = {
        "model": model,
        "task": TASK | {"period": 20},
        "method": {"name": "edge_pruning", "target_sparsity": 0.9},
    }
    data = {"name": "q", "question": "?", "base": base, "resources": {"memory_gib_per_rank": 0.1}}
    planned = plan(SweepSpec.parse(data, "q"), Folder.open(tmp_path / "runs"))
    told = plan_text(planned, estimate(planned, Folder.open(tmp_path / "runs")))
    assert "for prompts of 28 tokens" in told and "! more than the 102 MiB that a rank has" in told


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma3_text", "opt", "gpt_neox", "phi"])
def test_a_config_file_gives_the_sizes_of_the_model(kind: str, tmp_path: Path) -> None:
    """From config.json alone, as `plan` reads it, and from the model that is loaded."""
    from model_patches.circuit_model import CircuitModel
    from tests.tiny_models import tiny_model

    spec = TrialSpec.parse(
        {"model": {"path": str(save_tiny(kind, tmp_path))}, "task": TASK, "method": {"name": "eap"}}, ""
    )
    model = CircuitModel(tiny_model(kind))
    assert sizes(spec.model) == Sizes.of(model.model.config, model.architecture, 4)
