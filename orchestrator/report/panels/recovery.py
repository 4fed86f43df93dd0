"""Recovery of known circuits: does a method find the circuit that a compiled program is known to have?"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Column, Details, Edges, Heading, Paragraph, Table
from orchestrator.report.scenes import Curve
from orchestrator.wording import count, shortest, spread

Truth = frozenset[tuple[str, str]]

# Different circuits whose edges are listed per method.
LISTED = 8


def has_ground_truth(findings: Findings) -> bool:
    return any(row["ground_truth"] is not None for row in findings.trials.values()) and bool(findings.scenes)


def recovery(findings: Findings) -> Sequence[Block]:
    known = [
        (findings.titles[scene], curve, truth)
        for scene, group in findings.scenes.items()
        for curve in group
        if (truth := findings.ground_truth(curve)) is not None
    ]
    epsilons = sorted({findings.epsilon(curve.scene) for _, curve, _ in known})
    blocks: list[Block] = [
        Paragraph(
            f"ε = {' or '.join(map(shortest, epsilons))}. A known circuit need not be the smallest: one with "
            "fewer edges and the same outputs on every example is a better answer, so the last column counts "
            "the seeds on which the outputs are the same and no more edges are kept than the known circuit "
            "has. "
            "Several values: the median over seeds (lowest – highest).",
            quiet=True,
        ),
        _summary(findings, known),
    ]
    for title in dict.fromkeys(title for title, _, _ in known):
        blocks.append(Heading(f"Circuits found: {title}"))
        for other, curve, truth in known:
            if other == title:
                blocks.append(_circuits(findings, curve, truth))
    return blocks


def _summary(findings: Findings, known: Sequence[tuple[str, Curve, Truth]]) -> Table:
    columns = [
        Column("Scene", long=True),
        Column("Method"),
        Column("Seeds within ε", numeric=True),
        Column("Edges", numeric=True),
        Column("Known circuit", numeric=True),
        Column("Precision", numeric=True),
        Column("Recall", numeric=True),
        Column("Same outputs", numeric=True),
        Column("Same outputs, no more edges than known", numeric=True),
    ]
    rows = []
    for title, curve, truth in known:
        found = [curve.rows[index] for index in curve.sparsest(findings.epsilon(curve.scene)).values()]
        seeds = findings.seeds_run(curve)
        exact = [row for row in found if row.get("test_same_output") == 1.0]
        measured = any(row.get("test_same_output") is not None for row in curve.rows)
        small = [row for row in exact if row["num_edges"] <= len(truth)]
        rows.append(
            [
                title,
                curve.method,
                f"{len(found)} of {seeds}",
                spread([row["num_edges"] for row in found]),
                count(len(truth), "edge"),
                _spread_of(found, "truth_precision"),
                _spread_of(found, "truth_recall"),
                f"{len(exact)} of {seeds}" if measured else "–",
                f"{len(small)} of {seeds}" if measured else "–",
            ]
        )
    return Table("Recovery of known circuits per method", columns, rows)


def _spread_of(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    return spread([row[name] for row in rows if row[name] is not None])


def _circuits(findings: Findings, curve: Curve, truth: Truth) -> Block:
    """The different circuits found, the smallest first, each with the seeds that found it."""
    seeds_of: dict[tuple[tuple[str, str], ...], list[int]] = {}
    unread = []
    for seed, index in curve.sparsest(findings.epsilon(curve.scene)).items():
        row = curve.rows[index]
        edges = findings.results.edges(row["trial_id"], row["circuit"])
        if edges is None:
            unread.append(seed)
        else:
            seeds_of.setdefault(tuple(sorted(edges)), []).append(seed)
    blocks: list[Block] = []
    for edges in sorted(seeds_of, key=lambda edges: (len(edges), edges))[:LISTED]:
        blocks += [Paragraph(_told(edges, truth, seeds_of[edges])), Edges(_marked(edges, truth))]
    if len(seeds_of) > LISTED:
        blocks.append(Paragraph(f"… and {len(seeds_of) - LISTED} more.", quiet=True))
    if unread:
        told = f"The edge list of the circuit of seed {', '.join(map(str, unread))} could not be read."
        blocks.append(Paragraph(told, quiet=True))
    if not blocks:
        blocks.append(Paragraph("No circuit is within ε.", quiet=True))
    return Details(f"{curve.method}: {count(len(seeds_of), 'different circuit')}", blocks)


def _told(edges: Sequence[tuple[str, str]], truth: Truth, seeds: Sequence[int]) -> str:
    found = set(edges)
    where = f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
    shared = f"{len(found & truth)} of the known circuit's {len(truth)}"
    what = "the known circuit" if found == truth else shared
    if found - truth:
        what += f", {count(len(found - truth), 'other')}"
    return f"{count(len(edges), 'edge')} on {where}: {what}."


def _marked(edges: Sequence[tuple[str, str]], truth: Truth) -> list[tuple[str, str]]:
    """The edges that both have, those of the circuit alone, those of the known circuit alone."""
    found = set(edges)
    states = ((found & truth, "known"), (found - truth, "other"), (truth - found, "missing"))
    return [(f"{writer}→{reader}", state) for part, state in states for writer, reader in sorted(part)]
