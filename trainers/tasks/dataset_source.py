"""Where a data set lies: a folder that `datasets` saved, or a repository on the Hugging Face hub."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.outside import is_name, read_json
from trainers.sources.digest import file_digest
from trainers.spec import SpecError, nearest, shortened

if TYPE_CHECKING:
    from datasets import Dataset as Rows

STATE, INFO, SPLITS_FILE = "state.json", "dataset_info.json", "dataset_dict.json"
# Tables and their description only: no code, and nothing that could run some when it is read.
PLAIN_FEATURES = ("Value", "ClassLabel", "Sequence", "List", "LargeList", "Translation", "Json")
NOT_DATA = ["*.py", "*.pkl", "*.pickle", "*.pt", "*.pth", "*.bin"]


def digest_of(folder: Path, splits: Collection[str], columns: Collection[str]) -> str:
    """SHA-256 of the tables of these splits, whatever the folder is called.

    Raises SpecError for a folder that holds no data set, or lacks one of the splits or columns.
    """
    total = hashlib.sha256()
    for split, part in _parts(folder, splits).items():
        known = _json(part / INFO).get("features") or {}
        if not isinstance(known, dict):
            raise SpecError(
                f"task.path: {part / INFO}: features: found {shortened(known)}; allowed: a mapping"
            )
        for name in sorted(set(columns) - set(known)):
            allowed = ", ".join(sorted(known))
            raise SpecError(
                f"task: found column {name!r}.{nearest(name, known)} Allowed in {part}: {allowed}"
            )
        for name in _tables(part / STATE):
            table = part / name
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
        found = load_from_disk(str(folder))
    except Exception as error:  # a damaged table raises whatever pyarrow pleases
        raise SpecError(f"task.path: cannot load {folder}: {_first_line(error)}") from error
    return _plain(found, f"task.path: {folder}")


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
        found = load_dataset(folder, config)
    except Exception as error:
        told = f" ({config})" if config else ""
        raise SpecError(f"task.hub: cannot read {hub}{told} at {revision}: {_first_line(error)}") from error
    return _plain(found, f"task.hub: {hub}")


def _plain(found: Any, where: str) -> Any:
    """Columns of texts, numbers and labels alone. An image, a sound or a video would be decoded, from a
    file or an address that the row names. Raises SpecError."""
    for rows in found.values() if isinstance(found, Mapping) else [found]:
        for column, feature in rows.features.items():
            if kind := _decoded_kind(feature):
                raise SpecError(
                    f"{where}: column {shortened(column)} holds {kind}; allowed: texts, numbers and labels. "
                    "`remove_columns` it and `save_to_disk` the rest"
                )
    return found


def _decoded_kind(feature: Any) -> str:
    """The name of a type inside this feature that is not plain data; empty for plain data."""
    if isinstance(feature, Mapping | list | tuple):
        inside = feature.values() if isinstance(feature, Mapping) else feature
        return next((kind for part in inside if (kind := _decoded_kind(part))), "")
    if (kind := type(feature).__name__) not in PLAIN_FEATURES:
        return kind
    return _decoded_kind(feature.feature) if hasattr(feature, "feature") else ""


def _tables(state: Path) -> list[str]:
    """The tables that a folder's state names, all of them in that folder. Raises SpecError."""
    files = _json(state).get("_data_files", [])
    names = (
        [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    )
    if not names or len(names) != len(files) or not all(map(is_name, names)):
        raise SpecError(
            f"task.path: {state}: _data_files: found {shortened(files)}; allowed: files beside it"
        )
    return [str(name) for name in names]


def _parts(folder: Path, splits: Collection[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise SpecError(f"task.path: no folder {folder}")
    if not is_split(folder):
        if not (folder / STATE).is_file():
            raise SpecError(f"task.path: {folder} holds no data set; allowed: a folder of save_to_disk")
        return {"": folder}
    known = _json(folder / SPLITS_FILE).get("splits")
    if not isinstance(known, list) or not all(map(is_name, known)):
        raise SpecError(
            f"task.path: {folder / SPLITS_FILE}: splits: found {shortened(known)}; allowed: names"
        )
    for split in splits:
        if split not in known:
            hint = nearest(split, known)
            raise SpecError(f"task.splits: found {split!r}.{hint} Allowed in {folder}: {', '.join(known)}")
    return {split: folder / split for split in sorted(set(splits))}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except SpecError:
        raise
    except (OSError, ValueError) as error:
        raise SpecError(f"task.path: cannot read {file}: {_first_line(error)}") from None
    if not isinstance(found, dict):
        raise SpecError(f"task.path: {file} is not an object")
    return found


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
