"""Probe: a few steps of each kind of trial, run here and now, to say what the whole of it will take."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.planning.plan import Plan, PlannedTrial
from trainers.resources import Resources
from trainers.trial import TrialSpec

STEPS = 6
EXAMPLES = 8  # of each evaluated split
LIMIT = 600.0  # seconds for a probe
KEPT_WHOLE = ("batch_size", "gate_samples", "edge_budgets", "thresholds")  # they decide what a step costs


@dataclass(frozen=True)
class Probed:
    """Seconds of one trial of a kind: `load` once, `step` each planned step, `evaluate` all its circuits."""

    load: float
    step: float
    evaluate: float

    def seconds(self, steps: int) -> float:
        return self.load + self.step * steps + self.evaluate


def probe(plan: Plan, say: Callable[[str], None]) -> dict[str, Probed]:
    """By `PlannedTrial.kind`, of the trials that are missing; a kind whose probe fails or takes longer
    than ten minutes is left out, and `say` is told why."""
    first: dict[str, PlannedTrial] = {}
    for trial in plan.missing:
        first.setdefault(trial.kind, trial)
    found: dict[str, Probed] = {}
    for kind, trial in first.items():
        say(f"probing {kind} …")
        try:
            found[kind] = _probed(trial.spec, plan.sweep.resources)
        except (subprocess.SubprocessError, ValueError, KeyError, OSError) as error:
            detail = error.stderr.strip().splitlines()[-1:] if isinstance(error, _Failed) else [str(error)]
            say(f"  no measurement: {''.join(detail)[:300]}")
    return found


class _Failed(subprocess.SubprocessError):
    def __init__(self, stderr: str) -> None:
        super().__init__(stderr)
        self.stderr = stderr


def _probed(spec: TrialSpec, resources: Resources) -> Probed:
    small = _small(spec)
    with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
        folder = Path(scratch)
        (folder / "spec.json").write_text(json.dumps(small.plain()))
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={resources.ranks}", "-m"]
        command = [
            sys.executable,
            "-m",
            *(launcher if resources.ranks > 1 else []),
            "trainers.trial",
            scratch,
        ]
        threads = {"OMP_NUM_THREADS": str(resources.threads), "GLOO_SOCKET_IFNAME": "lo"}
        ran = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, timeout=LIMIT)
        if ran.returncode:
            raise _Failed(ran.stderr or "no output")
        reports = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
        result = json.loads((folder / "result.json").read_text())
    return _measured(spec, small, reports, result["seconds"])


def _measured(spec: TrialSpec, small: TrialSpec, reports: list[dict], seconds: float) -> Probed:
    """`time` of a report is when its phase had come so far."""
    evaluating = [one["time"] for one in reports if one["phase"] == "evaluate"]
    loaded = next(one["time"] for one in reports if one["phase"] == "load")
    discovered = evaluating[0]
    told = [one["step_seconds"] for one in reports if one["phase"] == "train" and "step_seconds" in one]
    step = statistics.median(told) if told else (discovered - loaded) / max(1, small.method.steps_planned())
    evaluated = evaluating[-1] - discovered
    more = _evaluated(spec) / _evaluated(small)
    load = max(0.0, seconds - (evaluating[-1] - loaded))
    return Probed(load=load, step=step, evaluate=evaluated * more)


def _small(spec: TrialSpec) -> TrialSpec:
    method = {name: value for name, value in spec.method.smoke.items() if name not in KEPT_WHOLE}
    task = {name: EXAMPLES for name in ("validation", "test") if name in spec.task.smoke}
    changes = {"task": spec.task.cut(task), "method": spec.method.cut(method)}
    return spec.model_copy(update=changes)


def _evaluated(spec: TrialSpec) -> float:
    """What evaluation costs, in examples times circuits, but for a factor."""
    examples = sum(getattr(spec.task, split, None) or EXAMPLES for split in ("validation", "test"))
    return examples * (1 + spec.method.points_planned())
