"""Paths in a sweep file, which are relative to it."""

import os
from pathlib import Path
from typing import Any

FILE_FIELDS = (("model", "path"), ("task", "path"))


def with_absolute_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A sweep's plain data, whatever it is, with the paths of its base and its vary made absolute."""
    data = dict(data)
    if isinstance(data.get("base"), dict):
        data["base"] = _absolute(data["base"], (), folder)
    vary = data.get("vary")
    if isinstance(vary, dict):
        data["vary"] = _absolute_grid(vary, folder)
    elif isinstance(vary, list):
        data["vary"] = [_absolute_block(block, folder) for block in vary]
    return data


def _absolute_block(block: Any, folder: Path) -> Any:
    if not isinstance(block, dict):
        return block
    block = dict(block)
    if isinstance(block.get("set"), dict):
        block["set"] = _absolute(block["set"], (), folder)
    if isinstance(block.get("grid"), dict):
        block["grid"] = _absolute_grid(block["grid"], folder)
    return block


def _absolute_grid(grid: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        path: [_absolute(value, tuple(path.split(".")), folder) for value in values]
        if isinstance(values, list)
        else values
        for path, values in grid.items()
    }


def _absolute(value: Any, path: tuple[str, ...], folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: _absolute(item, (*path, *key.split(".")), folder) for key, item in value.items()}
    if path in FILE_FIELDS and isinstance(value, str):
        return os.path.abspath(folder / os.path.expanduser(value))
    return value
