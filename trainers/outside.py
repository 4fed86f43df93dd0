"""Files from outside, read within bounds: size before content, no endless nesting, no names that lead off."""

import json
import re
from pathlib import Path
from typing import Any

from trainers.spec import SpecError

MAX_BYTES = 4 << 30  # of any file that is read whole: checkpoints and circuits of the largest models fit
MAX_JSON = 64 << 20  # of what describes something: a result, a config, a header
MAX_LIST = 512 << 20  # of what lists something: edges, graphs, examples
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def is_name(text: object) -> bool:
    """A file or folder name as we write them: no way into another folder, no terminal or HTML control."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def check_size(where: object, size: int, limit: int) -> None:
    """Raises SpecError before anything of that size is allocated."""
    if size > limit:
        raise SpecError(f"{where}: found {size:,} bytes; allowed: at most {limit:,}")


def parse_json(content: bytes | str) -> Any:
    """Raises ValueError, and nothing else, for what is not JSON, is nested hundreds of levels deep or
    holds halves of characters. Whole numbers of 20 digits and more become floats."""
    try:
        data = json.loads(content, parse_int=_bounded)
    except RecursionError:
        raise ValueError("nested hundreds of levels deep") from None
    if SURROGATE.search(content if isinstance(content, bytes) else content.encode(errors="replace")):
        json.dumps(data, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return data


def read_json(file: Path, limit: int = MAX_JSON) -> Any:
    """Raises OSError, SpecError for a file beyond the limit, else ValueError as `parse_json`."""
    check_size(file, file.stat().st_size, limit)
    return parse_json(file.read_bytes())


def _bounded(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)
