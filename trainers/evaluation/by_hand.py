"""Circuits evaluated outside a trial: on any split of any task, on any checkpoint of the architecture.

`torchrun --nproc-per-node N -m trainers.evaluation.by_hand FOLDER`: FOLDER holds request.json and the
circuit files that it names (trainers/request.py); answer.json is written there by rank 0, and where
values are asked for, values.safetensors: float32 [rows, metrics, examples], rows as in the answer's
table, examples in the split's order. One rank needs no torchrun.
"""

import json
import os
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import safetensors.torch
import torch

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from trainers.checkpoint import Checkpoints
from trainers.distributed import Ranks
from trainers.evaluate import Evaluation, empty_circuit, evaluate, evaluate_examples
from trainers.evaluation.completeness import (
    Incompleteness,
    complement,
    incompleteness,
    knocked_out_pairs,
    knockouts,
)
from trainers.evaluation.curves import areas, mib_budgets, on_grid
from trainers.evaluation.faithfulness import Mistakes, faithfulness, mistakes_reproduced
from trainers.evaluation.intervals import percentiles, resampled_means
from trainers.evaluation.request import Answer, Area, Gap, Interval, Request, Row, labelled
from trainers.folder import Folder
from trainers.model import Loaded, ModelSpec, load
from trainers.progress import Progress
from trainers.resources import Resources
from trainers.session import Session
from trainers.spec import SpecError

REQUEST, ANSWER, VALUES = "request.json", "answer.json", "values.safetensors"
REFUSAL = "refusal.txt"
SAY_SECONDS = 10
Returned = TypeVar("Returned")


@dataclass(frozen=True)
class _Asked:
    """A circuit that is evaluated, and how its row is called."""

    kind: Literal["circuit", "without", "empty"]
    name: str
    circuit: Circuit
    source: int | None = None
    top: int | None = None  # a budget: so many edges of the highest scores


def answer(
    request: Request, circuits: Sequence[Circuit], loaded: Loaded, ranks: Ranks, folder: Folder
) -> tuple[Answer, Evaluation]:
    """Evaluates; every rank calls it alike. Nothing is written to `folder`.

    Raises SpecError when a circuit does not fit the model or a budget the graph.
    """
    checkpoints = Checkpoints(folder / "checkpoint", ranks, float("inf"), lambda: None)
    session = Session(request.trial, loaded, ranks, request.resources, checkpoints)
    _check(request, circuits, session)
    warnings = _tied(request, circuits, session)
    asked = [*_asked(request, circuits, session), _Asked("empty", "empty circuit", empty_circuit(session))]
    session.open()
    try:
        started = time.perf_counter()
        found = _end(evaluate_examples(session, [one.circuit for one in asked], request.split), ranks)
        seconds = time.perf_counter() - started
        gaps = _completeness(request, asked, session, warnings)
    finally:
        session.close()
    group, examples = request.trial.group(loaded), len(session.examples[request.split])
    mistakes = _mistakes(found, 0)
    answered = Answer(
        model=group.model, task=group.task, test_set=group.test_set, split=request.split,
        ablation=group.ablation, edge_convention=group.edge_convention,
        num_edges_total=session.graph.num_edges, num_examples=examples,
        in_sample=session.dataset.in_sample, metrics=found.metrics,
        completeness=gaps, mistakes=None if mistakes is None else mistakes.examples,
        ranks=ranks.world_size, seconds=seconds, examples_per_second=examples / seconds,
        warnings=warnings, **_table(request, asked, found, session),
    )  # fmt: skip
    return answered, found


def _check(request: Request, circuits: Sequence[Circuit], session: Session) -> None:
    graph = session.graph
    for circuit, asked in zip(circuits, request.circuits, strict=True):
        if (circuit.graph.shape, circuit.graph.embeddings) != (graph.shape, graph.embeddings):
            raise SpecError(
                f"{asked.name}: a circuit of another graph than the model {session.spec.model.label}: "
                f"found {_described(circuit.graph)}; allowed: {_described(graph)}"
            )
    if isinstance(request.budgets, tuple):
        above = [str(budget) for budget in request.budgets if budget > graph.num_edges]
        if above:
            raise SpecError(f"budgets: found {', '.join(above)}; allowed: 0 to {graph.num_edges:,} edges")


def _described(graph: EdgeGraph) -> str:
    shape = ", ".join(f"{name} {value}" for name, value in vars(graph.shape).items())
    return f"{graph.num_edges:,} edges ({graph.embeddings}; {shape})"


def _asked(request: Request, circuits: Sequence[Circuit], session: Session) -> Iterator[_Asked]:
    for source, (circuit, asked) in enumerate(zip(circuits, request.circuits, strict=True)):
        tops = [None] if request.budgets is None else _budgets(request, session)
        for top in tops:
            one = circuit if top is None else Circuit.top(session.graph, circuit.scores, top)
            yield _Asked("circuit", asked.name, one, source, top)
            if request.necessity:
                yield _Asked("without", f"without {asked.name}", complement(one), source, top)


def _budgets(request: Request, session: Session) -> list[int]:
    if request.budgets == "mib":
        return sorted(set(mib_budgets(session.graph.num_edges)))
    assert isinstance(request.budgets, tuple), "asked only where there are budgets"
    return sorted(set(request.budgets))


def _tied(request: Request, circuits: Sequence[Circuit], session: Session) -> list[str]:
    """Says where a budget cuts through edges of one score, such as those of an edge list."""
    warnings = []
    for circuit, asked in zip(circuits, request.circuits, strict=True) if request.budgets is not None else ():
        scores = circuit.scores.flatten()[session.graph.flat_index].sort(descending=True).values
        inside = [budget for budget in _budgets(request, session) if 0 < budget < len(scores)]
        tied = [f"{budget:,}" for budget in inside if scores[budget - 1] == scores[budget]]
        if tied:
            told = f"the top {', '.join(tied)} of its scores cuts through edges of one score"
            warnings.append(f"{asked.name}: {told}; those that come first in the graph are kept")
    return warnings


def _table(request: Request, asked: Sequence[_Asked], found: Evaluation, session: Session) -> dict[str, Any]:
    """Rows and areas, with intervals from one set of resamples: ratios and areas are resampled in pairs."""
    names, means = found.metrics, found.means.numpy()
    resampled = resampled_means(found.values.permute(2, 0, 1).numpy())
    everything = Circuit(session.graph, torch.zeros(session.graph.allowed.shape), session.graph.allowed)
    f, f_resampled = (faithfulness(each, each[..., :1, :], each[..., -1:, :]) for each in (means, resampled))
    ends = [np.stack(percentiles(each), -1) for each in (resampled, f_resampled)]
    rows = []
    for place, one in enumerate([None, *asked]):
        circuit = everything if one is None else one.circuit
        mistakes = _mistakes(found, place) if one is not None else None
        rows.append(
            Row(
                kind="full" if one is None else one.kind,
                name="full model" if one is None else one.name,
                source=None if one is None else one.source,
                top=None if one is None else one.top,
                num_edges=circuit.num_edges,
                sparsity=circuit.sparsity,
                num_edges_connected=circuit.connected().num_edges,
                metrics=dict(zip(names, means[place].tolist(), strict=True)),
                intervals={name: _interval(ends[0][place, m]) for m, name in enumerate(names)},
                faithfulness={name: _known(f[place, m]) for m, name in enumerate(names)},
                faithfulness_intervals={
                    name: None if np.isnan(ends[1][place, m]).any() else _interval(ends[1][place, m])
                    for m, name in enumerate(names)
                },
                mistakes_reproduced=None if mistakes is None else mistakes.reproduced,
            )
        )
    return {"rows": rows, "areas": _areas(request, asked, names, f, f_resampled, session)}


def _areas(
    request: Request, asked: Sequence[_Asked], names: Sequence[str], f: np.ndarray, resampled: np.ndarray,
    session: Session,
) -> dict[int, dict[str, Area | None]]:  # fmt: skip
    total, by_source = session.graph.num_edges, {}
    for source in range(len(request.circuits)) if request.budgets is not None else ():
        places = {
            one.circuit.num_edges: place
            for place, one in enumerate(asked, 1)
            if one.source == source and one.kind == "circuit"
        }
        grid = on_grid(places, total, empty=len(asked), full=0)
        if grid is None:
            continue
        value, spread = areas(f[grid].T), areas(np.moveaxis(resampled[:, grid], 1, 2))
        by_source[source] = {
            name: None
            if np.isnan(value["cpr"][m])
            else Area(
                value={area: float(value[area][m]) for area in value},
                intervals={area: _interval(np.stack(percentiles(spread[area][:, m]))) for area in value},
            )
            for m, name in enumerate(names)
        }
    return by_source


def _completeness(
    request: Request, asked: Sequence[_Asked], session: Session, warnings: list[str]
) -> dict[int, dict[str, Gap]]:
    """One more pass over the split, for the subsets of all circuits."""
    subsets = {
        place: knockouts(one.circuit, request.completeness)
        for place, one in enumerate(asked, 1)
        if one.kind == "circuit" and request.completeness
    }
    if not subsets:
        return {}
    for place, some in subsets.items():
        if len(some) < request.completeness:
            one = asked[place - 1]
            of = f"{labelled(one.name, one.kind, one.top)} (num_edges {one.circuit.num_edges})"
            told = f"{of}: {len(some)} different subsets were drawn"
            warnings.append(f"completeness: {told}, {request.completeness} asked")
    pairs = [p for place, some in subsets.items() for p in knocked_out_pairs(asked[place - 1].circuit, some)]
    _, scores = _end(evaluate(session, pairs, request.split), session.ranks)
    found, start = {}, 0
    for place, some in subsets.items():
        of = scores[start : start + 2 * len(some)]
        start += 2 * len(some)
        if some:
            means = torch.tensor([list(one.values()) for one in of], dtype=torch.float64)
            worst = incompleteness(session.metrics, means, [one.num_edges for one in some])
            found[place] = {name: _gap(one, len(some)) for name, one in worst.items()}
    return found


def _gap(worst: Incompleteness, subsets: int) -> Gap:
    return Gap(**vars(worst), subsets=subsets)


def _mistakes(found: Evaluation, place: int) -> Mistakes | None:
    values = found.values.numpy()
    return mistakes_reproduced(found.metrics, values[0], values[place])


def _interval(ends: np.ndarray) -> Interval:
    low, high = ends.tolist()
    return low, high


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _end(steps: Generator[Progress, None, Returned], ranks: Ranks) -> Returned:
    """Runs an evaluation to its end; rank 0 says now and then how far it is."""
    started = said = time.perf_counter()
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        now = time.perf_counter()
        if ranks.is_first and now - said > SAY_SECONDS and progress.step:
            said, left = now, (now - started) * (progress.total / progress.step - 1)
            told = f"{progress.step:,} of {progress.total:,} examples, about {left / 60:.1f} min left"
            print(told, file=sys.stderr, flush=True)


def evaluate_folder(folder: Path) -> Answer:
    """What FOLDER/request.json asks, on the ranks of this process group. Raises SpecError."""
    request = Request.parse(json.loads((folder / REQUEST).read_bytes()), str(folder / REQUEST))
    circuits = [_read(folder / asked.file, asked.name) for asked in request.circuits]
    threads = torch.get_num_threads()
    ranks = _ranks(request.resources)
    try:
        loaded = load(request.trial.model, ranks, request.resources.zero_stage)
        answered, found = answer(request, circuits, loaded, ranks, Folder.open(folder))
        if ranks.is_first and request.values:
            names = {
                "rows": json.dumps([row.label for row in answered.rows]),
                "metrics": json.dumps(found.metrics),
            }
            safetensors.torch.save_file({"values": found.values.contiguous()}, folder / VALUES, names)
        if ranks.is_first:
            (folder / ANSWER).write_text(answered.model_dump_json())
        return answered
    finally:
        if ranks.world_size > 1:
            ranks.leave()
        torch.set_num_threads(threads)


def shape_of_model(model: object) -> Shape:
    """What the edge graph of a model is made of, from its YAML block; loads it. Raises SpecError."""
    return load(ModelSpec.parse(model, "model"), _ranks(Resources()), 0).model.graph.shape


def _read(file: Path, name: str) -> Circuit:
    try:
        return Circuit.load(file)
    except ValueError as error:
        raise SpecError(f"{name}: {error}") from None


def _ranks(resources: Resources) -> Ranks:
    """torchrun's process group; without torchrun this process alone, which needs none."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return Ranks.join(int(os.environ["RANK"]), world, address, port, resources)
    gpu = resources.gpus_per_rank > 0
    if gpu and not torch.cuda.is_available():
        raise SpecError(f"gpus: found {resources.gpus_per_rank:g} a rank, but there is no GPU here")
    torch.set_num_threads(resources.threads)
    return Ranks(0, 1, torch.device("cuda" if gpu else "cpu"))


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: torchrun --nproc-per-node N -m trainers.evaluation.by_hand FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        if not (folder / REQUEST).is_file():
            raise SpecError(f"{folder / REQUEST}: no such file")
        evaluate_folder(folder)
    except SpecError as error:  # on all ranks alike
        if os.environ.get("RANK", "0") == "0":
            print(error, file=sys.stderr)
            if folder.is_dir():
                (folder / REFUSAL).write_text(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
