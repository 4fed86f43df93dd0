"""A sweep's curves as a Markdown table: how the tables of docs/results were made.

    python benchmarks/curves.py runs/smollm2_ioi

Per method: the median over seeds of the test divergence of each seed's best circuit (by validation) with at
most that share of the edges; the smallest number of edges from which on |1 - f| <= 0.1 at all larger sizes
that were evaluated, f being the normalised faithfulness of METRIC; what discovering all its circuits cost.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.panels.curves import device_seconds, trials_of
from orchestrator.report.panels.faithfulness import smallest_budgets
from orchestrator.report.scenes import Curve, Scene
from orchestrator.statistics.pareto import bands
from trainers.folder import Folder

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="runs folders or sweeps in them")
    parser.add_argument("--metric", default="logit_difference", help="whose f the smallest size is read from")
    arguments = parser.parse_args()
    findings = Findings.of(Results.load([Folder.open(runs) for runs in arguments.runs]))
    for scene, group in findings.scenes.items():
        print("\n".join(_table(findings, scene, group, arguments.metric)), end="\n\n")


def _table(findings: Findings, scene: Scene, group: Sequence[Curve], metric: str) -> list[str]:
    budgets = np.array([round(share * scene.num_edges_total) for share in SHARES])
    head = ["method", "seeds", *(f"{100 * share:g} %" for share in SHARES), "faithful from", "trials"]
    head += ["examples forward / backward", "device min"]
    lines = [
        f"{findings.titles[scene]}: test {scene.divergence} with at most that share of "
        f"{scene.num_edges_total:,} edges (empty circuit {group[0].empty:.2f}); faithful from: edges, by "
        f"{metric}, per seed",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    return lines + ["| " + " | ".join(_row(findings, curve, budgets, metric)) + " |" for curve in group]


def _row(findings: Findings, curve: Curve, budgets: np.ndarray, metric: str) -> list[str]:
    shown = bands(curve.test, curve.choices(budgets), budgets)
    medians = dict(zip(shown.budgets.tolist(), shown.median.tolist(), strict=True))
    cells = [f"{medians[size]:.2f}" if size in medians else "" for size in budgets.tolist()]
    found = smallest_budgets(curve, metric)[0.10]
    faithful = ", ".join(f"{one.edges:,}" if one.edges is not None else one.state for one in found)
    trials = trials_of(findings, curve)
    passes = " / ".join(
        f"{sum(trial[name] or 0 for trial in trials):,}" for name in ("examples", "backward_examples")
    )
    minutes = sum(device_seconds(trial) for trial in trials) / 60
    told = [faithful, str(len(trials)), passes, f"{minutes:.0f}"]
    return [curve.method, str(len(curve.all_seeds)), *cells, *told]


if __name__ == "__main__":
    main()
