"""Methods against each other, pair by pair: how much better, how sure, and whether the seeds can tell."""

from collections.abc import Sequence

import numpy as np

from orchestrator.report.comparisons import ALL_PAIRS, Pair, comparisons, is_fixed, rounding
from orchestrator.report.findings import Findings
from orchestrator.report.metric_words import measured_in, words
from orchestrator.report.panels.blocks import Block, Column, Details, Heading, Paragraph, Table
from orchestrator.report.scenes import Curve
from orchestrator.statistics.bootstrap import Interval
from orchestrator.statistics.paired import difference_at
from orchestrator.statistics.permutation import ALPHA, Significance
from orchestrator.wording import count, interval, minus, percent, significant

# Pairs whose single budgets are listed, in the whole report.
DETAILED = 40
# Budgets listed per pair.
LISTED = 10

KEY = (
    "Difference: the first method's divergence minus the second's, so below 0 the first is better. "
    "Intervals: over seeds, other seeds on these examples; over examples, other examples for these circuits, "
    "the same ones for both methods and all seeds; over both, seeds and examples at once. With few seeds an "
    "interval over them is too narrow: with 2 or 3 it is at most their range. p: exact, two-sided; of paired "
    "seeds over all signs of their differences, else over all ways to split the seeds. Corrected: Holm, over "
    "the pairs of a scene. A difference that float32 rounding can make counts as none."
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
        blocks += [Paragraph("How sure that is:"), _tests(title, found)]
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
        Column("Edge budgets", numeric=True),
        Column(f"Mean difference, {measured_in(divergence)}", numeric=True),
        Column("First better on", numeric=True),
        Column("Which is better", long=True),
    ]
    rows = []
    for pair in found:
        row, compared = [pair.one.method, pair.other.method], pair.comparison
        if compared is None:
            rows.append([*row, "–", "–", "–", verdict(pair)])
            continue
        first, last = (count(int(budget)) for budget in pair.budgets[[0, -1]])
        row.append(first if first == last else f"{first} – {last}")
        row.append(signed(compared.mean, rounding(pair.one)))
        rows.append([*row, percent(round(compared.better, 4)), verdict(pair)])
    return Table(f"Pairs of methods, {title}", columns, rows)


def _tests(title: str, found: Sequence[Pair]) -> Table:
    columns = [
        *(Column("First", long=True), Column("Second", long=True)),
        *(Column(f"95 % over {what}", numeric=True) for what in ("seeds", "examples", "both")),
        Column("Seeds", long=True),
        *(Column(name, numeric=True) for name in ("p", "p, corrected")),
    ]
    rows = []
    for pair in found:
        row, compared, least = [pair.one.method, pair.other.method], pair.comparison, rounding(pair.one)
        if compared is None:
            rows.append([*row, *["–"] * 6])
            continue
        row += [_ends(ends, least) for ends in (compared.seeds, compared.examples, compared.both)]
        test = compared.significance
        p_values = () if test is None or pair.p is None else (test.p, pair.p)
        told = [_p(p, test is None or test.exact) for p in p_values] or ["–", "–"]
        rows.append([*row, _seeds(pair), *told])
    return Table(f"Intervals and tests, {title}", columns, rows)


def verdict(pair: Pair) -> str:
    """Which method is better and whether the seeds can tell, in words."""
    compared = pair.comparison
    if compared is None:
        return f"not compared: {pair.why}"
    test = compared.significance
    better = "no difference" if pair.best is None else f"{pair.best.method} on average"
    if test is None:
        return f"{better}; neither depends on the seed, so there is nothing to test over seeds"
    if not test.can_tell:
        return f"{better}; too few seeds to tell ({_too_few(pair, test)})"
    assert pair.p is not None, "a pair with a test has a corrected p"
    if pair.p <= ALPHA and pair.best is not None:
        return f"{pair.best.method}"
    if test.p <= test.smallest and test.smallest * pair.tests > ALPHA:
        least = significant(min(1.0, test.smallest * pair.tests), 2)
        return f"{better}; too few seeds for {pair.tests} comparisons (p cannot be below {least})"
    return f"{better}; the seeds do not tell"


def _too_few(pair: Pair, test: Significance) -> str:
    assert pair.comparison is not None
    one, other = pair.comparison.num_seeds
    least = f"p cannot be below {significant(test.smallest, 2)}"
    if not pair.comparison.paired:
        return f"n = {one} and {other}: {least}"
    differing = pair.comparison.differing
    return f"n = {one}: {least}" if differing == one else f"{differing} of {one} seeds differ: {least}"


def _seeds(pair: Pair) -> str:
    compared = pair.comparison
    assert compared is not None
    one, other = compared.num_seeds
    if compared.paired:
        return f"{count(one)}, paired" if one > 1 else "1 each"
    fixed = [sample.fixed for sample in pair.samples]
    if all(fixed):
        return "one run each: neither depends on the seed"
    if any(fixed):
        name = (pair.one if fixed[0] else pair.other).method
        return f"{one} and {other}, not paired: {name} does not depend on the seed"
    return f"{one} and {other}, not paired: not the same seeds"


def _remarks(findings: Findings, group: Sequence[Curve], found: Sequence[Pair]) -> list[str]:
    remarks = []
    if len(group) > ALL_PAIRS:
        remarks.append(
            f"{len(group)} methods make {len(group) * (len(group) - 1) // 2} pairs: only those with "
            f"{found[0].one.method}, which has the largest hypervolume on the validation examples, are "
            "compared. It was picked for being the best, so its lead is flattered."
        )
    reasons = dict.fromkeys(pair.no_examples for pair in found if pair.no_examples)
    if reasons:
        remarks.append(f"No interval over examples: {'; '.join(reasons)}.")
    if any(curve_in_sample(findings, curve) for curve in group):
        remarks.append("The test examples are the training examples: what differs here may not elsewhere.")
    single = [c.method for c in group if len(c.all_seeds) == 1 and not is_fixed(findings, c)]
    if single:
        remarks.append(f"One seed only, though the method depends on it: {', '.join(single)}.")
    return remarks


def curve_in_sample(findings: Findings, curve: Curve) -> bool:
    """Whether any of a curve's trials was tested on its training examples."""
    return any(findings.trials[trial_id]["in_sample"] for trial_id in {row["trial_id"] for row in curve.rows})


def _budgets(pair: Pair) -> Details:
    """The difference at single budgets, evenly spaced in the logarithm."""
    (one, other), least = pair.samples, rounding(pair.one)
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
                _ends(ends, least),
            ]
        )
    title = f"{pair.one.method} and {pair.other.method}"
    return Details(title, [Table(f"{title} at single budgets", columns, rows)])


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


def _p(p: float, exact: bool) -> str:
    return significant(p, 2) if exact else f"≈ {significant(p, 2)}"
