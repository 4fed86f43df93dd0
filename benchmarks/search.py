"""Do trials chosen from what earlier ones found reach further than a grid, or chance, of as many?

    python -m benchmarks.search runs/search [--programs tracr-reverse] [--trials 16] [--seeds 3] [--steps 120]

Every strategy has the same space, trials and steps: the samplers of `search:` (tpe, gp; random draws); a grid
over the whole space; a grid of targets alone, the other settings at their defaults. Each seed is a search of
its own; the grids' settings are the same on every seed. Trials run one after another in this process,
without Ray; what RUNS holds is not run again, so the command can be interrupted.

Hypervolume is the report's: circuits chosen on validation examples, valued on test examples, in the box
below the empty circuit. `own front`: circuits on the front of all seeds of a strategy; `joint front`: of the
circuits on the front of all strategies together, those that it matches. Exit code 1 when a search has
less hypervolume, as the mean over seeds, than a grid or chance.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.planning.plan import plan
from orchestrator.planning.snapshot import write_trials
from orchestrator.records.results import Results
from orchestrator.report.scenes import Curve, curves
from orchestrator.search.space import Search
from orchestrator.statistics.pareto import front, log_kept
from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import write_yaml
from trainers.folder import Folder

if TYPE_CHECKING:
    from trainers.worker import Worker

PROGRAMS = ("tracr-reverse", "tracr-xproportion")
SEARCHES, RIVALS = ("tpe", "gp"), ("random", "grid", "targets")
SPACE: dict[str, Any] = {
    "method.target_sparsity": {"uniform": [0.5, 0.98]},
    "method.gate_lr": {"log": [0.03, 0.5]},
    "method.divergence_weight": {"log": [0.3, 10]},
}
STARTUP, ROUND, GATE_SAMPLES = 8, 4, 4
HEAD = f"{'':8} trials    steps     CPU s  hypervolume: mean  pooled  {'per seed':34} own front  joint front"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", help="where trials are kept")
    parser.add_argument("--programs", nargs="+", default=PROGRAMS, choices=PROGRAMS)
    parser.add_argument("--strategies", nargs="+", default=[*SEARCHES, *RIVALS])
    parser.add_argument("--trials", type=int, default=16, help="of each seed; a multiple of 4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120, help="of a trial")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    runs, worker = Folder.open(given.runs), _worker()
    won = True
    for program in given.programs:
        found: dict[str, Results] = {}
        for strategy in given.strategies:
            sweep = _sweep(program, strategy, given)
            run(sweep, runs, worker)
            found[strategy] = Results.load(runs / sweep.name)
        print(f"\n{program}: {given.trials} trials of {given.steps} steps, {given.seeds} seeds\n{HEAD}")
        print("\n".join(_lines(found)), flush=True)
        won = won and _won(found)
    worker.close()
    return 0 if won else 1


def run(sweep: SweepSpec, runs: Folder, worker: "Worker") -> None:
    """All trials of a sweep, in this process; a search goes on until it has asked for all."""
    home = runs / sweep.name
    home.write("sweep.yaml", write_yaml(sweep.plain()).encode())
    while (planned := plan(sweep, runs)).missing:
        write_trials(home, [trial.trial_id for trial in planned.trials], planned.studies)
        for number, trial in enumerate(planned.missing, start=1):
            told = f"{sweep.name}: {number} of {len(planned.missing)}, then {planned.unasked}"
            print(f"\r\x1b[K{told}" if sys.stderr.isatty() else told, end="", file=sys.stderr, flush=True)
            worker.begin(trial.spec.plain(), (runs / "trials" / trial.trial_id).location, 1)
            while worker.advance() is not None:
                pass
            print(end="" if sys.stderr.isatty() else "\n", file=sys.stderr)
    write_trials(home, [trial.trial_id for trial in planned.trials], planned.studies)


def _worker() -> "Worker":
    from trainers.resources import Resources
    from trainers.worker import Worker, free_port

    return Worker(0, 1, "127.0.0.1", free_port(), Resources(zero_stage=0))


def _sweep(program: str, strategy: str, given: argparse.Namespace) -> SweepSpec:
    method = {
        "name": "edge_pruning",
        "target_sparsity": 0.9,
        "steps": given.steps,
        "gate_samples": GATE_SAMPLES,
    }
    content: dict[str, Any] = {
        "name": f"{program}-{strategy}-{given.trials}-{given.steps}",
        "question": "Which circuits does it find?",
        "base": {
            "model": {"builtin": program},
            "task": {"name": "tracr"},
            "ablation": "zero",
            "method": method,
        },
        "seeds": given.seeds,
    }
    search = {"space": SPACE, "trials": given.trials, "startup": STARTUP, "round": ROUND}
    if strategy in ("grid", "targets"):
        content["vary"] = grid(Search.parse(search, "benchmark"), strategy == "targets")
    else:
        content["search"] = search | {"sampler": strategy}
    return SweepSpec.parse(content, strategy)


def grid(search: Search, first_only: bool) -> dict[str, list[Any]]:
    """As many settings as trials: the middles of equal parts of the ranges, two of each but the first."""
    others = 1 if first_only else 2
    counts = {path: others for path in search.space}
    counts[next(iter(counts))] = search.trials // others ** (len(counts) - 1)
    return {
        path: [search.space[path].at((place + 0.5) / count) for place in range(count)]
        for path, count in counts.items()
        if count > 1
    }


def _curve(results: Results) -> Curve:
    (group,) = curves(results).values()
    (curve,) = group
    return curve


def _lines(found: Mapping[str, Results]) -> list[str]:
    """Per strategy; a circuit of the joint front counts for all that have one as good, beyond rounding."""
    own = {name: _curve(results) for name, results in found.items()}
    first = next(iter(own.values()))
    costs = {
        name: np.column_stack((log_kept(one.num_edges, first.scene.num_edges_total), one.validation))
        for name, one in own.items()
    }
    together = np.concatenate(list(costs.values()))
    joint = together[front(together, first.rounding)]
    lines = []
    for name, curve in own.items():
        as_good = (costs[name][None, :, 0] <= joint[:, None, 0]) & (
            costs[name][None, :, 1] <= joint[:, None, 1] + first.rounding
        )
        lines.append(_line(name, found[name], curve, f"{as_good.any(axis=1).sum():6} of {len(joint)}"))
    return lines


def _line(name: str, results: Results, curve: Curve, held: str) -> str:
    trials = results.trials.to_pylist()
    steps, seconds = (sum(one[key] or 0 for one in trials) for key in ("steps", "cpu_seconds"))
    each = " ".join(f"{volume:.4f}" for volume in curve.hypervolumes)
    return (
        f"{name:8} {len(trials):6} {steps:8} {seconds:9.0f} {curve.hypervolumes.mean():18.4f} "
        f"{curve.hypervolume:7.4f}  {each:34} {len(curve.front):9} {held}"
    )


def _won(found: Mapping[str, Results]) -> bool:
    means = {name: statistics.fmean(_curve(one).hypervolumes.tolist()) for name, one in found.items()}
    rivals = [means[name] for name in RIVALS if name in means]
    return all(means[name] >= max(rivals, default=0.0) for name in SEARCHES if name in means)


if __name__ == "__main__":
    sys.exit(main())
