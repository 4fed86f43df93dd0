"""How long from one trial's end to the next one's first step on a warm lane? Reads a finished sweep.

    circuit-sweep run sweeps/quickstart.yaml --runs runs && python benchmarks/lane_gap.py runs

The gap runs from a trial's result to the end of the next trial's first step on the same process,
same model. A lane's first trial and those that load another model are counted apart. Exit code 1 when
p95 > 1 s.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 1.0


@dataclass(frozen=True)
class Span:
    """A complete trial on a lane, whose name is rank 0's host and process. `first` is when its first
    training step had ended, `end` when its result was written (Unix seconds); `cpu` is of all ranks."""

    trial_id: str
    lane: str
    model: str
    loaded: float
    first: float
    end: float
    cpu: float


@dataclass(frozen=True)
class Follows:
    """A trial and the one before it on its lane; None for a lane's first."""

    before: Span | None
    trial: Span

    @property
    def warm(self) -> bool:
        return self.before is not None and self.before.model == self.trial.model

    @property
    def gap(self) -> float:
        """Seconds from the result before to the end of this one's first step."""
        assert self.before is not None, "a lane's first trial follows nothing"
        return self.trial.first - self.before.end

    @property
    def seconds(self) -> float:
        """What the trial took of its lane, from the result before to its own."""
        assert self.before is not None, "a lane's first trial follows nothing"
        return self.trial.end - self.before.end


def main(runs: str) -> int:
    trials = sequence(Path(runs))
    if sum(one.warm for one in trials) < 2:
        print(f"{runs}: too few trials of one model on one lane to judge")
        return 2
    print(told(trials))
    return 0 if p95(trials) <= LIMIT_SECONDS else 1


def sequence(runs: Path) -> list[Follows]:
    """The complete trials of a runs folder that trained something, lane by lane, in time."""
    lanes = defaultdict(list)
    for folder in sorted((runs / "trials").iterdir()):
        if (span := _span(folder)) is not None:
            lanes[span.lane].append(span)
    found = []
    for spans in lanes.values():
        spans.sort(key=lambda span: span.first)
        found += [Follows(*pair) for pair in zip([None, *spans], spans, strict=False)]
    return found


def p95(trials: Iterable[Follows]) -> float:
    """Seconds, of the gaps between trials of one model."""
    return statistics.quantiles([one.gap for one in trials if one.warm], n=20)[-1]


def told(trials: Iterable[Follows]) -> str:
    trials = list(trials)
    gaps = [one.gap for one in trials if one.warm]
    switches = [one.gap for one in trials if one.before is not None and not one.warm]
    lanes = sum(one.before is None for one in trials)
    text = (
        f"{len(gaps)} gaps on {lanes} lanes: median {statistics.median(gaps):.2f} s, p95 {p95(trials):.2f} s"
    )
    return f"{text}; {len(switches)} model switches: {sum(switches):.2f} s in all"


def _span(folder: Path) -> Span | None:
    try:
        result = json.loads((folder / "result.json").read_text())
        lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
        end = (folder / "result.json").stat().st_mtime
    except (OSError, json.JSONDecodeError):
        return None
    steps = [line["time"] for line in lines if line["phase"] == "train"]
    if result["status"] != "complete" or not steps:
        return None
    lane = f"{result['execution']['host']}:{result['execution'].get('process')}"
    loaded = min(line["time"] for line in lines)
    cpu = result["cpu_seconds"]
    return Span(result["trial_id"], lane, result["group"]["model"], loaded, steps[0], end, cpu)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("runs", help="a runs folder")
    sys.exit(main(arguments.parse_args().runs))
