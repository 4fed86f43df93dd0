"""The shape of an edge graph, from a model's config.json alone: no tensor library is loaded for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from model_patches.architectures import architecture_of, shape_of
from model_patches.graph import Shape
from trainers.outside import read_json
from trainers.spec import SpecError


def shape_in(folder: Path) -> Shape:
    """The edge graph's shape that a Hugging Face folder's config.json tells of. Raises SpecError."""
    config = read_config(folder)
    try:
        return shape_of(SimpleNamespace(**config), architecture_of(str(config.get("model_type"))))
    except (AttributeError, TypeError, ValueError) as error:
        raise SpecError(f"{folder}/config.json: {error}") from None


def read_config(folder: Path) -> dict[str, Any]:
    """config.json with GPT-2's names for sizes beside the common ones. Raises SpecError."""
    file = folder / "config.json" if folder.is_dir() else folder
    try:
        config = read_json(file)
    except FileNotFoundError:
        raise SpecError(f"--model {folder}: no config.json there") from None
    except SpecError:
        raise
    except ValueError as error:
        raise SpecError(f"{file}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise SpecError(f"{file}: found {type(config).__name__}; allowed: a mapping")
    config = config.get("text_config") or config
    if not isinstance(config, dict):
        raise SpecError(f"{file}: text_config: found {type(config).__name__}; allowed: a mapping")
    old = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_embd": "hidden_size"}
    return config | {new: config[name] for name, new in old.items() if name in config}
