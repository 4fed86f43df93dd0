"""A task as a person checks it: real examples in tokens, and what the full model makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from trainers.data import Batch, Example
from trainers.distributed import Ranks
from trainers.evaluation.knows import Knowledge, full_model_knows
from trainers.metrics import METRICS
from trainers.model import Loaded, load
from trainers.spec import SpecError
from trainers.tasks.base import Split, Task

if TYPE_CHECKING:
    from trainers.trial import TrialSpec


@dataclass(frozen=True)
class Scored:
    """One scored position: what is right and wrong there, what the full model says, each with the
    model's probability. A numerical output has no probabilities and no distractor."""

    position: int
    answer: str
    predicted: str
    distractor: str | None = None
    answer_probability: float | None = None
    predicted_probability: float | None = None
    distractor_probability: float | None = None


@dataclass(frozen=True)
class ShownExample:
    """Prompts as the texts of their tokens; `metrics` are the full model's."""

    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    scored: tuple[Scored, ...]
    metrics: dict[str, float]


@dataclass(frozen=True)
class ShownTask:
    """`tests_trained_on`: how many test examples have a clean prompt that is also trained on;
    `same_splits`: train, validation and test are the same examples."""

    model: str
    task: str
    test_set: str
    split: Split
    device: str
    answer_is: str
    sizes: dict[str, int]
    in_sample: bool
    same_splits: bool
    tests_trained_on: int
    dropped: dict[str, int]
    examples: tuple[ShownExample, ...]
    knowledge: Knowledge


def show_task(
    spec: "TrialSpec", split: Split, count: int, device: Literal["cpu", "cuda"] | None = None
) -> ShownTask:
    """The first `count` examples of a trial's split, and the full model on its first 200.

    Loads the model into this one process. device: default a GPU if this machine has one. Raises
    SpecError when the model cannot be loaded or the task not be asked of it.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SpecError("--device: found cuda, but no GPU is seen here; allowed: cpu")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loaded = load(spec.model, Ranks(0, 1, place), zero_stage=0)
    dataset = spec.task.dataset(loaded)
    examples = dataset.splits[split]
    return ShownTask(
        model=spec.model.label,
        task=spec.task.name,
        test_set=spec.task.test_set,
        split=split,
        device=place.type,
        answer_is=spec.task.answer_is,
        sizes={name: len(some) for name, some in dataset.splits.items()},
        in_sample=dataset.in_sample,
        same_splits=dataset.same_splits,
        tests_trained_on=dataset.tests_trained_on,
        dropped=dict(dataset.dropped),
        examples=_shown(loaded, spec.task, examples[:count], place),
        knowledge=full_model_knows(loaded, spec.task, examples, place),
    )


@torch.no_grad()
def _shown(
    loaded: Loaded, task: Task, examples: Sequence[Example], device: torch.device
) -> tuple[ShownExample, ...]:
    if not examples:
        return ()
    batch = Batch.of(examples, [1.0] * len(examples), device)
    readout = task.readout(loaded.model.full(batch.clean, batch.positions), loaded)
    metrics = {name: METRICS[name].compute(readout, readout, batch) for name in task.metrics(loaded.spec)}
    tokens, outputs = _token_texts(loaded), _output_texts(loaded, task)
    return tuple(
        ShownExample(
            tuple(tokens(token) for token in example.clean),
            tuple(tokens(token) for token in example.corrupted),
            _scored(example, readout[number], outputs),
            {name: float(values[number]) for name, values in metrics.items()},
        )
        for number, example in enumerate(examples)
    )


def _scored(example: Example, readout: Tensor, outputs: "_Texts") -> tuple[Scored, ...]:
    """readout: [scored, outputs], or [scored, 1] of a numerical output."""
    if readout.shape[-1] == 1:
        pairs = zip(example.positions, example.answers, readout[:, 0].tolist(), strict=False)
        return tuple(Scored(place, f"{answer:.3f}", f"{said:.3f}") for place, answer, said in pairs)
    probabilities = readout.float().softmax(-1).cpu()
    found: list[Scored] = []
    for number, position in enumerate(example.positions):
        here = probabilities[number]
        answer, said = int(example.answers[number]), int(here.argmax())
        wrong = example.distractors[number] if example.distractors else None
        found.append(
            Scored(
                position,
                outputs(answer),
                outputs(said),
                None if wrong is None else outputs(wrong),
                float(here[answer]),
                float(here[said]),
                None if wrong is None else float(here[wrong]),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class _Texts:
    """Texts of token ids: of a program's vocabulary, of a tokenizer, or the bare ids (#17)."""

    names: dict[int, str] | None = None
    tokenizer: Any = None
    candidates: tuple[int, ...] | None = None  # an id counts these

    def __call__(self, token: int) -> str:
        token = token if self.candidates is None else self.candidates[token]
        if self.names is not None:
            return self.names[token]
        if self.tokenizer is None:
            return f"#{token}"
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if piece is None:  # the model's vocabulary is padded
            return f"#{token}"
        if "▁" in piece:  # SentencePiece: decoded alone, a token loses the space before it
            return piece.replace("▁", " ")
        return self.tokenizer.decode([token])


def _token_texts(loaded: Loaded) -> _Texts:
    if loaded.program is not None:
        return _Texts({index: str(token) for token, index in loaded.program.encoding.items()})
    try:
        return _Texts(tokenizer=loaded.tokenizer)
    except SpecError:  # a task in bare tokens asks for none: `induction` on a folder without one
        return _Texts()


def _output_texts(loaded: Loaded, task: Task) -> _Texts:
    if loaded.program is not None:
        return _Texts({index: str(said) for index, said in enumerate(loaded.program.output_vocab or ())})
    return _Texts(tokenizer=_token_texts(loaded).tokenizer, candidates=task.candidates(loaded))
