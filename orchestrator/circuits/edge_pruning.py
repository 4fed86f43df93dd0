"""Checkpoints of the published Edge Pruning code: safetensors with log-alphas, cut as it cuts them.

Bhaskar et al. 2024, `modeling_fpt2.py`, `modeling_fllama.py`, `modeling_erazr.py`, `vis_fpt2.py`. A
gate's soft value is sigmoid(0.8 · log-alpha / (2/3)); in each tensor as many of the smallest as are
expected to be zero are set to zero; then all gates of edges, and all gates of writers, are cut at
the threshold at which the share of cut gates equals 1 − mean soft gate (a bisection to 1e-5).
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from trainers.spec import SpecError, shortened

Array = np.ndarray
LAYER = re.compile(r"(?:^|\.)(?:h|layers|blocks)\.(\d{1,6})\.(?:attn\.|mlp\.)?(\w+)_log_alphas?$")
TEMPERATURE, FACTOR = 2 / 3, 0.8
STRETCH = math.log(0.1 / 1.2) - math.log(1.1 / 1.2)  # where the stretched concrete distribution is 0
TRACR_THRESHOLD = 0.005  # set by the published scripts for compiled programs, not searched


@dataclass(frozen=True)
class Gates:
    """Log-alphas: `edges[layer][part]` [writers, readers of the part], `writers` [writers],
    `final` [writers]. Without embedding writers, embeddings are always on."""

    edges: list[dict[str, Array]]
    final: Array
    writers: list[Array]
    embeddings: list[Array]
    family: str


def is_checkpoint(files: list[Path]) -> bool:
    return any("log_alpha" in name for file in files for name in _names(file))


def read_checkpoint(files: list[Path], name: str, edge_sparsity: float | None) -> Circuit:
    """The circuit that the published code takes from these safetensors files.

    `edge_sparsity` is the share of edges to cut instead of the gates' own. An edge's score is its
    log-alpha, or its writer's if that is lower. Raises SpecError naming the tensor that does not fit.
    """
    gates = _gates(_tensors(files, name), name)
    graph = _graph(gates, name)
    soft_edges = [
        {part: _soft(values, gates.family) for part, values in layer.items()} for layer in gates.edges
    ]
    final, writers = (
        _soft(gates.final, gates.family),
        [_soft(values, gates.family) for values in gates.writers],
    )
    offset = len(gates.embeddings)
    visible = [_visible(graph, layer, offset) for layer in range(graph.shape.layers)]
    parts = [
        layer[part][: seen[part]] for layer, seen in zip(soft_edges, visible, strict=True) for part in seen
    ]
    embeddings = [_soft(values, gates.family) for values in gates.embeddings]
    edge_cut = TRACR_THRESHOLD if gates.family == "blocks" else _threshold([*parts, final], edge_sparsity)
    node_cut = TRACR_THRESHOLD if gates.family == "blocks" else _threshold([*embeddings[:1], *writers], None)
    open_writers = np.concatenate([values.reshape(-1) for values in [*embeddings, *writers]]) > node_cut
    columns = [layer[part].reshape(len(final), -1) for layer in soft_edges for part in ("q", "k", "v", "mlp")]
    soft = np.concatenate([*columns, final[:, None]], axis=1)
    raw = [layer[part].reshape(len(final), -1) for layer in gates.edges for part in ("q", "k", "v", "mlp")]
    written = np.concatenate([values.reshape(-1) for values in [*gates.embeddings, *gates.writers]])
    scores = np.minimum(np.concatenate([*raw, gates.final[:, None]], axis=1), written[:, None])
    kept = (soft > edge_cut) & open_writers[:, None]
    missing = graph.num_embeddings - offset
    padding = ((missing, 0), (0, 0))
    return Circuit.from_arrays(graph, np.pad(scores, padding), np.pad(kept, padding))


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="np") as tensors:
            return list(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise SpecError(f"{file}: not a safetensors file: {error}") from None


def _tensors(files: list[Path], name: str) -> dict[str, Array]:
    """Every log-alpha as float32; bfloat16, which numpy does not know, is widened by torch."""
    found: dict[str, Array] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118
                if "log_alpha" in key:
                    found[key] = tensors.get_tensor(key).float().numpy()
                    if not np.isfinite(found[key]).all():
                        raise SpecError(f"{name}: {key} holds values that are not finite")
    return found


def _gates(tensors: dict[str, Array], name: str) -> Gates:
    layers: dict[int, dict[str, Array]] = {}
    family, others = "", {}
    for key, values in tensors.items():
        if match := LAYER.search(key):
            part = match[2].removeprefix("attn_write").replace("mlp_write", "mlp_out") or "heads_out"
            part = "heads_out" if part == "write" else part.removesuffix("_read")
            layers.setdefault(int(match[1]), {})[part] = values
            family = key[match.start() :].lstrip(".").split(".")[0]
        else:
            others[key.rpartition(".")[2].removesuffix("s")] = values
    if sorted(layers) != list(range(len(layers))) or not layers or "final_read_log_alpha" not in others:
        raise SpecError(f"{name}: not all log-alphas are there; found layers {shortened(sorted(layers))}")
    needed = {"q", "k", "v", "mlp", "heads_out", "mlp_out"}
    for number, layer in layers.items():
        if missing := needed - set(layer):
            raise SpecError(f"{name}: layer {number} has no log-alphas of {', '.join(sorted(missing))}")
    keys = ("token_write_log_alpha", "pos_write_log_alpha")
    embeddings = [others[key] for key in keys if key in others]
    ordered = [layers[number] for number in range(len(layers))]
    edges = [{part: layer[part] for part in ("q", "k", "v", "mlp")} for layer in ordered]
    writers = [layer[part] for layer in ordered for part in ("heads_out", "mlp_out")]
    return Gates(edges, others["final_read_log_alpha"].reshape(-1), writers, embeddings, family)


def _graph(gates: Gates, name: str) -> EdgeGraph:
    """The graph that the tensors' shapes tell of; without embedding gates, by the family's table."""
    heads, kv = gates.edges[0]["q"].shape[-1], gates.edges[0]["k"].shape[-1]
    kinds = ("tok_embeds", "pos_embeds")
    two = len(gates.embeddings) == 2 if gates.embeddings else gates.family == "h"  # GPT-2's layers are `h`
    try:
        shape = Shape(len(gates.edges), heads, kv, kinds if two else kinds[:1])
    except ValueError as error:
        raise SpecError(f"{name}: {error}") from None
    writers = len(gates.embeddings) + shape.layers * (heads + 1)
    expected = {"q": (writers, heads), "k": (writers, kv), "v": (writers, kv), "mlp": (writers,)}
    for number, layer in enumerate(gates.edges):
        for part, values in layer.items():
            if values.shape != expected[part]:
                found = f"{list(values.shape)}; expected {list(expected[part])}"
                raise SpecError(f"{name}: log-alphas of {part} in layer {number} are {found}")
    if gates.final.shape != (writers,) or sum(values.size for values in gates.writers) != shape.layers * (
        heads + 1
    ):
        raise SpecError(f"{name}: log-alphas of writers do not fit {shape.layers} layers of {heads} heads")
    return EdgeGraph(shape, "maskable" if gates.embeddings else "always_on")


def _visible(graph: EdgeGraph, layer: int, offset: int) -> dict[str, int]:
    """How many rows of each tensor of a layer are writers that come before its readers."""
    shift = graph.num_embeddings - offset
    seen = dict.fromkeys("qkv", graph.attention(layer).visible - shift)
    return seen | {"mlp": graph.mlp(layer).visible - shift}


def _sigmoid(log_alpha: Array) -> Array:
    scaled = np.clip(log_alpha.astype(np.float32) * np.float32(FACTOR / TEMPERATURE), -80, 80)
    return 1 / (1 + np.exp(-scaled))


def _soft(log_alpha: Array, family: str) -> Array:
    """Soft gates with the expected number of zeros, as `deterministic_z_from_log_alpha` sets them."""
    least = 1e-8 if family == "layers" else 1e-6  # l0_fllama.py, l0.py
    shifted = np.clip(TEMPERATURE * STRETCH - log_alpha.astype(np.float64), -80, 80)
    zeros = round(float(np.clip(1 / (1 + np.exp(-shifted)), least, 1 - least).sum()))
    soft = _sigmoid(log_alpha).reshape(-1)
    soft[np.argsort(soft, kind="stable")[:zeros]] = 0
    return soft.reshape(log_alpha.shape)


def _threshold(gates: list[Array], sparsity: float | None) -> float:
    """The bisection of the published `vis_*.py`."""
    values = np.concatenate([gate.reshape(-1) for gate in gates])
    target = 1 - float(values.mean()) if sparsity is None else sparsity
    low, high, middle = 0.0, 1.0, 0.5
    while high - low > 1e-5:
        middle = (low + high) / 2
        if 1 - (values > middle).mean() > target:
            high = middle
        else:
            low = middle
    return middle
