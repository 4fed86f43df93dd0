"""What does a large sweep cost that is planned, resumed, aggregated or shown? Trains nothing.

    python -m benchmarks.runs_folder        # makes folders of 1,000, 3,000 and 10,000 complete trials

The trials have the specs, ids and files of real ones, with made-up numbers: edge pruning on a compiled
program, two learning rates by 25 targets by seeds, six circuits each. CPU seconds, each command in a
process of its own, its imports counted unless said otherwise. Exit code 1 when a target is missed; the
last one needs Debian's chromium.
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

SIZES = (1_000, 3_000, 10_000)
PLANNED = 2_000
# Most CPU seconds, of wall seconds for the browser; at the largest size.
LIMITS = {"plan": 2.0, "resume": 10.0, "report unchanged": 10.0, "aggregate": 20.0, "open": 3.0}
PAGE_BYTES = 8_000_000
NOT_LINEAR = 1.3  # times the cost per trial of the smallest folder: what is more is not linear
TARGETS, RATES = 25, (0.1, 0.2)


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments.add_argument(
        "--scratch", type=Path, help="keep the folders there, and use them if they are there"
    )
    given = arguments.parse_args()
    scratch = given.scratch or Path(tempfile.mkdtemp(prefix="runs-folder-"))
    try:
        return _report(scratch, sorted(given.sizes))
    finally:
        if given.scratch is None:
            shutil.rmtree(scratch)


def _report(scratch: Path, sizes: Sequence[int]) -> int:
    spec = sweep_file(scratch / "plan", PLANNED)
    planning = float(_inside("plan", str(spec), str(scratch / "none")))
    print(f"plan of {PLANNED:,} trials, after imports: {planning:.2f} CPU s")
    rows: dict[int, dict[str, float]] = {}
    for size in sizes:
        folder = make(scratch / str(size), size)
        run = ("run", str(folder / "sweep.yaml"), "--runs", str(folder / "runs"))
        (folder / "runs" / "large" / "reported.json").unlink(missing_ok=True)  # of a benchmark before
        rows[size] = {
            "aggregate": float(_inside("aggregate", str(folder / "runs"))),
            "resume": _command(*run, "--no-report"),
            "with a new report": _command(*run),
            "report unchanged": _command(*run),
        }
        page = folder / "runs" / "large" / "report" / "report.html"
        rows[size] |= {"page MB": page.stat().st_size / 1e6, "open": float(_inside("open", str(page)))}
        told = "  ".join(f"{name} {value:.2f}" for name, value in rows[size].items())
        print(f"{size:>7,} trials: {told}", flush=True)
    return _verdict(planning, rows[sizes[0]], rows[sizes[-1]], sizes[-1] / sizes[0])


def _verdict(planning: float, small: dict[str, float], large: dict[str, float], factor: float) -> int:
    large = large | {"plan": planning}
    met = {f"{name} <= {limit:g} s": large[name] <= limit for name, limit in LIMITS.items()}
    met[f"page <= {PAGE_BYTES / 1e6:g} MB"] = large["page MB"] * 1e6 <= PAGE_BYTES
    growth = large["aggregate"] / small["aggregate"] / factor
    met[f"aggregate: {growth:.2f} x per trial of the smallest, <= {NOT_LINEAR}"] = growth <= NOT_LINEAR
    for what, so in met.items():
        print(f"{'PASS' if so else 'FAIL'}  {what}")
    return 0 if all(met.values()) else 1


def sweep_file(folder: Path, trials: int) -> Path:
    """A sweep of so many trials, in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = [round(0.5 + 0.45 * place / (TARGETS - 1), 4) for place in range(TARGETS)]
    sweep = {
        "name": "large",
        "question": "What does a sweep of this size cost beside its steps?",
        "base": {
            "model": {"builtin": "tracr-reverse"},
            "task": {"name": "tracr"},
            "ablation": "zero",
            "method": {"name": "edge_pruning", "target_sparsity": 0.9, "path_points": 4},
        },
        "vary": {"method.target_sparsity": targets, "method.gate_lr": list(RATES)},
        "seeds": trials // (TARGETS * len(RATES)),
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    return folder / "sweep.yaml"


def make(folder: Path, trials: int) -> Path:
    """`folder` with a sweep.yaml and its runs folder, every trial complete."""
    from orchestrator.sweep import SweepSpec

    spec = sweep_file(folder, trials)
    if (folder / "runs").is_dir():
        return folder
    for trial in SweepSpec.load(spec).trials():
        home = folder / "runs" / "trials" / trial.trial_id
        home.mkdir(parents=True)
        _write_trial(home, trial.trial_id, trial.plain())
    return folder


def _write_trial(home: Path, trial_id: str, spec: dict) -> None:
    """The small files of a trial as a rank writes them; the circuits' files are its kept edges alone."""
    draw = random.Random(trial_id)
    target = spec["method"]["target_sparsity"]
    points = [_point(draw, number, target) for number in range(6)]
    result = {
        "trial_id": trial_id, "status": "complete", "spec": spec, "seed": spec["seed"], "divergence": "kl",
        "group": {
            "model": "tracr-reverse", "task": "tracr", "test_set": "domain", "ablation": "zero",
            "edge_convention": "2 embedding writers, maskable", "method": "edge pruning",
        },
        "points": points, "num_edges_total": 94, "in_sample": True, "steps": 1000,
        "full": {split: _metrics(0.0) for split in ("validation", "test")},
        "empty": {split: _metrics(2.0) for split in ("validation", "test")},
        "ground_truth": EDGES[:11], "num_examples": dict.fromkeys(("train", "validation", "test"), 27),
        "examples": 216_000, "backward_examples": 216_000, "seconds": 20.0, "cpu_seconds": 19.0,
        "gate_histogram": [80] + [0] * 18 + [14],
        "execution": {"ranks": 1, "threads": 1, "zero_stage": 3, "attempt": 1, "host": "one"},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "deepspeed": "0.19.8"},
        "started": "2026-11-23T00:00:00+00:00", "finished": "2026-11-23T00:00:20+00:00",
    }  # fmt: skip
    (home / "spec.json").write_text(json.dumps(spec, indent=2))
    owner = {"sweep": "large", "host": "one", "pid": 1}
    (home / "attempt.json").write_text(json.dumps({"attempt": 1, "owner": owner, "started": "2026-11-23"}))
    lines = [
        {"time": step, "attempt": 1, "phase": "train", "step": step, "total": 1000, "kl": draw.random()}
        | {"sparsity": target * step / 1000, "target_sparsity": target * min(1.0, step / 800)}
        for step in range(0, 1001, 20)
    ]
    (home / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for point in points:
        kept = draw.sample(EDGES, point["num_edges"])
        (home / f"edges-{point['point']:03d}.json").write_text(json.dumps(kept))
    (home / "result.json").write_text(json.dumps(result, indent=1))


def _writers(layer: int) -> list[str]:
    """Before the MLP of a layer, in a model with one head per layer."""
    heads, mlps = [f"a{n}.h0" for n in range(layer + 1)], [f"m{n}" for n in range(layer)]
    return ["tok_embeds", "pos_embeds", *heads, *mlps]


EDGES = [(writer, f"m{layer}") for layer in range(4) for writer in _writers(layer)]


def _metrics(kl: float) -> dict[str, float]:
    return {
        "kl": kl,
        "same_output": float(kl < 0.1),
        "accuracy": max(0.0, 1 - kl / 2),
        "logit_difference": 10 - kl,
        "answer_log_probability": -kl,
    }


def _point(draw: random.Random, number: int, target: float) -> dict:
    edges = max(1, min(len(EDGES), round(94 * (1 - target)) // 2 + number))
    metrics = {split: _metrics(draw.random() * 2 * 0.8**edges) for split in ("validation", "test")}
    intervals = {
        split: {name: (value - 0.01, value + 0.01) for name, value in measured.items()}
        for split, measured in metrics.items()
    }
    return {
        "point": number, "kind": "final" if number == 0 else "path", "num_edges": edges,
        "num_edges_total": 94, "num_edges_connected": edges, "sparsity": 1 - edges / 94,
        "target_sparsity": target, "step": 1000 - number, "metrics": metrics, "intervals": intervals,
        "circuit": f"circuit-{number:03d}.safetensors",
        "truth_precision": 0.5, "truth_recall": 0.5,
    }  # fmt: skip


def _command(*arguments: str) -> float:
    """CPU seconds of `circuit-sweep ...` and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "orchestrator", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _inside(what: str, *arguments: str) -> str:
    """What a measurement says that runs in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.runs_folder", "--inside", what, *arguments]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout.split()[-1]


def plan_seconds(spec: str, runs: str) -> float:
    """CPU seconds of `circuit-sweep plan`, after imports."""
    from orchestrator.cli import terminal
    from orchestrator.planning.estimate import estimate
    from orchestrator.planning.plan import plan
    from orchestrator.sweep import SweepSpec
    from trainers.folder import Folder

    started = time.process_time()
    folder = Folder.open(runs)
    planned = plan(SweepSpec.load(spec), folder)
    assert len(planned.missing) == PLANNED, f"{len(planned.missing)} trials"
    terminal.plan_text(planned, estimate(planned, folder), None)
    return time.process_time() - started


def aggregate_seconds(runs: str) -> float:
    """CPU seconds from a runs folder to trials.parquet and points.parquet, after imports."""
    import pyarrow.parquet as parquet

    from orchestrator.records.results import Results

    started = time.process_time()
    results = Results.load(runs)
    with tempfile.TemporaryDirectory() as scratch:
        for name, table in (("trials", results.trials), ("points", results.points)):
            parquet.write_table(table, f"{scratch}/{name}.parquet", compression="zstd")
    return time.process_time() - started


def open_seconds(page: str) -> float:
    """Wall seconds until the last chart of the page is drawn; the median of three visits."""
    from playwright.sync_api import sync_playwright

    taken = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for _ in range(3):
            visit = browser.new_page()
            started = time.perf_counter()
            visit.goto(Path(page).resolve().as_uri(), wait_until="load")
            visit.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
            taken.append(time.perf_counter() - started)
            visit.close()
        browser.close()
    return sorted(taken)[1]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        measured = {"plan": plan_seconds, "aggregate": aggregate_seconds, "open": open_seconds}
        print(measured[sys.argv[2]](*sys.argv[3:]))
        sys.exit(0)
    sys.exit(main())
