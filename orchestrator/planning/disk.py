"""Disk: what a sweep will write, from what its like wrote or from the size of the edge graph."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.planning.plan import PlannedTrial
from orchestrator.planning.weights import graph_size
from trainers.folder import Folder
from trainers.result import TrialResult

CELL_BYTES = 5  # of a circuit file, per pair of writer and reader: a float32 score and a bool
EDGE_BYTES = 24  # of an edges.json, per kept edge, at most on average
GATE_BYTES = 12  # of a checkpoint, per edge: log-alpha and two moments
CHECKPOINTS = 2  # that a running trial keeps
REST_BYTES = 200_000  # result.json, progress.jsonl, logs
# Of sweeps of compiled programs with 3 to 20 trials, rounded up; test_smoke.py compares:
MIRROR_BYTES = 600_000  # per trial, of MLflow's database, pictures and copies beside its circuit
REPORT_BYTES = 250_000  # per trial, of the page, figures and tables
LEAST_REPORT_BYTES = 6_000_000  # of the smallest report and of an empty MLflow


@dataclass(frozen=True)
class Disk:
    """Bytes that all missing trials will leave, that the sweep's report and its mirror in MLflow take
    (where both are on this disk), and that running trials take beside that, at most."""

    results: int
    records: int
    checkpoints: int


def predicted_disk(
    missing: Sequence[PlannedTrial], runs: Folder, earlier: Sequence[TrialResult], lanes: int
) -> Disk | None:
    """None when there is a model of which nothing is known."""
    results, mirrored, largest = 0, 0, 0
    measured: dict[str, float] = {}
    for trial in missing:
        cells = graph_size(trial.spec.model) or _cells_known(trial, earlier)
        if cells is None:
            return None
        points = trial.spec.method.points_planned()
        if trial.kind not in measured:
            measured[trial.kind] = _per_point(trial, runs, earlier)
        bound = CELL_BYTES * cells + EDGE_BYTES * cells / 2
        results += int(points * (measured[trial.kind] or bound)) + REST_BYTES
        mirrored += int(bound) + MIRROR_BYTES
        largest = max(largest, CHECKPOINTS * (GATE_BYTES * cells + points * CELL_BYTES * cells))
    report = LEAST_REPORT_BYTES + REPORT_BYTES * len(missing) if missing else 0
    return Disk(results, report + mirrored, largest * min(lanes, len(missing)))


def _cells_known(trial: PlannedTrial, earlier: Sequence[TrialResult]) -> int | None:
    model = trial.spec.plain()["model"]
    known = [one.num_edges_total for one in earlier if one.num_edges_total and one.spec.get("model") == model]
    return 2 * max(known) if known else None  # half of all pairs at least are edges


def _per_point(trial: PlannedTrial, runs: Folder, earlier: Sequence[TrialResult]) -> float:
    """Bytes of a point of complete trials with the same model and method; 0 when there are none."""
    spec = trial.spec.plain()
    alike = [
        one
        for one in earlier
        if one.points and one.spec.get("model") == spec["model"]
        and one.spec.get("method", {}).get("name") == trial.spec.method.name
    ][:3]  # fmt: skip
    sizes = [runs.size(f"trials/{one.trial_id}") / len(one.points) for one in alike]
    return max(sizes, default=0.0)
