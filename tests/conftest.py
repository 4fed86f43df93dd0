"""What holds for every test."""

import os


def pytest_configure() -> None:
    """Tiny tensors are many times faster on one thread, above all when other processes want the cores.
    Set before torch is imported, so that the processes that tests start inherit it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
