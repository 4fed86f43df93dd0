"""PANELS: every section of the report, in page order. A new one is one function and one line here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Section
from orchestrator.report.panels.curves import curves
from orchestrator.report.panels.fronts import fronts
from orchestrator.report.panels.overview import overview
from orchestrator.report.panels.recovery import has_ground_truth, recovery
from orchestrator.report.panels.targets import has_targets, targets
from orchestrator.report.panels.training import has_training, training
from orchestrator.report.panels.trouble import failures, has_failures, has_warnings, warnings
from orchestrator.report.panels.versions import versions


def always(findings: Findings) -> bool:
    return True


def has_circuits(findings: Findings) -> bool:
    return bool(findings.scenes)


@dataclass(frozen=True)
class Panel:
    """`lead` is one sentence for the reader: what the panel shows and how it was computed. `render`
    is called only when `applies`."""

    key: str
    title: str
    lead: str
    applies: Callable[[Findings], bool]
    render: Callable[[Findings], Sequence[Block]]

    def section(self, findings: Findings) -> Section:
        return Section(self.key, self.title, self.lead, self.render(findings))


PANELS = (
    Panel(
        "asked",
        "What was asked and run",
        "The sweeps, their trials and what they cost, as sums over the trials that ended. Examples: all that "
        "went forward or backward to find circuits.",
        always,
        overview,
    ),
    Panel(
        "curves",
        "Faithfulness against sparsity",
        "At each edge budget, each seed's best circuit with at most that many edges is chosen on the "
        "validation examples and its divergence on the test examples is shown: the median over seeds, "
        "with a band from the lower to the upper quartile.",
        has_circuits,
        curves,
    ),
    Panel(
        "fronts",
        "Pareto fronts",
        "The front holds the circuits that no other circuit of the same method beats in both edges and "
        "validation divergence; the hypervolume is the share of the box from one edge to all edges (log "
        "scale) and from 0 to the empty circuit's divergence that the front dominates on the test examples. "
        "It also rewards tiny circuits that are only a little better than the empty one, so a method "
        "evaluated at every small number of edges gains there: read it with the sparsest faithful circuit.",
        has_circuits,
        fronts,
    ),
    Panel(
        "recovery",
        "Recovery of known circuits",
        "For each seed, over all settings of the method, the sparsest circuit whose validation divergence "
        "is at most ε, compared with the task's known circuit.",
        has_ground_truth,
        recovery,
    ),
    Panel(
        "targets",
        "Target and achieved sparsity",
        "The sparsity each final circuit was trained towards against the one it has; below a target of 1 "
        "they should agree to 0.005. A trial ends past its target where edges cost nothing to cut (the "
        "multipliers that grew while the target rose unwind slowly, and a closed gate gets no gradient), and "
        "short of it where cutting more would cost too much. Circuits taken on the way are points as well, "
        "so curves and fronts do not depend on it.",
        has_targets,
        targets,
    ),
    Panel(
        "training",
        "Training curves",
        "Divergence on the training batches and sparsity by step, as reported while the trials ran.",
        has_training,
        training,
    ),
    Panel(
        "failures",
        "Failed trials",
        "Trials that ended without a result or whose result cannot be read; they are in no curve and in "
        "no table above.",
        has_failures,
        failures,
    ),
    Panel(
        "warnings",
        "Warnings",
        "What a reader of the numbers above should know, told by the trials or found while reading them.",
        has_warnings,
        warnings,
    ),
    Panel(
        "versions",
        "Versions and hardware",
        "What the trials ran with, as each of them recorded it.",
        always,
        versions,
    ),
)
