"""A trial's result: read strictly from its folder, and the circuits in it that answer for the trial."""

from pydantic import ValidationError

from trainers.folder import Folder
from trainers.outside import MAX_JSON, is_name
from trainers.result import RESULT_SCHEMA, Point, TrialResult
from trainers.spec import SpecError, shortened

RESULT = "result.json"
SPLITS = ("train", "validation", "test")
# A circuit whose validation divergence is at most this is called faithful, unless the sweep's
# objectives set another epsilon.
EPSILON = 1e-3
SPARSITY_ROUNDING = 1e-6  # a sparsity may have gone through float32


def read_result(trial: Folder) -> tuple[TrialResult | None, str]:
    """A trial's result, and what is wrong with its file: one of the two is always empty.

    A result counts only under this version's schema, in the folder of its own trial, and when it does not
    contradict itself.
    """
    try:
        content = trial.read(RESULT, MAX_JSON)
        if content is None:
            return None, ""
        result = TrialResult.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return None, f"{RESULT}: not a result ({f'{where}: ' if where else ''}{first['msg']})"
    except SpecError as error:
        return None, str(error)
    misfit = _misfit(result, trial.name)
    return (None, f"{RESULT}: {misfit}") if misfit else (result, "")


def own_point(result: TrialResult) -> Point | None:
    """The one circuit that the method decided on: refined if there is such a one, else final; None
    for a ranking, which offers a circuit per edge budget, and for path mode, which offers one per target."""
    for kind in ("refined", "final"):
        points = [point for point in result.points if point.kind == kind]
        if points:
            return points[-1] if len(points) == 1 else None
    return None


def main_point(result: TrialResult, epsilon: float = EPSILON) -> Point | None:
    """The method's own circuit; of a ranking or a greedy search, the sparsest circuit that is faithful on
    validation (divergence at most epsilon), or else the most faithful one."""
    own = own_point(result)
    if own is not None or not result.points:
        return own
    points = [point for point in result.points if point.kind != "ranking"] or result.points
    faithful = [point for point in points if _divergence(point, result) <= epsilon]
    if faithful:
        return min(faithful, key=lambda point: point.num_edges)
    return min(points, key=lambda point: (_divergence(point, result), point.num_edges))


def _misfit(result: TrialResult, trial_id: str) -> str:
    if result.trial_id != trial_id:
        return f"the result of trial {result.trial_id}"
    if result.result_schema != RESULT_SCHEMA:
        return f"written with schema {result.result_schema}; readable: {RESULT_SCHEMA}"
    files = [point.circuit for point in result.points] + [result.test_values or RESULT]
    if strange := [name for name in files if not is_name(name)]:
        return f"found the file {shortened(strange[0])}; allowed: files of the trial's folder"
    unknown = {split for point in result.points for split in point.metrics} - set(SPLITS)
    if unknown:
        return f"found metrics of {sorted(unknown)}; allowed: {', '.join(SPLITS)}"
    contradictions = (_contradiction(result, point) for point in result.points)
    if told := next(filter(None, contradictions), ""):
        return told
    numbers = [point.point for point in result.points]
    return "" if len(set(numbers)) == len(numbers) else "two points have the same number"


def _contradiction(result: TrialResult, point: Point) -> str:
    """What a point says that cannot be true together with the rest of it; empty when all can."""
    where, total = f"points.{point.point}", point.num_edges_total
    if total < 1 or result.num_edges_total not in (None, total):
        whole = f"; the trial has {result.num_edges_total:,}" if result.num_edges_total is not None else ""
        return f"{where}: found num_edges_total {total:,}{whole}"
    if not 0 <= point.num_edges <= total:
        return f"{where}: found num_edges {point.num_edges:,}; allowed: 0 to {total:,}"
    if not 0 <= point.num_edges_connected <= point.num_edges:
        found = point.num_edges_connected
        return f"{where}: found num_edges_connected {found:,}; allowed: 0 to {point.num_edges:,}"
    cut = 1 - point.num_edges / total
    if not abs(point.sparsity - cut) <= SPARSITY_ROUNDING:
        kept = f"{point.num_edges:,} of {total:,} edges"
        return f"{where}: found sparsity {point.sparsity:.6g}; {kept} are {cut:.6g}"
    for name in ("truth_precision", "truth_recall"):
        share = getattr(point, name)
        if share is not None and not (0 <= share <= 1 or share != share):
            return f"{where}: found {name} {share:.6g}; allowed: 0 to 1"
    return ""


def _divergence(point: Point, result: TrialResult) -> float:
    return point.metrics.get("validation", {}).get(result.divergence or "", float("inf"))
