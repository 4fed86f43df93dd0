"""Methods against each other, pair by pair: how much better, how sure, and whether the seeds can tell."""

from collections.abc import Sequence

import numpy as np

from orchestrator.report.comparisons import ALL_PAIRS, TELLING_SEEDS, Pair, comparisons
from orchestrator.report.declared import is_fixed
from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in, words
from orchestrator.report.panels.blocks import Block, Column, Details, Heading, Paragraph, Table
from orchestrator.report.panels.fronts import between
from orchestrator.report.scenes import Curve
from orchestrator.statistics.bootstrap import FEWEST_SEEDS, Interval
from orchestrator.statistics.paired import difference_at
from orchestrator.statistics.permutation import ALPHA
from orchestrator.wording import count, interval, minus, percent, significant

# Pairs whose single budgets are listed, in the whole report.
DETAILED = 40
# Budgets listed per pair.
LISTED = 10

KEY = (
    "Difference: the first method's divergence minus the second's, so below 0 the first is better. "
    "Intervals: over seeds, other seeds on these examples; over examples, other examples for these circuits, "
    "the same ones for both methods and all seeds; over both, seeds and examples at once. With few seeds an "
    f"interval over them is too narrow, so there is none of fewer than {FEWEST_SEEDS}. p: exact, two-sided; "
    "of paired seeds, and of seeds against a method that does not depend on them, over all signs of the "
    "differences (n seeds cannot go below 2^(1−n)), else over all ways to split the seeds; in brackets "
    "corrected (Holm, over the pairs of a scene). A method is called better only with at least "
    f"{TELLING_SEEDS} seeds, a corrected p of at most {ALPHA} and an interval (over both, or else over "
    "seeds) that excludes 0. Seeds: of either method, none where it does not depend on them; paired where "
    "both have the same. A difference that float32 rounding can make counts as none."
)


def has_pairs(findings: Findings) -> bool:
    return any(len(group) > 1 for group in findings.scenes.values())


def comparison(findings: Findings) -> Sequence[Block]:
    blocks: list[Block] = [Paragraph(KEY, quiet=True)]
    detailed = 0
    for scene, group in findings.scenes.items():
        if len(group) < 2:
            continue
        found = comparisons(findings, group)
        title = findings.titles[scene]
        blocks += [Heading(title), _differences(title, scene.divergence, found)]
        remarks = _remarks(findings, group, found)
        if remarks:
            blocks.append(Paragraph(" ".join(remarks), quiet=True))
        compared = [pair for pair in found if pair.comparison is not None]
        some = compared[: max(0, DETAILED - detailed)]
        detailed += len(some)
        if len(some) < len(compared):
            told = f"Single budgets are listed for the first {DETAILED} pairs of the report only."
            blocks.append(Paragraph(told, quiet=True))
        if some:
            blocks.append(Details("Differences at single budgets", [_budgets(pair) for pair in some]))
    return blocks


def _differences(title: str, divergence: str, found: Sequence[Pair]) -> Table:
    columns = [
        *(Column("First", long=True), Column("Second", long=True)),
        Column("Which is better", long=True),
        Column("p (corrected)", numeric=True),
        Column("Difference", numeric=True),
        *(Column(f"95 % over {what}", numeric=True) for what in ("seeds", "examples", "both")),
        Column("Seeds", long=True),
        Column("Edge budgets", numeric=True),
    ]
    rows = []
    for pair in found:
        row, compared = [pair.one.method, pair.other.method, verdict(pair)], pair.comparison
        if compared is None:
            rows.append([*row, *["–"] * 7])
            continue
        least = pair.one.rounding
        row += [_p(pair), signed(compared.mean, least)]
        row += [_over_seeds(pair, compared.seeds), _ends(compared.examples, least)]
        row.append(_over_seeds(pair, compared.both) if compared.examples else "–")
        rows.append([*row, _seeds(pair), between(pair.budgets)])
    return Table(f"Pairs of methods, {title}: mean difference in {measured_in(divergence)}", columns, rows)


def verdict(pair: Pair) -> str:
    """Which method is better, that they are alike, or that the seeds cannot tell, and how many could."""
    if pair.comparison is None:
        return f"not compared: {pair.why}"
    if pair.winner is not None:
        return pair.winner.method
    if pair.alike:
        return "no difference"
    numbers = dict.fromkeys(len(sample.seeds) for sample in pair.samples if not sample.fixed)
    told = " and ".join(map(str, numbers)) or "no"
    needed = (
        f", {pair.seeds_needed} needed" if min(numbers, default=pair.seeds_needed) < pair.seeds_needed else ""
    )
    return f"cannot tell ({told} seed{'' if told == '1' else 's'}{needed})"


def _over_seeds(pair: Pair, ends: Interval | None) -> str:
    if ends is None:
        return "–" if all(sample.fixed for sample in pair.samples) else "too few seeds"
    return _ends(ends, pair.one.rounding)


def _p(pair: Pair) -> str:
    test = None if pair.comparison is None else pair.comparison.significance
    if test is None:
        return "–"
    return f"{'' if test.exact else '≈ '}{significant(test.p, 2)} ({significant(pair.p, 2)})"


def _seeds(pair: Pair) -> str:
    one, other = ("none" if sample.fixed else count(len(sample.seeds)) for sample in pair.samples)
    if pair.comparison is not None and pair.comparison.paired:
        return f"{one}, paired"
    return one if one == other == "none" else f"{one} and {other}"


def _remarks(findings: Findings, group: Sequence[Curve], found: Sequence[Pair]) -> list[str]:
    remarks = []
    if len(group) > ALL_PAIRS:
        remarks.append(
            f"{len(group)} methods make {len(group) * (len(group) - 1) // 2} pairs: only those with "
            f"{found[0].one.method}, which has the largest hypervolume on the validation examples, are "
            "compared. It was picked for being the best, so its lead is flattered."
        )
    tests = [pair.comparison.significance for pair in found if pair.comparison is not None]
    floors = [test.smallest for test in tests if test is not None]
    if floors and min(floors) <= ALPHA < min(floors) * len(floors):
        least = significant(min(1.0, min(floors) * len(floors)), 2)
        remarks.append(
            f"With so few seeds, the corrected p of {len(floors)} comparisons cannot be below {least}."
        )
    reasons = dict.fromkeys(pair.no_examples for pair in found if pair.no_examples)
    if reasons:
        remarks.append(f"No interval over examples: {'; '.join(reasons)}.")
    if any(curve.in_sample for curve in group):
        remarks.append("The test examples are the training examples: what differs here may not elsewhere.")
    single = [c.method for c in group if len(c.all_seeds) == 1 and not is_fixed(findings, c)]
    if single:
        remarks.append(f"One seed only, though the method depends on it: {', '.join(single)}.")
    return remarks


def _budgets(pair: Pair) -> Details:
    """The difference at single budgets, evenly spaced in the logarithm."""
    (one, other), least = pair.samples, pair.one.rounding
    places = _listed(pair.budgets)
    divergence = words(pair.one.scene.divergence)
    columns = [
        *(Column(name, numeric=True) for name in ("Edge budget", "Sparsity")),
        Column(f"{pair.one.method}: {divergence}, mean over seeds", numeric=True),
        Column(f"{pair.other.method}: {divergence}, mean over seeds", numeric=True),
        *(Column(name, numeric=True) for name in ("Difference", "95 % over seeds")),
    ]
    rows = []
    for place in places:
        mean, ends = difference_at(one, other, place)
        budget = int(pair.budgets[place])
        rows.append(
            [
                count(budget),
                percent(1 - budget / pair.one.scene.num_edges_total),
                significant(float(one.divergence[:, place].mean())),
                significant(float(other.divergence[:, place].mean())),
                signed(mean, least),
                _over_seeds(pair, ends),
            ]
        )
    title = f"{pair.one.method} and {pair.other.method}"
    better = 0.0 if pair.comparison is None else round(pair.comparison.better, 4)
    told = f"{title}: {pair.one.method} is better on {percent(better)} of the range of budgets"
    return Details(told, [Table(f"{title} at single budgets", columns, rows)])


def _listed(budgets: np.ndarray) -> list[int]:
    """Places of at most LISTED budgets, the nearest to even steps of the logarithm."""
    logs = np.log(budgets)
    wanted = np.linspace(logs[0], logs[-1], LISTED)
    return sorted({int(np.abs(logs - one).argmin()) for one in wanted})


def signed(value: float, least: float = 0.0) -> str:
    """A difference with its sign: `+0.0123`, `−0.0123`; `0` for at most `least`."""
    if abs(value) <= least:
        return "0"
    return f"+{significant(value)}" if value > 0 else minus(significant(value))


def _ends(ends: Interval | None, least: float) -> str:
    if ends is None:
        return "–"
    low, high = (0.0 if abs(end) <= least else end for end in (ends.low, ends.high))
    return interval(low, high)
