"""What the header of a GGUF file tells: family, parameters, tokenizer; no tensor is read.

The format, little endian: magic, version, counts, key-value pairs, one entry per tensor, then the
tensors (ggml's docs/gguf.md).
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainers.spec import SpecError

MAGIC, VERSIONS = b"GGUF", (2, 3)
PLAUSIBLE = 1000  # no version of GGUF is higher; what is there in place of one is something else
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
MAX_RANK = 8  # of a tensor; ggml's own limit is 4
MAX_ALIGNMENT = 2**20
ALIGNMENT = 32  # of the tensors' beginning, unless the file says otherwise
# Where the Hugging Face model_type of the text model is not the GGUF's general.architecture.
MODEL_TYPES = {"gemma3": "gemma3_text"}


@dataclass(frozen=True)
class GGUFHeader:
    """`metadata` holds every key; of an array its length alone. `parameters` counts all tensors."""

    metadata: Mapping[str, Any]
    parameters: int

    @property
    def model_type(self) -> str:
        """The family, as in a Hugging Face config.json."""
        architecture = str(self.metadata["general.architecture"])
        return MODEL_TYPES.get(architecture, architecture)


def read_header(file: Path) -> GGUFHeader:
    """Raises SpecError when the file is no GGUF, cut short, one of several parts, or stored in a way
    that cannot be dequantised."""
    stat = file.stat()
    return _read_once(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _read_once(file: Path, size: int, modified: int) -> GGUFHeader:
    del modified
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise SpecError(f"model: {file} is not a GGUF file: it does not begin with {MAGIC.decode()}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                header, end = _Reader(content, file).header()
            except (struct.error, KeyError, OverflowError, TypeError, ValueError) as error:
                if isinstance(error, SpecError):
                    raise
                raise SpecError(f"model: {file} is a damaged GGUF file: its header ends early") from None
    if size < end:
        raise SpecError(f"model: {file} is cut short: found {size} bytes; its header tells of {end}")
    if "general.architecture" not in header.metadata:
        raise SpecError(f"model: {file} does not say its general.architecture")
    return header


def _of_version(version: int) -> str:
    """What a file is whose version is not allowed; a number that no version has is not told as one."""
    content = version.to_bytes(4, "little")
    if int.from_bytes(content, "big") in VERSIONS:
        return "a big-endian GGUF file; allowed: versions "
    if version > PLAUSIBLE:
        return f"not a GGUF file: found {content!r} where its version stands; allowed: versions "
    return f"GGUF version {version}; allowed: "


class _Reader:
    """Walks through a header once. Whatever reads past the end raises struct.error or ValueError."""

    def __init__(self, content: mmap.mmap, file: Path) -> None:
        self.content, self.file, self.place = content, file, len(MAGIC)

    def header(self) -> tuple[GGUFHeader, int]:
        """And how many bytes the whole file must have."""
        (version,) = self._take("I")
        if version not in VERSIONS:
            raise SpecError(f"model: {self.file} is {_of_version(version)}2, 3 (little endian)")
        tensors, keys = self._take("QQ")
        metadata = {}
        for _ in range(keys):
            key = self._string()
            metadata[key] = self._value(*self._take("I"))
        parameters, stored = 0, 0
        for _ in range(tensors):
            self._string()
            (rank,) = self._take("I")
            if rank > MAX_RANK:
                raise ValueError("not a tensor")
            shape = self._take(f"{rank}Q")
            kind, offset = self._take("IQ")
            parameters += math.prod(shape)
            stored = max(stored, offset + self._bytes(kind, shape))
        blocks = metadata.get(f"{metadata.get('general.architecture')}.block_count", 0)
        if not isinstance(blocks, int) or not 0 <= blocks <= tensors:
            raise SpecError(f"model: {self.file}: found {blocks} blocks; it holds {tensors} tensors")
        if metadata.get("split.count", 1) not in (0, 1):
            raise SpecError(f"model: {self.file} is one of several parts; allowed: a GGUF in one file")
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or not 1 <= alignment <= MAX_ALIGNMENT:
            raise ValueError("not an alignment")
        beginning = -(-self.place // alignment) * alignment
        return GGUFHeader(metadata, parameters), beginning + stored

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._take(SCALARS[kind])[0]
        of, count = self._take("IQ")
        if of == STRING:
            for _ in range(count):
                self._skip(*self._take("Q"))
        else:
            self._skip(count * struct.calcsize(SCALARS[of]))
        return count

    def _string(self) -> str:
        (length,) = self._take("Q")
        begin = self.place
        self._skip(length)
        return self.content[begin : self.place].decode()

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += struct.calcsize(f"<{form}")
        return values

    def _skip(self, length: int) -> None:
        self.place += length
        if self.place > len(self.content):
            raise ValueError("past the end")

    def _bytes(self, kind: int, shape: tuple[int, ...]) -> int:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            weights, length = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            raise SpecError(f"model: {self.file} is quantised in an unknown way (ggml type {kind})") from None
        return math.prod(shape) // weights * length
