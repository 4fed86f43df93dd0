"""What `circuit eval` prints: one block per metric, then areas, completeness and mistakes."""

from collections.abc import Iterator

from orchestrator.cli.terminal import table
from orchestrator.report.metric_words import measured_in, words
from orchestrator.wording import count, duration, percent, significant
from trainers.evaluation.curves import AREAS
from trainers.evaluation.request import Answer, Interval, Row

HEAD = ("", "edges", "connected", "sparsity", "mean [95 %]", "faithfulness [95 %]")


def answer_text(answer: Answer) -> str:
    """The whole answer, for a terminal."""
    lines = [
        f"{answer.model}, {answer.task}, {answer.split}: {count(answer.num_examples, 'example')}"
        f"{' (in-sample: trained on)' if answer.in_sample else ''}",
        f"{answer.test_set}; ablation {answer.ablation}; {answer.num_edges_total:,} edges "
        f"({answer.edge_convention})",
    ]
    for name in answer.metrics:
        rows = [_row(row, name) for row in answer.rows]
        lines += ["", measured_in(name), *(f"  {line}" for line in table(HEAD, rows))]
    lines += [*_areas(answer), *_completeness(answer), *_mistakes(answer)]
    speed = f"{answer.examples_per_second:.3g} examples a second"
    ranks = f" on {count(answer.ranks, 'rank')}" if answer.ranks > 1 else ""
    lines += ["", f"{duration(answer.seconds)}{ranks}, {speed}"]
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in answer.warnings)])


def _row(row: Row, metric: str) -> tuple[str, ...]:
    share, ends = row.faithfulness[metric], row.faithfulness_intervals[metric]
    told = "undefined" if share is None else significant(share)
    if share is not None and ends is not None and row.kind not in ("full", "empty"):
        told = _with_ends(share, ends)
    return (
        row.label, f"{row.num_edges:,}", f"{row.num_edges_connected:,}", percent(row.sparsity),
        _with_ends(row.metrics[metric], row.intervals[metric]), told,
    )  # fmt: skip


def _with_ends(value: float, ends: Interval) -> str:
    return f"{significant(value)} [{significant(ends[0])}, {significant(ends[1])}]"


def _areas(answer: Answer) -> Iterator[str]:
    names = {row.source: row.name for row in answer.rows if row.kind == "circuit"}
    for source, by_metric in answer.areas.items():
        yield ""
        yield f"{names[source]}: areas over MIB's grid (trapezoids; log: over ln k, not divided by its width)"
        rows = []
        for name, area in by_metric.items():
            told = ["undefined"] * len(AREAS)
            if area is not None:
                told = [_with_ends(area.value[one], area.intervals[one]) for one in AREAS]
            rows.append((words(name), *told))
        yield from (f"  {line}" for line in table(("", "CPR", "CMD", "CPR, log", "CMD, log"), rows))


def _completeness(answer: Answer) -> Iterator[str]:
    for place, by_metric in answer.completeness.items():
        row, some = answer.rows[place], next(iter(by_metric.values())).subsets
        yield ""
        largest = f"largest |m(M∖K) − m(C∖K)| over {count(some, 'subset')} K"
        yield f"{row.label}, {count(row.num_edges, 'edge')}: {largest}"
        rows = [
            (
                words(name),
                significant(gap.gap),
                f"{gap.num_edges:,}",
                significant(gap.model),
                significant(gap.circuit),
            )
            for name, gap in by_metric.items()
        ]
        yield from (f"  {line}" for line in table(("", "gap", "edges in K", "model", "circuit"), rows))


def _mistakes(answer: Answer) -> Iterator[str]:
    if answer.mistakes is None:
        return
    yield ""
    yield f"the full model gets {count(answer.mistakes, 'example')} of {answer.num_examples:,} wrong"
    for row in answer.rows if answer.mistakes else ():
        if row.kind == "circuit" and row.mistakes_reproduced is not None:
            share = percent(row.mistakes_reproduced)
            yield f"  {row.label}, {count(row.num_edges, 'edge')}: reproduces {share} of them"
