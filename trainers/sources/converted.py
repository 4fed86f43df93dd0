"""GGUF files converted, once, to cached Hugging Face folders: config, float32 weights, tokenizer.

The weights are dequantised by transformers. The folder's name is the SHA-256 of the GGUF file; it
appears by one rename, so a folder that is there is whole.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainers.outside import read_json
from trainers.sources.digest import file_digest
from trainers.sources.gguf_file import GGUFHeader, read_header
from trainers.sources.progress_bars import bars_at_a_terminal
from trainers.spec import SpecError

# Raise when the same GGUF file gives another folder: folders of older versions are then left alone.
CONVERSION = 1
ABOUT = "conversion.json"


def cache_folder() -> Path:
    """CIRCUIT_SWEEP_CACHE, else $XDG_CACHE_HOME/circuit-sweep, else ~/.cache/circuit-sweep."""
    if own := os.environ.get("CIRCUIT_SWEEP_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "circuit-sweep"


def converted(file: Path) -> Path:
    """The folder that a GGUF file was converted to; converts it if that was not done yet.

    Any number of processes may ask at once: one converts, the others wait for it. Needs disk for the
    float32 weights, and as much memory while it converts. Raises SpecError when the file is damaged
    or not supported, or the cache cannot be written.
    """
    header = read_header(file)
    digest = file_digest(file)
    folder = cache_folder() / "gguf" / f"{digest}-{CONVERSION}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _convert(file, header, digest, folder)
    except OSError as error:
        raise SpecError(
            f"model: cannot convert {file} in the cache {cache_folder()} (CIRCUIT_SWEEP_CACHE): {error}"
        ) from error
    return folder


def why_no_tokenizer(folder: Path) -> str | None:
    """Why a conversion has no tokenizer files; None when it has, or `folder` is no conversion."""
    about = folder / ABOUT
    return read_json(about)["no_tokenizer"] if about.is_file() else None


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Held by one process at a time; the system frees it when that process ends, however it ends."""
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _convert(file: Path, header: GGUFHeader, digest: str, folder: Path) -> None:
    for abandoned in folder.parent.glob(f".{folder.name}-*"):  # by a process that was killed
        shutil.rmtree(abandoned)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _save_weights(file, header, part)
        tokenizer, why_not = _tokenizer(file, header)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        about = {"gguf": file.name, "sha256": digest, "no_tokenizer": why_not}
        (part / ABOUT).write_text(json.dumps(about, indent=1))
        part.chmod(0o755)  # it was made private, like the weights in it; others may share this cache
        for written in part.iterdir():
            written.chmod(0o644)
            with written.open("rb") as stream:
                os.fsync(stream.fileno())
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _save_weights(file: Path, header: GGUFHeader, folder: Path) -> None:
    """config.json and model.safetensors. Raises SpecError when transformers cannot load the file, or
    leaves out some of it."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with bars_at_a_terminal():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
        model, told = loaded
    except Exception as error:  # transformers' loader meets foreign files with errors of all kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SpecError(f"model: transformers cannot load {file}: {reason}") from error
    used = sum(parameter.numel() for parameter in model.parameters())
    if told["missing_keys"] or told["mismatched_keys"] or used != header.parameters:
        # What it leaves out may be what a model computes with: Llama 3's rope_freqs, a bias.
        raise SpecError(
            f"model: transformers' GGUF loading does not take all of {file}: found {header.parameters} "
            f"parameters in the file, {used} in the model, {len(told['missing_keys'])} weights missing. "
            "Give the Hugging Face folder or hub id of this model instead"
        )
    config, weights = model.config, model.state_dict()
    # The file's quantisation ends here; a config that told of it would be loaded as quantised.
    config.__dict__.pop("quantization_config", None)
    config.dtype = torch.float32
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    with bars_at_a_terminal():
        plain.save_pretrained(folder)


def _tokenizer(file: Path, header: GGUFHeader) -> tuple[Any, str | None]:
    """The fast tokenizer, or None and why there is none.

    A GGUF names the way its byte-level tokenizer splits text, and does not spell it out. A name that
    transformers does not know gets GPT-2's split there, which for most models is nearly right.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    kind, split = header.metadata.get("tokenizer.ggml.model"), header.metadata.get("tokenizer.ggml.pre")
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except Exception as error:  # as above
        return None, str(error).strip().partition("\n")[0] or type(error).__name__
    backend = tokenizer.backend_tokenizer
    if kind == "gpt2" and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        match split:
            case "gpt-2":
                backend.pre_tokenizer = byte_level
            case "smollm" | "starcoder" | "refact":  # every digit alone, then GPT-2's split
                digits = pre_tokenizers.Digits(individual_digits=True)
                backend.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
            case _:
                return None, f"the GGUF file splits text as '{split}', which is not known here"
    return tokenizer, None
