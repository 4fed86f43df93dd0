"""circuit-sweep: the command line. Takes paths and operational switches; hyperparameters live in YAML.

Heavy modules are imported inside the commands: `--help` answers at once, `plan`, `status` and
`report` need neither Ray nor DeepSpeed.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.circuits.commands import circuit
from orchestrator.cli import control
from orchestrator.cli.hints import NEXT
from orchestrator.cli.task import task
from orchestrator.wording import printable, refused

if TYPE_CHECKING:
    from orchestrator.cluster.room import Node
    from trainers.folder import Folder

MIN_WATCH_SECONDS = 5

EXIT_CODES = """\b
Exit codes:
  0    all is well
  1    trials failed, or are still missing
  2    a mistake in the command, the spec or the folders; nothing was lost
  3    another driver runs this sweep
  4    the sweep stopped by itself: the runs folder takes nothing, or trial after trial failed alike
  130  interrupted; the same command goes on from there
"""


class Commands(click.Group):
    """Turns a user's mistake into one message on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        from orchestrator.lease import LeaseHeld
        from trainers.spec import SpecError

        try:
            returned = super().invoke(ctx)
            if hint := NEXT.get(ctx.invoked_subcommand or ""):
                click.echo(f"Next: {hint}", err=True)
            return returned
        except SpecError as error:
            click.echo(printable(f"Error: {error}"), err=True)
            ctx.exit(2)
        except LeaseHeld as error:
            click.echo(printable(f"Error: {error}"), err=True)
            ctx.exit(3)
        except BrokenPipeError:
            raise  # the reader has seen enough; click ends quietly
        except OSError as error:  # a disk, a mount, a bucket
            click.echo(printable(f"Error: {refused(error)}"), err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("Interrupted; the same command goes on from here.", err=True)
            ctx.exit(130)


runs_option = click.option(
    "--runs",
    default="runs",
    show_default=True,
    metavar="FOLDER|URI",
    help="Where trials are kept: a folder, or a URI such as s3://bucket/runs.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
tracking_option = click.option(
    "--tracking-uri",
    metavar="URI",
    help="MLflow server or database.  [default: MLFLOW_TRACKING_URI, else RUNS/mlflow.db]",
)
smoke_option = click.option(
    "--smoke", is_flag=True, help="Few steps, examples and trials: does every part work?"
)
spec_argument = click.argument("spec", type=click.Path(path_type=Path))


def switches(command: Callable[..., None]) -> Callable[..., None]:
    """What `run` and `submit` have in common."""
    for option in (
        click.option("--no-report", is_flag=True, help="Leave the report for `circuit-sweep report`."),
        click.option("-v", "--verbose", is_flag=True, help="Everything that Ray and its workers say."),
        click.option(
            "--wait", is_flag=True, help="For nodes that are not there yet, if the cluster is too small."
        ),
        click.option(
            "--metrics-port", type=click.IntRange(0, 65535), help="Prometheus metrics on 127.0.0.1:PORT."
        ),
        click.option("--max-hours", type=click.FloatRange(min=0, min_open=True), help="Stop after so long."),
        click.option("--retry-failed", is_flag=True, help="Run failed trials again."),
        click.option("--rerun", multiple=True, metavar="TRIAL_ID|all", help="Run again although complete."),
        tracking_option,
        smoke_option,
    ):
        command = option(command)
    return command


@click.group(
    cls=Commands,
    commands=[circuit, task, *control.COMMANDS],
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="circuit-sweep", prog_name="circuit-sweep")
def main() -> None:
    """Sweeps of circuit discovery: a question in YAML in, a Pareto report out.

    \b
    circuit-sweep plan sweeps/quickstart.yaml
    circuit-sweep run sweeps/quickstart.yaml
    """


@main.command()
@spec_argument
@runs_option
@smoke_option
@click.option(
    "--address", metavar="HOST:PORT", help="Of the Ray cluster to plan for.  [default: this machine]"
)
@click.option("--probe", is_flag=True, help="Run a few steps of each kind of trial here, to tell the time.")
@json_option
def plan(spec: Path, runs: str, smoke: bool, address: str | None, probe: bool, as_json: bool) -> None:
    """Show the trials of SPEC, what is done already, and what the rest will cost. Changes nothing.

    \b
    Example:
      circuit-sweep plan sweeps/quickstart.yaml --runs runs
    """
    from orchestrator.cli import terminal
    from orchestrator.cluster.room import require_room
    from orchestrator.planning.estimate import estimate
    from orchestrator.planning.plan import plan as read_plan
    from orchestrator.planning.probe import probe as measure
    from orchestrator.smoke import smoke as cut_down
    from orchestrator.sweep import SweepSpec
    from trainers.folder import Folder

    folder = Folder.open(runs)
    sweep = SweepSpec.load(spec)
    planned = read_plan(cut_down(sweep) if smoke else sweep, folder)
    probed = measure(planned, lambda line: click.echo(line, err=True)) if probe else None
    nodes = _nodes_of(address)
    if nodes is not None:
        require_room(planned.sweep.resources, nodes)
    cost, upload = estimate(planned, folder, nodes, probed), None if nodes is None else _upload_bytes()
    if as_json:
        click.echo(json.dumps(terminal.plan_json(planned, cost, upload), indent=2))
        return
    click.echo(printable(terminal.plan_text(planned, cost, upload)))
    if planned.missing:
        asked = [f"--address {address}"] * bool(address) + ["--smoke"] * smoke
        click.echo(f"\nNext: circuit-sweep run {' '.join([str(spec), '--runs', runs, *asked])}")


def _upload_bytes() -> int:
    from orchestrator.cluster.submit import upload_bytes

    return upload_bytes()


def _nodes_of(address: str | None) -> "list[Node] | None":
    if address is None:
        return None
    from orchestrator.cluster.connection import cluster, live_nodes

    with cluster(address):
        return live_nodes()


@main.command()
@spec_argument
@runs_option
@click.option("--address", metavar="HOST:PORT", help="A Ray cluster.  [default: RAY_ADDRESS, else our own]")
@switches
@json_option
def run(
    spec: Path,
    runs: str,
    address: str | None,
    verbose: bool,
    smoke: bool,
    wait: bool,
    metrics_port: int | None,
    tracking_uri: str | None,
    rerun: tuple[str, ...],
    retry_failed: bool,
    max_hours: float | None,
    no_report: bool,
    as_json: bool,
) -> None:
    """Run what is missing of SPEC, then report on all of it.

    Complete trials are never run twice; after Ctrl-C, a crash or --max-hours the same command goes
    on with what is missing, unfinished trials from their checkpoints.

    \b
    Example:
      circuit-sweep run sweeps/quickstart.yaml --runs runs --max-hours 2
    """
    from orchestrator.cli.ending import finished_json, finished_text
    from orchestrator.drive import Request, drive

    request = Request(
        spec, runs, address, tracking_uri, rerun, retry_failed, max_hours,
        report=not no_report, wait=wait, metrics_port=metrics_port, verbose=verbose, smoke=smoke,
    )  # fmt: skip
    finished = drive(request, lambda line: click.echo(printable(line), err=True))
    if as_json:
        click.echo(json.dumps(finished_json(finished), indent=2))
    else:
        click.echo(printable(finished_text(finished)))
    sys.exit(finished.exit_code)


@main.command()
@spec_argument
@click.option("--runs", required=True, metavar="FOLDER|URI", help="An absolute path or a URI on the cluster.")
@click.option(
    "--address",
    default="http://127.0.0.1:8265",
    show_default=True,
    envvar="RAY_API_SERVER_ADDRESS",
    metavar="URL",
    help="The cluster's dashboard.",
)
@click.option("--no-wait", is_flag=True, help="Return as soon as the cluster has the job.")
@switches
def submit(
    spec: Path,
    runs: str,
    address: str,
    no_wait: bool,
    verbose: bool,
    smoke: bool,
    wait: bool,
    metrics_port: int | None,
    tracking_uri: str | None,
    rerun: tuple[str, ...],
    retry_failed: bool,
    max_hours: float | None,
    no_report: bool,
) -> None:
    """Run SPEC as a job inside a Ray cluster, which gets a copy of the working directory.

    \b
    Example:
      circuit-sweep submit sweeps/quickstart.yaml --runs /shared/runs --address http://127.0.0.1:8265
    """
    from orchestrator.cluster.submit import submit as send
    from orchestrator.sweep import SweepSpec

    SweepSpec.load(spec, models=False)
    options = ["--tracking-uri", tracking_uri] if tracking_uri else []
    options += [text for trial_id in rerun for text in ("--rerun", trial_id)]
    options += ["--retry-failed"] * retry_failed + ["--no-report"] * no_report + ["--verbose"] * verbose
    options += ["--metrics-port", str(metrics_port)] if metrics_port is not None else []
    options += ["--wait"] * wait + ["--smoke"] * smoke + ["--max-hours", str(max_hours)] * bool(max_hours)
    sys.exit(send(spec, runs, address, options, wait=not no_wait, verbose=verbose, say=click.echo))


@main.command()
def schema() -> None:
    """Print the JSON Schema of a sweep file, for completion in editors.

    \b
    Example:
      circuit-sweep schema > sweeps/schema.json
      and as a sweep file's first line: # yaml-language-server: $schema=schema.json
    """
    from orchestrator.schema import sweep_schema

    click.echo(json.dumps(sweep_schema(), indent=1))


@main.command()
@click.argument("runs", default="runs", metavar="[RUNS]")
@click.option("--sweep", metavar="NAME", help="Only this sweep.")
@json_option
def status(runs: str, sweep: str | None, as_json: bool) -> None:
    """Show how the sweeps in RUNS stand: progress, retries, failures, time left.

    \b
    Example:
      circuit-sweep status runs --sweep quickstart
    """
    from orchestrator.cli import terminal
    from orchestrator.status import status as read_status
    from trainers.folder import Folder

    sweeps = read_status(Folder.open(runs), sweep)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in sweeps], indent=2))
    else:
        click.echo(printable(terminal.status_text(sweeps)))


@main.command()
@click.argument("runs", nargs=-1, metavar="[RUNS]...")
@click.option("--out", metavar="FOLDER|URI", help="Folder for the report.  [default: RUNS/report]")
@click.option(
    "--max-examples",
    type=click.IntRange(min=1),
    help="Equal budget: leave out trials that took more examples, forward and backward, to find circuits.",
)
@click.option(
    "--watch", "watched", is_flag=True, help="Write it again as trials end, until the sweep is over."
)
@click.option(
    "--every",
    type=click.IntRange(min=MIN_WATCH_SECONDS),
    metavar="SECONDS",
    help="With --watch: how often to look.  [default: 60]",
)
@json_option
def report(
    runs: tuple[str, ...],
    out: str | None,
    max_examples: int | None,
    watched: bool,
    every: int | None,
    as_json: bool,
) -> None:
    """Write the report on RUNS: runs folders, or single sweeps in them (runs/quickstart).

    With --watch, the open page reloads itself; it ends when no trial is unfinished and no driver runs, or
    with Ctrl-C.

    \b
    Examples:
      circuit-sweep report runs/quickstart more-runs --out report --max-examples 20000
      circuit-sweep report runs/quickstart --watch --every 30
    """
    from orchestrator.report.delivery import publish_report
    from trainers.folder import Folder
    from trainers.spec import SpecError

    if every is not None and not watched:
        raise SpecError("--every: found without --watch; allowed with it only")
    sources = [Folder.open(location) for location in runs or ("runs",)]
    if out is None and len(sources) > 1:
        raise SpecError("--out: required for more than one runs folder")
    target = Folder.open(out) if out is not None else sources[0] / "report"
    if watched:
        front = _watched(sources, target, every or 60, max_examples, as_json)
    else:
        front = publish_report(sources, target, max_examples)
    if as_json:
        click.echo(json.dumps({"report": target.location, "files": target.names()}, indent=2))
    else:
        click.echo(printable(f"{front}\n\nReport: {target.location}/report.html"))


@main.command()
@click.argument("runs", default="runs", metavar="[RUNS]")
@tracking_option
def track(runs: str, tracking_uri: str | None) -> None:
    """Rebuild the MLflow mirror of RUNS, without duplicates.

    \b
    Example:
      circuit-sweep track runs --tracking-uri http://127.0.0.1:5000
    """
    from orchestrator.cli.ending import mlflow_hint
    from orchestrator.drive import tracking_uri_for
    from orchestrator.tracking.tracker import track as rebuild
    from orchestrator.wording import count
    from trainers.folder import Folder

    folder = Folder.open(runs)
    uri = tracking_uri_for(folder, tracking_uri)
    click.echo(f"{count(rebuild(folder, uri), 'trial')} mirrored. MLflow: {mlflow_hint(uri)}")


def _watched(
    sources: Sequence["Folder"], target: "Folder", every: int, max_examples: int | None, as_json: bool
) -> str:
    from datetime import datetime

    from orchestrator.report.watch import Refreshed, watch

    def tell(refreshed: Refreshed) -> None:
        if as_json:
            click.echo(json.dumps(asdict(refreshed)), err=True)
        else:
            click.echo(printable(f"{datetime.now():%H:%M:%S}  {refreshed}"), err=True)

    click.echo(f"Watching every {every} s: {target.location}/report.html (Ctrl-C ends it)", err=True)
    return watch(
        sources, target, every, tell, lambda line: click.echo(printable(line), err=True), max_examples
    )
