"""Search: the block of a sweep that says which fields of the method are searched, where and how."""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from trainers.spec import Misfit, Spec, shortened

KINDS = ("uniform", "log", "integer", "choice")
MAX_CORNERS = 256  # combinations of the ends of all ranges that are checked before anything starts
STEPS = 400  # a uniform range is asked in at least so many steps, which ends the digits of its numbers
DIGITS = 3  # significant ones, in a logarithmic range
# What is no setting to search: two methods share few settings, and variants are curves of their own.
NOT_SEARCHED = ("name", "variant")

Pair = Annotated[tuple[float, float], Field(description="lowest and highest value, both included")]


class Range(Spec):
    """The values that one field may take. Numbers are rounded, so that ids and titles stay readable: a
    uniform range to 1/400 of its width or finer, a logarithmic one to three significant digits."""

    uniform: Pair | None = None
    log: Pair | None = Field(None, description="as uniform, of the logarithm; above 0")
    integer: tuple[int, int] | None = Field(None, description="lowest and highest, both included")
    choice: tuple[JsonValue, ...] | None = Field(None, min_length=2, description="one of these, in no order")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"found {found}; allowed: exactly one of {', '.join(KINDS)}")
        if self.choice is not None:
            if len({json.dumps(one, sort_keys=True) for one in self.choice}) < len(self.choice):
                raise ValueError(f"choice: found {shortened(list(self.choice))}; allowed: each value once")
            return self
        low, high = self.ends
        if not low < high or not math.isfinite(high - low):
            raise ValueError(f"{self.kind}: found {[low, high]}; allowed: the lower value first")
        if self.log is not None and low <= 0:
            raise ValueError(f"log: found {[low, high]}; allowed: above 0")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def ends(self) -> tuple[float, float]:
        """Of a range of numbers."""
        pair = self.uniform or self.log or self.integer
        assert pair is not None, "a choice has no ends"
        return pair

    @property
    def extremes(self) -> list[tuple[int, Any]]:
        """(place in the YAML list, value) of the values that stand for all when trials are checked: both
        ends, or every choice."""
        return list(enumerate(self.ends if self.choice is None else self.choice))

    @property
    def size(self) -> float:
        """How many values there are; of a logarithmic range, about."""
        if self.choice is not None:
            return len(self.choice)
        low, high = self.ends
        return high - low + 1 if self.integer is not None else STEPS

    def holds(self, value: object) -> bool:
        """Whether it may have been asked for."""
        if self.choice is not None:
            return value in self.choice
        low, high = self.ends
        kinds = int if self.integer is not None else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high

    def at(self, share: float) -> Any:
        """The value at a share, in [0, 1), of the range."""
        if self.choice is not None:
            return self.choice[int(share * len(self.choice))]
        low, high = self.ends
        if self.integer is not None:
            return int(low) + int(share * (high - low + 1))
        if self.log is not None:
            return self.rounded(low * (high / low) ** share)
        return self.rounded(low + share * (high - low))

    def rounded(self, value: float) -> float:
        """A number of a uniform or logarithmic range as it is asked for; within the range."""
        low, high = self.ends
        if self.log is not None:
            near = float(f"{value:.{DIGITS}g}")
        else:
            near = round(value, math.ceil(-math.log10((high - low) / STEPS)))
        return float(min(max(near, low), high))


class Search(Spec):
    """Instead of a grid over some fields of the method: every setting of `vary` and every seed is a study
    of its own that asks for `trials` settings. A round is asked when the rounds before it are over, and it
    depends on the sizes of their circuits and on divergences on the validation examples: test examples are
    never looked at. Each seed's front comes from a search of its own, so bands over seeds show what
    searching again may bring. (One study told the mean over seeds would pay for a setting once per seed, and
    its seeds would share settings that all of them chose.)"""

    space: Annotated[dict[str, Range], Field(min_length=1)] = Field(
        description="dotted path of a field of the method -> uniform, log, integer or choice"
    )
    trials: int = Field(ge=1, le=10_000, description="of each study, failed ones included")
    startup: int = Field(
        8, ge=1, le=10_000, description="asked first, all at once, spread evenly over the ranges"
    )
    round: int = Field(
        4, ge=1, le=10_000, description="asked together afterwards; each waits for the last to be over"
    )
    sampler: Literal["gp", "tpe", "random"] = Field(
        "gp",
        description="gp (Gaussian processes): told of each trial the circuit that dominates most; tpe: every "
        "circuit on its front, quicker for hundreds of trials; random asks blindly, to compare with",
    )
    seed: int = Field(0, ge=0, description="of the questions; the seeds of the trials are the sweep's")

    @field_validator("space")
    @classmethod
    def _searches_a_method(cls, space: dict[str, Range]) -> dict[str, Range]:
        for path in space:
            part, _, field = path.partition(".")
            if part != "method" or not field or "." in field or field in NOT_SEARCHED:
                raise Misfit(
                    path,
                    "found in a search; allowed: method.FIELD, but method.name and method.variant. "
                    "What changes the question (model, task, ablation, method) goes into vary, a study for "
                    "each; seeds are no settings",
                )
        return space

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        size = math.prod(one.size for one in self.space.values())
        if self.trials > size:
            raise ValueError(f"trials: found {self.trials}; allowed: at most {size:g}, all that space holds")
        return self

    def holds(self, values: "Values") -> bool:
        """Whether it is a setting of this space."""
        return values.keys() == self.space.keys() and all(
            one.holds(values[path]) for path, one in self.space.items()
        )

    @property
    def rounds(self) -> Iterator[int]:
        """How many settings each round asks for."""
        left, size = self.trials, self.startup
        while left > 0:
            yield min(size, left)
            left, size = left - min(size, left), self.round

    def corners(self) -> Iterator[dict[str, tuple[int, Any]]]:
        """Settings at the ends of all ranges, path -> (place in the YAML list, value): every combination; if
        those are too many, each end with the others at their first, and then at their last."""
        extremes = {path: one.extremes for path, one in self.space.items()}
        if math.prod(len(ends) for ends in extremes.values()) <= MAX_CORNERS:
            for ends in product(*extremes.values()):
                yield dict(zip(extremes, ends, strict=True))
            return
        for rest in (0, -1):
            others = {path: ends[rest] for path, ends in extremes.items()}
            for path, ends in extremes.items():
                yield from (others | {path: end} for end in ends)


Values = Mapping[str, Any]  # searched path -> value
