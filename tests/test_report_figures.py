"""Figures: drawn from their CSV alone, safe names, methods told apart."""

import csv
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from orchestrator.report.figures import FIGURES, FIGURES_AT_MOST, FigureKind, figures_of
from orchestrator.report.figures.plot import FORMATS, Plot, slug
from orchestrator.report.figures.style import STYLE, colour, dash, label, marker
from orchestrator.report.findings import Findings
from orchestrator.results import Results
from tests.run_folders import GROUP, Runs, gated_sweep, point, small_sweep, trial


def findings_of(runs: Runs) -> Findings:
    return Findings.of(Results.load([runs.folder]))


@pytest.mark.parametrize("kind", FIGURES, ids=lambda kind: kind.key)
def test_a_figure_is_drawn_from_its_csv_alone(kind: FigureKind, tmp_path: Path) -> None:
    findings = findings_of(gated_sweep(tmp_path / "runs"))
    assert kind.applies(findings), "the sweep of this test has data for every kind"
    plots = kind.plots(findings)
    assert plots and len({plot.slug for plot in plots}) == len(plots)
    for plot in plots:
        assert plot.kind == kind.key
        assert re.fullmatch(r"[a-z0-9-]{1,100}", plot.slug)
        written = plot.write(tmp_path)
        assert sorted(path.suffix[1:] for path in written) == sorted(["csv", *FORMATS])
        text = (tmp_path / f"{plot.slug}.csv").read_bytes().decode("utf-8")
        rows = [
            dict(zip(plot.columns, line, strict=True)) for line in list(csv.reader(io.StringIO(text)))[1:]
        ]
        drawn = svg(plot, [{name: value_of(cell) for name, cell in row.items()} for row in rows])
        assert drawn == svg(plot, plot.rows), "the CSV holds what is drawn"
        assert drawn != svg(plot, [{**row, **moved(row)} for row in plot.rows]), (
            "and what is drawn is from it"
        )
        ElementTree.fromstring(drawn)


def svg(plot: Plot, rows: Any) -> bytes:
    stream = io.BytesIO()
    with rc_context(STYLE):
        figure = Figure(figsize=plot.size, layout="constrained")
        plot.draw(figure, rows)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def value_of(cell: str) -> str | int | float | None:
    if cell == "":
        return None
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def moved(row: Any) -> dict[str, float]:
    """Another value in every measured column of the row."""
    names = ("value", "sparsity", "divergence", "share", "iou")
    return {name: row[name] * 0.5 + 0.01 for name in names if isinstance(row.get(name), float)}


def test_methods_look_different_in_colour_and_in_grey() -> None:
    looks = [(colour(slot), marker(slot)) for slot in range(24)]
    assert len(set(looks)) == 24
    assert len({(marker(slot), str(dash(slot))) for slot in range(7)}) == 7


def test_file_names_are_safe_stable_and_unique(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "a\nb", "x" * 10_000, "漢字", "漢語", "", "<script>", "CON", "A b", "a-b"]
    slugs = [slug(name, (name,)) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,100}", one) for one in slugs)
    runs = small_sweep(tmp_path / "runs")
    before = {plot.slug for _, plot in figures_of(findings_of(runs)).plots}
    runs.trial(trial("other", 0, [point(0, 3, 0.1)], group=GROUP.model_copy(update={"ablation": "mean"})))
    runs.sweep("small2", ["other"])
    assert before < {plot.slug for _, plot in figures_of(findings_of(runs)).plots}


def test_labels_are_one_line_without_mathematics_or_missing_glyphs() -> None:
    assert label("a\nb\t$x$") == r"a b \$x\$"
    assert label("漢") == "�" and label("ε ≤ 1") == "ε ≤ 1"
    assert len(label("x" * 10_000)) == 60


def test_many_scenes_have_the_figures_there_is_room_for(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    names = [f"t{number:02d}" for number in range(45)]
    for name in names:
        runs.trial(
            trial(name, 0, [point(0, 5, 0.1)], group=GROUP.model_copy(update={"model": f"model {name}"}))
        )
    runs.sweep("many", names)
    drawn = figures_of(findings_of(runs))
    assert len(drawn.plots) == FIGURES_AT_MOST
    assert {kind.key for kind, _ in drawn.plots} == {"curve"}
    assert sum(kind.key == "curve" for kind, _ in drawn.left_out) == 45 - FIGURES_AT_MOST
