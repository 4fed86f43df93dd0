"""What does the line (Ray Tune, lane, MLflow, results) add to the steps of a sweep?

    python -m benchmarks.sweep_overhead                # 50 trials of 5 s and more, then the quickstart's

The same trials run twice: by `circuit-sweep run` on one lane, and one after another in one plain process,
with the same generator and engine, without Ray, MLflow and a driver. Compared is what trials took of
their lane or process, from the result before to their own. A process's first trial and those that load
another model (where a lane starts, where models are switched) are left out on both sides and told apart.
The plain half runs before and after the line's, so that a machine that gets busier favours neither; use an
idle machine all the same. Exit code 1 when a target is missed.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lane_gap import Follows, p95, sequence, told

RATIO, GAP_SECONDS, QUICKSTART_RATIO = 1.3, 1.0, 1.1
BARE_SECONDS = 5.0  # of a trial, at least
QUICKSTART = Path(__file__).parents[1] / "sweeps" / "quickstart.yaml"


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--trials", type=int, default=50)
    arguments.add_argument("--seeds", type=int, default=3, help="of the quickstart")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-overhead-") as scratch:
        long = written(Path(scratch, "long"), long_trials(given.trials))
        line, bare = compare(long)
        ratio, shortest = _ratio(line, bare), min(one.seconds for one in bare if one.warm)
        print(f"{given.trials} long trials: {_words(line, bare)}\n  on the lane: {told(line)}")
        quick_line, quick_bare = compare(written(Path(scratch, "quick"), edge_pruning_trials(given.seeds)))
        quick = _ratio(quick_line, quick_bare)
        print(
            f"quickstart's edge pruning: {_words(quick_line, quick_bare)}\n  on the lane: {told(quick_line)}"
        )
    met = {
        f"every trial takes >= {BARE_SECONDS:g} s bare ({shortest:.1f})": shortest >= BARE_SECONDS,
        f"line / plain process {ratio:.3f} <= {RATIO}": ratio <= RATIO,
        f"p95 between trials {p95(line):.2f} s <= {GAP_SECONDS:g} s": p95(line) <= GAP_SECONDS,
        f"quickstart's edge-pruning trials {quick:.3f} <= {QUICKSTART_RATIO}": quick <= QUICKSTART_RATIO,
    }
    for what, so in met.items():
        print(f"{'PASS' if so else 'FAIL'}  {what}")
    return 0 if all(met.values()) else 1


def long_trials(seeds: int) -> dict[str, Any]:
    """Edge pruning on a compiled program, about 7 s a trial on one core of a 2-core machine."""
    method = {"name": "edge_pruning", "target_sparsity": 0.8, "steps": 400, "path_points": 0}
    return {
        "name": "long",
        "question": "What does the line add?",
        "base": {
            "model": {"builtin": "tracr-reverse"},
            "task": {"name": "tracr"},
            "ablation": "zero",
            "method": method,
        },
        "seeds": seeds,
        "resources": {"lanes": 1, "cpus_per_rank": 1},
    }


def edge_pruning_trials(seeds: int) -> dict[str, Any]:
    """The quickstart without its baselines, on one lane."""
    sweep = yaml.safe_load(QUICKSTART.read_text())
    blocks = [block for block in sweep["vary"] if "method" not in block.get("grid", {})]
    return sweep | {"vary": blocks, "seeds": seeds, "resources": {"lanes": 1, "cpus_per_rank": 1}}


def compare(spec: Path) -> tuple[list[Follows], list[Follows]]:
    """The trials of a sweep on a lane of the line, and in plain processes: half of them before, the
    others after."""
    from orchestrator.planning.plan import plan
    from orchestrator.sweep import SweepSpec
    from trainers.folder import Folder

    here = spec.parent
    trials = plan(SweepSpec.load(spec), Folder.open(here / "bare")).trials
    half = len(trials) // 2
    bare = here / "bare" / "trials"
    for trial in trials:
        (bare / trial.trial_id).mkdir(parents=True)
        (bare / trial.trial_id / "spec.json").write_text(json.dumps(trial.spec.plain()))
    ids = [trial.trial_id for trial in trials]
    _plain_process(bare, ids[:half])
    run_line(spec, here / "line")
    _plain_process(bare, ids[half:])
    return sequence(here / "line"), sequence(here / "bare")


def run_line(spec: Path, runs: Path) -> None:
    """`circuit-sweep run` with all that belongs to it but the report."""
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(runs), "--no-report"]
    started, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    trials = sequence(runs)
    start = min(one.trial.loaded for one in trials) - started
    print(f"{spec.stem}: {time.time() - started:.1f} s and {cpu:.1f} CPU s in all; lane start {start:.1f} s")


def _plain_process(folder: Path, trial_ids: Sequence[str]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "benchmarks.sweep_overhead", "--bare", str(folder), *trial_ids]
    subprocess.run(command, check=True, env=environment, capture_output=True)


def bare(folder: str, trial_ids: Sequence[str]) -> None:
    """What a rank does, and nothing else."""
    from trainers.resources import Resources
    from trainers.worker import Worker, free_port

    worker = Worker(0, 1, "127.0.0.1", free_port(), Resources())
    for trial_id in trial_ids:
        spec = json.loads(Path(folder, trial_id, "spec.json").read_text())
        worker.begin(spec, f"{folder}/{trial_id}", 1)
        while worker.advance() is not None:
            pass
    worker.close()


def _ratio(line: Sequence[Follows], bare: Sequence[Follows]) -> float:
    """Of what the trials took that were warm on both sides."""
    ours, plain = _seconds(line), _seconds(bare)
    both = ours.keys() & plain.keys()
    return sum(ours[one] for one in both) / sum(plain[one] for one in both)


def _seconds(trials: Sequence[Follows]) -> dict[str, float]:
    return {one.trial.trial_id: one.seconds for one in trials if one.warm}


def _words(line: Sequence[Follows], bare: Sequence[Follows]) -> str:
    ours, plain = (
        {one.trial.trial_id: one.trial.cpu for one in trials if one.warm} for trials in (line, bare)
    )
    both = ours.keys() & plain.keys()
    cpu = sum(ours[one] for one in both) / sum(plain[one] for one in both)
    medians = [statistics.median(_seconds(trials).values()) for trials in (line, bare)]
    return (
        f"line {medians[0]:.2f} s, plain {medians[1]:.2f} s a trial (medians); "
        f"in all {_ratio(line, bare):.3f} x; CPU seconds of the ranks {cpu:.3f} x; {len(both)} compared"
    )


def written(folder: Path, sweep: dict[str, Any]) -> Path:
    folder.mkdir()
    path = folder / f"{sweep['name']}.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return path


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        sys.exit(bare(sys.argv[2], sys.argv[3:]))
    sys.exit(main())
