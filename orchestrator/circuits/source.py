"""Sources: where the circuit commands take a circuit from.

A trial id (or the start of one, and `:N` for its point N), a circuit file, an edge list, a graph of
EAP-IG or MIB, or a checkpoint of the published Edge Pruning code. Pickles are never read.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Embeddings, Shape
from orchestrator.circuits.edge_list import EdgeList, capped, read_edge_list
from orchestrator.circuits.edge_pruning import is_checkpoint, read_checkpoint
from orchestrator.circuits.mib import is_mib, read_mib
from orchestrator.circuits.placement import Adapt, Placed, carried, place
from orchestrator.circuits.shape import shape_in
from orchestrator.records.sweep_record import sweeps_in
from orchestrator.records.trial_result import EPSILON, main_point, own_point, read_result
from orchestrator.wording import count, headline
from trainers.folder import Folder
from trainers.outside import MAX_LIST, check_size, parse_json
from trainers.result import Point, TrialResult
from trainers.spec import SpecError

TRIAL = re.compile(r"(?P<id>[0-9a-z]{1,16})(?::(?P<point>\d+))?")
PROGRAMS = {"tracr-reverse": "reverse", "tracr-xproportion": "xproportion"}
PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
PICKLE = (
    "a pickle, which can run any code when it is read, so it is never read. Write JSON where it was made. "
    "EAP-IG: graph.to_json(FILE). ACDC: json.dump([[list(edge), bool(kept)] for edge, kept in "
    "experiment.save_subgraph(return_it=True).items()], FILE)"
)
NEED_GRAPH = (
    "an edge list says nothing of the graph it belongs to; give --like CIRCUIT_OR_TRIAL, "
    "or --layers and --heads (with --kv-heads, --pos-embeds), or --model FOLDER"
)


@dataclass(frozen=True)
class Source:
    """A circuit, what it is called, the trial and point it comes from, and what was changed on the
    way in, for the user."""

    name: str
    circuit: Circuit
    trial: TrialResult | None = None
    point: Point | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphChoice:
    """What the user says of the graph that edge lists belong to."""

    like: str | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    pos_embeds: bool = False
    parallel: bool = False
    model: Path | None = None
    embeddings: Embeddings | None = None

    @property
    def sized(self) -> bool:
        sizes = (self.layers, self.heads, self.kv_heads)
        return any(size is not None for size in sizes) or self.pos_embeds or self.parallel


@dataclass(frozen=True)
class Sources:
    """Opens circuits. `point` is the point of trials that do not name their own."""

    runs: str
    point: int | None = None
    choice: GraphChoice = GraphChoice()
    adapt: Adapt | None = None
    edge_sparsity: float | None = None  # of Edge Pruning checkpoints

    def open_all(self, texts: Sequence[str]) -> list[Source]:
        """Circuits on one graph: the chosen one, else the first that says what its graph is. A model's
        folder says the shape alone: what has an embedding convention of its own keeps it.

        Raises SpecError naming what is missing or wrong.
        """
        graph = self.graph()
        raw = [self._read(text, graph) for text in texts]
        if graph is None:
            graph = next((one.circuit.graph for one in raw if isinstance(one, Source)), None)
        return [self._placed(one, text, graph) for one, text in zip(raw, texts, strict=True)]

    def graph(self) -> EdgeGraph | None:
        """The graph that the user chose; None when nothing was said. Raises SpecError."""
        choice = self.choice
        given = [
            n
            for n, on in {"--like": choice.like, "--layers": choice.sized, "--model": choice.model}.items()
            if on
        ]
        if len(given) > 1:
            raise SpecError(f"found {' and '.join(given)}; allowed: one way of saying the graph")
        if choice.like is not None:
            opened = self._read(choice.like, None, "--like")
            if not isinstance(opened, Source):
                raise SpecError(f"--like {choice.like}: {NEED_GRAPH}")
            shape, embeddings = opened.circuit.graph.shape, opened.circuit.graph.embeddings
            return EdgeGraph(shape, choice.embeddings or embeddings)
        if choice.sized:
            if choice.layers is None or choice.heads is None:
                raise SpecError("--layers and --heads: both are needed to say the graph")
            writers = ("tok_embeds", "pos_embeds") if choice.pos_embeds else ("tok_embeds",)
            try:
                shape = Shape(
                    choice.layers, choice.heads, choice.kv_heads or choice.heads, writers, choice.parallel
                )
            except ValueError as error:
                raise SpecError(f"--layers, --heads, --kv-heads: {error}") from None
            return EdgeGraph(shape, choice.embeddings or "maskable")
        if choice.model is not None:
            return EdgeGraph(shape_in(choice.model), choice.embeddings or "maskable")
        return None

    def truth(self, text: str, graph: EdgeGraph, first: Source) -> Source:
        """The reference to compare with: a source, `tracr-reverse`, `tracr-xproportion`, or `trial`:
        the ground truth that the first circuit's trial knows."""
        if text == "trial" or text in PROGRAMS:
            edges = _program_edges(text) if text in PROGRAMS else _known_truth(first)
            listed = EdgeList({edge: 1.0 for edge in edges}, set(edges))
            placed = place(listed, graph, f"--truth {text}", self.adapt)
            return Source(f"ground truth ({text})", placed.circuit, notes=placed.notes)
        return self._placed(self._read(text, graph, "--truth"), text, graph)

    def _read(self, text: str, graph: EdgeGraph | None, argument: str = "SOURCE") -> Source | EdgeList:
        """What a source holds; an edge list is not yet on a graph. `argument` named it."""
        if not text:
            allowed = "a trial's id, or the path of a file or a folder"
            raise SpecError(f"{argument}: found an empty name; allowed: {allowed}")
        path = Path(text).expanduser()
        if path.exists():
            return _from_path(path, text, self.edge_sparsity)
        if "/" not in text and (match := TRIAL.fullmatch(text)):
            point = int(match["point"]) if match["point"] else self.point
            return _from_trial(Folder.open(self.runs), match["id"], point)
        raise SpecError(f"{text}: no such file, and no trial id (16 hex digits, or how one starts)")

    def _placed(self, raw: Source | EdgeList, name: str, graph: EdgeGraph | None) -> Source:
        if isinstance(raw, EdgeList):
            if graph is None:
                wrong = [capped(f"{name}: not a list of edges", raw.told())] if raw.wrong else []
                raise SpecError("\n".join([*wrong, f"{name}: {NEED_GRAPH}"]))
            placed = place(raw, graph, name, self.adapt)
            return Source(name, placed.circuit, notes=placed.notes)
        model_alone = self.choice.model is not None and self.choice.embeddings is None
        if graph is None or (model_alone and raw.circuit.graph.shape == graph.shape):
            return raw
        placed = carried(raw.circuit, graph, raw.name, self.adapt)
        return Source(raw.name, placed.circuit, raw.trial, raw.point, (*raw.notes, *placed.notes))


def _known_truth(source: Source) -> list[tuple[str, str]]:
    if source.trial is None or not source.trial.ground_truth:
        raise SpecError(f"--truth trial: {source.name} knows no ground truth")
    return source.trial.ground_truth


def _program_edges(name: str) -> list[tuple[str, str]]:
    from model_patches.tracr import TracrProgram

    return list(TracrProgram.builtin(PROGRAMS[name]).ground_truth)


def _from_path(path: Path, name: str, edge_sparsity: float | None) -> Source | EdgeList:
    """What a file or a checkpoint folder holds, decided by its content."""
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files or not is_checkpoint(files):
            pickled = [file.name for file in path.iterdir() if file.suffix in PICKLED]
            why = f"; pickles are never read: {', '.join(sorted(pickled)[:3])}" if pickled else ""
            raise SpecError(
                f"{name}: a folder without safetensors that hold log-alphas; {why or 'give a file'}"
            )
        return Source(name, read_checkpoint(files, name, edge_sparsity))
    if not path.is_file():
        raise SpecError(f"{name}: found neither a file nor a folder")
    with path.open("rb") as stream:
        start = stream.read(16)
    header = int.from_bytes(start[:8], "little")  # a safetensors file begins with its header's length
    tensors = start[8:9] == b"{" and header < path.stat().st_size
    if path.suffix.lower() in PICKLED or (not tensors and (start[:1] == b"\x80" or start[:2] == b"PK")):
        raise SpecError(f"{name}: {PICKLE}")
    if tensors or path.suffix == ".safetensors":
        if is_checkpoint([path]):
            return Source(name, read_checkpoint([path], name, edge_sparsity))
        try:
            return Source(name, Circuit.load(path))
        except ValueError as error:
            raise SpecError(str(error)) from None
    check_size(name, path.stat().st_size, MAX_LIST)
    content = path.read_bytes()
    try:
        data = parse_json(content)
    except ValueError:
        data = None
    if is_mib(data):
        edges, graph = read_mib(data, name)
        placed: Placed = place(edges, graph, name)
        return Source(name, placed.circuit, notes=placed.notes)
    return read_edge_list(content, name)


def _from_trial(runs: Folder, start: str, number: int | None) -> Source:
    trials = (runs / "trials").names()
    if not trials:
        raise SpecError(f"{start}: no such file, and no trials in {runs.location} (--runs)")
    found = [trial for trial in trials if trial.startswith(start)]
    if start in trials:
        found = [start]
    if len(found) != 1:
        raise SpecError(_candidates(runs, start, found, trials))
    folder = runs / "trials" / found[0]
    result, problem = read_result(folder)
    if result is None:
        raise SpecError(f"trial {found[0]}: {problem or 'not finished'}")
    if not result.points:
        error = headline(result.error)
        raise SpecError(f"trial {found[0]}: {result.status}, it has no circuit: {error}")
    if number is None:
        epsilon = _epsilon(runs, found[0])
        point = main_point(result, epsilon)
        ranked = point is not None and point != own_point(result)
    else:
        epsilon, ranked = 0.0, False
        point = next((one for one in result.points if one.point == number), None)
    if point is None:
        known = ", ".join(f"{one.point} ({one.kind}, {one.num_edges:,})" for one in result.points)
        raise SpecError(f"trial {found[0]}: no point {number}; it has (kind, edges): {known}")
    content = folder.read(point.circuit)
    if content is None:
        raise SpecError(f"trial {found[0]}: {point.circuit} is missing")
    try:
        circuit = Circuit.loads(content, f"{folder.location}/{point.circuit}")
    except ValueError as error:
        raise SpecError(str(error)) from None
    name = f"{found[0]}:{point.point}"
    told = f"the sparsest faithful of {len(result.points)} points (epsilon {epsilon:g}); else: --point"
    return Source(name, circuit, result, point, (f"{name}: {told}",) if ranked else ())


def _epsilon(runs: Folder, trial_id: str) -> float:
    """Of the objectives of the first sweep that the trial is part of."""
    sweeps, _ = sweeps_in(runs, [])
    return next((sweep.epsilon for sweep in sweeps if trial_id in sweep.trial_ids), EPSILON)


def _candidates(runs: Folder, start: str, found: list[str], trials: list[str]) -> str:
    if found:
        told = [f"  {trial}  {_about(runs / 'trials' / trial)}" for trial in found[:20]]
        more = [f"  ... and {len(found) - 20} more"] if len(found) > 20 else []
        return "\n".join([f"{start}: the start of {count(len(found), 'trial')}; which one?", *told, *more])
    near = difflib.get_close_matches(start, trials, n=3, cutoff=0.5)
    near = near or [trial for trial in trials if trial[:1] == start[:1]][:3]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"{start}: no such file, and none of the {count(len(trials), 'trial')} in {runs.location}.{hint}"


def _about(trial: Folder) -> str:
    result, problem = read_result(trial)
    if result is None:
        return problem or "not finished"
    group = result.group
    what = f"{group.model}, {group.task}, {group.method}, " if group else ""
    return f"{what}seed {result.seed}, {result.status}"
