"""circuit-sweep pause | resume | cancel | retry | drain: what people ask of a running driver."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orchestrator.lease import Holder
    from trainers.folder import Folder

runs_argument = click.argument("runs", default="runs", metavar="[RUNS]")
runs_option = click.option("--runs", default="runs", show_default=True, metavar="FOLDER|URI")
sweep_option = click.option("--sweep", metavar="NAME", help="Of this sweep.  [default: the one that runs]")


@click.command()
@runs_argument
@sweep_option
def pause(runs: str, sweep: str | None) -> None:
    """Free the cluster of a running sweep: trials stop at a checkpoint, the driver waits.

    \b
    Example:
      circuit-sweep pause runs && circuit-sweep resume runs
    """
    home, driver = _driven(runs, sweep)
    _ask(home, paused=True)
    _said(driver, "pauses; `circuit-sweep resume` goes on from the checkpoints")


@click.command()
@runs_argument
@sweep_option
def resume(runs: str, sweep: str | None) -> None:
    """Go on with a paused sweep.

    \b
    Example:
      circuit-sweep resume runs --sweep quickstart
    """
    home, driver = _driven(runs, sweep)
    _ask(home, paused=False)
    _said(driver, "goes on")


@click.command()
@click.argument("trials", nargs=-1, required=True, metavar="TRIAL...")
@runs_option
@sweep_option
def cancel(trials: tuple[str, ...], runs: str, sweep: str | None) -> None:
    """Give up TRIALs of a running sweep; their ids may be cut short. They count as failed.

    \b
    Example:
      circuit-sweep cancel 3f2a9c01 --runs runs
    """
    from orchestrator.control import Control
    from orchestrator.status import trial_ids
    from trainers.spec import SpecError

    home, driver = _driven(runs, sweep)
    known, found = trial_ids(home), set[str]()
    for asked in trials:
        matching = [trial_id for trial_id in known if trial_id.startswith(asked)]
        if len(matching) != 1:
            raise SpecError(
                f"TRIAL: found {asked!r}, which {len(matching)} trials of {home.location} begin with; "
                "allowed: an id, or its beginning, as `circuit-sweep status` shows it"
            )
        found.add(matching[0])
    _ask(home, cancelled=Control.read(home).cancelled | found)
    _said(driver, f"gives up {', '.join(sorted(found))}; a trial that is over already stays as it is")


@click.command()
@runs_argument
@sweep_option
@click.option("--failed", is_flag=True, required=True, help="The trials that failed.")
def retry(runs: str, sweep: str | None, failed: bool) -> None:
    """Run failed trials again, in a sweep that runs; for one that does not: run --retry-failed.

    \b
    Example:
      circuit-sweep retry runs --failed
    """
    from orchestrator.control import Control

    home, driver = _driven(runs, sweep)
    _ask(home, cancelled=frozenset(), retries=Control.read(home).retries + 1)
    _said(driver, "runs its failed trials again")


@click.command()
@click.argument("node")
@runs_option
@sweep_option
def drain(node: str, runs: str, sweep: str | None) -> None:
    """Take NODE (its name, address or Ray id) out of a running sweep: its trials move elsewhere.

    \b
    Example:
      circuit-sweep drain gpu-node-07 --runs /shared/runs
    """
    from orchestrator.control import Control

    home, driver = _driven(runs, sweep)
    _ask(home, drained=Control.read(home).drained | {node})
    _said(driver, f"uses {node} no more, once running steps end")


COMMANDS = (pause, resume, cancel, retry, drain)


def _driven(location: str, only: str | None) -> tuple["Folder", "Holder"]:
    """The folder of the sweep that is meant, and its live driver. Raises SpecError without one."""
    from orchestrator.lease import sweep_is_driven
    from orchestrator.status import sweep_names
    from trainers.folder import Folder
    from trainers.spec import SpecError

    runs = Folder.open(location)
    driven = {name: holder for name in sweep_names(runs, only) if (holder := sweep_is_driven(runs, name))}
    if not driven:
        raise SpecError(f"{runs.location}: no driver runs {only or 'a sweep'} there; nothing to ask of it")
    if len(driven) > 1:
        raise SpecError(f"--sweep: required, as {len(driven)} sweeps run there: {', '.join(sorted(driven))}")
    (name, holder) = driven.popitem()
    return runs / name, holder


def _ask(home: "Folder", **changes: object) -> None:
    from orchestrator.control import Control

    Control.read(home).model_copy(update=changes).write(home)


def _said(driver: "Holder", what: str) -> None:
    click.echo(f"asked: {driver.sweep} {what}. Its driver ({driver.host}, process {driver.pid}) notes it in")
    click.echo(f"  {driver.sweep}/events.jsonl within seconds; see also `circuit-sweep status`.")
