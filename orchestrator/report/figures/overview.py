"""pareto.png and pareto.pdf: all scenes in one figure."""

from pathlib import Path

from matplotlib.figure import Figure

from orchestrator.report.figures.curves import curve_rows, divergence_axes, reference_rows
from orchestrator.report.figures.layout import lay_out
from orchestrator.report.figures.plot import save
from orchestrator.report.figures.style import PALE, methods_legend, styled
from orchestrator.report.findings import Findings

# Scenes in the one figure; each has a figure of its own besides.
SCENES = 24
_PANEL_WIDTH, _PANEL_HEIGHT = 4.0, 2.9


def write_overview(findings: Findings, png: Path, pdf: Path) -> None:
    """Draws the scenes into one figure. The same findings give the same bytes."""
    with styled():
        figure = _figure(findings)
        lay_out(figure)
        save(figure, png)
        save(figure, pdf)


def _figure(findings: Findings) -> Figure:
    scenes = list(findings.scenes.items())[:SCENES]
    columns = 2 if len(scenes) in (2, 4) else max(1, min(3, len(scenes)))
    rows = max(1, -(-len(scenes) // columns))
    width = _PANEL_WIDTH * columns
    figure = Figure(figsize=(width, _PANEL_HEIGHT * rows + 0.45))
    if not scenes:
        figure.text(0.5, 0.5, "No circuits yet", ha="center", va="center", color=PALE, size=12)
        return figure
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (scene, group) in zip(grid, scenes, strict=False):
        drawn = [row for curve in group for row in curve_rows(curve, curve.test, curve.bands)]
        drawn += reference_rows(findings, group)
        divergence_axes(axes, findings, scene, drawn, "num_edges")
    for axes in grid[len(scenes) :]:
        axes.set_axis_off()
    shown = {curve.method for _, group in scenes for curve in group}
    methods_legend(figure, {name: slot for name, slot in findings.slots.items() if name in shown}, width)
    left_out = len(findings.scenes) - len(scenes)
    if left_out:
        figure.suptitle(f"The first {SCENES} of {len(findings.scenes)} scenes", color=PALE, size=8)
    return figure
