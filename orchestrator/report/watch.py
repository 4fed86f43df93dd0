"""Watch: the report again and again while sweeps run, until they are over."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from orchestrator.lease import LEASE, LOCK, Holder
from orchestrator.records.results import Results
from orchestrator.records.trial_record import Known
from orchestrator.report.delivery import deliver
from orchestrator.wording import count, duration
from trainers.folder import Folder


@dataclass(frozen=True)
class Standing:
    """How far sweeps are. `drivers` names the live drivers: `host (process pid)`."""

    trials: int
    over: int
    failed: int
    circuits: int
    drivers: tuple[str, ...]

    @classmethod
    def of(cls, results: Results) -> Self:
        states = results.trials["status"].to_pylist()
        holders = (Holder.read(home) for sweep in results.sweeps for home in sweep.homes)
        drivers = (f"{one.host} (process {one.pid})" for one in holders if one is not None and one.is_alive())
        return cls(
            trials=len(states),
            over=len(states) - states.count("unfinished"),
            failed=len(states) - states.count("unfinished") - states.count("complete"),
            circuits=results.points.num_rows,
            drivers=tuple(dict.fromkeys(drivers)),
        )

    @property
    def is_final(self) -> bool:
        """Nothing is unfinished, and nobody drives the sweeps any more."""
        return self.over == self.trials and not self.drivers

    def __str__(self) -> str:
        parts = [
            f"{self.over:,} of {count(self.trials, 'trial')} over"
            + f", {self.failed} failed" * bool(self.failed)
        ]
        parts.append(count(self.circuits, "circuit"))
        if not self.is_final:
            parts.append(f"driven by {', '.join(self.drivers)}" if self.drivers else "no driver")
        return "; ".join(parts)


@dataclass(frozen=True)
class Refreshed:
    """A report that was just written, and how long reading and writing took."""

    standing: Standing
    seconds: float

    def __str__(self) -> str:
        final = ". The sweep is over" if self.standing.is_final else ""
        return f"{self.standing}; report written in {duration(self.seconds)}{final}"


def watch(
    sources: Sequence[Folder],
    target: Folder,
    every: int,
    tell: Callable[[Refreshed], None],
    warn: Callable[[str], None],
    max_examples: int | None = None,
) -> str:
    """Writes the report every `every` seconds if anything has changed, until nothing is unfinished and
    no driver is alive; returns the Pareto table as it is then.

    Waits for sources in which no sweep has begun yet, and says so once. Results that have not changed are
    not read again. A folder that cannot be read for a while is
    warned of and tried again. When interrupted, leaves a page that does not reload itself. Only the
    last report holds the figures as files.
    Raises SpecError as `publish_report` does.
    """
    known: Known = {}
    shown: object = None
    results: Results | None = None
    _await_begin(sources, every, warn)
    while True:
        started = time.monotonic()
        try:
            try:
                results = Results.load(sources, known=known)
                standing = Standing.of(results)
                stamps = {place: record.stamp for place, record in known.items()}
                seen = (results.sweeps, results.problems, stamps, results.trials.num_rows, standing.is_final)
                if seen != shown:
                    final = standing.is_final
                    table = deliver(results, target, max_examples, 0 if final else every, figures=final)
                    shown = seen
                    tell(Refreshed(standing, time.monotonic() - started))
                    if final:
                        return table
            except OSError as error:
                if shown is None:
                    raise
                warn(f"{type(error).__name__}: {error}; tried again in {duration(every)}")
            time.sleep(max(0.0, every - (time.monotonic() - started)))
        except KeyboardInterrupt:  # also while it waits after an error
            if results is not None:
                deliver(results, target, max_examples, figures=False)
            raise


def _await_begin(sources: Sequence[Folder], every: int, warn: Callable[[str], None]) -> None:
    told: list[str] = []
    while waited := [folder.location for folder in sources if not _has_begun(folder)]:
        if waited != told:
            warn(f"{', '.join(waited)}: no sweep there yet; looking again every {duration(every)}")
            told = waited
        time.sleep(every)


def _has_begun(folder: Folder) -> bool:
    """Whether there is anything to read or to refuse: not in a missing or empty folder, and not where a
    driver has taken its lease but written no plan so far."""
    if folder.filesystem.get_file_info(folder.path).is_file:
        return True
    names = set(folder.names()) - {LEASE, LOCK}
    return not all((folder / name).exists(LEASE) and not _is_planned(folder / name) for name in names)


def _is_planned(sweep: Folder) -> bool:
    return sweep.exists("trials.json") or sweep.exists("sweep.yaml")
