"""Export: a circuit as the file of another program."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.circuits.graphml import graphml
from orchestrator.circuits.mib import write_mib
from orchestrator.circuits.shape import read_config
from orchestrator.circuits.source import Source
from trainers.model import ModelSpec
from trainers.sources.gguf_file import read_header
from trainers.spec import SpecError

GATED = ("edge_pruning", "node_pruning")  # methods whose scores are log-alphas


@dataclass(frozen=True)
class Exported:
    """The file, how many edges it keeps of how many, and what was changed, for the user."""

    content: bytes
    num_edges: int
    num_edges_total: int
    notes: tuple[str, ...] = ()


def exported(
    source: Source,
    form: str,
    width: int | None,
    model: Path | None,
    merge: bool,
    keep_embeddings: bool,
    ranks: bool,
) -> Exported:
    """`form` is edges, graphml or mib; the others are for mib. Log-alphas, the scores of trained
    gates, mean nothing by magnitude: of them, mib always gets the ranks. Raises SpecError."""
    circuit = source.circuit
    if form == "edges":
        return Exported(json.dumps(circuit.edges).encode(), circuit.num_edges, circuit.graph.num_edges)
    if form == "graphml":
        return Exported(graphml(circuit), circuit.num_edges, circuit.graph.num_edges)
    method = source.trial.spec.get("method", {}).get("name") if source.trial is not None else None
    width = width or _width(source, model)
    made = write_mib(circuit, width, merge, keep_embeddings, ranks or method in GATED, source.name)
    return Exported(made.content, made.num_edges, made.num_edges_total, made.notes)


def _width(source: Source, model: Path | None) -> int:
    """The width of the model that the circuit belongs to, from its config.json."""
    spec = source.trial.spec.get("model", {}) if source.trial is not None else {}
    if model is None and spec.get("builtin", "") in ("tracr-reverse", "tracr-xproportion"):
        from model_patches.tracr import TracrProgram

        return TracrProgram.builtin(spec["builtin"].removeprefix("tracr-")).config.hidden_size
    if model is None and spec:
        file = next(iter(_files(spec)), None)
        if file is not None and file.suffix == ".gguf":
            header = read_header(file).metadata
            return int(header[f"{header['general.architecture']}.embedding_length"])
        model = None if file is None else file.parent
    if model is None:
        raise SpecError(
            f"{source.name}: MIB's loader wants the model's width: --d-model N, or --model FOLDER"
        )
    width = read_config(model).get("hidden_size")
    if type(width) is not int or width < 1:
        raise SpecError(f"{model}/config.json: found hidden_size {width!r}; say it: --d-model N")
    return width


def _files(spec: Mapping[str, Any]) -> list[Path]:
    """Of the trial's model, where they are still there."""
    try:
        return ModelSpec.parse(spec, "spec.json").files()
    except SpecError:
        return []
