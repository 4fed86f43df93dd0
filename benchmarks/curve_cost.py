"""How much of a grid's curve does another way of spending steps reach, and at what share of the steps?

    circuit-sweep run sweeps/path_tracr.yaml --runs runs && python -m benchmarks.curve_cost runs/path_tracr

In every scene each curve with the same seeds is compared with the grid of independent runs (`--grid`, a
method's title): the hypervolume of the common front of all seeds, and of each seed's own (circuits chosen on
the validation examples, valued on the test examples); how many circuits of the grid's front the curve
matches or beats in edges and test divergence; optimiser steps, those of a warm start among them; CPU
seconds. Exit code 1 when a curve of path mode has less than 98 % of the grid's hypervolume or more than a
fifth of its steps, and 2 when there is nothing to compare.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.panels.curves import trials_of
from orchestrator.report.scenes import Curve
from trainers.folder import Folder

ENOUGH, AFFORDABLE = 0.98, 1 / 5
HEAD = f"    {'':44} trials    steps  share    CPU s  share  hypervolume  share  front  per seed"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="runs folders or sweeps in them")
    parser.add_argument("--grid", default="edge pruning", help="the title of the grid's method")
    arguments = parser.parse_args()
    findings = Findings.of(Results.load([Folder.open(runs) for runs in arguments.runs]))
    verdicts: list[bool] = []
    for scene, group in findings.scenes.items():
        grid = next((curve for curve in group if curve.method == arguments.grid), None)
        others = [curve for curve in group if grid is not None and curve.all_seeds == grid.all_seeds]
        if grid is None or len(others) < 2:
            continue
        print(f"{findings.titles[scene]}, {scene.num_edges_total} edges\n{HEAD}")
        for good, line in _compared(findings, grid, others):
            print("    " + line)
            verdicts += [] if good is None else [good]
    return 2 if not verdicts else 0 if all(verdicts) else 1


def _compared(findings: Findings, grid: Curve, curves: Sequence[Curve]) -> Iterator[tuple[bool | None, str]]:
    """Per curve its verdict, None where none is asked, and its line; the grid first."""
    asked = _spent(findings, grid)
    for curve in sorted(curves, key=lambda curve: curve is not grid):
        trials, steps, seconds = _spent(findings, curve)
        volume, share = curve.hypervolume / grid.hypervolume, steps / asked[1]
        told = f"{curve.method:44} {trials:6} {steps:8} {share:6.3f} {seconds:8.0f} {seconds / asked[2]:6.3f}"
        told += f" {curve.hypervolume:12.4f} {volume:6.3f} {_kept(grid, curve):>6}  "
        told += " ".join(f"{own:.3f}" for own in curve.hypervolumes / grid.hypervolumes)
        if "path mode" not in curve.method:
            yield None, told
            continue
        good = volume >= ENOUGH and share <= AFFORDABLE
        yield good, told + ("  ok" if good else "  MISSED")


def _kept(grid: Curve, curve: Curve) -> str:
    """Of the circuits on the grid's front those with an equal or better one in the curve, beyond rounding."""
    better = (curve.num_edges[None] <= grid.num_edges[grid.front, None]) & (
        curve.test[None] <= grid.test[grid.front, None] + grid.rounding
    )
    return f"{int(better.any(axis=1).sum())}/{len(grid.front)}"


def _spent(findings: Findings, curve: Curve) -> tuple[int, int, float]:
    """Trials, optimiser steps and CPU seconds behind a curve."""
    trials = trials_of(findings, curve)
    seconds = sum(trial["cpu_seconds"] or 0.0 for trial in trials)
    return len(trials), sum(trial["steps"] for trial in trials), seconds


if __name__ == "__main__":
    sys.exit(main())
