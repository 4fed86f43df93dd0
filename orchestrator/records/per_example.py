"""Per-example test values of a trial: one metric's tensor out of test_values.safetensors.

Only the header and the one tensor are read, also from an object store: a file may hold many megabytes.
"""

import json
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.folder import Folder

LENGTH = struct.Struct("<Q")  # a safetensors file: length of the header, the header (JSON), the tensors
FIRST = 2  # rows before the points': the full model and the empty circuit


class Unreadable(ValueError):
    """The file is damaged, or is not what its trial says."""


@dataclass(frozen=True)
class PerExample:
    """`values` is float32 [2 + points, examples]: full model, empty circuit, points by number. `digest`
    is of the examples: equal digests mean the same examples in the same order."""

    digest: str
    values: NDArray[np.float32]


def read_per_example(trial: Folder, name: str, metric: str) -> PerExample | None:
    """A metric's values in the file `name` of a trial's folder; None when it was not measured.

    Raises Unreadable for a file that is missing or damaged.
    """
    if "/" in name or name.startswith("."):
        raise Unreadable(f"{name!r} is no file of the trial's folder")
    try:
        with trial.filesystem.open_input_file(f"{trial.path}/{name}") as file:
            (length,) = LENGTH.unpack(file.read(LENGTH.size))
            if length > file.size():
                raise Unreadable(f"{name} is damaged: a header of {length} bytes")
            header = json.loads(file.read(length))
            tensor = header.get(metric)
            if tensor is None:
                return None
            start, end = tensor["data_offsets"]
            file.seek(LENGTH.size + length + start)
            content = file.read(end - start)
        if tensor["dtype"] != "F32":
            raise Unreadable(f"{name}: {metric} holds {tensor['dtype']}; allowed: F32")
        values = np.frombuffer(content, dtype="<f4").reshape(tensor["shape"])
        return PerExample(str(header["__metadata__"]["examples"]), values)
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable(f"{name} is missing") from None
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{name} is damaged: {str(error).partition(chr(10))[0]}") from None
