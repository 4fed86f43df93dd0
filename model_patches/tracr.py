"""Tracr-compiled programs: transformers whose circuit is known, with no jax needed to run them.

`TracrProgram.builtin("reverse")` is a value: the compiled weights, every input of a small domain and the
program's true output on each. `.model()` is a plain torch model that is patched like any other. The files
are written by model_patches/tracr_programs/compile.py.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model_patches.graph import EdgeGraph, Shape

FORMAT = "circuit-sweep/tracr/1"
BUILTIN = ("reverse", "xproportion")
NUMERICAL_TOLERANCE = 1e-3
MAX_BYTES = 64 * 2**20  # of a description
MAX_LENGTH = 64  # tokens: no larger domain can be listed
MAX_SIZE = 2**20  # of anything in a config: products of three stay countable


class TracrFileError(ValueError):
    """A program's files are missing, damaged or contradict each other. The message names the file."""


@dataclass(frozen=True)
class TracrConfig:
    """A Tracr model's sizes, under transformers' names.

    `output_size` is the number of logits: the output tokens of a categorical program, 1 for a numerical
    one. Raises ValueError for an impossible size.
    """

    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    output_size: int
    max_position_embeddings: int
    causal: bool = False
    model_type: Literal["tracr"] = "tracr"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("causal", "model_type"):
                continue
            if type(value) is not int or not 1 <= value < MAX_SIZE:
                raise ValueError(
                    f"config: {name} must be an integer between 1 and {MAX_SIZE - 1}, not {value!r}"
                )
        if type(self.causal) is not bool or self.model_type != "tracr":
            raise ValueError("config: causal must be true or false, model_type 'tracr'")


class TracrOutput(NamedTuple):
    logits: Float[Tensor, "batch seq outputs"]


class TracrAttention(nn.Module):
    """Softmax attention as Tracr has it: scores divided by sqrt(head_dim), masked scores set to -1e30.

    Source: tracr/transformer/attention.py. No projection has a bias, since the compiler never sets one.
    """

    def __init__(self, config: TracrConfig) -> None:
        super().__init__()
        self.heads, self.causal = config.num_attention_heads, config.causal
        self.scale = math.sqrt(config.head_dim)
        inner = config.num_attention_heads * config.head_dim
        self.query = nn.Linear(config.hidden_size, inner, bias=False)
        self.key = nn.Linear(config.hidden_size, inner, bias=False)
        self.value = nn.Linear(config.hidden_size, inner, bias=False)
        self.output = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(
        self, residual: Float[Tensor, "batch seq width"], real: Bool[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq width"]:
        projections = (self.query, self.key, self.value)
        query, key, value = (module(residual).unflatten(-1, (self.heads, -1)) for module in projections)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / self.scale
        if self.causal:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(future, -1e30)
        if real is not None:
            scores = scores.masked_fill(~real[:, None, None], -1e30)
        z = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)
        return self.output(z.flatten(-2))


class TracrMLP(nn.Module):
    def __init__(self, config: TracrConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, residual: Float[Tensor, "batch seq width"]) -> Float[Tensor, "batch seq width"]:
        return self.down(self.up(residual).relu())


class TracrBlock(nn.Module):
    def __init__(self, config: TracrConfig) -> None:
        super().__init__()
        # Tracr has no norms; identities stand where patching expects every family's.
        self.attention_norm = nn.Identity()
        self.attention = TracrAttention(config)
        self.mlp_norm = nn.Identity()
        self.mlp = TracrMLP(config)

    def forward(
        self, residual: Float[Tensor, "batch seq width"], real: Bool[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq width"]:
        residual = residual + self.attention(self.attention_norm(residual), real)
        return residual + self.mlp(self.mlp_norm(residual))


class TracrModel(nn.Module):
    """A compiled program as a transformer without layer norms; `unembed` reads the last residual.

    A parameter is touched only inside the forward of the module that owns it, as ZeRO-3 requires.
    """

    def __init__(self, config: TracrConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_embeds = nn.Embedding(config.vocab_size, config.hidden_size)
        self.pos_embeds = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.blocks = nn.ModuleList(TracrBlock(config) for _ in range(config.num_hidden_layers))
        self.final_norm = nn.Identity()
        self.unembed = nn.Linear(config.hidden_size, config.output_size, bias=False)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        use_cache: bool = False,
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        position_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> TracrOutput:
        """Logits for token ids that start with BOS. The other arguments are transformers':
        `attention_mask` is 0 where there is padding, `use_cache` does nothing."""
        del use_cache
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        real = None if attention_mask is None else attention_mask.bool()
        residual = self.tok_embeds(input_ids) + self.pos_embeds(position_ids)
        for block in self.blocks:
            residual = block(residual, real)
        return TracrOutput(self.unembed(self.final_norm(residual)))


@dataclass(frozen=True, eq=False)
class TracrProgram:
    """A compiled RASP program, its whole domain of inputs and its true outputs.

    The domain is every sequence of `length` vocabulary tokens after BOS. `encoding` gives each token's id,
    `output_vocab` the token that each logit stands for (categorical programs). `scored_positions` are those
    at which the program has an output for every input; BOS is never one. `ground_truth` lists the
    (writer, reader) edges of a circuit known to compute the program: empty when none is known, and not
    necessarily the smallest. Raises ValueError when the fields contradict each other.
    """

    name: str
    kind: Literal["categorical", "numerical"]
    config: TracrConfig
    vocab: tuple[str, ...]
    encoding: Mapping[str, int]
    bos: str
    pad: str
    max_seq_len: int
    length: int
    output_vocab: tuple[str, ...]
    residual_labels: tuple[str, ...]
    scored_positions: tuple[int, ...]
    ground_truth: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[float, ...], ...] = field(repr=False)
    weights: Mapping[str, Float[Tensor, "..."]] = field(repr=False)

    def __post_init__(self) -> None:
        for fact, holds in self._facts():
            if not holds:
                raise ValueError(f"it must be true that {fact}")
        heads = self.config.num_attention_heads
        graph = EdgeGraph(Shape(self.config.num_hidden_layers, heads, heads, ("tok_embeds", "pos_embeds")))
        for writer, reader in self.ground_truth:
            graph.locate(writer, reader)

    def _facts(self) -> Iterator[tuple[str, bool]]:
        """Cheap facts first: each bounds what the next ones compute."""
        config, named = self.config, {*self.vocab, self.bos, self.pad}
        categorical = self.kind == "categorical"
        outputs = len(self.output_vocab) if categorical else 1
        yield "kind is categorical or numerical", self.kind in ("categorical", "numerical")
        yield "output_size is that of output_vocab, or 1", config.output_size == outputs
        yield "every residual direction has a label", len(self.residual_labels) == config.hidden_size
        ids = sorted(self.encoding.values())
        yield "encoding numbers the tokens from 0 to vocab_size - 1", ids == list(range(config.vocab_size))
        yield "bos, pad and vocab are in encoding", named <= self.encoding.keys()
        yield "bos, pad and vocab are distinct", len(named) == len(self.vocab) + 2
        seq = self.max_seq_len + 1
        yield "positions are those of BOS and max_seq_len tokens", config.max_position_embeddings == seq
        yield "length lies between 1 and max_seq_len", 1 <= self.length <= min(self.max_seq_len, MAX_LENGTH)
        scored = [position for position in range(1, self.length + 1) if position in self.scored_positions]
        yield "scored positions lie after BOS, in order", list(self.scored_positions) == scored != []
        yield "expected has a row for each input", len(self.outputs) == len(self.vocab) ** self.length
        yield "its rows cover the scored positions", all(len(row) == len(scored) for row in self.outputs)
        values = [value for row in self.outputs for value in row]
        right = all(value in range(outputs) if categorical else math.isfinite(value) for value in values)
        yield "expected holds logit indices or finite numbers", right

    @classmethod
    def builtin(cls, name: str) -> Self:
        """`reverse` (vocabulary 1 2 3; 27 inputs of 3 tokens) or `xproportion` (the fraction of tokens so
        far that are x; vocabulary a b c x; 256 inputs of 4 tokens). Raises ValueError for another name."""
        if name not in BUILTIN:
            raise ValueError(f"unknown Tracr program '{name}'; there are {', '.join(BUILTIN)}")
        return cls.load(Path(__file__).parent / "tracr_programs" / name)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads `path.json` and `path.safetensors`, or the only such pair in the folder `path`.

        Raises TracrFileError naming the file at fault. Shapes are checked before any tensor is read.
        """
        if path.is_dir():
            found = sorted(path.glob("*.json"))
            if len(found) != 1:
                raise TracrFileError(f"{path}: {len(found)} programs (*.json) in this folder; name one")
            path = found[0].with_suffix("")
        description = path.with_name(path.name + ".json")
        weights_file = path.with_name(path.name + ".safetensors")
        try:
            fields = _read_description(description)
            config = TracrConfig(**fields.pop("config"))
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise TracrFileError(f"{description}: not a Tracr program: {error}") from None
        try:
            weights = _read_weights(weights_file, config)
        except (OSError, SafetensorError, ValueError) as error:
            raise TracrFileError(f"{weights_file}: not this program's weights: {error}") from None
        try:
            return cls(config=config, weights=weights, **fields)
        except (TypeError, ValueError, OverflowError) as error:
            raise TracrFileError(f"{description}: not a Tracr program: {error}") from None

    @property
    def bos_id(self) -> int:
        return self.encoding[self.bos]

    @property
    def pad_id(self) -> int:
        return self.encoding[self.pad]

    def model(self, dtype: torch.dtype = torch.float32) -> TracrModel:
        """A model of its own with the compiled weights, frozen, on the CPU. Draws no random numbers."""
        with torch.device("meta"):
            model = TracrModel(self.config)
        weights = {name: weight.to(dtype, copy=True) for name, weight in self.weights.items()}
        model.load_state_dict(weights, assign=True)
        return model.requires_grad_(False).eval()

    def domain(self) -> Int[Tensor, "examples seq"]:
        """int64 token ids of every input, BOS first; the last token varies fastest."""
        ids = [self.encoding[token] for token in self.vocab]
        return torch.tensor([(self.bos_id, *word) for word in itertools.product(ids, repeat=self.length)])

    def expected(self) -> Tensor:
        """The program's true outputs, by RASP's semantics, [examples, scored positions]: the index of the
        right logit, int64 (categorical), or the number, float64 (numerical)."""
        return torch.tensor(self.outputs, dtype=torch.int64 if self.kind == "categorical" else torch.float64)

    def same_output(
        self,
        logits: Float[Tensor, "batch seq outputs"],
        reference_logits: Float[Tensor, "batch seq outputs"],
    ) -> Bool[Tensor, " batch"]:
        """True where both say the same at every scored position: equal argmax (categorical), or a
        difference of at most 1e-3 (numerical). A logit that is not finite is never the same."""
        assert logits.shape == reference_logits.shape, f"{logits.shape} against {reference_logits.shape}"
        ours, theirs = (x[:, list(self.scored_positions)] for x in (logits, reference_logits))
        if self.kind == "categorical":
            same = ours.argmax(-1) == theirs.argmax(-1)
        else:
            same = ((ours - theirs).abs() <= NUMERICAL_TOLERANCE).squeeze(-1)
        return (same & ours.isfinite().all(-1) & theirs.isfinite().all(-1)).all(-1)


def _read_description(path: Path) -> dict[str, Any]:
    """TracrProgram's fields except the weights, `config` still a mapping.

    Raises OSError, KeyError, TypeError or ValueError.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"found {size:,} bytes; allowed: at most {MAX_BYTES:,}")
    data: Any = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"format is not {FORMAT}")
    types: dict[str, type] = dict.fromkeys(("format", "name", "kind", "bos", "pad"), str)
    types |= dict.fromkeys(("config", "encoding"), dict) | dict.fromkeys(("max_seq_len", "length"), int)
    types |= dict.fromkeys(("vocab", "output_vocab", "residual_labels", "scored_positions"), list)
    types |= dict.fromkeys(("ground_truth", "expected"), list)
    if data.keys() != types.keys():
        raise ValueError(f"missing or unknown fields: {', '.join(sorted(data.keys() ^ types.keys()))}")
    for key, kind in types.items():
        if type(data[key]) is not kind:
            raise ValueError(f"{key} is not of type {kind.__name__}")
    items = {"vocab": str, "output_vocab": str, "residual_labels": str, "scored_positions": int}
    for key, kind in items.items():
        if not all(type(item) is kind for item in data[key]):
            raise ValueError(f"{key} is not a list of {kind.__name__}")
    if not all(type(index) is int for index in data["encoding"].values()):
        raise ValueError("encoding does not give integers")
    if not all(type(value) in (int, float) for row in data["expected"] for value in row):
        raise ValueError("expected is not a table of numbers")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    fields["outputs"] = tuple(tuple(row) for row in fields.pop("expected"))
    fields["ground_truth"] = tuple((writer, reader) for writer, reader in data["ground_truth"])
    del fields["format"]
    return fields


def _read_weights(path: Path, config: TracrConfig) -> dict[str, Float[Tensor, "..."]]:
    """Raises OSError, SafetensorError, or ValueError when names, shapes, dtypes or values are wrong."""
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        # Counted first: a damaged config must not make us list a billion layers.
        if len(names) != 3 + 6 * config.num_hidden_layers:
            raise ValueError(f"{len(names)} tensors for {config.num_hidden_layers} layers")
        shapes = _shapes(config)
        if names != shapes.keys():
            raise ValueError(f"missing or unknown tensors: {', '.join(sorted(names ^ shapes.keys()))}")
        for name, shape in shapes.items():
            stored = file.get_slice(name)
            if tuple(stored.get_shape()) != shape or stored.get_dtype() != "F32":
                raise ValueError(
                    f"{name} is {stored.get_dtype()} {stored.get_shape()}, the config says F32 {list(shape)}"
                )
        weights = {name: file.get_tensor(name) for name in shapes}
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name} is not finite")
    return weights


def _shapes(config: TracrConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in TracrModel(config).state_dict().items()}
