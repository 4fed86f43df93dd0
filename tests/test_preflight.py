"""Preflight: a rank that could not serve trials says so before it gets one."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.cluster.gang import _kind
from tests.tiny_models import save_tiny
from trainers import preflight as checks
from trainers.distributed import Ranks
from trainers.folder import Folder
from trainers.model import ModelSpec
from trainers.preflight import PreflightError, as_planned, preflight, same_model
from trainers.trial import TrialSpec

MODEL = ModelSpec.model_validate({"builtin": "tracr-reverse"})


@dataclass(frozen=True)
class Pair(Ranks):
    """Two ranks, seen from the first; the second says `other`, times what a sound one would say."""

    other: float = 1.0

    def total(self, values: Tensor) -> Tensor:
        return values + self.other * 2.0

    def gather(self, value: float) -> list[float]:
        return [value, self.other * value]


def test_a_sound_rank_passes(ranks: Ranks) -> None:
    preflight(ranks)
    preflight(Pair(0, 2, ranks.device))
    same_model(ranks, MODEL, None)
    same_model(Pair(0, 2, ranks.device), MODEL, "abc")


def test_a_sum_over_ranks_that_comes_out_wrong_is_told(ranks: Ranks) -> None:
    with pytest.raises(PreflightError, match=r"rank 0 on .*: the sum over ranks gave 2, not 3"):
        preflight(Pair(0, 2, ranks.device, other=0.5))


def test_a_device_that_computes_wrongly_is_told(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of the product of 65,536 numbers."""
    product = torch.Tensor.__matmul__

    def flipped(self: Tensor, other: Tensor) -> Tensor:
        out = product(self, other)
        if out.is_floating_point():
            out[17, 3] += 1
        return out

    monkeypatch.setattr(torch.Tensor, "__matmul__", flipped)
    with pytest.raises(PreflightError, match="a matrix product on cpu came out wrong"):
        preflight(ranks)


def test_a_full_disk_and_full_shared_memory_are_told(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(PreflightError) as told:
        preflight(ranks)
    assert "/dev/shm has 3 MiB free, needed are 32; " in str(told.value)
    assert "has 3 MiB free, needed are 256" in str(told.value)


def test_ranks_with_other_files_of_a_model_are_told(ranks: Ranks) -> None:
    with pytest.raises(PreflightError, match=r"tracr-reverse: the ranks have different files .* rank 1: "):
        same_model(replace(Pair(0, 2, ranks.device), other=0.5), MODEL, None)


def test_checks_leave_nothing_behind(ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.tempfile, "gettempdir", lambda: str(tmp_path))
    preflight(ranks)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_with_other_files_than_the_trial_was_planned_with_is_told(
    ranks: Ranks, tmp_path: Path
) -> None:
    """A single rank has nobody to compare with, but the trial's name says what it was planned with."""
    model, trials = save_tiny("gpt2", tmp_path / "model"), Folder.open(tmp_path / "trials")
    trial = TrialSpec.parse(
        {"model": {"path": str(model)}, "task": {"name": "induction"}, "method": {"name": "random"}}, "test"
    )
    planned = trials / trial.trial_id
    as_planned(ranks, trial, planned)
    save_tiny("gpt2", model, seed=1)
    with pytest.raises(PreflightError, match=rf"rank 0 on .*the files of model .* not {planned.name}\)"):
        as_planned(ranks, trial, planned)
    as_planned(ranks, trial, Folder.open(tmp_path / "by-hand"))
    model.rename(tmp_path / "elsewhere")
    with pytest.raises(PreflightError, match=r"rank 0 on .*: model.path: no folder") as told:
        as_planned(ranks, trial, planned)
    error: Any = SimpleNamespace(cause=told.value)
    assert _kind(error, "begin") == "node", "it is not the trial's doing, whenever it is found"
