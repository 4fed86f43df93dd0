"""What a launch makes of orders, of a cluster that changes and of signals; without a Ray."""

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.attempt import Owner
from orchestrator.cluster import launch
from orchestrator.cluster.lane import Shift
from orchestrator.cluster.launch import Launch
from orchestrator.cluster.relay import Relay
from orchestrator.cluster.scheduling import Stop
from orchestrator.control import Control
from orchestrator.planning.plan import plan
from tests.standin import WORK, sweep
from tests.test_lane import Notes
from trainers.folder import Folder
from trainers.spec import SpecError


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The cluster: names of nodes of one CPU by id, for a test to change."""
    there: dict[str, str] = {}

    def live(excluded: Collection[str] = ()) -> list[dict[str, Any]]:
        has = {"CPU": 1.0}
        return [
            {"id": node, "name": name, "address": name, "resources": has, "free": has}
            for node, name in there.items()
            if node not in excluded
        ]

    monkeypatch.setattr(launch, "live_nodes", live)
    monkeypatch.setattr(
        launch, "nodes_called", lambda asked: [i for i, name in there.items() if name == asked]
    )
    return there


@pytest.fixture
def runs(tmp_path: Any) -> Folder:
    return Folder.open(tmp_path / "runs")


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def launched(runs: Folder, nodes: dict[str, str], notes: Notes) -> Launch:
    one = sweep(2)
    planned, owner = plan(one, runs), Owner(sweep=one.name, host="here", pid=1)
    relay = Relay(runs, {trial.trial_id: trial.spec for trial in planned.trials}, owner, [notes])
    shift = Shift(runs.location, one.resources, one.faults, owner, os.getcwd(), WORK, "code")
    return Launch(planned, runs, shift, relay, Stop(None), wait=False)


def said(notes: Notes, kind: str) -> list[str]:
    return [notice.text for notice in notes.notices if notice.kind == kind]


def test_a_drained_machine_that_is_started_again_stays_drained(
    launched: Launch, nodes: dict[str, str], notes: Notes, runs: Folder
) -> None:
    nodes |= {"a1": "gpu-1", "b1": "gpu-2"}
    Control(drained=frozenset({"gpu-1", "gpu-3"})).write(runs / "standin")
    launched._poll()
    launched._poll()
    assert launched._supervisor.excluded == {"a1"}
    del nodes["a1"]
    nodes |= {"a2": "gpu-1", "c1": "gpu-3"}
    launched._poll()
    launched._poll()
    assert launched._supervisor.excluded == {"a1", "a2", "c1"}
    unknown = "nothing: no live node is called gpu-3; there are gpu-1 (gpu-1), gpu-2 (gpu-2)"
    told = sorted(said(notes, "drained"))
    assert told == ["node gpu-1 gets no more trials"] * 2 + ["node gpu-3 gets no more trials", unknown]


def test_a_store_that_is_away_for_a_moment_ends_no_sweep(
    launched: Launch, nodes: dict[str, str], runs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(folder: Folder, name: str, limit: int = 0) -> bytes | None:
        raise OSError("AWS Error NETWORK_CONNECTION")

    Control(paused=True).write(runs / "standin")
    launched._poll()
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", away)
        launched._poll()
        assert launched._asked.paused, "what was asked holds"
    Control(paused=False).write(runs / "standin")
    launched._poll()
    assert not launched._asked.paused


def test_a_cluster_that_has_shrunk_since_the_start_is_waited_for(
    launched: Launch, nodes: dict[str, str]
) -> None:
    """Such as one that was taken down during a pause."""
    assert not launched._may_start()
    nodes["a1"] = "gpu-1"
    assert launched._may_start()


def test_a_sweep_that_was_refused_has_not_begun(launched: Launch, notes: Notes) -> None:
    """Else `status` says that its driver was killed or lost."""
    with pytest.raises(SpecError, match="found room for 0"):
        launched.run_all()
    assert notes.notices == []


def test_ctrl_c_while_ray_starts_ends_the_sweep_in_order(
    runs: Folder, nodes: dict[str, str], notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def starting(address: str | None, verbose: bool) -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGINT)
        yield

    monkeypatch.setattr(launch, "cluster", starting)
    before = signal.getsignal(signal.SIGINT)
    outcome = launch.run(plan(sweep(2), runs), runs, observers=[notes], work=WORK)
    assert (outcome.stopped, outcome.unfinished) == ("interrupted", 2)
    assert said(notes, "stopped") == ["by Ctrl-C or SIGTERM"]
    assert signal.getsignal(signal.SIGINT) is before
