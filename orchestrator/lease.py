"""Lease: one driver per sweep. lease.json in the sweep's folder, kept fresh by a heartbeat."""

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.attempt import Attempt, Owner
from trainers.folder import Folder

BEAT_SECONDS = 5.0
SILENT_SECONDS = 60.0  # after this long without a heartbeat a driver on another machine counts as dead
LEASE = "lease.json"
LOCK = "lease.lock"  # held for the moment in which a dead driver's lease is replaced
log = logging.getLogger(__name__)


class LeaseHeld(Exception):
    """Another driver runs the sweep. `str()` names it."""


class Holder(BaseModel):
    """Content of lease.json: the driver that runs a sweep, and when it was last alive."""

    model_config = ConfigDict(frozen=True)

    id: str
    sweep: str
    host: str
    machine: str  # host, boot and process namespace: where `pid` means something
    pid: int = Field(gt=0)
    process_started: float  # tells a process from a later one with the same pid
    started: str  # UTC, ISO 8601
    heartbeat: float  # Unix seconds

    @classmethod
    def here(cls, sweep: str) -> Self:
        """This process, now."""
        return cls(
            id=uuid.uuid4().hex,
            sweep=sweep,
            host=socket.gethostname(),
            machine=machine(),
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            heartbeat=time.time(),
        )

    @classmethod
    def read(cls, folder: Folder, name: str = LEASE) -> Self | None:
        """None when there is no lease, or none that can be read."""
        content = folder.read(name)
        if content is None:
            return None
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            log.warning("%s/%s: not a lease; taken as none", folder.location, name)
            return None

    def content(self) -> bytes:
        return self.model_dump_json(indent=2).encode()

    @property
    def owner(self) -> Owner:
        return Owner(sweep=self.sweep, host=self.host, pid=self.pid)

    def is_alive(self) -> bool:
        """On its own machine: is the process there? Elsewhere: was there a heartbeat lately?"""
        if self.machine != machine():
            return abs(time.time() - self.heartbeat) < SILENT_SECONDS
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.process_started) < 1.0 and process.status() != "zombie"
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


def machine() -> str:
    """Where a process id means something: this host, since it was started, in this container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


@dataclass
class Lease:
    """Held by this process until `release`, or until the heartbeat finds that another driver took it.

    Then `lost` says why and `on_lost` is called, once, on the heartbeat's thread.
    """

    folder: Folder
    holder: Holder
    on_lost: Callable[[], None]
    beat_seconds: float = BEAT_SECONDS
    lost: str = ""
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def acquire(
        cls,
        folder: Folder,
        sweep: str,
        on_lost: Callable[[], None] | None = None,
        beat_seconds: float = BEAT_SECONDS,
    ) -> Self:
        """Takes the lease of the sweep in `folder`, at once if its last driver is dead.

        By default losing it interrupts this process like Ctrl-C. Raises LeaseHeld when another
        driver is alive, OSError when the folder cannot be written.
        """
        holder = Holder.here(sweep)
        while not folder.create(LEASE, holder.content()):
            other = Holder.read(folder)
            if other is not None and _is_alive(other, folder, beat_seconds):
                raise LeaseHeld(_refusal(other))
            if _replace(folder, other, holder):
                break
            time.sleep(0.1)  # another driver is replacing it
        lease = cls(folder, holder, on_lost or _interrupt, beat_seconds)
        lease._thread = threading.Thread(target=lease._beat, name="lease", daemon=True)
        lease._thread.start()
        return lease

    def release(self) -> None:
        """Gives the lease back; nothing happens when it is not ours any more."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * self.beat_seconds)
        try:
            current = Holder.read(self.folder)
            if current is not None and current.id == self.holder.id:
                self.folder.delete(LEASE)
        except OSError as error:  # it counts as given back once this process is gone
            log.warning("the lease in %s cannot be given back: %s", self.folder.location, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._end.wait(self.beat_seconds):
            try:
                reason = self._renew()
                last = time.monotonic()
            except OSError as error:
                silent = time.monotonic() - last
                log.warning("the lease in %s cannot be renewed: %s", self.folder.location, error)
                # From SILENT_SECONDS on another machine's driver may take over.
                reason = f"could not be renewed for {silent:.0f} s: {error}" if silent > 50 else ""
            if reason:
                self.lost = f"{self.folder.location}/{LEASE} {reason}"
                self.on_lost()
                return

    def _renew(self) -> str:
        """Why the lease is not ours any more; empty when it is, and renewed."""
        current = Holder.read(self.folder)
        if current is None:
            return "was deleted"
        if current.id != self.holder.id:
            return f"was taken over by {current.host} (process {current.pid})"
        renewed = self.holder.model_copy(update={"heartbeat": time.time()})
        self.folder.write(LEASE, renewed.content())
        return ""


def sweep_is_driven(runs: Folder, sweep: str) -> Holder | None:
    """The live driver of a sweep, if there is one."""
    holder = Holder.read(runs / sweep)
    return holder if holder is not None and holder.is_alive() else None


def elsewhere(trial: Folder, runs: Folder, mine: Owner | None = None) -> bool:
    """Is another live driver than `mine` running this trial right now?

    Its attempt.json names the driver's sweep and process; that sweep's lease says whether that
    driver is alive. Trials that are over are nowhere.
    """
    if trial.exists("result.json"):
        return False
    attempt = Attempt.last(trial)
    if attempt is None or attempt.owner == mine:
        return False
    driver = sweep_is_driven(runs, attempt.owner.sweep) if attempt.owner.sweep else None
    return driver is not None and driver.owner == attempt.owner


def _is_alive(other: Holder, folder: Folder, beat_seconds: float) -> bool:
    """`Holder.is_alive`, and for a silent driver elsewhere one more chance: a heartbeat that comes
    while we watch. So clocks that disagree cost nobody a sweep."""
    if other.machine == machine():
        return other.is_alive()
    if time.time() - other.heartbeat < SILENT_SECONDS and time.time() >= other.heartbeat:
        return True
    deadline = time.monotonic() + 3 * beat_seconds
    while time.monotonic() < deadline:
        time.sleep(beat_seconds / 5)
        current = Holder.read(folder)
        if current is None or current.id != other.id:
            return False  # gone or replaced: look again
        if current.heartbeat != other.heartbeat:
            return True
    return False


def _replace(folder: Folder, dead: Holder | None, new: Holder) -> bool:
    """Puts `new` in the place of a dead driver's lease. False when another driver is at it or has
    done it; then look again."""
    if not folder.create(LOCK, new.content()):
        lock = Holder.read(folder, LOCK)
        if lock is None or not lock.is_alive():  # it died between two lines below
            folder.delete(LOCK)
        return False
    try:
        current = Holder.read(folder)
        if current is None and not folder.exists(LEASE):
            return False  # given back meanwhile: free to be taken the ordinary way
        if current is not None and (dead is None or current.id != dead.id):
            return False
        folder.write(LEASE, new.content())
        return True
    finally:
        folder.delete(LOCK)


def _refusal(other: Holder) -> str:
    ago = max(0.0, time.time() - other.heartbeat)
    return (
        f"sweep {other.sweep} is being run by process {other.pid} on {other.host} since {other.started} "
        f"(last heartbeat {ago:.0f} s ago). Wait for it or stop it; "
        f"a driver that died on another machine is replaced {SILENT_SECONDS:.0f} s after its last heartbeat"
    )


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
