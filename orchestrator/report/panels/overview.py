"""What was asked and run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Column, Paragraph, Table
from orchestrator.report.panels.curves import device_seconds
from orchestrator.wording import count, duration

_GROUP = ("model", "task", "test_set", "ablation", "edge_convention", "method")


def overview(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = []
    sweeps = findings.results.sweeps
    if sweeps:
        blocks.append(_sweeps(findings))
    if not findings.trials:
        blocks.append(Paragraph("No trial has been planned or run yet."))
        return blocks
    blocks.append(_trials(findings))
    unfinished = len(findings.with_status("unfinished"))
    if unfinished:
        text = f"{count(unfinished, 'trial')} not finished: run the sweep again to go on where it stopped."
        blocks.append(Paragraph(text, quiet=True))
    return blocks


def _sweeps(findings: Findings) -> Table:
    columns = [
        Column("Sweep"),
        Column("Question", long=True),
        *(Column(name, numeric=True) for name in ("Trials", "Complete", "Failed", "Not finished")),
        *(Column(name) for name in ("First started (UTC)", "Last ended (UTC)")),
        Column("Device time", numeric=True),
    ]
    rows = []
    for sweep in findings.results.sweeps:
        trials = [findings.trials[trial] for trial in sweep.trial_ids if trial in findings.trials]
        states = Counter(trial["status"] for trial in trials)
        started = min((trial["started"] for trial in trials if trial["started"]), default=None)
        finished = max((trial["finished"] for trial in trials if trial["finished"]), default=None)
        rows.append(
            [
                sweep.name,
                sweep.question or "–",
                count(len(sweep.trial_ids)),
                count(states["complete"]),
                count(states["failed"] + states["unreadable"]),
                count(states["unfinished"]),
                *(_minute(moment) for moment in (started, finished)),
                duration(sum(device_seconds(trial) for trial in trials)),
            ]
        )
    return Table("Sweeps", columns, rows)


def _minute(moment: str | None) -> str:
    """`2026-01-01 00:00` of an ISO 8601 time."""
    return "–" if moment is None else moment[:16].replace("T", " ")


def _trials(findings: Findings) -> Table:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in findings.trials.values():
        key = tuple(row[name] or "" for name in _GROUP)
        groups.setdefault(key, []).append(row)
    columns = [
        *(Column(name, long=True) for name in ("Method", "Model", "Task")),
        *(Column(name, numeric=True) for name in ("Trials", "Complete", "Failed", "Seeds", "Circuits")),
        *(Column(name, numeric=True) for name in ("Steps", "Examples", "Device time", "CPU time")),
    ]
    rows = [_row(key, groups[key]) for key in sorted(groups, key=lambda key: (not key[-1], key))]
    if len(rows) > 1:
        rows.append(_row(("",) * 5 + ("all",), list(findings.trials.values())))
    return Table("Trials per group", columns, rows)


def _row(key: tuple[str, ...], trials: Sequence[Mapping[str, Any]]) -> list[str]:
    ended = [row for row in trials if row["status"] in ("complete", "failed")]
    failed = sum(row["status"] in ("failed", "unreadable") for row in trials)
    cpu = sum(row["cpu_seconds"] or 0.0 for row in ended)
    return [
        key[-1] or "not known yet",
        key[0],
        key[1],
        count(len(trials)),
        count(sum(row["status"] == "complete" for row in trials)),
        count(failed),
        count(len({row["seed"] for row in trials if row["seed"] is not None})),
        count(sum(row["num_points"] for row in trials)),
        count(sum(row["steps"] or 0 for row in ended)),
        count(sum((row["examples"] or 0) + (row["backward_examples"] or 0) for row in ended)),
        duration(sum(device_seconds(row) for row in ended)),
        duration(cpu),
    ]
