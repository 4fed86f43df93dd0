"""How many parameters a model has, read from the headers of its weight files; no tensor is loaded."""

import json
import math
import struct
from pathlib import Path

from trainers.model import ModelSpec
from trainers.sources.gguf_file import read_header
from trainers.spec import SpecError

LENGTH = struct.Struct("<Q")  # a safetensors file: length of the header, the header (JSON), the tensors


def parameter_count(model: ModelSpec) -> int | None:
    """None for a hub model that is not in the cache. Raises SpecError when a weight file is missing, cut
    short or no weight file at all."""
    counts = [
        read_header(file).parameters if file.suffix == ".gguf" else _parameters_in(file)
        for file in model.files()
        if file.suffix in (".gguf", ".safetensors")
    ]
    return sum(counts) if counts else None


def _parameters_in(file: Path) -> int:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = LENGTH.unpack(stream.read(LENGTH.size))
            header = json.loads(stream.read(min(length, size)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        end = LENGTH.size + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
        count = sum(math.prod(entry["shape"]) for entry in tensors)
    except (struct.error, ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise SpecError(f"model.path: {file} is not a safetensors file") from None
    if size < end:
        raise SpecError(f"model.path: {file} is cut short: found {size} bytes; its header tells of {end}")
    return count
