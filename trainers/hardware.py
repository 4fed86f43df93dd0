"""Hardware: what a trial ran on, for its record."""

import os
import platform
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


def hardware(device: torch.device, cpu_info: Path = CPU_INFO) -> dict[str, object]:
    """`processor` (the CPU's model name as the system tells it, else its architecture), `cores` (logical ones
    of the machine), `memory_bytes` of the machine where it tells, and on a GPU `gpu`, its name."""
    told: dict[str, object] = {"processor": _processor(cpu_info), "cores": os.cpu_count()}
    if "SC_PHYS_PAGES" in os.sysconf_names:
        told["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device.type == "cuda":
        told["gpu"] = torch.cuda.get_device_name(device)
    return told


def _processor(cpu_info: Path) -> str:
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (value.strip() for key, _, value in (line.partition(":") for line in lines) if _is_name(key))
    return next(named, "") or platform.processor() or platform.machine()


def _is_name(key: str) -> bool:
    return key.strip().lower() == "model name"
