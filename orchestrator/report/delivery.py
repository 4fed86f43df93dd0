"""Delivery: the report into the folder that was asked for, on this machine or behind a URI."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from orchestrator.records.results import Results
from orchestrator.report.budget import within
from orchestrator.report.pareto_table import pareto_table
from orchestrator.report.publish import SUMMARY, left_behind, write_files
from trainers.folder import Folder


def publish_report(sources: Sequence[Folder], target: Folder, max_examples: int | None = None) -> str:
    """Writes the report on `sources` into `target`, on trials of at most so many examples if given;
    returns the Pareto table. Raises SpecError."""
    return deliver(Results.load(sources), target, max_examples)


def deliver(
    results: Results,
    target: Folder,
    max_examples: int | None = None,
    refresh_seconds: int = 0,
    figures: bool = True,
) -> str:
    """Like `publish_report`, on results that are loaded already; `refresh_seconds` and `figures` as in
    `write_files`. Behind a URI report.json is uploaded last, so that who sees it finds all else there, and
    what only the report before consisted of is deleted."""
    if max_examples is not None:
        results = within(results, max_examples)
    if target.is_local:
        write_files(results, Path(target.path), refresh_seconds, figures)
        return pareto_table(results)
    with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
        out = Path(scratch, "report")
        names = write_files(results, out, refresh_seconds, figures).names
        before = target.read(SUMMARY)
        for name in sorted(names, key=lambda name: name == SUMMARY):
            target.write(name, (out / name).read_bytes())
        for name in left_behind(before, names):
            target.delete(name)
    return pareto_table(results)
