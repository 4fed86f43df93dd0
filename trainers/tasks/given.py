"""GivenTask: examples that a user brings, in a file or a data set, instead of a generator."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from trainers.data import Example
from trainers.spec import SpecError
from trainers.tasks.base import SPLITS, Dataset, Split, Task
from trainers.tasks.text import CHUNK, Pair, aligned

if TYPE_CHECKING:
    from trainers.model import Loaded, ModelSpec

SHOWN = 10  # places listed of what was dropped


@dataclass(frozen=True)
class Given:
    """A pair, and the number of the line or row where it stands."""

    pair: Pair
    place: int


@dataclass(frozen=True)
class GivenSplits:
    """What was brought. in_sample: some test prompt is also trained on; of data that is not split,
    all of them are, and the three splits are one list."""

    splits: Mapping[Split, Sequence[Given]]

    @classmethod
    def unsplit(cls, given: Sequence[Given]) -> "GivenSplits":
        return cls(dict.fromkeys(SPLITS, given))

    @property
    def in_sample(self) -> bool:
        trained = {_prompt(given) for given in self.splits["train"]}
        return any(_prompt(given) in trained for given in self.splits["test"])


class GivenTask(Task):
    """Clean and corrupted texts as they are given, with any number of predicted texts of any number of
    tokens. What does not fit the tokenizer in use is dropped, counted, and told with its place.

    The wrong answer of `logit_difference` is the corrupted text's own prediction, token by token.
    """

    place: ClassVar[str] = "line"

    attribution: Literal["logit_difference", "answer_log_probability"] = Field(
        "logit_difference",
        description="whose gradient scores edges; a logit difference needs other answers in corrupted texts",
    )

    @model_validator(mode="after")
    def _no_seed(self) -> "GivenTask":
        if self.data_seed != 0:
            raise ValueError("data_seed does nothing here: the examples are given, not drawn")
        return self

    def check(self, model: "ModelSpec") -> None:
        model.check_reads_text(getattr(self, "name"))  # noqa: B009

    def given(self) -> GivenSplits:
        """Raises SpecError when the data are not there, or not as they must be."""
        raise TypeError(f"{type(self).__name__} does not implement given")

    def metrics(self, model: "ModelSpec") -> tuple[str, ...]:
        del model
        return ("kl", "logit_difference", "answer_log_probability", "accuracy", "exact_match")

    def attribution_metric(self, model: "ModelSpec") -> str:
        del model
        return self.attribution

    def chance(self, model: "ModelSpec") -> dict[str, float]:
        del model
        return {"logit_difference": 0.0}

    def dataset(self, loaded: "Loaded") -> Dataset:
        """Raises SpecError when nothing of a split fits the tokenizer."""
        given = self.given()
        misfits: dict[str, list[int]] = {}
        fitting: dict[int, list[Example]] = {}  # by list, not by split: unsplit data are one list
        for split, pairs in given.splits.items():
            if id(pairs) not in fitting:
                fitting[id(pairs)] = self._fitting(pairs, split, loaded, misfits)
        splits: dict[Split, list[Example]] = {s: fitting[id(given.splits[s])] for s in SPLITS}
        return Dataset(splits, self._told(misfits), given.in_sample)

    def test_set_of(self, dataset: Dataset) -> str:
        """Says how many of the given examples fit the tokenizer, where not all do."""
        used = len(dataset.splits["test"])
        return self.test_set if used == len(self.given().splits["test"]) else f"{used} of {self.test_set}"

    def _fitting(
        self, given: Sequence[Given], split: Split, loaded: "Loaded", misfits: dict[str, list[int]]
    ) -> list[Example]:
        chosen: list[Example] = []
        found: dict[str, list[int]] = {}
        for start in range(0, len(given), CHUNK):
            chunk = given[start : start + CHUNK]
            dropped: Counter[str] = Counter()
            chosen += aligned([one.pair for one in chunk], loaded, dropped, multi_token=True)
            for one in chunk if dropped else ():
                alone: Counter[str] = Counter()
                list(aligned([one.pair], loaded, alone, multi_token=True))
                for why in alone:
                    found.setdefault(why, []).append(one.place)
        if not chosen:
            told = "; ".join(f"{count}: {why}" for why, count in self._told(found).items())
            raise SpecError(f"task: found no {split} example that fits this tokenizer; dropped {told}")
        for why, places in found.items():
            misfits.setdefault(why, []).extend(places)
        return chosen

    def _told(self, misfits: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Counts by reason, and where the first ones stand."""
        told: dict[str, int] = {}
        for why, places in misfits.items():
            ordered = sorted(places)
            shown = ", ".join(map(str, ordered[:SHOWN])) + (", ..." if len(ordered) > SHOWN else "")
            told[f"{why} ({self.place}{'s' * (len(ordered) > 1)} {shown})"] = len(ordered)
        return told


def _prompt(given: Given) -> str:
    """The clean text up to the last predicted one."""
    return "".join(given.pair.clean[: given.pair.predicted[-1]])
