"""Transformers' progress bars, which are for a person at a terminal; a log gets a line per state."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bars_at_a_terminal() -> Iterator[None]:
    """While this is open, transformers draws no progress bars unless stderr is a terminal."""
    from transformers.utils import logging

    if sys.stderr.isatty() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
