"""SHA-256 of files; a file that has not changed is read once per process."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


def file_digest(file: Path) -> str:
    """Of the content alone: a renamed or moved file keeps its digest. Raises OSError."""
    stat = file.stat()
    return _content(str(file), stat.st_size, stat.st_mtime_ns)


def files_digest(files: Iterable[Path]) -> str:
    """Over names and contents, in the order given. Raises OSError."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}:{file_digest(file)};".encode())
    return total.hexdigest()


@lru_cache(maxsize=256)
def _content(file: str, size: int, modified: int) -> str:
    del size, modified  # a file with another size or time is another key
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
