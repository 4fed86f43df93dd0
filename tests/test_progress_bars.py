"""Transformers' progress bars: at a terminal alone."""

import sys
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from tests.tiny_models import save_tiny
from trainers.sources.pretrained import load_weights


@pytest.mark.parametrize("terminal", [True, False])
def test_loading_draws_a_bar_at_a_terminal_only(
    tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny("gpt2", tmp_path / "gpt2")
    capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    load_weights(folder, torch.float32)
    assert ("Loading weights" in capsys.readouterr().err) == terminal
    assert logging.is_progress_bar_enabled(), "left as it was found"
