"""`report --watch` may be started before its sweep: it waits, says so, and goes on when there is one."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.lease import Lease
from orchestrator.report import watch as watching
from orchestrator.report.watch import Refreshed, watch
from tests.run_folders import Runs, point, trial
from trainers.folder import Folder
from trainers.spec import SpecError


def ended(path: Path) -> Runs:
    runs = Runs(path)
    runs.sweep("live", ["aa"])
    runs.trial(trial("aa", 0, [point(0, 9, 0.1)]))
    return runs


def watched(
    source: Path, events: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Refreshed], list[str]]:
    """Watches while each wait lets the next event happen; what was told and what was warned of."""
    told, warned, reports = list[Refreshed](), list[str](), list[int]()
    monkeypatch.setattr(watching, "deliver", lambda results, *_, **__: reports.append(1) or "table")
    monkeypatch.setattr(time, "sleep", lambda seconds: events.pop(0)())
    assert (
        watch([Folder.open(source)], Folder.open(source / "out"), 30, told.append, warned.append) == "table"
    )
    assert not events and reports
    return told, warned


@pytest.mark.parametrize("source", ["", "live"])
def test_it_waits_for_a_sweep_that_has_not_begun(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder; an empty folder; a driver that has its lease but has written no plan; the sweep."""
    runs = Runs(tmp_path / "runs")
    leases: list[Lease] = []
    place = runs.path / source
    events: list[Callable[[], object]] = [
        lambda: place.mkdir(parents=True),
        lambda: leases.append(Lease.acquire(runs.folder / "live", "live").__enter__()),
        lambda: (ended(runs.path), leases[0].release()),
    ]
    told, warned = watched(place, events, monkeypatch)
    assert warned == [f"{place}: no sweep there yet; looking again every 30 s"], "said once"
    assert [one.standing.over for one in told] == [1]


def test_it_does_not_wait_where_something_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SpecError, match=r"found a folder with notes\.txt; allowed: a runs folder"):
        watched(tmp_path, [], monkeypatch)
    with pytest.raises(SpecError, match="found a file"):
        watched(tmp_path / "notes.txt", [], monkeypatch)
