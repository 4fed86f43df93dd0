"""Tracr tasks: every input of a compiled program's domain, with a known circuit."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from model_patches.lazy import torch
from trainers.data import Example
from trainers.outside import read_json
from trainers.tasks.base import SPLITS, Dataset, Task

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.model import Loaded, ModelSpec


class TracrTask(Task):
    """Does the circuit compute the program? The domain is enumerated, so all splits are the whole
    domain and every result is in-sample; there is nothing outside it to generalise to.

    Corrupted inputs (interchange ablation) are the domain in another order, none in its own place.
    """

    version: ClassVar[int] = 1

    name: Literal["tracr"] = "tracr"
    logit_scale: float = Field(
        10.0,
        gt=0,
        description="a categorical program's logits are 0 and 1, a nearly flat softmax; they are "
        "multiplied by this before every metric (published: 1)",
    )

    def tokens_planned(self) -> tuple[int, int] | None:
        return 6, 5  # at most, of the shipped programs

    @property
    def test_set(self) -> str:
        return "domain" if self.logit_scale == 10 else f"domain, logits × {self.logit_scale:g}"

    def check(self, model: ModelSpec) -> None:
        if model.program is None:
            raise ValueError("task tracr needs a Tracr model: model: {builtin: tracr-reverse}")

    def dataset(self, loaded: Loaded) -> Dataset:
        program = loaded.program
        assert program is not None, "checked by check()"
        clean, answers = program.domain(), program.expected()
        shifted = self._derangement(len(clean))
        distractors = (answers + 1) % program.config.output_size if program.kind == "categorical" else None
        domain = [
            Example(
                tuple(clean[i].tolist()),
                tuple(clean[shifted[i]].tolist()),
                program.scored_positions,
                tuple(answers[i].tolist()),
                () if distractors is None else tuple(distractors[i].tolist()),
            )
            for i in range(len(clean))
        ]
        return Dataset(dict.fromkeys(SPLITS, domain), in_sample=True)

    def _derangement(self, count: int) -> list[int]:
        """One cycle through all inputs in random order: nothing keeps its place."""
        generator = torch.Generator().manual_seed(self.data_seed)
        cycle = torch.randperm(count, generator=generator).tolist()
        following = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
        return [following[i] for i in range(count)]

    def metrics(self, model: ModelSpec) -> tuple[str, ...]:
        if _numerical(model):
            return ("squared_error", "same_output", "answer_product")
        return ("kl", "same_output", "accuracy", "logit_difference", "answer_log_probability")

    def attribution_metric(self, model: ModelSpec) -> str:
        return "answer_product" if _numerical(model) else "answer_log_probability"

    def readout(self, logits: Tensor, loaded: Loaded) -> Tensor:
        del loaded
        return logits if logits.shape[-1] == 1 else logits * self.logit_scale

    def ground_truth(self, loaded: Loaded) -> list[tuple[str, str]] | None:
        assert loaded.program is not None, "checked by check()"
        return list(loaded.program.ground_truth)


def _numerical(model: ModelSpec) -> bool:
    assert model.program is not None, "checked by check()"
    return _kind(model.files()[0]) == "numerical"


@lru_cache
def _kind(description: Path) -> str:
    """`categorical` or `numerical`, of a shipped program, whose files do not change: a plan asks for
    each of its trials, and needs no weights for it."""
    return read_json(description)["kind"]
