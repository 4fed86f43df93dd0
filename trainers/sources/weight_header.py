"""What the header of a safetensors file tells: how many tensors and parameters; no tensor is read."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from trainers.outside import check_size, parse_json
from trainers.spec import SpecError

MAX_HEADER = 100_000_000  # bytes; the safetensors library's own limit
LENGTH = struct.Struct("<Q")  # a safetensors file: length of the header, the header (JSON), the tensors


@dataclass(frozen=True)
class WeightHeader:
    tensors: int
    parameters: int


def read_weight_header(file: Path) -> WeightHeader:
    """Raises SpecError when the file is cut short or no safetensors file at all."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = LENGTH.unpack(stream.read(LENGTH.size))
            check_size(f"model.path: {file}: its header", min(length, size), MAX_HEADER)
            header = parse_json(stream.read(min(length, size)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        end = LENGTH.size + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
        found = WeightHeader(len(tensors), sum(math.prod(entry["shape"]) for entry in tensors))
    except SpecError:
        raise
    except (struct.error, ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise SpecError(f"model.path: {file} is not a safetensors file") from None
    if size < end:
        raise SpecError(f"model.path: {file} is cut short: found {size} bytes; its header tells of {end}")
    return found
