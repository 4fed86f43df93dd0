"""Leases: one driver per sweep, and who runs a trial when sweeps share a runs folder."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.attempt import Attempt, Owner
from orchestrator.lease import LEASE, LOCK, SILENT_SECONDS, Holder, Lease, LeaseHeld, elsewhere
from trainers.folder import Folder

BEAT = 0.05
HOLD = """
import sys, time
from orchestrator.lease import Lease
from trainers.folder import Folder
lease = Lease.acquire(Folder.open(sys.argv[1]), "q", beat_seconds=0.05)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path / "q")


@contextmanager
def other_driver(home: Folder) -> Iterator[subprocess.Popen[str]]:
    driver = subprocess.Popen([sys.executable, "-c", HOLD, home.path], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    try:
        assert driver.stdout.readline() == "held\n"
        yield driver
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()


def leave(home: Folder, **changes: object) -> Holder:
    """A lease as a driver in another place or time left it."""
    holder = Holder.here("q").model_copy(update=changes)
    home.write(LEASE, holder.content())
    return holder


def wait_until_lost(lease: Lease) -> None:
    deadline = time.monotonic() + 20
    while not lease.lost and time.monotonic() < deadline:
        time.sleep(BEAT / 5)
    assert lease.lost


def test_a_lease_is_there_while_it_is_held(home: Folder) -> None:
    with Lease.acquire(home, "q") as lease:
        held = Holder.read(home)
        assert held is not None and held.id == lease.holder.id and held.pid == os.getpid()
    assert home.names() == []


def test_the_second_driver_is_refused_and_told_of_the_first(home: Folder) -> None:
    with other_driver(home) as driver:
        with pytest.raises(LeaseHeld) as caught:
            Lease.acquire(home, "q")
        held = Holder.read(home)
        assert held is not None
        for part in ("sweep q", f"process {driver.pid}", held.host, held.started):
            assert part in str(caught.value)
        assert driver.poll() is None


def test_a_killed_driver_is_replaced_at_once(home: Folder) -> None:
    with other_driver(home) as driver:
        driver.kill()
        driver.wait()
        assert home.exists(LEASE)
        with Lease.acquire(home, "q"):
            pass


def test_a_later_process_with_the_same_id_is_not_mistaken_for_the_driver(home: Folder) -> None:
    here = Holder.here("q")
    leave(home, process_started=here.process_started - 1000)
    with Lease.acquire(home, "q"):
        pass


def test_a_live_process_holds_its_lease_however_old_the_heartbeat(home: Folder) -> None:
    """A driver that is stopped for a while, on this machine, is still there."""
    leave(home, heartbeat=time.time() - 10 * SILENT_SECONDS)
    with pytest.raises(LeaseHeld):
        Lease.acquire(home, "q", beat_seconds=BEAT)


def test_a_driver_on_another_machine_is_replaced_when_its_heart_stops(home: Folder) -> None:
    leave(home, machine="elsewhere", host="elsewhere", heartbeat=time.time() - SILENT_SECONDS / 2)
    with pytest.raises(LeaseHeld, match="on elsewhere since"):
        Lease.acquire(home, "q", beat_seconds=BEAT)
    leave(home, machine="elsewhere", host="elsewhere", heartbeat=time.time() - SILENT_SECONDS - 1)
    with Lease.acquire(home, "q", beat_seconds=BEAT):
        pass


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_clocks_that_disagree_do_not_cost_a_live_driver_its_sweep(home: Folder, skew: float) -> None:
    holder = leave(home, machine="elsewhere", heartbeat=time.time() + skew)
    beating = threading.Event()

    def beat() -> None:
        while not beating.wait(BEAT):
            later = holder.model_copy(update={"heartbeat": time.time() + skew})
            home.write(LEASE, later.content())

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        with pytest.raises(LeaseHeld):
            Lease.acquire(home, "q", beat_seconds=1.0)
    finally:
        beating.set()
        heart.join()


def test_the_heartbeat_beats(home: Folder) -> None:
    with Lease.acquire(home, "q", beat_seconds=BEAT) as lease:
        deadline = time.monotonic() + 20
        beats = {lease.holder.heartbeat}
        while len(beats) < 3 and time.monotonic() < deadline:
            held = Holder.read(home)
            assert held is not None
            beats.add(held.heartbeat)
        assert len(beats) >= 3


def test_a_driver_that_was_replaced_notices_and_leaves_the_new_lease(home: Folder) -> None:
    told: list[bool] = []
    lease = Lease.acquire(home, "q", on_lost=lambda: told.append(True), beat_seconds=BEAT)
    new = leave(home, id="another", host="far-away", machine="elsewhere")
    wait_until_lost(lease)
    lease.release()
    assert told == [True] and "taken over by far-away" in lease.lost
    held = Holder.read(home)
    assert held is not None and held.id == new.id


def test_a_deleted_lease_is_a_lost_one(home: Folder) -> None:
    lease = Lease.acquire(home, "q", on_lost=lambda: None, beat_seconds=BEAT)
    home.delete(LEASE)
    wait_until_lost(lease)
    assert "was deleted" in lease.lost
    lease.release()


def test_losing_the_lease_interrupts_the_driver_like_ctrl_c(home: Folder) -> None:
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupted.append(number))
    try:
        lease = Lease.acquire(home, "q", beat_seconds=BEAT)
        home.delete(LEASE)
        wait_until_lost(lease)
        lease.release()
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupted == [signal.SIGINT]


def test_an_unreadable_lease_is_replaced(home: Folder) -> None:
    home.write(LEASE, b"{")
    with Lease.acquire(home, "q") as lease:
        held = Holder.read(home)
        assert held is not None and held.id == lease.holder.id


def test_a_replacement_that_was_cut_off_does_not_block_the_next(home: Folder) -> None:
    dead = leave(home, process_started=0.0)
    home.write(LOCK, dead.content())
    with Lease.acquire(home, "q"):
        assert not home.exists(LOCK)


def test_of_many_drivers_that_find_a_dead_one_exactly_one_wins(home: Folder) -> None:
    leave(home, process_started=0.0)

    def attempt(number: int) -> Lease | None:
        try:
            return Lease.acquire(home, "q", on_lost=lambda: None)
        except LeaseHeld:
            return None

    with ThreadPoolExecutor(16) as pool:
        leases = [lease for lease in pool.map(attempt, range(16)) if lease is not None]
    try:
        held = Holder.read(home)
        assert held is not None and [lease.holder.id for lease in leases] == [held.id]
    finally:
        for lease in leases:
            lease.release()


def test_a_trial_is_elsewhere_while_its_driver_lives(tmp_path: Path) -> None:
    runs = Folder.open(tmp_path)
    trial = runs / "trials" / "t"
    mine = Owner(sweep="mine", host="here", pid=1)
    assert not elsewhere(trial, runs, mine)
    with other_driver(runs / "q") as driver:
        holder = Holder.read(runs / "q")
        assert holder is not None
        Attempt.begin(trial, {}, holder.owner)
        assert elsewhere(trial, runs, mine) and elsewhere(trial, runs)
        assert not elsewhere(trial, runs, holder.owner)
        Attempt.begin(trial, {}, holder.owner.model_copy(update={"pid": driver.pid + 1}))
        assert not elsewhere(trial, runs, mine), "an earlier driver of the same sweep is gone"
        Attempt.begin(trial, {}, holder.owner)
        trial.write("result.json", b"{}")
        assert not elsewhere(trial, runs, mine), "a trial that is over is nowhere"
        trial.delete("result.json")
        driver.kill()
        driver.wait()
        assert not elsewhere(trial, runs, mine)
