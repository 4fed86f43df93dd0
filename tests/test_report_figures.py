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
from matplotlib.text import Text

from orchestrator.records.results import Results
from orchestrator.report import figures as figures_package
from orchestrator.report.figures import FIGURES, FIGURES_AT_MOST, FigureKind, figures_of
from orchestrator.report.figures.consensus import between_seeds
from orchestrator.report.figures.layout import lay_out
from orchestrator.report.figures.plot import FORMATS, Plot, slug
from orchestrator.report.figures.style import (
    ONE_COLUMN,
    STYLE,
    TWO_COLUMNS,
    colour,
    dash,
    label,
    marker,
    methods_legend,
    styled,
)
from orchestrator.report.findings import Findings
from tests.run_folders import EDGES, GROUP, TRUTH, Runs, gated_sweep, point, small_sweep, trial


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
        figure = Figure(figsize=plot.size)
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


def moved(row: Any) -> dict[str, Any]:
    """Another value in every measured column of the row, another reader for an edge."""
    names = ("value", "sparsity", "divergence", "share", "iou")
    if "reader" in row:
        return {"reader": "a0.h0.v"}
    return {name: row[name] * 0.5 + 0.01 for name in names if isinstance(row.get(name), float)}


def test_the_csv_holds_every_seed_that_a_band_is_made_of(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed, value in enumerate((0.1, 0.4, 0.2)):
        runs.trial(trial(f"t{seed}", seed, [point(0, 5, value), point(1, 9, value / 2)]))
    runs.sweep("three", ["t0", "t1", "t2"])
    for plot in figures_of(findings_of(runs)).plots:
        if plot[0].key in ("curve", "sparsity"):
            rows = [row for row in plot[1].rows if row["part"] == "seed"]
            told = [(row["num_edges"], row["seed"], row["value"]) for row in rows]
            assert told == [(5, 0, 0.1), (5, 1, 0.4), (5, 2, 0.2), (9, 0, 0.05), (9, 1, 0.2), (9, 2, 0.1)]
            bands = [row for row in plot[1].rows if row["part"] == "band"]
            assert [row["value"] for row in bands] == [0.2, 0.1], "their medians"


def test_a_circuit_of_each_method_is_a_figure_with_its_edges(tmp_path: Path) -> None:
    """The sparsest faithful one; else the knee or the largest; not one without a path."""
    runs = Runs(tmp_path)
    loose = [("tok_embeds", "m0")]
    runs.trial(trial("aa", 0, [point(0, 3, 0.0), point(1, 6, 0.0)]), edges={0: TRUTH, 1: EDGES})
    far = {"group": GROUP.model_copy(update={"method": "far"})}
    runs.trial(trial("bb", 0, [point(0, 3, 0.9), point(1, 6, 0.5)], **far), edges={0: TRUTH, 1: EDGES})
    cut = {"group": GROUP.model_copy(update={"method": "cut"})}
    runs.trial(trial("cc", 0, [point(0, 1, 0.0)], **cut), edges={0: loose})
    runs.sweep("three", ["aa", "bb", "cc"])
    plots = [plot for kind, plot in figures_of(findings_of(runs)).plots if kind.key == "circuit"]
    assert [plot.title.partition(",")[0] for plot in plots] == ["edge pruning", "far"]
    assert [(row["writer"], row["reader"]) for row in plots[0].rows] == TRUTH
    assert "sparsest faithful" in plots[0].details and "largest of the front" in plots[1].details
    assert [row["on_path"] for row in plots[0].rows] == [1, 1, 0], (
        "pos_embeds feeds a head that feeds nothing"
    )
    assert "not drawn: 1 edge on no path" in plots[0].details


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


def texts_outside(plot: Plot) -> list[str]:
    """Texts of the drawn figure that stick out of it."""
    with rc_context(STYLE):
        figure = plot.figure()
        figure.draw_without_rendering()
        wide, high = figure.bbox.width, figure.bbox.height
        out = []
        for text in figure.findobj(Text):
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= wide + 1 and box.y1 <= high + 1
            if text.get_text().strip() and text.get_visible() and not inside:
                out.append(text.get_text())
    return out


LONG = "edge pruning with a name as long as any"


def test_long_names_stay_inside_the_overlap_figure(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    scene = {"model": "a-model-of-some-size", "task": "a_task_with_a_name", "test_set": SET}
    for number in range(4):
        group = GROUP.model_copy(update=scene | {"method": f"{LONG} {number // 2}"})
        edges = [("tok_embeds", "m0"), ("m0", "resid_post")]
        result = trial(f"t{number}", number % 2, [point(0, 2, 0.1)], group=group)
        runs.trial(result, edges={0: edges})
    (plot,) = between_seeds(findings_of(runs))
    assert texts_outside(plot) == []
    with rc_context(STYLE):
        figure = plot.figure()
        figure.draw_without_rendering()
        title, axes = figure.findobj(Text), figure.axes[0]
        named = next(text for text in title if "a_task_with_a_name" in text.get_text())
        shown = " ".join(named.get_text().split())
        assert shown.endswith("at most 2 edges"), "the title in full"
        assert not named.get_window_extent().overlaps(axes.get_window_extent())
        labels = [" ".join(text.get_text().split()) for text in axes.get_yticklabels()]
        assert labels == [f"{LONG} 0", f"{LONG} 1"], "names in full"


SET = "64 examples, templates 1, data seed 0"


def test_legends_use_the_width_of_the_figure() -> None:
    short = {name: place for place, name in enumerate(("EAP", "EAP-IG (inputs)", "edge pruning", "random"))}
    with rc_context(STYLE):
        for slots, width, columns in (
            (short, ONE_COLUMN, 3),
            (short | {"edge pruning (from scratch)": 4}, ONE_COLUMN, 2),
            (dict.fromkeys([LONG, f"{LONG} too"], 0), ONE_COLUMN, 1),
            (short, TWO_COLUMNS, 4),
        ):
            figure = Figure(figsize=(width, 2))
            figure.subplots()
            methods_legend(figure, slots, width)
            figure.draw_without_rendering()
            (legend,) = figure.legends
            assert len({round(text.get_window_extent().x0) for text in legend.get_texts()}) == columns
            box = legend.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_titles_say_what_was_measured(tmp_path: Path) -> None:
    def title_of(**update: str) -> str:
        runs = Runs(tmp_path / str(len(list(tmp_path.iterdir()))))
        group = GROUP.model_copy(update={"model": "gpt2", "task": "ioi", "ablation": "interchange"} | update)
        runs.trial(trial("t", 0, [point(0, 2, 0.1)], group=group))
        (title,) = findings_of(runs).titles.values()
        return title

    assert title_of() == "gpt2, ioi"
    assert title_of(test_set=SET) == "gpt2, ioi · 64 examples, templates 1"
    assert title_of(test_set="200 examples, data seed 3") == "gpt2, ioi · 200 examples"
    assert title_of(ablation="mean") == "gpt2, ioi · mean ablation"


@pytest.mark.parametrize("methods", [1, 12])
def test_axes_titles_and_legends_do_not_overlap(methods: int, tmp_path: Path) -> None:
    runs = gated_sweep(tmp_path / "runs")
    for number in range(methods):
        for seed in (0, 1):
            group = GROUP.model_copy(update={"method": f"a method with a longer name, variant {number}"})
            result = trial(f"m{number}-{seed}", seed, [point(0, 2 + number, 0.1 * (number + 1))], group=group)
            runs.trial(result, edges={0: [("tok_embeds", "m0")]})
    for _, plot in figures_of(findings_of(runs)).plots:
        with styled():
            figure = plot.figure()
            figure.draw_without_rendering()
        whole, boxes = figure.bbox, [axes.get_tightbbox() for axes in figure.axes]
        legends = [legend.get_window_extent() for legend in figure.legends]
        texts = [text.get_window_extent() for text in figure.texts]
        assert all(axes.get_window_extent().height > 40 for axes in figure.axes), plot.slug
        for place, one in enumerate(apart := [*boxes, *legends, *texts]):
            assert one is not None and one.y0 >= whole.y0 - 1 and one.y1 <= whole.y1 + 1, plot.slug
            assert not any(one.overlaps(other) for other in apart[:place] if other is not None), plot.slug


def test_a_canvas_that_is_too_small_is_laid_out_all_the_same() -> None:
    with styled():
        figure = Figure(figsize=(0.3, 0.3))
        for axes in figure.subplots(3, 2).ravel():
            axes.set_ylabel("a label\non two lines")
            axes.set_title("a title")
        lay_out(figure)
    assert all(axes.get_position().width > 0 and axes.get_position().height > 0 for axes in figure.axes)


def test_nothing_solves_for_a_layout() -> None:
    """kiwisolver, which the constrained layout is solved with, ends the process on some canvases."""
    sources = Path(figures_package.__file__).parent.parent.rglob("*.py")
    assert not [
        path.name for path in sources if re.search("constrained|tight_layout", path.read_text("utf-8"))
    ]
