"""Methods at equal budget: only the trials that were cheap enough."""

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from orchestrator.records.results import Results
from orchestrator.records.sweep_record import Problem
from orchestrator.wording import count


def within(results: Results, max_examples: int) -> Results:
    """Only trials that took at most so many examples, forward and backward together, to find their
    circuits; evaluating them is not counted. What is left out is told as a problem, by method and model."""
    costs: dict[str, int] = {}
    dear: dict[tuple[str, str], list[int]] = {}
    for row in results.trials.to_pylist():
        cost = (row["examples"] or 0) + (row["backward_examples"] or 0)
        costs[row["trial_id"]] = cost
        if cost > max_examples:
            dear.setdefault((row["method"] or "a method", row["model"] or "a model"), []).append(cost)
    told = [
        Problem(
            f"{method} on {model}",
            f"{count(len(over), 'trial')} took more than {max_examples:,} examples and are left out; "
            f"the cheapest took {min(over):,}",
            asked=True,
        )
        for (method, model), over in sorted(dear.items())
    ]
    trials, points = (_kept(table, costs, max_examples) for table in (results.trials, results.points))
    return replace(results, trials=trials, points=points, problems=(*results.problems, *told))


def _kept(table: pa.Table, costs: Mapping[str, int], most: int) -> pa.Table:
    cheap = [costs[trial_id] <= most for trial_id in table["trial_id"].to_pylist()]
    return table.filter(pa.array(cheap, pa.bool_()))
