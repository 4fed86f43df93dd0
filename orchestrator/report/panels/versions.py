"""Versions and hardware."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Column, Paragraph, Table
from orchestrator.wording import count

# Names that differ from trial to trial or from machine to machine: how many there are is enough.
_COUNTED = ("host", "hosts", "attempt", "process")
# Different values told of one name.
SHOWN = 5


def versions(findings: Findings) -> Sequence[Block]:
    ended = findings.with_status("complete", "failed")
    if not ended:
        return [Paragraph("No trial has ended yet.", quiet=True)]
    blocks: list[Block] = []
    for title, column in (("Software", "versions"), ("Hardware and execution", "execution")):
        found = _values([json.loads(row[column] or "{}") for row in ended])
        rows = [[name, _told(name, values, len(ended))] for name, values in sorted(found.items())]
        if rows:
            columns = [Column(title), Column("Value", code=True, long=True)]
            blocks.append(Table(title, columns, rows))
    return blocks or [Paragraph("The trials recorded none.", quiet=True)]


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
