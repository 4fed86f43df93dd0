"""How large a model and its edge graph are, read from its config and the headers of its weight files; no
tensor is loaded."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from model_patches.architectures import architecture_of
from model_patches.footprint import Sizes
from model_patches.graph import Shape
from orchestrator.circuits.shape import read_config, shape_in
from trainers.model import ModelSpec
from trainers.outside import read_json
from trainers.sources.gguf_file import read_header
from trainers.sources.weight_header import read_weight_header
from trainers.spec import SpecError

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}


def parameter_count(model: ModelSpec) -> int | None:
    """None for a hub model that is not in the cache. Raises SpecError when a weight file is missing, cut
    short or no weight file at all."""
    counts = [
        read_header(file).parameters if file.suffix == ".gguf" else read_weight_header(file).parameters
        for file in model.files()
        if file.suffix in (".gguf", ".safetensors")
    ]
    return sum(counts) if counts else None


def graph_size(model: ModelSpec) -> int | None:
    """Pairs of a writer and a reader, half of which or more are edges. None for a hub model that is not
    in the cache."""
    files = model.files()
    if not files:
        return None
    try:
        writers, readers = _shape(files[0]).size
    except (SpecError, KeyError, ValueError):
        return None  # the loader says what is wrong with it
    return writers * readers


def sizes(model: ModelSpec) -> Sizes | None:
    """What its passes take memory by; None where the config lacks it, and for a hub model that is not in
    the cache."""
    files = model.files()
    if not files:
        return None
    try:
        config = SimpleNamespace(**_config(files[0]))
        return Sizes.of(config, architecture_of(str(config.model_type)), BYTES[model.dtype])
    except (SpecError, AttributeError, KeyError, TypeError, ValueError):
        return None  # the loader says what is wrong with it


def _config(file: Path) -> dict[str, Any]:
    """With the names of a Hugging Face config; of a GGUF file, as far as its header goes."""
    if file.name == "config.json":
        return read_config(file.parent)
    if file.suffix != ".gguf":
        return read_json(file)["config"]
    header = read_header(file)
    told: dict[str, Any] = {name.partition(".")[2]: value for name, value in header.metadata.items()}
    heads, width = told["attention.head_count"], told["embedding_length"]
    return {
        "model_type": header.model_type,
        "num_hidden_layers": told["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": told.get("attention.head_count_kv", heads),
        "hidden_size": width,
        "head_dim": told.get("attention.key_length", width // heads),
        "intermediate_size": told["feed_forward_length"],
        "vocab_size": header.metadata.get("tokenizer.ggml.tokens"),  # of an array, its length
    }


def _shape(file: Path) -> Shape:
    """From a GGUF file's header (its position embeddings, if any, are not counted), a compiled program's
    JSON or a config.json."""
    if file.suffix == ".gguf":
        header = read_header(file).metadata
        told: dict[str, Any] = {name.partition(".")[2]: value for name, value in header.items()}
        heads = told["attention.head_count"]
        shared = told.get("attention.head_count_kv", heads)
        return Shape(told["block_count"], heads, shared, ("tok_embeds",))
    if file.name == "config.json":
        return shape_in(file.parent)
    config = read_json(file)["config"]
    heads = config["num_attention_heads"]
    return Shape(config["num_hidden_layers"], heads, heads, ("tok_embeds", "pos_embeds"))
