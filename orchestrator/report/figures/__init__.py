"""FIGURES: every kind of figure the report writes. A new one is one file and one line here.

The files of a figure are `figures/<slug>.pdf|png|svg`, with exactly what is drawn in `<slug>.csv`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.report.figures.circuits import DRAWN_EDGES, has_drawable, on_the_fronts
from orchestrator.report.figures.consensus import between_seeds
from orchestrator.report.figures.curves import against_edges, against_sparsity
from orchestrator.report.figures.gates import by_expected_gate
from orchestrator.report.figures.metrics import NEAR, has_other_metrics, other_metrics
from orchestrator.report.figures.plot import Plot
from orchestrator.report.figures.targets import target_and_achieved
from orchestrator.report.figures.training import by_step
from orchestrator.report.findings import Findings
from orchestrator.report.panels.curve_data import FLOOR
from orchestrator.report.panels.gates import FLOOR as GATES_FLOOR
from orchestrator.report.panels.gates import has_gates
from orchestrator.report.panels.targets import has_targets
from orchestrator.report.panels.training import has_training

# Figures in one report: one takes about a second to write, in four formats and on paper.
FIGURES_AT_MOST = 36


_CURVES = (
    "At each edge budget, each seed's best circuit with at most that many edges by its validation "
    "divergence: median over seeds, and as a band (of at least two seeds) from their lower to their upper "
    "quartile, which is the spread of the seeds and no confidence interval, of"
)


def has_circuits(findings: Findings) -> bool:
    return bool(findings.scenes)


@dataclass(frozen=True)
class FigureKind:
    """`panel` is the section of the page whose charts these figures stand for in print; `caption` holds
    for all of them. `plots` is called only when `applies`."""

    key: str
    title: str
    panel: str
    caption: str
    applies: Callable[[Findings], bool]
    plots: Callable[[Findings], Sequence[Plot]]


FIGURES = (
    FigureKind(
        "curve",
        "Divergence against edges",
        "curves",
        f"{_CURVES} the divergence on the test examples. Large markers: the Pareto front; small: other "
        f"circuits. What is below {FLOOR:.0e} is drawn there.",
        has_circuits,
        against_edges,
    ),
    FigureKind(
        "circuit",
        "Circuits",
        "circuits",
        f"Of each method one circuit of at most {DRAWN_EDGES} edges: the sparsest that is faithful on "
        "validation, else the one at the knee of its front, else the largest on its front. From the "
        "embeddings up to the output: one trunk per writer, one branch per edge in the colour of what it "
        "feeds.",
        has_drawable,
        on_the_fronts,
    ),
    FigureKind(
        "targets",
        "Target and achieved sparsity",
        "targets",
        "Every final circuit that was trained towards a target; on the dashed line, achieved and target "
        "sparsity are the same. A target above 1 cannot be reached: it pushes as hard as it can.",
        has_targets,
        target_and_achieved,
    ),
    FigureKind(
        "metric",
        "Other metrics against edges",
        "curves",
        f"{_CURVES} the metric on the test examples. Right axis: faithfulness f, 0 at the empty circuit and "
        f"1 at the full model (medians over trials); tinted: f within {NEAR} of 1.",
        has_other_metrics,
        other_metrics,
    ),
    FigureKind(
        "consensus",
        "Overlap of circuits",
        "consensus",
        "IoU (edges that both keep over edges that either keeps) of every two seeds of the scene's methods: "
        "each with its best circuit by validation within one common budget. White is 0, black is 1.",
        has_circuits,
        between_seeds,
    ),
    FigureKind(
        "gates",
        "How binary the gates are",
        "gates",
        f"Shares of edges by expected gate at the end of training, means over the trials of a setting. What "
        f"is below {GATES_FLOOR:.0e} is drawn there.",
        has_gates,
        by_expected_gate,
    ),
    FigureKind(
        "sparsity",
        "Divergence against sparsity",
        "curves",
        f"{_CURVES} the divergence on the test examples, on a linear axis of sparsity.",
        has_circuits,
        against_sparsity,
    ),
    FigureKind(
        "training",
        "Training curves",
        "training",
        "Divergence on the training batches and sparsity by step, of some trials of a group, evenly over "
        "its settings and seeds, which run from dark to light. Dotted: the target.",
        has_training,
        by_step,
    ),
)


@dataclass(frozen=True)
class Drawn:
    """The figures of a report in the order of FIGURES, and those there was no room for."""

    plots: Sequence[tuple[FigureKind, Plot]] = ()
    left_out: Sequence[tuple[FigureKind, Plot]] = ()


def figures_of(findings: Findings) -> Drawn:
    """At most FIGURES_AT_MOST: kinds in order, what a paper needs first; scenes in order within a kind."""
    found = [(kind, plot) for kind in FIGURES if kind.applies(findings) for plot in kind.plots(findings)]
    return Drawn(found[:FIGURES_AT_MOST], found[FIGURES_AT_MOST:])
