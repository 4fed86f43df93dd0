"""circuit-sweep circuit: look at circuits, compare and combine them, take them in and out of other
programs' formats. Heavy modules are imported inside the commands."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.circuits.eval_command import evaluate
from orchestrator.wording import count, printable

if TYPE_CHECKING:
    from orchestrator.circuits.source import Source, Sources

SOURCES = """\b
A SOURCE is one of:
  4d7ef9, 4d7ef9:3        a trial of --runs by id, or how it starts; its point 3
  circuit-000.safetensors a circuit file
  edges.json              a list of [writer, reader]; its graph by --like, --layers or --model
  graph.json, FOLDER      an EAP-IG or MIB graph; a checkpoint of the published Edge Pruning code

\b
Exit codes:
  0  all is well
  2  a mistake in the command or the files
"""
GROUP = {"epilog": SOURCES, "context_settings": {"help_option_names": ["-h", "--help"]}}
ADAPT_HELP = "What bridges two embedding conventions: two writers merged, one split, or edges dropped."
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
source_argument = click.argument("source")
out_option = click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write."
)


def sourced(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say what sources are, and hands the command `sources` made of them."""

    @functools.wraps(command)
    def wrapped(runs: str, point: int | None, adapt_embeddings: Any, **others: Any) -> None:
        from orchestrator.circuits.source import GraphChoice, Sources

        names = ("like", "layers", "heads", "kv_heads", "pos_embeds", "parallel", "model", "embeddings")
        choice = GraphChoice(**{name: others.pop(name) for name in names})
        share = others.pop("edge_sparsity", None)
        command(sources=Sources(runs, point, choice, adapt_embeddings, share), **others)

    size = click.IntRange(min=1)
    for option in reversed(
        (
            click.option(
                "--runs", default="runs", show_default=True, metavar="FOLDER|URI", help="Where trials are."
            ),
            click.option("--point", type=int, help="This point of trials.  [default: the main one]"),
            click.option("--like", metavar="SOURCE", help="Edge lists belong to the graph of this circuit."),
            click.option(
                "--model", type=click.Path(path_type=Path), help="... of this folder's model (config.json)."
            ),
            click.option("--layers", type=size, help="... of a model of so many layers."),
            click.option("--heads", type=size, help="... and so many attention heads a layer."),
            click.option("--kv-heads", type=size, help="... and key/value heads.  [default: --heads]"),
            click.option("--pos-embeds", is_flag=True, help="Position embeddings are a writer of their own."),
            click.option("--parallel", is_flag=True, help="MLPs do not read the heads of their layer."),
            click.option(
                "--embeddings",
                type=click.Choice(["maskable", "always_on"]),
                help="Are embeddings' edges counted?  [default: as --like, else maskable]",
            ),
            click.option(
                "--adapt-embeddings", type=click.Choice(["merge", "split", "drop"]), help=ADAPT_HELP
            ),
        )
    ):
        wrapped = option(wrapped)
    return wrapped


@click.group(commands=[evaluate], **GROUP)
def circuit() -> None:
    """Show, draw, compare, combine, export and import circuits.

    \b
    Example:
      circuit-sweep circuit show 4d7ef9 --runs runs
      circuit-sweep circuit compare 4d7ef9 935c74 edges.json --truth trial
    """


@circuit.command(epilog=SOURCES)
@source_argument
@click.option("--edges", is_flag=True, help="List the kept edges with their scores.")
@json_option
@sourced
def show(sources: "Sources", source: str, edges: bool, as_json: bool) -> None:
    """Show what SOURCE keeps: counts by kind and layer, sparsity, a trial's metrics.

    \b
    Example:
      circuit-sweep circuit show 4d7ef9:3 --runs runs --edges
    """
    from orchestrator.circuits.summary import scored_edges, show_text, summary

    found = _open(sources, [source])[0]
    if as_json:
        more = {"edges": scored_edges(found.circuit)} if edges else {}
        click.echo(json.dumps(summary(found) | more, indent=2))
    else:
        click.echo(printable(show_text(found, edges)))


@circuit.command(epilog=SOURCES)
@source_argument
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--title", help="The picture's heading.  [default: the source and its counts]")
@sourced
def draw(sources: "Sources", source: str, out: Path, title: str | None) -> None:
    """Draw SOURCE to OUT, a .pdf, .svg or .png: layers as rows, only what lies on kept paths.

    \b
    Example:
      circuit-sweep circuit draw 4d7ef9 circuit.pdf --runs runs
    """
    from orchestrator.drawing import FORMATS, MAX_EDGES, left_out
    from orchestrator.drawing import draw as render
    from trainers.spec import SpecError

    form = FORMATS.get(out.suffix.lower())
    if form is None:
        raise SpecError(f"{out}: found the ending {out.suffix or 'none'!r}; allowed: {', '.join(FORMATS)}")
    found = _open(sources, [source])[0]
    connected, graph = found.circuit.connected().num_edges, found.circuit.graph
    told = f"{connected:,} of {graph.num_edges:,} edges on a path"
    heading = f"{found.name}: {told}"
    if undrawn := left_out(found.circuit):  # the picture says so itself, under any title
        told, heading = undrawn, f"{found.name}: {found.circuit.num_edges:,} of {graph.num_edges:,} edges"
    _write(out, render(found.circuit, title or heading, form), [source])
    if not connected:
        _say(f"Warning: {source}: no kept edge lies on a path from input to output; the picture is empty")
    if connected > MAX_EDGES:
        _say(f"{connected:,} edges on a path; drawn are the {MAX_EDGES:,} closest to the output")
    click.echo(f"{out}: {told}")


@circuit.command(epilog=SOURCES)
@click.argument("circuits", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--truth",
    metavar="SOURCE|trial|tracr-reverse|tracr-xproportion",
    help="The reference; `trial`: what the first trial knows.  [default: the first SOURCE]",
)
@click.option("--absolute", is_flag=True, help="Rank by the scores' magnitude.")
@json_option
@sourced
def compare(
    sources: "Sources", circuits: tuple[str, ...], truth: str | None, absolute: bool, as_json: bool
) -> None:
    """Compare circuits: edge and node IoU, precision and recall, ROC AUC and average precision.

    ROC and average precision tell how well a circuit's scores rank the reference's edges; tied
    scores count as tied. Nodes are the writers on kept paths.

    \b
    Example:
      circuit-sweep circuit compare 4d7ef9 935c74 --truth trial --runs runs
    """
    from orchestrator.circuits import comparison, summary

    found = _open(sources, circuits)
    _alike(found)
    reference = found[0]
    if truth is not None:
        reference = sources.truth(truth, found[0].circuit.graph, found[0])
        _tell([reference])
    result = comparison.compare([one.circuit for one in found], reference.circuit, absolute)
    if as_json:
        click.echo(json.dumps(summary.comparison_json(found, reference, result), indent=2))
    else:
        click.echo(printable(summary.comparison_text(found, reference.name if truth else "1", result)))


@circuit.command(epilog=SOURCES)
@click.argument("circuits", nargs=-1, required=True, metavar="SOURCE...")
@out_option
@click.option("--votes", is_flag=True, help="Score each edge by how many of the circuits keep it.")
@sourced
def union(sources: "Sources", circuits: tuple[str, ...], out: Path, votes: bool) -> None:
    """Keep the edges that any SOURCE keeps; an edge's score is the largest of theirs.

    Writes a circuit file, and beside it OUT's name with .edges.json.

    \b
    Example:
      circuit-sweep circuit union 4d7ef9 935c74 --out both.safetensors --votes
    """
    _combine(sources, circuits, out, "union", votes)


@circuit.command(epilog=SOURCES)
@click.argument("circuits", nargs=-1, required=True, metavar="SOURCE...")
@out_option
@click.option("--votes", is_flag=True, help="Score each edge by how many of the circuits keep it.")
@sourced
def intersect(sources: "Sources", circuits: tuple[str, ...], out: Path, votes: bool) -> None:
    """Keep the edges that every SOURCE keeps; an edge's score is the smallest of theirs.

    Writes a circuit file, and beside it OUT's name with .edges.json.

    \b
    Example:
      circuit-sweep circuit intersect 4d7ef9 935c74 --out shared.safetensors
    """
    _combine(sources, circuits, out, "intersect", votes)


@circuit.command(epilog=SOURCES)
@click.argument("circuits", nargs=-1, required=True, metavar="SOURCE...")
@out_option
@sourced
def subtract(sources: "Sources", circuits: tuple[str, ...], out: Path) -> None:
    """Keep the edges of the first SOURCE that no other keeps, with the first one's scores.

    Writes a circuit file, and beside it OUT's name with .edges.json.

    \b
    Example:
      circuit-sweep circuit subtract 4d7ef9 935c74 --out only-first.safetensors
    """
    _combine(sources, circuits, out, "subtract", votes=False)


@circuit.command(epilog=SOURCES)
@source_argument
@out_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["edges", "graphml", "mib"]),
    help="[writer, reader] names; GraphML; EAP-IG's and MIB's JSON.  [default: by the ending, .json: edges]",
)
@click.option(
    "--d-model", type=click.IntRange(min=1), help="mib: the model's width.  [default: the trial's model]"
)
@click.option("--merge-embeddings", is_flag=True, help="mib: join two embedding writers into its one.")
@click.option("--keep-embeddings", is_flag=True, help="mib: always-on embeddings, above all other edges.")
@click.option("--rank-scores", is_flag=True, help="mib: ranks for scores; for trained gates always.")
@json_option
@sourced
def export(
    sources: "Sources",
    source: str,
    out: Path,
    form: str | None,
    d_model: int | None,
    merge_embeddings: bool,
    keep_embeddings: bool,
    rank_scores: bool,
    as_json: bool,
) -> None:
    """Write SOURCE as an edge list, as GraphML, or as a graph that MIB's evaluation accepts as it is.

    MIB's graph has one input writer and keys and values for every query head: what is done to fit
    it is said on stderr. MIB reads the file with --circuit-files.

    \b
    Example:
      circuit-sweep circuit export 4d7ef9 --format mib --out importances.json --d-model 768
    """
    from orchestrator.circuits.export import exported
    from trainers.spec import SpecError

    form = form or {".json": "edges", ".graphml": "graphml"}.get(out.suffix.lower())
    if form is None:
        raise SpecError(f"{out}: found the ending {out.suffix or 'none'!r}; say the --format")
    found = _open(sources, [source])[0]
    model = sources.choice.model
    made = exported(found, form, d_model, model, merge_embeddings, keep_embeddings, rank_scores)
    _write(out, made.content, [source])
    for note in made.notes:
        _say(note)
    if as_json:
        told = {"file": str(out), "format": form, "num_edges": made.num_edges, "notes": list(made.notes)}
        click.echo(json.dumps(told | {"num_edges_total": made.num_edges_total}, indent=2))
    else:
        click.echo(f"{out}: {form}, {made.num_edges:,} of {made.num_edges_total:,} edges")


@circuit.command("import", epilog=SOURCES)
@source_argument
@out_option
@click.option("--num-edges", type=click.IntRange(min=0), help="Keep so many edges, those of highest score.")
@click.option("--absolute", is_flag=True, help="With --num-edges: of largest magnitude.")
@click.option(
    "--edge-sparsity",
    type=click.FloatRange(0, 1),
    help="Of an Edge Pruning checkpoint: the share of edges to cut.  [default: 1 - mean gate]",
)
@json_option
@sourced
def import_(
    sources: "Sources", source: str, out: Path, num_edges: int | None, absolute: bool, as_json: bool
) -> None:
    """Turn what another program wrote into a circuit file, and OUT's name with .edges.json.

    Takes checkpoints (safetensors) and edge lists of the published Edge Pruning code, ACDC's edges
    as JSON, text or log (steps inside a head or MLP are left out, with a count), and graphs of
    EAP-IG and MIB. Pickles (.pt, .pth, .pkl) are refused: reading one can run any code.

    \b
    Example:
      circuit-sweep circuit import acdc.json --layers 12 --heads 12 --out acdc.safetensors
    """
    from orchestrator.circuits.algebra import strongest
    from trainers.spec import SpecError

    found = _open(sources, [source])[0].circuit
    if num_edges is not None:
        if num_edges > found.graph.num_edges:
            raise SpecError(
                f"--num-edges: found {num_edges:,}; the graph has {found.graph.num_edges:,} edges"
            )
        found = strongest(found, num_edges, absolute)
    elif absolute:
        raise SpecError("--absolute: only with --num-edges")
    _save(found, out, [source], as_json)


def _combine(sources: "Sources", circuits: tuple[str, ...], out: Path, operation: str, votes: bool) -> None:
    from orchestrator.circuits.algebra import combined

    found = _open(sources, circuits)
    _alike(found)
    _save(combined([one.circuit for one in found], operation, votes), out, circuits, as_json=False)


def _open(sources: "Sources", texts: Sequence[str]) -> "list[Source]":
    found = sources.open_all(texts)
    _tell(found)
    return found


def _tell(found: "Sequence[Source]") -> None:
    for note in dict.fromkeys(note for one in found for note in one.notes):
        _say(note)


def _say(note: str) -> None:
    click.echo(printable(note), err=True)


def _alike(found: "Sequence[Source]") -> None:
    from orchestrator.circuits.placement import described, same_graph
    from trainers.spec import SpecError

    first = found[0]
    for other in found[1:]:
        if not same_graph(first.circuit.graph, other.circuit.graph):
            graphs = (f"{one.name}: {described(one.circuit.graph)}" for one in (first, other))
            raise SpecError("circuits of different graphs have no edges in common:\n  " + "\n  ".join(graphs))


def _save(found: Any, out: Path, sources: Sequence[str], as_json: bool) -> None:
    """Writes a circuit file and its edges, and says so."""
    from orchestrator.circuits.placement import described
    from trainers.spec import SpecError

    if out.suffix != ".safetensors":
        raise SpecError(f"{out}: found the ending {out.suffix or 'none'!r}; allowed: .safetensors")
    edges = out.with_suffix(".edges.json")
    _write(out, found.save(), sources)
    _write(edges, json.dumps(found.edges).encode(), sources)
    told = {"file": str(out), "edges": str(edges), "num_edges": found.num_edges}
    told["num_edges_connected"] = found.connected().num_edges
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"{out}: {count(found.num_edges, 'edge')} kept, {told['num_edges_connected']:,} on a path")
    click.echo(f"graph: {described(found.graph)}")


def _write(path: Path, content: bytes, sources: Sequence[str]) -> None:
    from trainers.folder import Folder
    from trainers.spec import SpecError

    if any(path.exists() and Path(source).exists() and path.samefile(source) for source in sources):
        raise SpecError(f"{path}: is a source of this command; write somewhere else")
    if not path.absolute().parent.is_dir():
        raise SpecError(f"{path}: there is no folder {path.absolute().parent}")
    Folder.open(path.absolute().parent).write(path.name, content)
