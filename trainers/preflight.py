"""Preflight: what a rank must be able to do before trials are given to it.

A node with a broken GPU, a full disk or another copy of the model would cost one trial after the
other, or give wrong circuits without a word. All checks together take milliseconds.
"""

import shutil
import socket
import tempfile
from pathlib import Path

import torch

from trainers.distributed import Ranks
from trainers.folder import Folder
from trainers.model import ModelSpec
from trainers.spec import SpecError, content_id
from trainers.trial import TrialSpec

MIN_SHARED_BYTES = 32 * 2**20  # /dev/shm: ranks of one node exchange tensors through it
MIN_DISK_BYTES = 256 * 2**20  # of the temporary folder
MIN_GPU_SHARE = 0.1  # of its memory that must be free: less means that somebody else computes on it
SIZE = 256  # of the checked matrix product


class PreflightError(RuntimeError):
    """This rank cannot serve trials. `str()` names the machine, what was found and what is needed."""


def preflight(ranks: Ranks) -> None:
    """Raises PreflightError on the rank that something is wrong with. Every rank calls it."""
    problems = [*_computes(ranks), *_has_room(ranks)]
    expected = ranks.world_size * (ranks.world_size + 1) / 2
    found = float(ranks.total(torch.tensor(ranks.rank + 1.0, device=ranks.device)))
    if found != expected:
        problems.append(f"the sum over ranks gave {found:g}, not {expected:g}")
    if problems:
        raise PreflightError(f"rank {ranks.rank} on {socket.gethostname()}: {'; '.join(problems)}")


def same_model(ranks: Ranks, model: ModelSpec, commit: str | None) -> None:
    """Raises PreflightError, on all ranks alike, unless all ranks loaded the same files. `commit` is what
    a hub model's revision stood for."""
    mine = int(content_id(model.identity() | {"commit": commit or ""})[:8], 16)
    digests = ranks.gather(float(mine))
    if len(set(digests)) > 1:
        own = ", ".join(f"rank {rank}: {int(digest):08x}" for rank, digest in enumerate(digests))
        raise PreflightError(f"{model.label}: the ranks have different files of this model: {own}")


def as_planned(ranks: Ranks, trial: TrialSpec, folder: Folder) -> None:
    """Raises PreflightError unless this machine has what a trial of a runs folder was planned with: its name
    there says which files, and which versions of our code. Otherwise nobody could read the result."""
    if folder.parent.name != "trials":  # by hand
        return
    where = f"rank {ranks.rank} on {socket.gethostname()}"
    try:
        found = trial.trial_id
    except (SpecError, OSError) as error:
        raise PreflightError(f"{where}: {error}") from None
    if found != folder.name:
        what = f"the files of {trial.model.label} or of the task {trial.task.name}, or this code,"
        raise PreflightError(
            f"{where}: {what} are not those that the trial was planned with (they make it {found}, "
            f"not {folder.name})"
        )


def _computes(ranks: Ranks) -> list[str]:
    """A product of small integers is exact in float32, so it must be right to the last bit."""
    numbers = torch.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 17 - 8
    product = (numbers.float().to(ranks.device) @ numbers.float().to(ranks.device)).cpu()
    if torch.equal(product.long(), numbers @ numbers):
        return []
    return [f"a matrix product on {ranks.device} came out wrong"]


def _has_room(ranks: Ranks) -> list[str]:
    problems = []
    for folder, least in (
        (Path("/dev/shm"), MIN_SHARED_BYTES),
        (Path(tempfile.gettempdir()), MIN_DISK_BYTES),
    ):
        if folder.is_dir() and (free := shutil.disk_usage(folder).free) < least:
            problems.append(f"{folder} has {free / 2**20:.0f} MiB free, needed are {least / 2**20:.0f}")
    if ranks.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(ranks.device)
        if free < MIN_GPU_SHARE * total:
            problems.append(f"the GPU has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    return problems
