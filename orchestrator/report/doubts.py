"""Doubts: what a reader of the report should know before believing it, each with what to do about it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.aims import OWN_WARNING, aimed, missed_targets
from orchestrator.report.declared import is_chance, is_fixed
from orchestrator.report.doubt import Doubt
from orchestrator.report.findings import Findings
from orchestrator.report.kept import KeptEdges
from orchestrator.report.scenes import Curve
from orchestrator.report.seed_doubts import overlap_by_size, overlap_of_faithful, unequal_tries
from orchestrator.wording import count, percent, shortest, significant

# Bands wider than this share of the empty circuit's divergence, at more than this share of the budgets.
WIDE_BAND = 0.2
WIDE_AT = 0.25
# Share of a circuit's kept edges that are on no path from input to output.
DISCONNECTED = 0.05
# A front of fewer circuits may well be of one seed.
SHORT_FRONT = 3
# In a trial's warning: trials that differ in these alone tell of one cause.
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")

# The warnings that trials give, by how they start.
ADVICE = (
    (
        "the full model is not above chance",
        "Choose a task that the model knows (circuit-sweep task show tells), or another model.",
    ),
    (
        "too few examples to judge",
        "Give the task more test examples: whether the model knows it is not known.",
    ),
    ("checkpoint", "Nothing, if it happened once; otherwise look at the disk."),
    (
        "every ",
        "Attribute another metric, or use integrated gradients: gradients vanish where the model saturates.",
    ),
)


def doubts(findings: Findings) -> Iterator[Doubt]:
    """All of them, also those that several trials have, one after the other."""
    for problem in findings.results.problems:
        if problem.asked:
            yield Doubt(
                f"equal budget, {problem.where}", problem.what, "Nothing: --max-examples asked for it."
            )
            continue
        yield Doubt(
            "files", f"{problem.where}: {problem.what}", "Run the sweep again, or leave the trial out."
        )
    yield from _mixed(findings)
    kept = KeptEdges(findings.results)
    for scene, group in findings.scenes.items():
        for curve in group:
            where = f"{curve.method}, {findings.titles[scene]}"
            by_chance = is_chance(findings, curve)  # of such a method seeds disagree by construction
            yield from _of_values(curve, where)
            yield from _of_seeds(findings, curve, where)
            if not by_chance:
                yield from _wide_bands(curve, where)
            yield from unequal_tries(curve, where)
            yield from _of_edges(findings, curve, where)
            if not by_chance:
                yield from overlap_of_faithful(curve, where, kept, findings.epsilon(scene))
            if not by_chance and not is_fixed(findings, curve):
                yield from overlap_by_size(curve, where, kept, findings.epsilon(scene))
            yield from missed_targets(findings, curve, where)
    yield from _of_trials(findings)


def _mixed(findings: Findings) -> Iterator[Doubt]:
    versions: dict[str, list[str]] = {}
    for row in findings.with_status("complete", "failed"):
        versions.setdefault(row["code"] or "not recorded", []).append(row["trial_id"])
    if len(versions) > 1:
        told = ", ".join(f"{code} ({count(len(ids), 'trial')})" for code, ids in sorted(versions.items()))
        text = f"The trials ran with different versions of circuit-sweep: {told}."
        yield Doubt(
            "versions", text, "Compare methods that ran with one version, or run the older ones again."
        )
    for scene, title in findings.titles.items():
        epsilons = findings.epsilons(scene)
        if len(epsilons) > 1:
            told = ", ".join(shortest(epsilon) for epsilon in epsilons)
            text = f"The sweeps ask for different ε ({told}); the strictest is used."
            yield Doubt(title, text, "Report one sweep at a time to use its own ε.")


def _of_values(curve: Curve, where: str) -> Iterator[Doubt]:
    strange = [row for row in curve.rows if not _finite(row)]
    if strange:
        text = f"{count(len(strange), 'circuit')} without a finite divergence."
        yield Doubt(where, text, "Look at the trials' progress: they may have diverged.", _ids(strange))
    empties = [row["divergence_empty"] for row in curve.rows if row["divergence_empty"] is not None]
    if not np.isfinite(curve.empty):
        yield Doubt(where, "The empty circuit's divergence is not known: no hypervolume.")
    elif empties and max(empties) - min(empties) > 1e-3 * abs(curve.empty):
        told = f"{significant(min(empties))} to {significant(max(empties))}"
        text = f"The empty circuit's divergence differs between trials: {told}."
        yield Doubt(where, text, "The trials measured different things: compare their versions and dtypes.")


def _of_seeds(findings: Findings, curve: Curve, where: str) -> Iterator[Doubt]:
    seeds = curve.all_seeds
    if len(seeds) == 1:
        if not is_fixed(findings, curve):
            yield Doubt(where, "One seed, so its curves have no band.", "Add seeds.", _ids(curve.rows))
        return
    front_seeds = sorted({int(curve.seeds[index]) for index in curve.front})
    if len(front_seeds) == 1 and len(curve.front) >= SHORT_FRONT:
        text = (
            f"All {len(curve.front)} circuits of the front are of seed {front_seeds[0]}, of "
            f"{len(seeds)} seeds."
        )
        rows = [curve.rows[int(index)] for index in curve.front]
        yield Doubt(where, text, "Go by the median over seeds, or add seeds.", _ids(rows))


def _wide_bands(curve: Curve, where: str) -> Iterator[Doubt]:
    bands = curve.bands
    several = bands.num_seeds > 1
    if several.any() and np.isfinite(curve.empty) and curve.empty > 0:
        with np.errstate(invalid="ignore"):
            wide = several & (bands.quartile_3 - bands.quartile_1 > WIDE_BAND * curve.empty)
        if wide.sum() > WIDE_AT * several.sum():
            text = (
                f"Seeds disagree: at {int(wide.sum())} of {int(several.sum())} budgets their quartiles are "
                f"more than {percent(WIDE_BAND)} of the empty circuit's divergence apart."
            )
            yield Doubt(where, text, "Add seeds, and compare methods by paired tests rather than by eye.")


def _of_edges(findings: Findings, curve: Curve, where: str) -> Iterator[Doubt]:
    loose = [(row["num_edges"] - row["num_edges_connected"], row) for row in _front(curve)]
    worst = max(loose, key=lambda one: one[0] / max(one[1]["num_edges"], 1), default=None)
    if worst is not None and worst[0] > DISCONNECTED * worst[1]["num_edges"]:
        cut, row = worst
        text = (
            f"Edges on no path from input to output: {cut:,} of the {row['num_edges']:,} that a circuit on "
            "the front keeps."
        )
        advice = "Go by the connected edges (num_edges_connected)"
        if curve.scene.ablation == "interchange":
            advice += ": the others change no output"
        yield Doubt(where, text, f"{advice}.", (row["trial_id"],))


def _of_trials(findings: Findings) -> Iterator[Doubt]:
    in_sample = [row["trial_id"] for row in findings.with_status("complete") if row["in_sample"]]
    if in_sample:
        text = "The test examples are the training examples: the test divergence says nothing about others."
        yield Doubt(
            "test set", text, "Nothing, where they are all there are; else give a test split.", in_sample
        )
    for row in findings.with_status("complete"):
        where, ids = _place(findings, row), (row["trial_id"],)
        if row["num_points"] == 0:
            yield Doubt(where, "Complete, but without any circuit.", trials=ids)
        elif row["method"] is None or row["divergence"] is None:
            yield Doubt(where, "Its group or divergence is missing: it is on no curve.", trials=ids)
    causes: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    judged = {row["trial_id"] for group in findings.scenes.values() for c in group for row in aimed(c)}
    for row in findings.trials.values():
        for text in row["warnings"] or ():
            if row["trial_id"] in judged and text.startswith(OWN_WARNING):
                continue  # missed_targets tells it, with its side
            cause = (_place(findings, row), *NUMBER.split(text))
            causes.setdefault(cause, []).append((text, row["trial_id"]))
    for (where, *_), given in causes.items():
        text = _one_text([text for text, _ in given])
        advice = next((advice for start, advice in ADVICE if text.startswith(start)), "")
        yield Doubt(where, text, advice, tuple(dict.fromkeys(trial_id for _, trial_id in given)))


def _one_text(texts: Sequence[str]) -> str:
    """Texts that differ in their numbers alone as one, with `lowest – highest` of each number."""
    columns = zip(*(NUMBER.findall(text) for text in texts), strict=True)
    ranges = (sorted(set(column), key=lambda one: float(one.replace(",", ""))) for column in columns)
    told = iter([one[0] if len(one) == 1 else f"{one[0]} – {one[-1]}" for one in ranges])
    return NUMBER.sub(lambda _: next(told), texts[0])


def _place(findings: Findings, row: Mapping[str, Any]) -> str:
    """A trial's method and scene."""
    return f"{row['method'] or 'trial'}, {findings.scene_title(row)}"


def _front(curve: Curve) -> list[Mapping[str, Any]]:
    rows = (curve.rows[int(index)] for index in curve.front)
    return [row for row in rows if row["num_edges_connected"] is not None]


def _ids(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({row["trial_id"] for row in rows})


def _finite(row: Mapping[str, Any]) -> bool:
    values = (row["divergence_validation"], row["divergence_test"])
    return all(value is not None and np.isfinite(value) for value in values)
