"""How long from one trial's end to the next one's first step on a warm lane? Reads a finished sweep.

    circuit-sweep run sweeps/quickstart.yaml --runs runs && python benchmarks/lane_gap.py runs

The gap runs from a trial's result to the end of the next trial's first step on the same process,
same model; lane start-up and model changes are left out. Exit code 1 when p95 > 1 s.
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

LIMIT_SECONDS = 1.0


def main(runs: str) -> int:
    lanes = defaultdict(list)
    for folder in sorted((Path(runs) / "trials").iterdir()):
        if (span := _span(folder)) is not None:
            lanes[span[0]].append(span[1:])
    gaps = []
    for trials in lanes.values():
        trials.sort()
        pairs = zip(trials, trials[1:], strict=False)
        gaps += [start - end for (_, end, model), (start, _, following) in pairs if model == following]
    if len(gaps) < 2:
        print(f"{runs}: {len(gaps)} gaps between trials of one model on one lane; too few to judge")
        return 2
    p95 = statistics.quantiles(gaps, n=20)[-1]
    print(f"{len(gaps)} gaps on {len(lanes)} lanes: median {statistics.median(gaps):.2f} s, p95 {p95:.2f} s")
    return 0 if p95 <= LIMIT_SECONDS else 1


def _span(folder: Path) -> tuple[str, float, float, str] | None:
    """(rank 0's process, end of the first step, end of the trial, model) of a complete trial."""
    try:
        result = json.loads((folder / "result.json").read_text())
        lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
        end = (folder / "result.json").stat().st_mtime
    except (OSError, json.JSONDecodeError):
        return None
    first = next((line["time"] for line in lines if line["phase"] == "train"), None)
    if result["status"] != "complete" or first is None:
        return None
    return (
        f"{result['execution']['host']}:{result['execution'].get('process')}",
        first,
        end,
        result["group"]["model"],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
