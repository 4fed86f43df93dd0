"""On how many seeds is a known circuit recovered? Counts the trials of a finished Tracr sweep.

    circuit-sweep run sweeps/recovery.yaml --runs runs && python benchmarks/recovery.py runs/recovery

A seed counts when its sparsest circuit with a validation divergence of at most epsilon computes the
program on the whole domain with at most as many edges as the known circuit. Exit code 1 when a
program's shipped settings recover fewer than 19 of 20 seeds.
"""

import argparse
import statistics
import sys
from collections import Counter, defaultdict

from orchestrator.records.results import Results
from trainers.folder import Folder

EPSILON = 1e-3
REQUIRED = 0.95  # of the seeds


def main(locations: list[str]) -> int:
    """Prints one row per model and method."""
    results = Results.load([Folder.open(location) for location in locations])
    by_trial = defaultdict(list)
    for point in results.points.to_pylist():
        by_trial[point["trial_id"]].append(point)
    rows = defaultdict(list)
    left_out = Counter()
    for trial in results.trials.to_pylist():
        if trial["status"] == "complete":
            rows[trial["model"], trial["method"]].append((trial, by_trial[trial["trial_id"]]))
        else:
            left_out[trial["status"]] += 1
    for status, count in left_out.items():
        print(f"not counted: {count} {status}")
    print(f"{'model':20} {'method':40} {'recovered':>10} {'edges':>12} {'CPU s, median (max)':>20}")
    enough = True
    for (model, method), trials in sorted(rows.items(), key=str):
        sparsest = [_sparsest(points) for _, points in trials]
        known = [_known_edges(points) for _, points in trials]
        recovered = [_recovered(point, size) for point, size in zip(sparsest, known, strict=True)]
        edges = sorted(point["num_edges"] for point in sparsest if point is not None)
        seconds = [trial["cpu_seconds"] for trial, _ in trials]
        spread = f"{edges[0]}-{edges[-1]}" if edges else "none"
        cost = f"{statistics.median(seconds):.1f} ({max(seconds):.1f})"
        print(f"{model:20} {method:40} {sum(recovered):4}/{len(recovered):<5} {spread:>12} {cost:>20}")
        enough = enough and (method != "edge pruning" or sum(recovered) >= REQUIRED * len(recovered))
    return 0 if enough else 1


def _sparsest(points: list[dict]) -> dict | None:
    faithful = [point for point in points if point["divergence_validation"] <= EPSILON]
    return min(faithful, key=lambda point: point["num_edges"], default=None)


def _known_edges(points: list[dict]) -> int:
    """The known circuit's size, from any point that shares an edge with it."""
    for point in points:
        if point["truth_recall"]:
            return round(point["truth_precision"] * point["num_edges"] / point["truth_recall"])
    return 0


def _recovered(point: dict | None, known: int) -> bool:
    return point is not None and point["test_same_output"] == 1 and point["num_edges"] <= known


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("sweeps", nargs="+", help="folders of finished sweeps")
    sys.exit(main(arguments.parse_args().sweeps))
