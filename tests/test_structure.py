"""The shape of the code base: small files, small functions, one door per heavy dependency."""

import ast
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("model_patches", "trainers", "orchestrator")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOORS = {
    "ray": {f"orchestrator/cluster/{path.name}" for path in (ROOT / "orchestrator/cluster").glob("*.py")},
    "mlflow": {"orchestrator/tracking/mirror.py"},
    "optuna": {"orchestrator/search/asking.py"},
    "deepspeed": {"trainers/distributed.py"},
    "click": {
        "orchestrator/circuits/commands.py",
        "orchestrator/circuits/eval_command.py",
        "orchestrator/cli/main.py",
        "orchestrator/cli/control.py",
        "orchestrator/cli/task.py",
    },
    "pickle": set(),
    "requests": set(),
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports anywhere in it, also by name at run time."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module.partition(".")[0]


@pytest.mark.parametrize("package", DOORS)
def test_one_door_per_heavy_dependency(package: str) -> None:
    users = {name(path) for path in SOURCES if package in imported(path)}
    assert users <= DOORS[package]


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


def test_the_typical_file_is_read_at_a_glance() -> None:
    assert statistics.median(len(path.read_text().splitlines()) for path in SOURCES) <= 150


def test_no_drawer_for_everything() -> None:
    words = ("util", "common", "helper", "misc")
    assert [name(path) for path in SOURCES + TESTS if any(word in path.stem for word in words)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_starts_with_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_importing_a_module_does_nothing(path: Path) -> None:
    """At the top level: definitions and constants, no calls made for their effect."""
    for node in ast.parse(path.read_text()).body:
        calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        loops = isinstance(node, ast.For | ast.While | ast.With)
        assert not calls and not loops, f"line {node.lineno}"


def test_every_package_is_installed() -> None:
    """pyproject lists packages by hand, so that nothing else is shipped."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert set(listed) == folders
