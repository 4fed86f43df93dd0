"""Does the mirror in MLflow cost a trial's steps anything?

    python -m benchmarks.tracking_cost          # five alternated pairs of sweeps, with MLflow and without

The same trials on one lane, through Ray Tune, with the observer that mirrors them to MLflow and without it.
Ranks take the CPU seconds of every step; compared are the medians over the steps of all trials. Exit code 1
when they differ by 3 % or more.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.sweep_overhead import long_trials, written
from trainers.progress import Progress
from trainers.worker import Worker

DIFFERENCE = 0.03
SKIPPED = 20  # steps of a trial until its caches are warm


class TimedWorker(Worker):
    """Writes every training step's CPU seconds, of all threads, to the trial's folder."""

    def begin(self, spec: dict, folder: str, attempt: int) -> None:
        super().begin(spec, folder, attempt)
        self.folder, self.taken = folder, list[float]()

    def advance(self, steps: int = 1) -> Progress | None:
        progress = None
        for _ in range(steps):
            before = time.process_time()
            progress = super().advance()
            if progress is None:
                Path(self.folder, "step-cpu.json").write_text(json.dumps(self.taken))
                return None
            if progress.phase == "train":
                self.taken.append(time.process_time() - before)
        return progress


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--pairs", type=int, default=5)
    arguments.add_argument("--trials", type=int, default=5, help="per sweep")
    given = arguments.parse_args()
    medians: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(prefix="tracking-cost-") as scratch:
        for pair in range(given.pairs):
            for tracked in (True, False) if pair % 2 == 0 else (False, True):
                home = Path(scratch, f"{pair}-{tracked}")
                medians[tracked].append(step_seconds(home, long_trials(given.trials), tracked))
                told = "with MLflow" if tracked else "without"
                print(f"  {told}: {1000 * medians[tracked][-1]:.3f} CPU ms a step", flush=True)
    each = [on / off - 1 for on, off in zip(medians[True], medians[False], strict=True)]
    difference = statistics.median(each)
    print(f"with MLflow against without, by pair: {', '.join(f'{one:+.1%}' for one in each)}")
    met = abs(difference) < DIFFERENCE
    said = f"the median step differs by {difference:+.1%}, less than {DIFFERENCE:.0%}"
    print(f"{'PASS' if met else 'FAIL'}  {said}")
    return 0 if met else 1


def step_seconds(home: Path, sweep: dict[str, Any], tracked: bool) -> float:
    """The median CPU seconds of a step in one sweep of its own."""
    from orchestrator.cluster import launch
    from orchestrator.planning.plan import plan
    from orchestrator.sweep import SweepSpec
    from orchestrator.tracking.tracker import Tracker
    from trainers.folder import Folder

    spec = SweepSpec.load(written(home, sweep))
    runs = Folder.open(home / "runs")
    uri = f"sqlite:///{home}/mlflow.db"
    observers = [Tracker(uri, spec, runs)] if tracked else []
    outcome = launch.run(
        plan(spec, runs), runs, "local", observers, work="benchmarks.tracking_cost:TimedWorker"
    )
    assert outcome.complete == len(spec.trials()), outcome
    assert (home / "mlflow.db").exists() == tracked, "the mirror was there when it should not, or not"
    files = sorted((home / "runs" / "trials").glob("*/step-cpu.json"))
    return statistics.median([one for file in files for one in json.loads(file.read_text())[SKIPPED:]])


if __name__ == "__main__":
    sys.exit(main())
