"""README tells the truth: its tree, its links, its commands."""

import re
from pathlib import Path

import pytest
from click import Group

from orchestrator.cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PACKAGES = ("model_patches", "trainers", "orchestrator")


def tree() -> dict[str, set[str]]:
    """Package -> the names that README's tree lists under it."""
    block = next(text for text in README.split("```") if "\nmodel_patches/\n" in text)
    listed: dict[str, set[str]] = {}
    package = ""
    for line in block.strip("\n").splitlines():
        if not line.startswith(" "):
            package = line.split("/")[0]
            listed[package] = set()
        else:
            listed[package] |= set(re.findall(r"[\w/]+\.py|\w+/(?=\s)", line[:48] + " "))
    return listed


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tree_lists_what_is_there(package: str) -> None:
    folder = ROOT / package
    files = {path.name for path in folder.glob("*.py") if path.name != "__init__.py"}
    folders = {f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert tree()[package] == files | folders


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert "://" in target or (ROOT / target).exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"circuit-sweep ([a-z]+) ", README))))
def test_commands_exist(command: str) -> None:
    assert isinstance(main, Group) and command in main.commands


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\S+)", README, re.MULTILINE))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("sweep", sorted(set(re.findall(r"sweeps/\w+\.yaml", README))))
def test_named_sweeps_exist(sweep: str) -> None:
    assert (ROOT / sweep).is_file()
