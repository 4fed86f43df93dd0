"""What people ask of a running driver, as the commands write it down."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli.main import main
from orchestrator.control import Control
from orchestrator.lease import Lease
from tests.run_folders import Runs
from trainers.folder import Folder

TRIALS = ["aaaa000000000001", "bbbb000000000002"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    Runs(tmp_path).sweep("demo", TRIALS)
    return tmp_path


@pytest.fixture
def driven(runs: Path) -> Iterator[Folder]:
    """The folder of a sweep whose driver is this process."""
    with Lease.acquire(Folder.open(runs) / "demo", "demo"):
        yield Folder.open(runs) / "demo"


def ask(*command: str) -> Result:
    return CliRunner().invoke(main, list(command))


def test_everything_is_asked_in_one_file_and_nothing_asked_before_is_lost(driven: Folder, runs: Path) -> None:
    where = ("--runs", str(runs))
    for command in (("pause", str(runs)), ("cancel", "bbbb", *where), ("cancel", "aaaa", *where)):
        asked = ask(*command)
        assert asked.exit_code == 0, asked.output
    assert ask("drain", "gpu-07", *where).exit_code == 0
    assert Control.read(driven) == Control(
        paused=True, cancelled=frozenset(TRIALS), drained=frozenset({"gpu-07"})
    )
    assert ask("resume", str(runs)).exit_code == 0
    assert not Control.read(driven).paused and Control.read(driven).cancelled == frozenset(TRIALS)


def test_retry_takes_a_cancellation_back(driven: Folder, runs: Path) -> None:
    """Else the trial would run, be stopped as cancelled, and run again, for ever."""
    ask("cancel", "aaaa", "--runs", str(runs))
    assert ask("retry", str(runs), "--failed").exit_code == 0
    assert Control.read(driven) == Control(retries=1)
    ask("cancel", "aaaa", "--runs", str(runs))
    assert Control.read(driven).cancelled == {TRIALS[0]}, "it can be cancelled anew"


@pytest.mark.parametrize("trial", ["cccc", ""])
def test_a_trial_must_be_told_from_the_others(driven: Folder, runs: Path, trial: str) -> None:
    asked = ask("cancel", trial, "--runs", str(runs))
    assert asked.exit_code == 2 and "TRIAL: found" in asked.output
    assert Control.read(driven) == Control()


def test_without_a_driver_there_is_nobody_to_ask(runs: Path) -> None:
    asked = ask("pause", str(runs))
    assert asked.exit_code == 2 and "no driver runs a sweep there" in asked.output
