"""SweepSpec: a question, a base trial, what varies, and the trials that follow from them."""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from model_patches.architectures import architecture_of, check_layout
from orchestrator.faults import Faults
from orchestrator.file_fields import with_absolute_paths
from orchestrator.planning.weights import parameter_count
from orchestrator.records.results import OWN_DIVERGENCE
from orchestrator.search.space import Search
from orchestrator.search.study import Progress, Study
from orchestrator.yaml_source import Source, read_yaml
from trainers.metrics import METRICS
from trainers.model import ModelSpec
from trainers.resources import Resources
from trainers.spec import Location, Misfit, Problem, Spec, SpecError, problems, shortened
from trainers.trial import TrialSpec

MAX_TRIALS = 100_000
MAX_PROBLEMS = 20
RESERVED_NAMES = ("trials", "report")  # folders beside the sweeps in a runs folder


class Objectives(Spec):
    """What the report's front weighs against the size of a circuit."""

    faithfulness: str = Field(
        default=OWN_DIVERGENCE,
        description="what the front minimises; `divergence` is the task's own",
    )
    epsilon: float = Field(
        default=1e-3,
        ge=0,
        description="a circuit is faithful when its validation divergence is at most epsilon",
    )


class Block(Spec):
    """The product of the lists in `grid`, each combination on top of the values in `set`.

    Both map a dotted path of the trial (`method.steps`, or a whole part: `method`) to what replaces
    it; shorter paths are applied first.
    """

    set: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something_once(self) -> Self:
        if not self.set and not self.grid and "set" not in self.model_fields_set:
            allowed = "at least one, or `set: {}` for the base as it is"
            raise ValueError(f"found neither set nor grid with an entry; allowed: {allowed}")
        for path in self.set.keys() & self.grid.keys():
            raise ValueError(f"{path}: found in both set and grid; allowed: in one of them")
        return self

    @property
    def size(self) -> int:
        return math.prod(len(values) for values in self.grid.values())


class SweepSpec(Spec):
    """One question and the trials that answer it: the content of a sweeps/*.yaml."""

    name: str = Field(description="also the name of the sweep's folder in the runs folder")
    question: Annotated[str, Field(min_length=1)]
    base: dict[str, Any] = Field(description="the part of the trial that all trials share")
    vary: tuple[Block, ...] | None = Field(
        default=None, description="{dotted.path: [values]} for a grid, or a list of {set, grid} blocks"
    )
    search: Search | None = Field(
        default=None, description="fields of the method that each setting of vary, on each seed, searches"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), description="a list, or a count from 0"
    )
    resources: Resources = Resources()
    faults: Faults = Faults()
    objectives: Objectives = Objectives()

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
            allowed = "at most 64 letters, digits, - and _, the first a letter or a digit"
            raise ValueError(f"found {shortened(name)}; allowed: {allowed}")
        if name in RESERVED_NAMES:
            raise ValueError(f"found {name!r}, which is another folder of a runs folder")
        return name

    @field_validator("base")
    @classmethod
    def _has_no_seed(cls, base: dict[str, Any]) -> dict[str, Any]:
        if "seed" in base:
            raise ValueError("found the key seed; allowed: the sweep's own key seeds, beside base")
        return base

    @field_validator("vary", mode="before")
    @classmethod
    def _grid_is_one_block(cls, vary: object) -> object:
        if vary == {} or vary == []:
            raise ValueError("found nothing in it; allowed: at least one path, or no key vary at all")
        if isinstance(vary, dict):
            return ({"grid": vary},)
        if vary is not None and not isinstance(vary, list):
            raise ValueError(f"found {shortened(vary)}; allowed: a mapping or a list of blocks")
        return tuple(vary) if vary else None

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_is_a_list(cls, seeds: object) -> object:
        if isinstance(seeds, bool) or not isinstance(seeds, int | list) or seeds == []:
            raise ValueError(f"found {shortened(seeds)}; allowed: a count, or a list of integers")
        if isinstance(seeds, list):
            if len(set(map(repr, seeds))) < len(seeds):
                raise ValueError(f"found {shortened(seeds)}, with one seed twice; allowed: each once")
            return tuple(seeds)
        if not 1 <= seeds <= MAX_TRIALS:
            raise ValueError(f"found {seeds}; allowed: a count from 1 to {MAX_TRIALS}, or a list of integers")
        return tuple(range(seeds))

    @model_validator(mode="after")
    def _is_finite(self) -> Self:
        asked = self.search.trials if self.search else 1
        size = asked * len(self.seeds) * sum(block.size for block in self.blocks)
        if size > MAX_TRIALS:
            raise ValueError(f"found {size} trials; allowed: at most {MAX_TRIALS} in one sweep")
        return self

    @model_validator(mode="after")
    def _varies_or_searches(self) -> Self:
        for path in self.search.space if self.search else ():
            if any(path in block.set or path in block.grid for block in self.blocks):
                raise Misfit(f"search.space.{path}", "found in vary, too; allowed: in one of them")
        return self

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.vary or (Block.model_construct(set={}, grid={}),)

    @classmethod
    def load(cls, path: str | Path, models: bool = True) -> Self:
        """Reads a sweep file and checks every trial of it; without `models`, which may be on another
        machine, all but the models' files.

        A relative `model.path` or `task.path` is relative to the file, and absolute in what is returned.
        Raises SpecError, one line per problem: `file:line: path: what was found; what is allowed`.
        """
        source = read_yaml(Path(path))
        if not isinstance(source.data, dict):
            found = "is empty" if source.data is None else f"found {shortened(source.data)}"
            raise SpecError(f"{path}: {found}; allowed: name, question, base, vary, ...")
        folder = Path(os.path.abspath(path)).parent
        try:
            sweep = cls.model_validate_json(json.dumps(with_absolute_paths(source.data, folder)))
        except ValidationError as error:
            raise _refusal(source, problems(error, cls)) from None
        _expand(sweep, source, models)
        return sweep

    def trials(self) -> list[TrialSpec]:
        """Every trial, in the order of the file, none twice; of a search those that it asks first, whatever
        it finds.

        A trial whose method does not use the seed is there once, with seed 0. Raises SpecError.
        """
        return list(self.trials_by_id().values())

    def trials_by_id(self) -> dict[str, TrialSpec]:
        """The same by trial id."""
        if self.search is None:
            return _expand(self, self._source)
        first = [question for study in self.studies() for question in Progress(study).go_on()]
        return {question.trial_id: question.trial for question in first}

    def studies(self) -> list[Study]:
        """Of a sweep that searches, one per setting of `vary` and seed, in the order of the file; none of
        another. Raises SpecError."""
        found: dict[str, Study] = {}
        if self.search is None:
            return []
        _expand(self, self._source)
        for assignments in _combinations(self):
            data = _assigned(self, assignments)
            lowest = _trial(self, [*assignments, *next(_searched(self))])
            for seed in _seeds(self, lowest, assignments):
                study = Study(data | {"seed": seed}, self.search, self.objectives.faithfulness)
                found.setdefault(study.key, study)
        return list(found.values())

    @property
    def _source(self) -> Source:
        return Source(f"sweep {self.name}", self.plain())


@dataclass(frozen=True)
class _Assignment:
    path: tuple[str, ...]
    value: Any
    origin: Location  # where the user wrote it


def _expand(sweep: SweepSpec, source: Source, models: bool = True) -> dict[str, TrialSpec]:
    trials: dict[str, TrialSpec] = {}
    found: dict[Problem, None] = {}
    divergences: list[set[str]] = []  # what each trial's task measures
    for assignments in _checked(sweep):
        try:
            trial = _trial(sweep, assignments)
            divergences.append(_divergences(trial))
            if not models:
                continue
            _check_files(trial.model)
            if sweep.search is not None:  # which trials there are is the studies' affair
                continue
            for seed in _seeds(sweep, trial, assignments):
                seeded = trial.model_copy(update={"seed": seed})
                trials.setdefault(seeded.trial_id, seeded)
        except _Refused as refused:
            found |= dict.fromkeys(refused.problems)
        except SpecError as error:
            path, _, message = str(error).partition(": ")  # model.path: no folder ...
            found[Problem(_origin(tuple(path.split(".")), assignments), message)] = None
    if not found:
        found |= dict.fromkeys(_faithfulness_problems(sweep.objectives, set.intersection(*divergences)))
    if found:
        raise _refusal(source, list(found))
    return trials


def _checked(sweep: SweepSpec) -> Iterator[list[_Assignment]]:
    """What makes the trials that are checked: all of them, or of a search those at the ends of its ranges."""
    for assignments in _combinations(sweep):
        for searched in _searched(sweep):
            yield [*assignments, *searched]


def _searched(sweep: SweepSpec) -> Iterator[list[_Assignment]]:
    if sweep.search is None:
        yield []
        return
    for corner in sweep.search.corners():
        yield [
            _Assignment(
                tuple(path.split(".")), value, ("search", "space", path, sweep.search.space[path].kind, index)
            )
            for path, (index, value) in corner.items()
        ]


def _divergences(trial: TrialSpec) -> set[str]:
    return {name for name in trial.task.metrics(trial.model) if METRICS[name].divergence}


def _faithfulness_problems(objectives: Objectives, measured: set[str]) -> Iterator[Problem]:
    """`measured` are the divergences that every trial has."""
    allowed = [OWN_DIVERGENCE, *sorted(measured)]
    if objectives.faithfulness not in allowed:
        message = (
            f"found {shortened(objectives.faithfulness)}; allowed: {', '.join(allowed)} "
            "(the task's own divergence, or one that every trial of the sweep measures)"
        )
        yield Problem(("objectives", "faithfulness"), message)


def _check_files(model: ModelSpec) -> None:
    """Raises SpecError for a model of a family that we cannot mask, or without sound weights."""
    if model.builtin is not None:
        return
    if (family := model.family()) is not None:  # first: weights may be of a kind that only others read
        try:
            check_layout(SimpleNamespace(**(model.config() or {})), architecture_of(family))
        except ValueError as error:
            raise SpecError(f"model.{'hub' if model.hub else 'path'}: {error}") from None
    parameter_count(model)


def _seeds(sweep: SweepSpec, trial: TrialSpec, assignments: list[_Assignment]) -> tuple[int, ...]:
    if not trial.method.uses_seed:
        return (0,)
    if any(assignment.path == ("seed",) for assignment in assignments):
        return (trial.seed,)
    return sweep.seeds


def _combinations(sweep: SweepSpec) -> Iterator[list[_Assignment]]:
    for number, block in enumerate(sweep.blocks):
        fixed = [
            _Assignment(tuple(path.split(".")), value, ("vary", number, "set", path))
            for path, value in block.set.items()
        ]
        axes = [
            [
                _Assignment(tuple(path.split(".")), value, ("vary", number, "grid", path, index))
                for index, value in enumerate(values)
            ]
            for path, values in block.grid.items()
        ]
        for chosen in product(*axes):
            yield sorted([*fixed, *chosen], key=lambda assignment: len(assignment.path))


class _Refused(Exception):
    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


def _trial(sweep: SweepSpec, assignments: list[_Assignment]) -> TrialSpec:
    try:
        return TrialSpec.model_validate_json(json.dumps(_assigned(sweep, assignments)))
    except ValidationError as error:
        raise _Refused(
            [
                Problem(_origin(location, assignments), message)
                for location, message in problems(error, TrialSpec)
            ]
        ) from None


def _assigned(sweep: SweepSpec, assignments: Sequence[_Assignment]) -> dict[str, Any]:
    data = deepcopy(sweep.base)
    for assignment in assignments:
        _assign(data, assignment)
    return data


def _assign(data: dict[str, Any], assignment: _Assignment) -> None:
    place: Any = data
    for depth, part in enumerate(assignment.path[:-1], start=1):
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            parent = ".".join(assignment.path[:depth])
            message = (
                f"found {parent} = {shortened(place)}, which has no parts; allowed: a field of the trial"
            )
            raise _Refused([Problem(assignment.origin, message)])
    place[assignment.path[-1]] = deepcopy(assignment.value)


def _origin(location: Location, assignments: list[_Assignment]) -> Location:
    """Where the user wrote the trial's field: the last assignment that reaches it, else the base.

    What is wrong with a trial as a whole, in parts that do not fit, is told at its block.
    """
    if not location and assignments:
        return assignments[-1].origin[:2]
    for assignment in reversed(assignments):
        shared = min(len(location), len(assignment.path))
        if shared and location[:shared] == assignment.path[:shared]:
            if assignment.origin[0] == "search" and shared < len(assignment.path):
                return ("search", "space")  # a rule between fields
            return (*assignment.origin, *location[shared:])
    return ("base", *location)


def _once(found: list[Problem]) -> list[Problem]:
    """One value of a grid, or of a range, stands for all that are wrong in the same way."""
    first: dict[tuple[Location, str], Problem] = {}
    for problem in found:
        searched = problem.location[:1] == ("search",)
        length = 4 if problem.location[2:3] == ("grid",) else 3 if searched else None
        place = problem.location[:length]
        first.setdefault((place, problem.message), problem)
    return list(first.values())


def _refusal(source: Source, found: list[Problem]) -> SpecError:
    lines = [source.error(_as_written(location, source), message) for location, message in _once(found)]
    rest = len(lines) - MAX_PROBLEMS
    more = [f"{source.name}: and {rest} more problems"] if rest > 0 else []
    return SpecError("\n".join(lines[:MAX_PROBLEMS] + more))


def _as_written(location: Location, source: Source) -> Location:
    """A `vary` that was written as one grid has no block number and no `grid` in its paths."""
    plain_grid = isinstance(source.data, dict) and isinstance(source.data.get("vary"), dict)
    if plain_grid and location[:2] == ("vary", 0):
        return ("vary", *location[3:])
    return location
