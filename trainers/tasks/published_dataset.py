"""Published data sets: clean and corrupted texts from the columns of a Hugging Face data set."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field, field_validator, model_validator

from trainers.result import IN_SAMPLE
from trainers.spec import Spec, SpecError, content_id
from trainers.tasks.base import SPLITS, Split
from trainers.tasks.columns import columns, fill
from trainers.tasks.dataset_source import digest_of, from_folder, from_hub
from trainers.tasks.given import Given, GivenSplits, GivenTask
from trainers.tasks.jsonl_file import tagged
from trainers.tasks.text import Pair

if TYPE_CHECKING:
    from datasets import Dataset as Rows

COMMIT = re.compile("[0-9a-f]{40}")
LISTED = 20  # bad rows told
NOT_OF_THE_TEST = ("train", "validation", "attribution")


class SplitNames(Spec):
    """What the data set calls its splits; one may serve twice, then results may be in-sample."""

    train: str = "train"
    validation: str = "validation"
    test: str = "test"


class DatasetTask(GivenTask):
    """A folder written by `save_to_disk`, or a data set on the hub; rows become texts by templates.

    `{column}` is a column's value without surrounding white space, `{a.b}` a part of a struct,
    `{labels[key]}` the entry of a list whose index is column `key`, `{n:02d}` a formatted number.
    What stands between <predict> tags is predicted, as in task jsonl; with `predict: last_word` it is
    each text's last word, with the space before it.

    The data of Edge Pruning (its data/datasets) and of MIB (on the hub):

        ioi:  {clean: "{ioi_sentences}", corrupted: "{corr_ioi_sentences}", predict: last_word, distractor: " {b}"}
        gp:   {clean: "{prefix}<predict> {pronoun}</predict>", corrupted: "{corr_prefix}<predict> {corr_pronoun}</predict>"}
        gt:   {clean: "{prefix}<predict>{digits}</predict>", corrupted: "{corr_prefix}<predict>{digits}</predict>"}
              `digits` is the start year's, so only KL and exact match mean something
        boolean_expressions, few-shot (solved expressions go before `{input}`):
              {clean: "{input}<predict> {target}</predict>", corrupted: "{corr_input}<predict> {target}</predict>"}
              the wrong answer is then the right one: logit difference is 0, use attribution: answer_log_probability
        mib-bench/copycolors_mcqa, config 4_answer_choices (symbol_counterfactual likewise):
              {clean: "{prompt}<predict> {choices.label[answerKey]}</predict>"}
    """  # noqa: E501

    version: ClassVar[int] = 1
    place: ClassVar[str] = "row"
    smoke: ClassVar[Mapping[str, Any]] = {"train": 8, "validation": 8, "test": 8}

    name: Literal["dataset"] = "dataset"
    path: str | None = Field(None, description="a folder; relative to the sweep's file")
    hub: str | None = Field(None, description="the id of a data set on the Hugging Face hub")
    revision: str | None = Field(None, description="hub only, and needed there: a commit")
    config: str | None = Field(None, description="hub only: which of its configurations")
    clean: str = Field(description="template of the clean text")
    corrupted: str = Field(description="template of the corrupted text")
    distractor: str | None = Field(
        None, description="template of a wrong first prediction; default: the corrupted text's prediction"
    )
    predict: Literal["tags", "last_word"] = "tags"
    splits: SplitNames = SplitNames()
    train: int | None = Field(None, ge=1, description="the first so many rows; default: all of the split")
    validation: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)

    @field_validator("clean", "corrupted", "distractor")
    @classmethod
    def _is_a_template(cls, template: str | None) -> str | None:
        if template is not None and not columns(template):
            raise ValueError(f"found {template!r}; allowed: a text with a column in braces")
        return template

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetTask":
        if (self.path is None) == (self.hub is None):
            raise ValueError(f"found {'neither' if self.hub is None else 'both'}; allowed: one of path, hub")
        if self.hub is not None and not COMMIT.fullmatch(self.revision or ""):
            found = "no revision" if self.revision is None else f"revision {self.revision!r}"
            raise ValueError(
                f"hub: found {found}; allowed: a commit (40 hexadecimal digits), so that data stay"
            )
        for key in ("revision", "config"):
            if self.hub is None and getattr(self, key) is not None:
                raise ValueError(f"{key} belongs to a hub data set only")
        return self

    @cached_property
    def digest(self) -> str:
        """Of a folder's tables, as they were when first asked for. Raises SpecError."""
        needed = {name for template in self._templates for name in columns(template)}
        return digest_of(self._folder, set(self.splits.plain().values()), needed)

    @property
    def _folder(self) -> Path:
        return Path(str(self.path)).expanduser()

    @property
    def _templates(self) -> list[str]:
        return [text for text in (self.clean, self.corrupted, self.distractor) if text is not None]

    @cached_property
    def _shares_prompts(self) -> bool:
        """Of a folder: some test prompt is also trained on."""
        return self.path is not None and self.given().in_sample

    @property
    def test_set(self) -> str:
        source = self.hub or self._folder.name
        decisive = {key: value for key, value in self.identity().items() if key not in NOT_OF_THE_TEST}
        # The hub is asked for rows only in a run, whose result then says in_sample itself.
        seen = IN_SAMPLE if self.splits.train == self.splits.test or self._shares_prompts else ""
        return f"{self.test or 'all'} examples of {source} ({content_id(decisive)[:8]}){seen}"

    def identity(self) -> dict[str, Any]:
        """With the digest of the folder instead of its path; of a hub data set, id and revision.
        Raises SpecError for a folder that is not as the fields say."""
        fields = {key: value for key, value in super().identity().items() if key != "path"}
        return fields if self.path is None else fields | {"digest": self.digest}

    def given(self) -> GivenSplits:
        """Raises SpecError with all bad rows, or for too few."""
        if self.path is not None:
            found = from_folder(self._folder)
        else:
            found = from_hub(str(self.hub), str(self.revision), self.config)
        problems: list[str] = []
        splits: dict[Split, Sequence[Given]] = {}
        read: dict[tuple[str, int | None], list[Given]] = {}  # a split that serves twice is read once
        for split in SPLITS:
            name, wanted = getattr(self.splits, split), getattr(self, split)
            key = (name if isinstance(found, Mapping) else "", wanted)
            if key not in read:
                read[key] = self._pairs(split, self._rows(split, found), problems)
            splits[split] = read[key]
        if problems:
            more = [f"  and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
            raise SpecError("\n".join([f"task: {len(problems)} bad rows", *problems[:LISTED], *more]))
        return GivenSplits(splits)

    def _rows(self, split: Split, found: "Mapping[Any, Rows] | Rows") -> "Rows":
        if not isinstance(found, Mapping):
            rows = found
        elif (name := getattr(self.splits, split)) in found:
            rows = found[name]
        else:
            raise SpecError(f"task.splits.{split}: found {name!r}; allowed: {', '.join(found)}")
        wanted = getattr(self, split)
        if wanted is not None and wanted > len(rows):
            raise SpecError(f"task.{split}: found {wanted}; the data set has {len(rows)} rows in that split")
        return rows if wanted is None else rows.select(range(wanted))

    def _pairs(self, split: Split, rows: "Rows", problems: list[str]) -> list[Given]:
        pairs: list[Given] = []
        for number, row in enumerate(rows):
            try:
                pairs.append(Given(self._pair(cast("Mapping[str, Any]", row)), number))
            except ValueError as error:
                problems.append(f"  {split} row {number}: {error}")
        return pairs

    def _pair(self, row: Mapping[str, Any]) -> Pair:
        parts = tagged if self.predict == "tags" else _last_word
        clean, predicted = parts(fill(self.clean, row))
        corrupted, also = parts(fill(self.corrupted, row))
        if predicted != also:
            raise ValueError("clean and corrupted have different numbers of predictions")
        distractor = None if self.distractor is None else fill(self.distractor, row)
        return Pair(clean, corrupted, predicted, distractor)


def _last_word(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    before, space, word = text.rpartition(" ")
    if not before or not word:
        raise ValueError(f"found {text!r:.60}; allowed: a text with something before its last word")
    return (before, space + word), (1,)
