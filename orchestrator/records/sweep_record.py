"""SweepRecord: what a sweep folder says it is, and sweeps of one name told apart by their runs folders."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from orchestrator.records.trial_result import EPSILON
from orchestrator.yaml_source import MAX_BYTES, parse_yaml
from trainers.folder import Folder
from trainers.outside import MAX_JSON, is_name, parse_json
from trainers.spec import SpecError

OWN_DIVERGENCE = "divergence"
MAX_SNAPSHOT = 4 * MAX_BYTES  # what a sweep file of the allowed size becomes with all defaults written out


@dataclass(frozen=True)
class Problem:
    """Something that could not be read or does not fit: where it is and what is wrong. `asked`: no file is
    at fault, the reader asked for it."""

    where: str
    what: str
    asked: bool = False


@dataclass(frozen=True)
class SweepRecord:
    """What a sweep folder says: its question and its trials in plan order.

    `name` is the folder's, with the runs folder in brackets where another sweep of that name was read,
    too. `homes` are the sweep's folders: one, or several that plan the same trials.
    """

    name: str
    question: str
    epsilon: float
    faithfulness: str  # the metric to minimise; OWN_DIVERGENCE means each trial's own
    trial_ids: tuple[str, ...]
    homes: tuple[Folder, ...] = ()


def sweeps_in(folder: Folder, problems: list[Problem]) -> tuple[list[SweepRecord], Folder]:
    """The sweeps that `folder` stands for, and its runs folder.

    Raises SpecError for a folder that is neither a runs folder nor a sweep folder.
    """
    names = folder.names()
    if "trials.json" in names or "sweep.yaml" in names:
        return [_read_sweep(folder, problems)], folder.parent
    sweeps = []
    for name in names:
        inside = folder / name
        if name != "trials" and (inside.exists("trials.json") or inside.exists("sweep.yaml")):
            sweeps.append(_read_sweep(inside, problems))
    if not sweeps and "trials" not in names:
        state = "an empty or missing folder" if not names else f"a folder with {', '.join(names[:4])}"
        raise SpecError(
            f"{folder.location}: found {state}; allowed: a runs folder (it holds trials/ and one "
            "folder per sweep) or the folder of one sweep"
        )
    return sweeps, folder


def told_apart(sweeps: Iterable[SweepRecord]) -> tuple[SweepRecord, ...]:
    """Sorted by name, each folder once. Sweeps of one name that plan the same trials are one sweep; the
    others get their runs folder into their names."""
    by_name: dict[str, list[SweepRecord]] = {}
    for sweep in sweeps:
        if sweep.homes not in [known.homes for known in by_name.setdefault(sweep.name, [])]:
            by_name[sweep.name].append(sweep)
    found: list[SweepRecord] = []
    for name, namesakes in by_name.items():
        by_plan: dict[frozenset[str], SweepRecord] = {}
        for sweep in sorted(namesakes, key=lambda sweep: [home.path for home in sweep.homes]):
            plan = frozenset(sweep.trial_ids)
            by_plan[plan] = _joined(by_plan.get(plan), sweep)
        if len(by_plan) > 1:
            labels = short_names([sweep.homes[0].parent for sweep in by_plan.values()])
            different = zip(by_plan.values(), labels, strict=True)
            found += [replace(sweep, name=f"{name} ({label})") for sweep, label in different]
        else:
            found += by_plan.values()
    return tuple(sorted(found, key=lambda sweep: sweep.name))


def short_names(folders: Sequence[Folder]) -> list[str]:
    """For each folder as much of the end of its path as tells it from the others; no user names, no keys."""
    parts = [PurePosixPath(folder.path).parts for folder in folders]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(own[-length:]).lstrip("/") for own in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{folder.filesystem.type_name}:{folder.path}" for folder in folders]


def _joined(known: SweepRecord | None, new: SweepRecord) -> SweepRecord:
    """One sweep read from two runs folders."""
    if known is None:
        return new
    return replace(known, epsilon=min(known.epsilon, new.epsilon), homes=(*known.homes, *new.homes))


def _read_sweep(folder: Folder, problems: list[Problem]) -> SweepRecord:
    snapshot = _snapshot(folder, problems)
    objectives = snapshot.get("objectives")
    objectives = objectives if isinstance(objectives, dict) else {}
    epsilon = objectives.get("epsilon", EPSILON)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float):
        problems.append(Problem(f"{folder.location}/sweep.yaml", f"objectives.epsilon: found {epsilon!r}"))
        epsilon = EPSILON
    faithfulness = str(objectives.get("faithfulness", OWN_DIVERGENCE))
    question = str(snapshot.get("question") or "")
    planned = _planned(folder, problems)
    return SweepRecord(folder.name, question, float(epsilon), faithfulness, planned, (folder,))


def _snapshot(folder: Folder, problems: list[Problem]) -> Mapping[str, object]:
    try:
        text = (folder.read("sweep.yaml", MAX_SNAPSHOT) or b"").decode()
        snapshot = parse_yaml(text, "sweep.yaml").data or {}
        if not isinstance(snapshot, dict):
            raise ValueError("not a mapping")
    except ValueError as error:
        what = str(error).partition("\n")[0]
        problems.append(Problem(f"{folder.location}/sweep.yaml", f"cannot be read: {what}"))
        return {}
    return snapshot


def _planned(folder: Folder, problems: list[Problem]) -> tuple[str, ...]:
    where = f"{folder.location}/trials.json"
    try:
        planned = parse_json(folder.read("trials.json", MAX_JSON) or b"null")
    except ValueError as error:
        what = str(error).partition("\n")[0]
        problems.append(Problem(where, f"cannot be read: {what}"))
        return ()
    if isinstance(planned, list) and all(map(is_name, planned)):
        return tuple(dict.fromkeys(planned))
    state = "is missing" if planned is None else "is not a list of trial ids"
    problems.append(Problem(where, f"{state}: the sweep's trials are not known; run the sweep again"))
    return ()
