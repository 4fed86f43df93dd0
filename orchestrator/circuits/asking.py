"""From `circuit eval`'s command line to an evaluation: which circuits, model, task; where it runs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from model_patches.circuit import Circuit
from model_patches.graph import Embeddings
from orchestrator.circuits.placement import Adapt
from orchestrator.circuits.source import NEED_GRAPH, GraphChoice, Source, Sources
from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import Source as YamlSource
from orchestrator.yaml_source import read_yaml
from trainers.evaluation.request import Answer, Request
from trainers.spec import Problem, SpecError, problems, shortened
from trainers.trial import named_problem

PARTS = ("model", "task", "ablation", "embeddings")
GRACE_SECONDS = 5.0
BUILTINS = ("tracr-reverse", "tracr-xproportion", "smollm2-135m")


@dataclass(frozen=True)
class Asking:
    """The command line of `circuit eval`."""

    sources: tuple[str, ...]
    runs: str = "runs"
    point: int | None = None
    like: str | None = None
    embeddings: Embeddings | None = None
    adapt_embeddings: Adapt | None = None
    task: Path | None = None
    model: str | None = None
    ablation: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    budgets: str | None = None
    num_edges: int | None = None
    sparsity: float | None = None
    necessity: bool = False
    completeness: int | None = None
    values: Path | None = None
    ranks: int = 1
    cpus_per_rank: int | None = None
    gpus_per_rank: float = 0.0
    zero_stage: int = 0
    batch_examples: int | None = None


def ask(asking: Asking) -> tuple[Answer, list[str]]:
    """The evaluation's answer, and what was changed on the way in. Raises SpecError."""
    if asking.values is not None and not asking.values.absolute().parent.is_dir():
        raise SpecError(f"--values: there is no folder {asking.values.absolute().parent}")
    told = TaskFile() if asking.task is None else read_task(asking.task)
    found = _sources(asking, told.parts)
    if told.parts and any(source.trial is not None for source in found):  # the rest is the trial's
        told = replace(told, parts={"task": told.parts["task"]})
    request = _request(asking, found, told)
    with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
        folder = Path(scratch)
        (folder / "request.json").write_text(json.dumps(request))
        for asked, source in zip(request["circuits"], found, strict=True):
            (folder / asked["file"]).write_bytes(source.circuit.save())
        try:
            answer = _run(folder, asking)
        except SpecError as error:
            problem = named_problem(error)
            raise error if problem is None else SpecError(_told(problem, asking, told)) from None
        if asking.values is not None:
            shutil.copyfile(folder / "values.safetensors", asking.values)
    return answer, list(dict.fromkeys(note for source in found for note in source.notes))


@dataclass(frozen=True)
class TaskFile:
    """Model, task, ablation and embeddings that a YAML says. `block`: it is a task's block alone."""

    parts: Mapping[str, Any] = field(default_factory=dict)
    source: YamlSource | None = None
    block: bool = False

    def told(self, problem: Problem) -> str | None:
        """The problem where the file says this part of a trial; None where it does not."""
        location = problem.location
        if self.source is None or not location or location[0] not in self.parts:
            return None
        if self.block:
            location = location[1:]
        elif ("base", location[0]) in self.source.lines:
            location = ("base", *location)
        return self.source.error(location, problem.message)


def read_task(file: Path) -> TaskFile:
    """A task's block, a mapping of parts, or a sweep, whose trials must agree on a part for it to be
    taken.

    Raises SpecError, also when a sweep's trials have different tasks.
    """
    source = read_yaml(file)
    data = source.data
    if not isinstance(data, dict):
        raise SpecError(f"{file}: found {shortened(data)}; allowed: a task, or a sweep")
    if "base" not in data:
        parts = data if "task" in data else {"task": data}
        unknown = sorted(set(map(str, parts)) - set(PARTS))
        if unknown:
            raise SpecError(f"{file}: unknown key {', '.join(unknown)}. Allowed: {', '.join(PARTS)}")
        return TaskFile(_with_absolute_model(parts, file), source, block="task" not in data)
    trials = [trial.plain() for trial in SweepSpec.load(file).trials()]
    parts = {}
    for part in PARTS:
        different = {json.dumps(trial[part], sort_keys=True): trial[part] for trial in trials}
        if len(different) == 1:
            parts[part] = next(iter(different.values()))
        elif part == "task":
            raise SpecError(
                f"{file}: its trials have {len(different)} different tasks; give a YAML with one task"
            )
    return TaskFile(parts, source)


def _with_absolute_model(parts: Mapping[str, Any], file: Path) -> dict[str, Any]:
    model = parts.get("model")
    if isinstance(model, dict) and isinstance(model.get("path"), str):
        path = os.path.abspath(file.parent / os.path.expanduser(model["path"]))
        return {**parts, "model": {**model, "path": path}}
    return dict(parts)


def _sources(asking: Asking, told: Mapping[str, Any]) -> list[Source]:
    """Edge lists lie on the graph of --like, else of the first source that has one, else of the model."""
    choice = GraphChoice(like=asking.like, embeddings=asking.embeddings)
    sources = Sources(asking.runs, asking.point, choice, asking.adapt_embeddings)
    try:
        return sources.open_all(asking.sources)
    except SpecError as error:
        model = _model(asking.model) if asking.model is not None else told.get("model")
        if asking.like is not None or model is None or NEED_GRAPH not in str(error):
            raise
    embeddings = asking.embeddings or told.get("embeddings")
    return replace(sources, choice=_graph_of(model, embeddings)).open_all(asking.sources)


def _graph_of(model: Any, embeddings: Any) -> GraphChoice:
    """The graph of a model: from a folder's config.json, else from the loaded model. Raises SpecError."""
    path = model.get("path") if isinstance(model, dict) else None
    if path is not None and Path(path).is_dir():
        return GraphChoice(model=Path(path), embeddings=embeddings)
    from trainers.evaluation.by_hand import shape_of_model

    shape = shape_of_model(model)
    return GraphChoice(
        layers=shape.layers,
        heads=shape.query_heads,
        kv_heads=shape.key_value_heads,
        pos_embeds="pos_embeds" in shape.embeddings,
        parallel=shape.parallel_residual,
        embeddings=embeddings,
    )


def _request(asking: Asking, found: Sequence[Source], told: TaskFile) -> dict[str, Any]:
    """Plain data of a Request, checked. Raises SpecError."""
    trial = next((source.trial for source in found if source.trial is not None), None)
    spec: dict[str, Any] = dict(trial.spec) if trial is not None else {}
    spec |= told.parts
    if asking.model is not None:
        spec["model"] = _model(asking.model)
    if asking.ablation is not None:
        spec["ablation"] = asking.ablation
    missing = [part for part in ("task", "model") if part not in spec]
    if missing:
        names = " and ".join(f"--{part}" for part in missing)
        raise SpecError(
            f"{found[0].name}: comes from no trial that says {' and '.join(missing)}; give {names}"
        )
    # The method says nothing here; one that fits every task stands in for it.
    spec |= {"method": {"name": "random"}, "embeddings": found[0].circuit.graph.embeddings}
    circuits = [
        {"file": f"circuit-{number:03d}.safetensors", "name": source.name}
        for number, source in enumerate(found)
    ]
    cpus = asking.cpus_per_rank or max(1, len(os.sched_getaffinity(0)) // asking.ranks)
    resources = {
        "ranks": asking.ranks, "cpus_per_rank": cpus, "gpus_per_rank": asking.gpus_per_rank,
        "zero_stage": asking.zero_stage,
    }  # fmt: skip
    if asking.batch_examples is not None:
        resources["batch_examples"] = asking.batch_examples
    request = {
        "trial": spec, "circuits": circuits, "split": asking.split,
        "budgets": _budgets(asking, found[0].circuit), "necessity": asking.necessity,
        "completeness": asking.completeness or 0, "values": asking.values is not None, "resources": resources,
    }  # fmt: skip
    try:
        return Request.model_validate_json(json.dumps(request)).plain()
    except ValidationError as error:
        found_wrong = problems(error, Request)
    raise SpecError("\n".join(_told(_in_trial(one), asking, told) for one in found_wrong))


def _in_trial(problem: Problem) -> Problem:
    """A problem of a request, by the path in its trial where it is one of that."""
    inside = problem.location[:1] == ("trial",)
    return Problem(problem.location[1:], problem.message) if inside else problem


def _told(problem: Problem, asking: Asking, told: TaskFile) -> str:
    """The problem where the user wrote it: an option, else a path in the file of --task."""
    part = problem.location[0] if problem.location else None
    if (part == "model" and asking.model is not None) or (part == "ablation" and asking.ablation is not None):
        return f"--{part}: {problem.message}"
    return told.told(problem) or f"circuit eval: {problem}"


def _budgets(asking: Asking, circuit: Circuit) -> list[int] | str | None:
    """Numbers of edges, `mib`, or None for the circuits as they are kept."""
    given = {"--budgets": asking.budgets, "--num-edges": asking.num_edges, "--sparsity": asking.sparsity}
    said = [name for name, value in given.items() if value is not None]
    if len(said) > 1:
        raise SpecError(f"found {' and '.join(said)}; allowed: one of {', '.join(given)}")
    total = circuit.graph.num_edges
    if asking.budgets is not None and asking.budgets != "mib":
        try:
            budgets = [int(text) for text in asking.budgets.split(",")]
        except ValueError:
            budgets = [-1]
        if not all(0 <= budget <= total for budget in budgets):
            raise SpecError(
                f"--budgets: found {asking.budgets!r}; allowed: mib, or numbers of edges from 0 to {total:,} "
                "with commas between them"
            )
        return budgets
    if asking.num_edges is not None:
        if asking.num_edges > total:
            raise SpecError(f"--num-edges: found {asking.num_edges:,}; the graph has {total:,} edges")
        return [asking.num_edges]
    if asking.sparsity is not None:
        return [round((1 - asking.sparsity) * total)]
    return asking.budgets


def _model(text: str) -> dict[str, Any]:
    """A model's spec from one word. Raises SpecError."""
    if text in BUILTINS:
        return {"builtin": text}
    if text.startswith("hub:"):
        name, _, revision = text.removeprefix("hub:").partition("@")
        return {"hub": name} | ({"revision": revision} if revision else {})
    path = Path(text).expanduser()
    if path.exists():
        return {"path": str(path.absolute())}
    raise SpecError(f"--model: no file or folder {text}; allowed: {', '.join(BUILTINS)}, a path, or hub:ID")


def _run(folder: Path, asking: Asking) -> Answer:
    if asking.ranks == 1:
        from trainers.evaluation.by_hand import evaluate_folder

        return evaluate_folder(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [_rank(folder, number, port, asking) for number in range(asking.ranks)]
    try:
        while any(rank.poll() is None for rank in ranks) and not any(rank.poll() for rank in ranks):
            time.sleep(0.05)
        for rank in ranks:  # they refuse a mistake together; one that is still left waits for ever
            with suppress(subprocess.TimeoutExpired):
                rank.wait(GRACE_SECONDS)
        codes = [rank.poll() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    refusal = folder / "refusal.txt"
    if refusal.is_file():
        raise SpecError(refusal.read_text())
    if any(codes):
        ended = ", ".join(f"{number} with exit code {code}" for number, code in enumerate(codes) if code)
        raise SpecError(f"--ranks {asking.ranks}: rank {ended}; what it said is above")
    return Answer.model_validate_json((folder / "answer.json").read_bytes())


def _rank(folder: Path, number: int, port: int, asking: Asking) -> "subprocess.Popen[bytes]":
    """What torchrun would start, without its report on a rank that ends with a user's mistake."""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(asking.ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(asking.cpus_per_rank or 1),
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
    }  # fmt: skip
    command = [sys.executable, "-m", "trainers.evaluation.by_hand", str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
