"""Is anything lost when machines fail? Breaks a real cluster under real trials and compares the results.

    python -m benchmarks.chaos                            # every fault once
    python -m benchmarks.chaos --fault node --fault head
    python -m benchmarks.chaos --minutes 30 --seed 7      # a soak: random faults at random times

The cluster is several `ray start` on this machine's loopback addresses; trials are small ones of compiled
programs. First they run undisturbed on a Ray of the driver's own, for reference. A disturbed one is in order
when it ends complete with the same tables and the same bytes in all circuits, when no trial that was over has
run again, nothing half-written lies about, failures.jsonl tells what was done, and 60 s after its end no
process of it is left. Faults of disks need the right to mount. Exit code 1 when anything differs.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from benchmarks.chaos_cluster import LIMIT, ROOT, Cluster, Disk, Server, cluster, until
from benchmarks.chaos_compare import differences
from benchmarks.chaos_faults import FAULTS, Fault, Running, Scene, sweep
from tests.ray_cluster import ray_environment

GONE_SECONDS = 60.0  # after which no process of a sweep that is over may be left
SEEDS = 3  # trained trials of a sweep
LANES = 2
PATIENT = {  # of a soak: faults without end are not the trials' doing
    "trial_retries": 99, "machine_retries": 99, "identical_failures": 99, "node_failures": 99,
    "stall_seconds": 25,
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """How a fault went: seconds from its injection until it was noticed and until its trial ran again;
    `wrong` is empty when all is in order."""

    noticed: float | None = None
    recovered: float | None = None
    wrong: tuple[str, ...] = ()


def reference(folder: Path, seeds: int = SEEDS, lanes: int = LANES) -> Path:
    """The runs folder of the undisturbed sweep, on an embedded Ray."""
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(json.dumps(sweep(seeds, lanes)))
    command = [sys.executable, "-m", "orchestrator", "run", str(folder / "sweep.yaml"), "--no-report"]
    with ray_environment() as environment, (folder / "driver.log").open("wb") as said:
        command += ["--runs", str(folder / "runs")]
        subprocess.run(
            command, env=environment, cwd=ROOT, check=True, stdout=said, stderr=said, timeout=2 * LIMIT
        )
    return folder / "runs"


@contextmanager
def scene(
    fault: Fault, cluster: Cluster, folder: Path, seeds: int = SEEDS, lanes: int = LANES
) -> Iterator[Scene]:
    """A sweep that is ready to start; all nodes are up. Raises OSError where a disk cannot be mounted."""
    disk = Disk(folder / "disk.img", folder / "disk") if fault.needs_disk else None
    server = Server(folder / "mlflow") if fault.needs_server else None
    folder.mkdir(parents=True, exist_ok=True)
    if disk is not None:
        disk.make()
    try:
        if server is not None:
            server.start()
        cluster.mend()
        one = Scene(
            cluster, folder, sweep(seeds, lanes, fault), fault.method if fault.strike else {}, disk, server
        )
        fault.prepare(one)
        yield one
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
    finally:
        if server is not None:
            server.kill()
        if disk is not None:
            disk.take_away()


def inject(fault: Fault, one: Scene, expected: Path) -> Seen:
    """Runs the sweep, with the fault in the middle of it, to its end."""
    one.start()
    struck, running, before = time.time(), None, {}
    if fault.strike is not None:
        running = _moment(one)
        before, struck = one.complete(), time.time()
        fault.strike(one, running)
    code = one.end()
    over = time.time()
    wrong = [] if code in fault.codes else [f"exit code {code}, expected {_range(fault.codes)}; {_tail(one)}"]
    if fault.codes != (0,):
        before |= one.complete() if fault.strike is not None else {}
        fault.repair(one)
        one.start(*fault.again)
        second = one.end()
        expects = 1 if fault.method else 0
        wrong += (
            [] if second == expects else [f"the same command ended with exit code {second}; {_tail(one)}"]
        )
    wrong += _rerun(before, one)
    wrong += _left(one)
    wrong += [text for text in [fault.check(one)] if text]
    wrong += differences(expected, one.runs, more=bool(fault.method))
    noticed, recovered = _told(one, running, struck, over if code else None)
    if running is not None:
        wrong += _untold(fault, one, running)
    return Seen(noticed, recovered, tuple(wrong))


def _moment(one: Scene) -> Running:
    """A trial that trains and has a checkpoint; another one is over."""
    found: list[Running] = []

    def look() -> bool:
        running = one.running()
        found[:] = [running] if running and one.complete() else []
        return bool(found) or one.ended()

    assert until(look) and found, f"no trial came to its first checkpoint: {_tail(one)}"
    return found[0]


def _rerun(before: dict[str, tuple[int, int]], one: Scene) -> list[str]:
    after = one.complete()
    return [f"{trial_id} was complete and was written again" for trial_id in before
            if after.get(trial_id) != before[trial_id]]  # fmt: skip


def _left(one: Scene) -> list[str]:
    """Processes that are still there a minute after the end."""
    if until(lambda: not one.cluster.leftovers(), GONE_SECONDS):
        return []
    return [f"still there after {GONE_SECONDS:.0f} s: {text}" for text in one.cluster.leftovers()]


def _told(
    one: Scene, running: Running | None, struck: float, ended: float | None
) -> tuple[float | None, float | None]:
    """Seconds until the fault was noticed, and until the trial that it hit ran again."""
    noticed, recovered = None if ended is None else ended - struck, None
    for event in one.events():
        after = datetime.fromisoformat(event["time"]).timestamp() - struck
        if running is None or after < 0:
            continue
        if event["event"] == "attempt_failed" and noticed is None:
            noticed = after
        if event["event"] == "trial_started" and event["trial"] == running.trial_id and recovered is None:
            recovered = after
    return noticed, recovered


def _untold(fault: Fault, one: Scene, running: Running) -> list[str]:
    """failures.jsonl and events.jsonl must tell of the fault, once. On a full disk each of them has the line
    or not, as its last block had room for it or not."""
    kinds = [failure["kind"] for failure in one.failures(running.trial_id)]
    events = [event["kind"] for event in one.events()
              if event["event"] == "attempt_failed" and event["trial"] == running.trial_id]  # fmt: skip
    if fault.needs_disk and {*kinds, *events} <= {"storage"}:
        return []
    expected = 1 if fault.kinds else 0
    if len(kinds) == expected and set(kinds) <= set(fault.kinds) and kinds == events:
        return []
    return [
        f"failures.jsonl tells {kinds}, events.jsonl {events}; expected {expected} of {list(fault.kinds)}"
    ]


def _range(codes: tuple[int, ...]) -> str:
    return " or ".join(map(str, codes[:3])) + (" ..." if len(codes) > 3 else "")


def _tail(one: Scene) -> str:
    return "the driver said: " + " | ".join(one.said.read_text(errors="replace").splitlines()[-5:])


def soak(one_cluster: Cluster, folder: Path, expected: Path, minutes: float, seed: int) -> bool:
    """Sweeps under random faults until the time is over, each to its end; True when nothing differs."""
    rng, deadline, in_order = random.Random(seed), time.monotonic() + 60 * minutes, True
    names = [name for name, fault in FAULTS.items() if fault.soak]
    number = struck = 0
    while time.monotonic() < deadline:
        number += 1
        patient = replace(FAULTS["rank"], faults=PATIENT)
        with scene(patient, one_cluster, folder / f"soak-{number}") as one:
            told: list[str] = []
            try:
                wrong = _storm(one, rng, names, told)
            except (AssertionError, TimeoutError) as error:
                wrong = [f"{type(error).__name__}: {error}"]
            wrong += [*_left(one), *differences(expected, one.runs)]
        struck += len(told)
        in_order &= not wrong
        print(f"sweep {number}: {', '.join(told)}: {'; '.join(wrong) or 'identical'}", flush=True)
        if not wrong:
            shutil.rmtree(one.folder)
    print(f"soak: {number} sweeps, {struck} faults, {'nothing differs' if in_order else 'DIFFERENCES'}")
    return in_order


def _storm(one: Scene, rng: random.Random, names: list[str], told: list[str]) -> list[str]:
    """One sweep with a few faults, started anew each time that its driver is gone. Adds to `told` what was
    done to it; returns what went wrong."""
    sealed: dict[str, tuple[int, int]] = {}
    left = rng.randint(3, 6)
    while True:
        one.start()
        while left and until(lambda: one.running() or one.ended()) and not one.ended():
            time.sleep(rng.uniform(0, 4))
            running, name = one.running(), rng.choice(names)
            if running is None or one.ended():
                continue
            sealed |= one.complete()
            told.append(name)
            left -= 1
            _strike(FAULTS[name], one, running)
            one.cluster.mend()
        code = one.end()
        if code == 0:
            return _rerun(sealed, one)
        if code not in (-9, 130):
            return [f"exit code {code}; {_tail(one)}"]


def _strike(fault: Fault, one: Scene, running: Running) -> None:
    """A trial may end, and its rank go, in the moment in which it is hit."""
    import psutil

    assert fault.strike is not None
    try:
        fault.strike(one, running)
    except (psutil.NoSuchProcess, ProcessLookupError, StopIteration, IndexError):
        print("(missed)", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only this one")
    parser.add_argument("--list", action="store_true", help="print the faults")
    parser.add_argument("--minutes", type=float, help="a soak of so long, in place of every fault once")
    parser.add_argument("--seed", type=int, default=0, help="of the soak's faults")
    parser.add_argument(
        "--keep", action="store_true", help="keep all runs folders, not only those that differ"
    )
    asked = parser.parse_args(arguments)
    if asked.list:
        for name, fault in FAULTS.items():
            print(f"{name:14} {fault.what}")
        return 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # leaves no cluster behind
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    started = time.monotonic()
    expected = reference(folder / "reference")
    print(f"reference: {time.monotonic() - started:.0f} s; everything is in {folder}", flush=True)
    with cluster() as one:
        if asked.minutes is not None:
            in_order = soak(one, folder, expected, asked.minutes, asked.seed)
        else:
            in_order = all([_one(name, one, folder, expected) for name in asked.fault or FAULTS])
    if in_order and not asked.keep:
        shutil.rmtree(folder)
    return 0 if in_order else 1


def _one(name: str, one_cluster: Cluster, folder: Path, expected: Path) -> bool:
    """Injects one fault and prints its line."""
    try:
        with scene(FAULTS[name], one_cluster, folder / name) as one:
            seen = inject(FAULTS[name], one, expected)
    except (OSError, AssertionError, TimeoutError) as error:
        seen = Seen(wrong=(f"{type(error).__name__}: {error}",))
    times = [" -- " if seconds is None else f"{seconds:.0f} s" for seconds in (seen.noticed, seen.recovered)]
    print(
        f"{name:14} noticed {times[0]:>6}  recovered {times[1]:>6}  {'; '.join(seen.wrong) or 'ok'}",
        flush=True,
    )
    return not seen.wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
