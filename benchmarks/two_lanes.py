"""Do two lanes on two cores get twice as much done as one lane on one?

    python -m benchmarks.two_lanes              # needs two free cores

The same trials, a rank on one core each, with one lane and with two, over alternated pairs of sweeps
through the whole line. Throughput: trials ended, from the moment that every lane has its model to the
moment that the first lane runs out of trials. Lanes that fought for cores (each with threads for the whole
machine) would lose it. Wall time counts whatever else runs on the machine; so CPU seconds per trial are told
too: fighting lanes pay there, neighbours do not show. Exit code 1 when the target is missed.
"""

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.lane_gap import Follows, sequence
from benchmarks.sweep_overhead import long_trials, run_line, written

THROUGHPUT = 1.6


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--trials", type=int, default=10, help="per sweep and lane")
    given = arguments.parse_args()
    rates, cpus = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="two-lanes-") as scratch:
        for pair in range(given.pairs):
            for lanes in (1, 2) if pair % 2 == 0 else (2, 1):
                spec = long_trials(given.trials * lanes)
                spec["resources"]["lanes"] = lanes
                home = Path(scratch, f"{pair}-{lanes}")
                run_line(written(home, spec), home / "runs")
                trials = sequence(home / "runs")
                rates[lanes].append(throughput(trials, lanes))
                cpus[lanes].append(statistics.median(one.trial.cpu for one in trials if one.warm))
                told = f"{rates[lanes][-1] * 60:.2f} trials a minute, {cpus[lanes][-1]:.2f} CPU s a trial"
                print(f"  {lanes} lane{'s' * (lanes > 1)}: {told}", flush=True)
    each = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    ratio, cpu = statistics.median(each), statistics.median(cpus[2]) / statistics.median(cpus[1])
    print(f"throughput of two lanes, by pair: {', '.join(f'{one:.2f}' for one in each)}")
    print(f"CPU seconds a trial, two lanes / one: {cpu:.3f}")
    print(f"{'PASS' if ratio >= THROUGHPUT else 'FAIL'}  median throughput {ratio:.2f} >= {THROUGHPUT}")
    return 0 if ratio >= THROUGHPUT else 1


def throughput(trials: list[Follows], lanes: int) -> float:
    """Trials a second while all lanes work; a lane's first trial, which loads the model, is left out, and
    parts of trials count as parts."""
    by_lane = defaultdict(list)
    for one in trials:
        by_lane[one.trial.lane].append(one.trial)
    assert len(by_lane) == lanes, f"{len(by_lane)} lanes ran trials, not {lanes}: is a core free for each?"
    begin = max(spans[0].end for spans in by_lane.values())
    finish = min(spans[-1].end for spans in by_lane.values())
    done = 0.0
    for one in trials:
        if one.warm and one.before is not None:
            inside = min(one.trial.end, finish) - max(one.before.end, begin)
            done += max(0.0, inside) / one.seconds
    return done / (finish - begin)


if __name__ == "__main__":
    sys.exit(main())
