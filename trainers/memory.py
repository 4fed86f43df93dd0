"""How much memory a rank uses, and used at most."""

import ctypes
import mmap
import resource
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


def in_use(device: torch.device) -> int:
    """Bytes in use now: allocated on the GPU, or the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def peak(device: torch.device) -> int:
    """Bytes in use at most since `restart_peak`; since the process began where there is no /proc."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM")


def restart_peak(device: torch.device) -> None:
    """From now on `peak` counts anew, so that a warm rank's trials do not inherit each other's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif PROCESS.exists():
        (PROCESS / "clear_refs").write_text("5")  # resets VmHWM alone (man 5 proc)


def _status(name: str) -> int:
    if not PROCESS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def settle(weights: Iterable[torch.Tensor], device: torch.device) -> int:
    """Bytes in use by a model that has just been loaded, such that what comes later is neither hidden in
    what loading left behind nor mixed with weights that a file maps and nobody has looked at yet."""
    if device.type != "cuda":
        for weight in weights:
            weight.detach().flatten()[:: max(1, mmap.PAGESIZE // weight.element_size())].sum()
        with suppress(OSError, AttributeError):  # of glibc
            ctypes.CDLL(None).malloc_trim(0)
    return in_use(device)
