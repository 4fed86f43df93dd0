"""PANELS: every section of the report, in page order. A new one is one function and one line here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.report.findings import Findings
from orchestrator.report.panels.blocks import Block, Section
from orchestrator.report.panels.circuits import circuits
from orchestrator.report.panels.comparable import comparable, has_several
from orchestrator.report.panels.comparison import comparison, has_pairs
from orchestrator.report.panels.consensus import consensus
from orchestrator.report.panels.curves import curves
from orchestrator.report.panels.faithfulness import faithfulness, has_faithfulness
from orchestrator.report.panels.fronts import fronts
from orchestrator.report.panels.gates import gates, has_gates
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
        "curves",
        "Faithfulness against sparsity",
        "At each edge budget, each seed's best circuit with at most that many edges is chosen by its "
        "divergence on the validation examples, and what it measures on the test examples is shown.",
        has_circuits,
        curves,
    ),
    Panel(
        "fronts",
        "Pareto fronts",
        "The front holds the circuits that no other circuit of the same method beats in both edges and "
        "validation divergence, by more than float32 rounding can; the hypervolume is the share of the box "
        "from one edge to all edges (log scale) and from 0 to the empty circuit's divergence that the front "
        "dominates on the test examples. It also rewards tiny circuits that are only a little better than "
        "the empty one, so a method evaluated at every small number of edges gains there: read it with the "
        "sparsest faithful circuit.",
        has_circuits,
        fronts,
    ),
    Panel(
        "faithfulness",
        "How many edges a faithful circuit takes",
        "For each metric, f is (circuit − empty) / (full model − empty) of its means over the test examples: "
        "0 is the empty circuit, 1 the full model. The first table tells, per seed, the smallest edge budget "
        "from which on |1 − f| stays within a tolerance at that and all larger evaluated budgets; the "
        "circuit at a budget is the seed's best on validation with at most that many edges.",
        has_faithfulness,
        faithfulness,
    ),
    Panel(
        "comparison",
        "Methods compared",
        "Two methods of one scene at a time: at every edge budget where each seed of both has a circuit, the "
        "difference of their test divergences, then the mean over these budgets with equal weight for equal "
        "ratios of edges (the area between the two curves on a log axis).",
        has_pairs,
        comparison,
    ),
    Panel(
        "comparable",
        "Comparability",
        "What may share axes: the same model, task, test set, ablation, counted edges and divergence. All "
        "else is shown side by side, never on one plot.",
        has_several,
        comparable,
    ),
    Panel(
        "circuits",
        "Circuits on the fronts",
        "Every circuit on the Pareto fronts as a drawing, from the embeddings up to the output: one trunk "
        "per writer, one branch per kept edge in the colour of what it feeds. The slider moves along a front "
        "and says which edges appear and vanish.",
        has_circuits,
        circuits,
    ),
    Panel(
        "consensus",
        "Consensus and overlap",
        "How often each edge is kept over seeds, and how much the circuits of seeds, methods and tasks have "
        "in common at the same edge budget.",
        has_circuits,
        consensus,
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
        "warnings",
        "Warnings",
        "What a reader of the numbers above should know, told by the trials or found while reading them.",
        has_warnings,
        warnings,
    ),
    Panel(
        "targets",
        "Target and achieved sparsity",
        "The sparsity each final circuit was trained towards against the one it has; below a target of 1 "
        "they should agree to 0.005, or to less than an edge where that is more. A trial ends past its "
        "target where edges cost nothing to cut (Adam's multipliers, having grown while the target rose, "
        "unwind slowly, and a closed gate gets no gradient), and "
        "short of it where cutting more would cost too much. Circuits taken on the way are points as well, "
        "so curves and fronts do not depend on it.",
        has_targets,
        targets,
    ),
    Panel(
        "gates",
        "Gates",
        "How binary the gates are when training ends: the expected value E[gate] of every edge's gate. The "
        "circuit keeps as many edges as the gates sum to; gates between 0 and 1 are edges that training left "
        "undecided.",
        has_gates,
        gates,
    ),
    Panel(
        "training",
        "Training curves",
        "Divergence on the training batches and sparsity by step, as reported while the trials ran.",
        has_training,
        training,
    ),
    Panel(
        "asked",
        "What was asked and run",
        "The sweeps, their trials and what they cost, as sums over the trials that ended. Examples: all that "
        "went forward or backward to find circuits.",
        always,
        overview,
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
        "versions",
        "Versions and hardware",
        "What the trials ran with, as each of them recorded it.",
        always,
        versions,
    ),
)
