"""circuit-sweep task: look at a task before a sweep spends hours on it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from orchestrator.wording import printable

if TYPE_CHECKING:
    from trainers.evaluation.show import Scored, ShownExample, ShownTask
    from trainers.trial import TrialSpec


@click.group()
def task() -> None:
    """Look at the task of a sweep: its examples, and whether the full model knows it.

    \b
    Example:
      circuit-sweep task show sweeps/quickstart.yaml --n 3
    """


@task.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--n", "count", type=click.IntRange(min=0), default=5, show_default=True, help="Examples.")
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True
)
@click.option(
    "--trial", "number", type=click.IntRange(min=1), default=1, show_default=True,
    help="Which trial of SPEC, in the order of `circuit-sweep plan`.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if this machine has a GPU]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
def show(
    spec: Path,
    count: int,
    split: Literal["train", "validation", "test"],
    number: int,
    device: Literal["cpu", "cuda"] | None,
    as_json: bool,
) -> None:
    """Print examples of SPEC's task as the model reads them, and what the full model scores.

    Loads the model into this process. What the tokenizer made unusable is counted; a full model that
    is not above chance, by two standard errors on 200 examples, is flagged; fewer than 20 are too few.

    \b
    Example:
      circuit-sweep task show sweeps/quickstart.yaml --n 3 --split train
    """
    trial, trials = _trial(spec, number)
    from trainers.evaluation.show import show_task
    from trainers.spec import SpecError
    from trainers.trial import named_problem

    try:
        shown = show_task(trial, split, count, device)
    except SpecError as error:
        if named_problem(error) is None:
            raise
        raise SpecError(f"{spec}: {error}") from None
    if as_json:
        click.echo(json.dumps(_as_json(shown), indent=2))
    else:
        click.echo(printable(_as_text(shown, number, trials)))


def _trial(spec: Path, number: int) -> tuple["TrialSpec", int]:
    """The trial, and how many there are. Raises SpecError."""
    from orchestrator.sweep import SweepSpec
    from trainers.spec import SpecError

    trials = SweepSpec.load(spec).trials()
    if number > len(trials):
        raise SpecError(f"--trial: found {number}; allowed: 1 to {len(trials)}, the trials of {spec}")
    return trials[number - 1], len(trials)


def _as_json(shown: "ShownTask") -> dict[str, Any]:
    levels, few = shown.knowledge.levels, shown.knowledge.too_few
    told = {
        name: asdict(level) | {"above_chance": None if few else level.above_chance}
        for name, level in levels.items()
    }
    knowledge = {
        "examples": shown.knowledge.examples,
        "levels": told,
        "warnings": list(shown.knowledge.warnings()),
    }
    return asdict(shown) | {"knowledge": knowledge}


def _as_text(shown: "ShownTask", number: int, trials: int) -> str:
    sizes = ", ".join(f"{size} {split}" for split, size in shown.sizes.items())
    lines = [
        f"{shown.model} {shown.task}, trial {number} of {trials}, on {shown.device}",
        f"examples: {sizes}{_in_sample(shown)}",
        f"test set: {shown.test_set}",
    ]
    lines += [f"dropped: {count} because {reason}" for reason, count in shown.dropped.items()]
    lines += [] if shown.dropped else ["dropped: none"]
    for place, example in enumerate(shown.examples, start=1):
        lines += ["", f"{shown.split} example {place}", *_example_lines(example, shown.answer_is)]
    return "\n".join([*lines, "", *_knowledge_lines(shown)])


def _in_sample(shown: "ShownTask") -> str:
    if not shown.in_sample:
        return ""
    if shown.same_splits:
        return " (in-sample: the splits are the same examples)"
    if not shown.tests_trained_on:  # the same text, with another answer in its last tokens
        return " (in-sample: test prompts are in the training set)"
    tests, seen = shown.sizes["test"], shown.tests_trained_on
    verb = "example is" if tests == 1 else "examples are"
    return f" (in-sample: {seen} of the {tests} test {verb} in the training set)"


def _example_lines(example: "ShownExample", answer_is: str) -> list[str]:
    lines = [f"  clean      {_tokens(example.clean)}", f"  corrupted  {_tokens(example.corrupted)}"]
    for scored in example.scored:
        told = [("after token", scored.position + 1)] if len(example.scored) > 1 else []
        lines.append("  " + "   ".join([*(f"{word} {n}" for word, n in told), *_said(scored, answer_is)]))
    return [*lines, "  " + "   ".join(f"{name} {value:.3g}" for name, value in example.metrics.items())]


def _said(scored: "Scored", answer_is: str) -> list[str]:
    parts = (
        (answer_is, scored.answer, scored.answer_probability),
        ("distractor", scored.distractor, scored.distractor_probability),
        ("predicted", scored.predicted, scored.predicted_probability),
    )
    return [
        f"{word} {text!r}" + ("" if probability is None else f" {probability:.3f}")
        for word, text, probability in parts
        if text is not None
    ]


def _tokens(texts: tuple[str, ...]) -> str:
    """`When| Mary| and`, line breaks written as \\n."""
    return "|".join(text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") for text in texts)


def _knowledge_lines(shown: "ShownTask") -> list[str]:
    from orchestrator.cli.terminal import table

    known = shown.knowledge
    rows = [
        (
            name,
            f"{level.mean:.4g}",
            f"{level.standard_error:.2g}",
            "" if level.chance is None else f"{level.chance:.3g}",
            "" if level.unrelated is None else f"{level.unrelated:.3g}",
        )
        for name, level in known.levels.items()
    ]
    head = ("metric", "mean", "std. error", "chance", "on unrelated answers")
    lines = [f"the full model on {known.examples} {shown.split} examples", *table(head, rows), ""]
    if warnings := known.warnings():
        return lines + [line if known.too_few else f"NOT ABOVE CHANCE: {line}" for line in warnings]
    return [*lines, "above chance" if known.states_chance else "the task states no chance level"]
