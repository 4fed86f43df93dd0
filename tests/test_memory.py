"""What a rank says about its memory."""

import mmap

import torch

from trainers.memory import in_use, peak, restart_peak

CPU = torch.device("cpu")
BLOCK = 256 * 2**20


def test_the_peak_counts_anew_from_where_it_was_restarted() -> None:
    restart_peak(CPU)
    before = in_use(CPU)
    # Straight from the kernel: an allocator may hand out pages that earlier tests left resident.
    with mmap.mmap(-1, BLOCK) as block:
        for page in range(0, BLOCK, mmap.PAGESIZE):
            block[page] = 1
        assert in_use(CPU) - before > 0.9 * BLOCK
    assert peak(CPU) - before > 0.9 * BLOCK > in_use(CPU) - before
    restart_peak(CPU)
    assert peak(CPU) - before < 0.9 * BLOCK
