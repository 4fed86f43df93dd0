"""Asking: the next settings of a study, from what it was told. The only optuna import.

Ray Tune's own OptunaSearch is not used. It asks whenever a lane is free, so what it asks would depend on
timing, on the number of lanes and on interruptions; its state is a pickle for Tuner.restore, while our trial
folders are the record; it tells trials that were stopped early as complete; and it takes one pair of values
a trial, where a trial has a whole front of circuits. So rounds are asked here, and Ray Tune runs them.
"""

import random
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.search.outcome import Outcome
from orchestrator.search.space import Range, Search, Values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Told = tuple[Values, Outcome]


def spread(search: Search, count: int, draws: random.Random) -> list[dict[str, Any]]:
    """A Latin hypercube (McKay, Beckman & Conover 1979): each of `count` equal parts of every range is
    asked once. Python's own generator, so that the first round is the same under every version of optuna."""
    columns: list[list[float]] = []
    for _ in search.space:
        places = list(range(count))
        draws.shuffle(places)
        columns.append([(place + draws.random()) / count for place in places])
    return [
        {path: one.at(column[row]) for (path, one), column in zip(search.space.items(), columns, strict=True)}
        for row in range(count)
    ]


def blind(search: Search, draws: random.Random) -> Iterator[dict[str, Any]]:
    """Uniform draws without end."""
    while True:
        yield {path: one.at(draws.random()) for path, one in search.space.items()}


def adaptive(search: Search, told: Sequence[Told], seed: int) -> Iterator[dict[str, Any]]:
    """Settings without end, for one round: each knows what was told and which are asked beside it.

    The study is made anew for every round, so a round depends on nothing else. (On another machine the
    last digits of a Gaussian process may differ, and a question with them; search.json keeps those asked.)
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():  # of features that may change: the version is pinned
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=_sampler(search, seed))
    ranges = {path: _distribution(one) for path, one in search.space.items()}
    for values, outcome in told:
        _tell(study, search, ranges, values, outcome)
    while True:
        asked = study.ask(ranges).params
        yield {path: _asked(one, asked[path]) for path, one in search.space.items()}


def _sampler(search: Search, seed: int) -> "BaseSampler":
    import optuna

    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=1)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True, constant_liar=True)


def _tell(
    study: "Study", search: Search, ranges: "dict[str, BaseDistribution]", values: Values, outcome: Outcome
) -> None:
    """TPE learns where good circuits come from: every circuit on the trial's front is told. A Gaussian
    process models one pair of values a setting: the circuit that alone dominates most is."""
    from optuna.trial import TrialState, create_trial

    params = {path: _stored(one, values[path]) for path, one in search.space.items()}
    if outcome.failed:
        study.add_trial(create_trial(state=TrialState.FAIL, params=params, distributions=ranges))
        return
    costs = [outcome.widest] if search.sampler == "gp" else outcome.costs
    for pair in costs:
        told = [float(cost) for cost in pair]
        study.add_trial(create_trial(values=told, params=params, distributions=ranges))


def _distribution(one: Range) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if one.choice is not None:
        return CategoricalDistribution(tuple(range(len(one.choice))))  # optuna takes no lists as values
    low, high = one.ends
    if one.integer is not None:
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=one.log is not None)


def _asked(one: Range, value: Any) -> Any:
    if one.choice is not None:
        return one.choice[value]
    return value if one.integer is not None else one.rounded(value)


def _stored(one: Range, value: Any) -> Any:
    return one.choice.index(value) if one.choice is not None else value
