"""What of several sweeps can be compared with what, and why the rest cannot."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import words
from orchestrator.report.panels.blocks import Block, Column, Heading, Paragraph, Table
from orchestrator.wording import count, shortest

Row = Mapping[str, Any]
# Pairs of sweeps told one by one; beyond, the scenes say which sweeps are in them.
PAIRS = 15
# Different values of one thing told by name.
SHOWN = 4
BY_HAND = "(no sweep)"


@dataclass(frozen=True)
class Bar:
    """A field of a scene: results that differ in it share no axis. `why` says so in a sentence."""

    name: str
    label: str
    why: str

    def value(self, row: Row) -> str:
        value = row[self.name]
        if value is None:
            return "not known"
        told = words(value) if self.name == "divergence" else value
        return f"{told:,}" if isinstance(told, int) else str(told)


BARS = (
    Bar("model", "model", "another model has other edges, and its own faithfulness"),
    Bar("task", "task", "another task is another behaviour"),
    Bar("test_set", "test set", "a mean over other examples is another quantity"),
    Bar("ablation", "ablation", "what a cut edge carries decides how far a circuit is from the full model"),
    Bar("edge_convention", "edges counted", "other edges are counted, so sparsity has another denominator"),
    Bar("divergence", "divergence", "another divergence has another scale"),
    Bar("num_edges_total", "edges in all", "sparsity has another denominator"),
)


@dataclass(frozen=True)
class Care:
    """Something in which trials on the same axes may differ; `value` gives None for a trial that did
    not record it."""

    label: str
    why: str
    value: Callable[[Row], str | None]
    counted: bool = False  # how many different values there are is enough


def _nested(column: str, *path: str) -> Callable[[Row], str | None]:
    def value(row: Row) -> str | None:
        found: Any = json.loads(row[column] or "{}")
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return None if found is None else str(found)

    return value


CARES = (
    Care(
        "code", "circuit-sweep itself was changed in between: see what its log says", lambda row: row["code"]
    ),
    Care("method version", "older results do not say theirs", _nested("execution", "method_version")),
    Care(
        "validation examples", "circuits were chosen on other examples", _nested("num_examples", "validation")
    ),
    Care(
        "training examples", "circuits were found on other examples", _nested("num_examples", "train")
    ),
    Care("dtype", "rounding differs", _nested("spec", "model", "dtype")),
    Care("device", "rounding and speed differ", _nested("execution", "device")),
    Care(
        "processor", "times do not compare, and rounding may differ", _nested("execution", "processor")
    ),
    Care("host", "times do not compare", _nested("execution", "host"), counted=True),
    Care("torch", "rounding may differ", _nested("versions", "torch")),
    Care("transformers", "the model's code may differ", _nested("versions", "transformers")),
)  # fmt: skip
_TWINS = "the model's content, the data, or the version of method, task or schema changed in between"
# A method's own: trials of different methods differ in it anyway.
_PER_METHOD = ("method version",)


def has_several(findings: Findings) -> bool:
    return len(findings.results.sweeps) > 1 or len(findings.scenes) > 1


def comparable(findings: Findings) -> Sequence[Block]:
    rows = [row for row in findings.trials.values() if row["num_points"] and row["method"] is not None]
    if not rows:
        return [Paragraph("No circuit has been found yet.", quiet=True)]
    scenes = _by_scene(findings, rows)
    blocks: list[Block] = [Paragraph(_verdict(findings, scenes)), _shared(scenes)]
    if len(findings.results.sweeps) > 1:
        blocks += [*_pairs(findings, scenes, rows), _machines(findings)]
    apart = _apart(findings)
    if apart is not None:
        blocks += [Heading("Kept apart"), apart]
    cared = _with_care(scenes)
    if cared is not None:
        blocks += [Heading("On the same axes, with care"), cared]
    return blocks


def _by_scene(findings: Findings, rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Title of the scene -> the trials whose circuits are on its axes."""
    of_trial: dict[str, list[str]] = {}
    for scene, group in findings.scenes.items():
        for trial_id in dict.fromkeys(row["trial_id"] for curve in group for row in curve.rows):
            of_trial.setdefault(trial_id, []).append(findings.titles[scene])
    scenes: dict[str, list[Row]] = {findings.titles[scene]: [] for scene in findings.scenes}
    for row in rows:
        for title in of_trial.get(row["trial_id"], []):
            scenes[title].append(row)
    return scenes


def _sweeps_of(rows: Iterable[Row]) -> list[str]:
    return sorted({name for row in rows for name in (row["sweeps"] or [BY_HAND])})


def _verdict(findings: Findings, scenes: Mapping[str, Sequence[Row]]) -> str:
    sweeps = len(findings.results.sweeps)
    what = (
        f"{count(sweeps, 'sweep')}, {count(len(scenes), 'scene')}"
        if sweeps > 1
        else count(len(scenes), "scene")
    )
    if len(scenes) == 1:
        return f"{what}: all circuits share the same axes."
    told = f"{what} (what shares axes is a scene): curves, fronts and tests never cross from one to another."
    if sweeps > 1:
        met = sum(len(_sweeps_of(rows)) > 1 for rows in scenes.values())
        several = {0: "No scene holds", 1: "1 scene holds"}.get(met, f"{met} scenes hold")
        told += f" {several} circuits of more than one sweep."
    return told


def _shared(scenes: Mapping[str, Sequence[Row]]) -> Table:
    columns = [Column("Scene", long=True), Column("Sweeps", long=True), Column("Methods", long=True)]
    columns += [Column(name, numeric=True) for name in ("Trials", "Seeds")]
    rows = [
        [
            title,
            ", ".join(_sweeps_of(trials)),
            ", ".join(sorted({row["method"] for row in trials})),
            count(len(trials)),
            count(len({row["seed"] for row in trials})),
        ]
        for title, trials in scenes.items()
    ]
    return Table("What shares axes", columns, rows)


def _pairs(findings: Findings, scenes: Mapping[str, Sequence[Row]], rows: Sequence[Row]) -> Iterable[Block]:
    names = _sweeps_of(rows)
    pairs = list(combinations(names, 2))
    if not pairs or len(pairs) > PAIRS:
        return
    told = []
    for first, second in pairs:
        both = [title for title, trials in scenes.items() if {first, second} <= set(_sweeps_of(trials))]
        alone = [[row for row in rows if name in (row["sweeps"] or [BY_HAND])] for name in (first, second)]
        reasons = "" if both else _differences(*alone)
        epsilons = _epsilons(findings, first, second)
        told.append(
            [first, second, "; ".join(both) or "nothing", "; ".join(filter(None, (reasons, epsilons))) or "–"]
        )
    columns = [Column("Sweep"), Column("and sweep"), Column("share the axes of", long=True)]
    yield Heading("Sweep by sweep")
    yield Table("Which sweeps share axes", [*columns, Column("They differ in", long=True)], told)


def _machines(findings: Findings) -> Table:
    """When and on what each sweep's trials ran."""
    columns = [Column("Sweep"), *(Column(name) for name in ("First started", "Last finished"))]
    columns += [Column(name, long=True) for name in ("Machines", "Processors", "GPUs")]
    told = []
    trials = [row for row in findings.trials.values() if row["execution"] is not None]
    for name in _sweeps_of(trials):
        own = [row for row in trials if name in (row["sweeps"] or [BY_HAND])]
        times = ([row[column] for row in own if row[column]] for column in ("started", "finished"))
        starts, ends = (sorted(map(str, some)) for some in times)
        row = [name, starts[0][:10] if starts else "–", ends[-1][:10] if ends else "–"]
        for field in ("host", "processor", "gpu"):
            value = _nested("execution", field)
            found = {known for one in own if (known := value(one)) is not None}
            row.append(_some(found) or ("none recorded" if field == "gpu" else "not recorded"))
        told.append(row)
    return Table("When and where the sweeps ran", columns, told)


def _epsilons(findings: Findings, *names: str) -> str:
    asked = {sweep.name: sweep.epsilon for sweep in findings.results.sweeps}
    values = sorted({asked[name] for name in names if name in asked})
    return f"ε: {' and '.join(map(shortest, values))}" if len(values) > 1 else ""


def _differences(first: Sequence[Row], second: Sequence[Row]) -> str:
    """The fields of a scene in which two sweeps have no value in common."""
    told = []
    for bar in BARS:
        values = [{bar.value(row) for row in rows} for rows in (first, second)]
        if not values[0] & values[1]:
            told.append(f"{bar.label}: {_some(values[0])} against {_some(values[1])}")
    if told and told[0].startswith(("model", "task")):
        told = [one for one in told if one.startswith(("model", "task"))]  # all else follows from it
    return "; ".join(told) or "no combination of model, task and conventions is in both"


def _apart(findings: Findings) -> Table | None:
    """Scenes of one model and task that are not one scene, or None."""
    families: dict[tuple[str, str], list[Row]] = {}
    for scene in findings.scenes:
        fields = {bar.name: getattr(scene, bar.name) for bar in BARS}
        families.setdefault((scene.model, scene.task), []).append(fields)
    rows = []
    for (model, task), scenes in sorted(families.items()):
        for bar in BARS:
            values = sorted({bar.value(scene) for scene in scenes})
            if len(values) > 1:
                rows.append([f"{model}, {task}", bar.label, "; ".join(values), bar.why])
    for name in ("model", "task"):
        bar = next(bar for bar in BARS if bar.name == name)
        values = sorted({bar.value({name: getattr(scene, name)}) for scene in findings.scenes})
        if len(values) > 1:
            rows.append(["all", bar.label, "; ".join(values), bar.why])
    columns = [Column("Results on", long=True), Column("differ in"), Column("namely", long=True)]
    return Table("Why scenes share no axes", [*columns, Column("Why", long=True)], rows) if rows else None


def _with_care(scenes: Mapping[str, Sequence[Row]]) -> Table | None:
    rows = []
    for title, trials in scenes.items():
        for care in CARES:
            told = _mixed(care, trials)
            if told:
                rows.append([title, care.label, told, care.why])
        twins = len(trials) - len({row["spec"] for row in trials})
        if twins:
            told = f"{count(twins, 'trial')} with the spec of another and an id of its own"
            rows.append([title, "trial id", told, _TWINS])
    columns = [Column("Scene", long=True), Column("Its trials differ in"), Column("namely", long=True)]
    columns.append(Column("What to mind", long=True))
    return Table("Differences within scenes", columns, rows) if rows else None


def _mixed(care: Care, trials: Sequence[Row]) -> str:
    """The different values with how many trials have them; empty when they agree."""
    groups: dict[str, dict[str, int]] = {}
    for row in trials:
        method = row["method"] if care.label in _PER_METHOD else ""
        values = groups.setdefault(method, {})
        value = care.value(row) or "not recorded"
        values[value] = values.get(value, 0) + 1
    told = []
    for method, values in sorted(groups.items()):
        if len(values) > 1 and care.counted:
            told.append(f"{len(values)} different")
        elif len(values) > 1:
            some = [f"{value} ({count(number, 'trial')})" for value, number in sorted(values.items())]
            told.append(f"{method}: " * bool(method) + _some(some))
    return "; ".join(told)


def _some(values: Iterable[str]) -> str:
    ordered = sorted(values)
    rest = len(ordered) - SHOWN
    return ", ".join(ordered[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
