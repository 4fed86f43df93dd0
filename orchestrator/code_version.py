"""Which version of this code runs."""

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

COMMIT_VARIABLE = "CIRCUIT_SWEEP_COMMIT"  # for places without a repository: ranks, submitted jobs


def code_version() -> str:
    """The git commit, with a + if files differ from it; else the installed version, else `unknown`."""
    if commit := os.environ.get(COMMIT_VARIABLE):
        return commit
    root = Path(__file__).parents[1]
    if (root / ".git").exists():
        try:
            return _git(root, "rev-parse", "--short=12", "HEAD") + "+" * bool(
                _git(root, "status", "--porcelain")
            )
        except (OSError, subprocess.CalledProcessError):
            pass  # no git here, or no commit yet
    try:
        return version("circuit-sweep")
    except PackageNotFoundError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()
