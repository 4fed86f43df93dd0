"""What a Hugging Face folder may not hold: requests to run code, weights elsewhere, sizes without weights.

transformers would follow each of these without a word, or after a question.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainers.outside import MAX_LIST, is_name, read_json
from trainers.sources.weight_header import read_weight_header
from trainers.spec import SpecError, shortened

CONFIG, TOKENIZER, INDEX, ADAPTER = (
    "config.json", "tokenizer_config.json", "model.safetensors.index.json", "adapter_config.json",
)  # fmt: skip
# A config's names for how many blocks there are, and for sizes that come in pairs as one matrix.
LAYERS = ("num_hidden_layers", "n_layer")
WIDTHS = ("hidden_size", "n_embd", "word_embed_proj_dim")
LENGTHS = ("vocab_size", "intermediate_size", "n_inner", "ffn_dim")


def check_model(folder: Path, trust_remote_code: bool) -> None:
    """Raises SpecError for a folder whose model must not be loaded."""
    config = _mapping(folder / CONFIG)
    if not trust_remote_code:
        _refuse_code(folder / CONFIG, config)
    if (folder / ADAPTER).exists():
        raise SpecError(
            f"model: {folder} holds {ADAPTER}, with which transformers would load another model from where "
            "that file says; allowed: a whole model (merge the adapter and save it)"
        )
    for key, name in _kernels(config):
        raise SpecError(
            f"model: {folder / CONFIG}: {key}: found {shortened(name)}, compiled code from the hub; "
            "allowed: none, remove the key"
        )
    _check_index(folder)
    _check_sizes(folder, config)


def check_tokenizer(folder: Path, trust_remote_code: bool) -> None:
    """Raises SpecError for a tokenizer that asks for code."""
    if (folder / TOKENIZER).is_file() and not trust_remote_code:
        _refuse_code(folder / TOKENIZER, _mapping(folder / TOKENIZER))


def _refuse_code(file: Path, config: dict[str, Any]) -> None:
    parts = [config, *(value for value in config.values() if isinstance(value, dict))]
    if any(part.get("auto_map") for part in parts):
        raise SpecError(
            f"model: {file}: found auto_map, which asks to run Python code of the model's author; allowed: "
            "no such key (without it transformers' own code of that family runs), or, for a hub model whose "
            "author you trust, trust_remote_code: true"
        )


def _kernels(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings such as `attn_implementation: owner/kernel`."""
    for key, value in config.items():
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")):
            found = value.values() if isinstance(value, dict) else [value]
            yield from ((key, name) for name in found if isinstance(name, str) and "/" in name)
        elif isinstance(value, dict):
            yield from _kernels(value)


def _check_index(folder: Path) -> None:
    """Every part of the weights is a safetensors file of this folder."""
    file = folder / INDEX
    if not file.is_file():
        return
    parts = _mapping(file).get("weight_map")
    if not isinstance(parts, dict):
        raise SpecError(f"model: {file} has no weight_map")
    for name in parts.values():
        if not is_name(name) or not name.endswith(".safetensors"):
            raise SpecError(
                f"model: {file}: found the part {shortened(name)}; allowed: *.safetensors beside it"
            )


def _check_sizes(folder: Path, config: dict[str, Any]) -> None:
    """A config must not describe more than its weights hold: it would be made in memory first."""
    headers = [read_weight_header(file) for file in sorted(folder.glob("*.safetensors"))]
    tensors, stored = sum(one.tensors for one in headers), sum(one.parameters for one in headers)
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for name in LAYERS:
            if _number(part.get(name)) > tensors:
                raise _too_large(folder, name, part[name], f"{tensors:,} tensors")
        width = max(_number(part.get(name)) for name in WIDTHS)
        for name in (*WIDTHS, *LENGTHS):
            if max(1, width if name in LENGTHS else 1) * _number(part.get(name)) > stored:
                raise _too_large(folder, name, part[name], f"{stored:,} parameters")


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _too_large(folder: Path, name: str, value: object, held: str) -> SpecError:
    return SpecError(f"model: {folder / CONFIG}: found {name}: {shortened(value)}; its weights hold {held}")


def _mapping(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file, MAX_LIST)
    except SpecError:
        raise
    except (OSError, ValueError) as error:
        raise SpecError(f"model: cannot read {file}: {error}") from None
    if not isinstance(found, dict):
        raise SpecError(f"model: {file}: found {type(found).__name__}; allowed: a mapping")
    return found
