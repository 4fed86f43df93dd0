"""Where a data set lies: a folder that `datasets` saved, or a repository on the Hugging Face hub."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.sources.digest import file_digest
from trainers.spec import SpecError, nearest

if TYPE_CHECKING:
    from datasets import Dataset as Rows

STATE, INFO, SPLITS_FILE = "state.json", "dataset_info.json", "dataset_dict.json"
# Tables and their description only: no code, and nothing that could run some when it is read.
NOT_DATA = ["*.py", "*.pkl", "*.pickle", "*.pt", "*.pth", "*.bin"]


def digest_of(folder: Path, splits: Collection[str], columns: Collection[str]) -> str:
    """SHA-256 of the tables of these splits, whatever the folder is called.

    Raises SpecError for a folder that holds no data set, or lacks one of the splits or columns.
    """
    total = hashlib.sha256()
    for split, part in _parts(folder, splits).items():
        known = _json(part / INFO).get("features") or {}
        for name in sorted(set(columns) - set(known)):
            allowed = ", ".join(sorted(known))
            raise SpecError(
                f"task: found column {name!r}.{nearest(name, known)} Allowed in {part}: {allowed}"
            )
        for file in _json(part / STATE).get("_data_files", ()):
            table = part / file["filename"]
            if not table.is_file():
                raise SpecError(f"task.path: {part} lacks its table {table.name}")
            total.update(f"{split}:{file_digest(table)};".encode())
    return total.hexdigest()


def is_split(folder: Path) -> bool:
    """False for one table without splits, which serves all of them."""
    return (folder / SPLITS_FILE).is_file()


def from_folder(folder: Path) -> "Mapping[Any, Rows] | Rows":
    """Raises SpecError when the tables cannot be read."""
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder))
    except Exception as error:  # a damaged table raises whatever pyarrow pleases
        raise SpecError(f"task.path: cannot load {folder}: {_first_line(error)}") from error


def from_hub(hub: str, revision: str, config: str | None) -> "Mapping[Any, Rows]":
    """From the hub's own cache, after downloading what is missing there.

    Raises SpecError with what was tried and what to do.
    """
    from datasets import load_dataset
    from huggingface_hub import errors, snapshot_download

    try:
        # `load_dataset` by itself would retry for half a minute when the hub cannot be reached.
        folder = snapshot_download(hub, repo_type="dataset", revision=revision, ignore_patterns=NOT_DATA)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise SpecError(f"task.hub: cannot load {hub} at {revision}: {_first_line(error)}") from None
    except Exception as error:  # no network, a proxy, a full disk: each library below has its own errors
        raise SpecError(
            f"task.hub: {hub} at {revision} is not, or not whole, in the cache, and cannot be downloaded: "
            f"{_first_line(error)}. On a machine that reaches the hub: load it with `datasets`, "
            "`save_to_disk` it, bring the folder here and give task.path"
        ) from error
    try:
        return load_dataset(folder, config)
    except Exception as error:
        told = f" ({config})" if config else ""
        raise SpecError(f"task.hub: cannot read {hub}{told} at {revision}: {_first_line(error)}") from error


def _parts(folder: Path, splits: Collection[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise SpecError(f"task.path: no folder {folder}")
    if not is_split(folder):
        if not (folder / STATE).is_file():
            raise SpecError(f"task.path: {folder} holds no data set; allowed: a folder of save_to_disk")
        return {"": folder}
    known = list(_json(folder / SPLITS_FILE).get("splits", ()))
    for split in splits:
        if split not in known:
            hint = nearest(split, known)
            raise SpecError(f"task.splits: found {split!r}.{hint} Allowed in {folder}: {', '.join(known)}")
    return {split: folder / split for split in sorted(set(splits))}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(f"task.path: cannot read {file}: {_first_line(error)}") from None
    if not isinstance(found, dict):
        raise SpecError(f"task.path: {file} is not an object")
    return found


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
