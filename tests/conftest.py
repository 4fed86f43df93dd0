"""What holds for every test."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from trainers.distributed import Ranks


def pytest_configure() -> None:
    """Tiny tensors are many times faster on one thread, above all when other processes want the cores.
    Set before torch is imported, so that the processes that tests start inherit it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def ranks() -> "Iterator[Ranks]":
    """The test process as the one rank of a gang."""
    from tests import one_rank  # not before pytest_configure: it imports torch

    with one_rank.joined() as ranks:
        yield ranks


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        yield browser
        browser.close()
