"""circuit-sweep circuit eval: how good are circuits, on any split, task, model and size?"""

import json
from pathlib import Path
from typing import Any

import click

from orchestrator.wording import printable

EXIT_CODES = """\b
SOURCE is what it is for the other commands: circuit-sweep circuit --help.

\b
Exit codes:
  0  all is well
  2  a mistake in the command or the files, or a rank failed
"""


@click.command("eval", epilog=EXIT_CODES)
@click.argument("circuits", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER|URI", help="Where trials are.")
@click.option("--point", type=int, help="This point of trials.  [default: the main one]")
@click.option(
    "--like", metavar="SOURCE", help="Edge lists belong to the graph of this circuit.  [default: the model's]"
)
@click.option(
    "--embeddings", type=click.Choice(["maskable", "always_on"]), help="Of edge lists: are theirs counted?"
)
@click.option(
    "--adapt-embeddings", type=click.Choice(["merge", "split", "drop"]), help="As in `circuit show`."
)
@click.option(
    "--task",
    type=click.Path(path_type=Path),
    help="A YAML of a task, of `model:`, `task:` ..., or a sweep.  [default: the first trial's task]",
)
@click.option(
    "--model",
    metavar="NAME|PATH|HUB",
    help="A builtin, a folder or .gguf file, or `hub:ID` (`hub:ID@REVISION`).  [default: the trial's]",
)
@click.option("--ablation", help="What cut edges carry: interchange, zero, ...  [default: the trial's]")
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True
)
@click.option("--budgets", metavar="mib|N,N,...", help="Tops of the scores at these numbers of edges.")
@click.option("--num-edges", type=click.IntRange(min=0), help="The top of the scores, so many edges.")
@click.option("--sparsity", type=click.FloatRange(0, 1), help="The top of the scores, this share cut.")
@click.option("--necessity", is_flag=True, help="Also the model without each circuit.")
@click.option(
    "--completeness", type=click.IntRange(min=1), metavar="N", help="Knock N subsets out of each circuit."
)
@click.option("--values", type=click.Path(path_type=Path, dir_okay=False), help="Also write every example's.")
@click.option("--ranks", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--cpus-per-rank", type=click.IntRange(min=1), help="Threads.  [default: all CPUs / ranks]")
@click.option("--gpus-per-rank", type=click.FloatRange(min=0), default=0.0, show_default=True)
@click.option(
    "--zero-stage",
    type=click.Choice(["0", "3"]),
    default="0",
    show_default=True,
    help="3 spreads the weights over the ranks.",
)
@click.option("--batch-examples", type=click.IntRange(min=1), help="At most, per rank and forward pass.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
def evaluate(circuits: tuple[str, ...], values: Path | None, as_json: bool, **asked: Any) -> None:
    """Evaluate SOURCEs, the full model and the empty circuit, with 95 % intervals over examples.

    Model, task and ablation are the first trial's among SOURCEs, but for --task (of
    whose file only the task is taken then), --model and --ablation; without a trial, the file of --task
    says all of them.

    Runs in this process; with --ranks N in N processes on this machine, without Ray. (By hand, also on
    several machines: torchrun -m trainers.evaluation.by_hand FOLDER.)
    Faithfulness is (circuit - empty) / (full - empty) in every metric. At `--budgets mib`, the areas
    CPR and CMD follow. --completeness tells the largest difference between model and circuit once
    the same edges are cut from both. --values writes safetensors: float32 [rows, metrics, examples].

    \b
    Examples:
      circuit-sweep circuit eval 4d7ef9 --runs runs
      circuit-sweep circuit eval 4d7ef9 935c74 --budgets mib --necessity --completeness 50
      circuit-sweep circuit eval 4d7ef9 --task sweeps/boolean_few_shot.yaml --split validation
    """
    from orchestrator.circuits.answers import answer_text
    from orchestrator.circuits.asking import Asking, ask

    asked["zero_stage"] = int(asked["zero_stage"])
    answer, notes = ask(Asking(sources=circuits, values=values, **asked))
    for note in notes:
        click.echo(printable(note), err=True)
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json"), indent=2))
    else:
        click.echo(printable(answer_text(answer)))
