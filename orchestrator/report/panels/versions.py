"""Versions and hardware."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Column, Paragraph, Table
from orchestrator.wording import count

# Names that differ from trial to trial or from machine to machine: how many there are is enough.
_COUNTED = ("host", "hosts", "attempt", "process")
# What of a trial's execution is hardware.
HARDWARE = ("processor", "cores", "memory_bytes", "gpu", "device", "host", "hosts")
NOT_THE_SAME_BITS = (
    "There the same bits cannot be promised: sums are taken in an order that changes between GPUs, drivers "
    "and runs, so a trial that is run again may differ in its last digits, and in edges near the threshold."
)
# Different values told of one name.
SHOWN = 5


def versions(findings: Findings) -> Sequence[Block]:
    ended = findings.with_status("complete", "failed")
    if not ended:
        return [Paragraph("No trial has ended yet.", quiet=True)]
    blocks: list[Block] = []
    executions = [json.loads(row["execution"] or "{}") for row in ended]
    for title, recorded in (
        ("Software", [json.loads(row["versions"] or "{}") for row in ended]),
        ("Hardware", [_only(names, HARDWARE) for names in executions]),
        ("Execution", [_only(names, set(names) - set(HARDWARE)) for names in executions]),
    ):
        found = _values(recorded)
        rows = [[name, _told(name, found[name], len(ended))] for name in sorted(found)]
        if rows:
            columns = [Column(title), Column("Value", code=True, long=True)]
            blocks.append(Table(title, columns, rows))
    on_gpu = sum(str(names.get("device", "")).startswith("cuda") for names in executions)
    if on_gpu:
        blocks.append(Paragraph(f"{count(on_gpu, 'trial')} ran on a GPU. {NOT_THE_SAME_BITS}"))
    return blocks or [Paragraph("The trials recorded none.", quiet=True)]


def _only(recorded: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    known = {name: value for name, value in recorded.items() if name in names}
    if isinstance(size := known.pop("memory_bytes", None), int | float):
        known["memory"] = f"{size / 2**30:.1f} GiB"
    return known


def _values(recorded: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    values: dict[str, Counter[str]] = {}
    for names in recorded:
        for name, value in names.items():
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            values.setdefault(name, Counter())[text] += 1
    return values


def _told(name: str, values: Counter[str], trials: int) -> str:
    if name in _COUNTED:
        return f"{len(values)} different" if len(values) > 1 else next(iter(values))
    common = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    if len(common) == 1 and common[0][1] == trials:
        return common[0][0]
    told = "; ".join(f"{value} ({count(number, 'trial')})" for value, number in common[:SHOWN])
    return told + (f"; {len(common) - SHOWN} more" if len(common) > SHOWN else "")
