"""Study: the search of one varied setting on one seed, as rounds of questions.

A round is a function of the spec and of the results of the rounds before it, so that interruptions, lanes and
their number change no question: a study is replayed from the trial folders.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from pydantic import ValidationError

from orchestrator.search.asking import adaptive, blind, spread
from orchestrator.search.outcome import Outcome, outcome
from orchestrator.search.space import Search, Values
from trainers.result import TrialResult
from trainers.spec import content_id
from trainers.trial import TrialSpec

MAX_DRAWS = 200  # in a row that are known or no trial, after which a space counts as exhausted
LARGEST_SEED = 2**32

ResultOf = Callable[[str], TrialResult | None]  # by trial id; None while it is not over


def unknown(trial_id: str) -> None:
    """Nothing is over."""


@dataclass(frozen=True)
class Question:
    """One setting and its trial."""

    values: Values
    trial: TrialSpec

    @cached_property
    def trial_id(self) -> str:
        return self.trial.trial_id


@dataclass(frozen=True)
class Study:
    """`base`: plain data of the trial that lacks what is searched, with its seed."""

    base: Mapping[str, Any]
    search: Search
    faithfulness: str

    def trial(self, values: Values) -> TrialSpec:
        """Raises ValidationError for values that make no trial."""
        data = deepcopy(dict(self.base))
        for path, value in values.items():
            data["method"][path.removeprefix("method.")] = value
        return TrialSpec.model_validate_json(json.dumps(data))

    @cached_property
    def key(self) -> str:
        """Same key, same questions of the first round; `trials` only says how far it goes."""
        lowest = self.trial({path: one.extremes[0][1] for path, one in self.search.space.items()})
        asked = {name: value for name, value in self.search.plain().items() if name != "trials"}
        return content_id({"trial": lowest.trial_id, "search": asked, "faithfulness": self.faithfulness})

    def question(self, values: Values) -> Question | None:
        """None for values that make no trial: rules between fields may forbid what is within the ranges."""
        try:
            return Question(values, self.trial(values))
        except ValidationError:
            return None

    def ask(
        self, size: int, before: Sequence[Question], told: Sequence[Outcome], number: int
    ) -> list[Question]:
        """Round `number`, after the questions `before` it and what they brought. Fewer than `size` when the
        space has no more settings."""
        draws = random.Random(f"{self.search.seed}/{self.base.get('seed', 0)}/{number}")
        known = {question.trial_id for question in before}
        found: list[Question] = []
        for values in self._drawn(size, before, told, draws):
            question = self.question(values)
            if question is None or question.trial_id in known:
                rest = (self.question(values) for values in islice(blind(self.search, draws), MAX_DRAWS))
                question = next((one for one in rest if one is not None and one.trial_id not in known), None)
            if question is None:
                break
            known.add(question.trial_id)
            found.append(question)
        return found

    def _drawn(
        self, size: int, before: Sequence[Question], told: Sequence[Outcome], draws: random.Random
    ) -> Iterator[Values]:
        if self.search.sampler == "random":
            return islice(blind(self.search, draws), size)
        if not before:
            return iter(spread(self.search, self.search.startup, draws)[:size])
        pairs = [(question.values, one) for question, one in zip(before, told, strict=True)]
        return islice(adaptive(self.search, pairs, draws.randrange(LARGEST_SEED)), size)


@dataclass
class Progress:
    """A study so far. A question once asked stays asked: a failed trial that is run again, and then
    succeeds, changes later rounds only."""

    study: Study
    rounds: list[list[Question]] = field(default_factory=list)
    told: dict[str, Outcome] = field(default_factory=dict)  # by trial id
    exhausted: bool = False

    @property
    def questions(self) -> list[Question]:
        return [question for questions in self.rounds for question in questions]

    @property
    def unasked(self) -> int:
        return 0 if self.exhausted else self.study.search.trials - len(self.questions)

    @property
    def next_size(self) -> int:
        """Of the round to come; 0 when there is none."""
        sizes = list(self.study.search.rounds)
        return sizes[len(self.rounds)] if self.unasked and len(self.rounds) < len(sizes) else 0

    def restore(self, recorded: Sequence[Sequence[Values]], exhausted: bool) -> None:
        """Takes up rounds that were asked earlier, as far as they fit the spec. One that was cut short by the
        number of trials at that time is asked again: its first questions come out the same."""
        for size, values in zip(self.study.search.rounds, recorded, strict=False):
            asked = [self.study.question(one) for one in values[:size] if self.study.search.holds(one)]
            known = [one for one in asked if one is not None]
            ended = exhausted and len(self.rounds) == len(recorded) - 1
            if len(known) < size and not (ended and len(known) == len(values)):
                return
            self.rounds.append(known)
            self.exhausted = ended

    def go_on(self, result_of: ResultOf = unknown) -> list[Question]:
        """Asks all that can be asked now; what is new."""
        new: list[Question] = []
        while (size := self.next_size) and (told := self._outcomes(result_of)) is not None:
            questions = self.study.ask(size, self.questions, told, len(self.rounds))
            self.exhausted = len(questions) < size
            if questions:
                self.rounds.append(questions)
                new += questions
        return new

    def forget(self, trial_id: str) -> None:
        """It will run again."""
        self.told.pop(trial_id, None)

    def _outcomes(self, result_of: ResultOf) -> list[Outcome] | None:
        """Of all questions so far; None while one is not over, none for who asks blindly."""
        if self.study.search.sampler == "random":
            return []
        for question in self.questions:
            if question.trial_id not in self.told:
                result = result_of(question.trial_id)
                if result is None:
                    return None
                self.told[question.trial_id] = outcome(result, self.study.faithfulness)
        return [self.told[question.trial_id] for question in self.questions]
