"""Which version of this code runs."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("orchestrator", "trainers", "model_patches")
# What a report's numbers, text and pictures depend on beside our own code.
LIBRARIES = ("numpy", "pyarrow", "pandas", "matplotlib", "jinja2", "pydantic", "safetensors")
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


def code_digest() -> str:
    """SHA-256 over the files of our packages, as they are now, and the versions of the libraries that a
    report is made with: unlike a commit it also tells edits apart that nobody committed."""
    total = hashlib.sha256(platform.python_version().encode())
    for library in LIBRARIES:
        total.update(f"{library}=={version(library)};".encode())
    root = Path(__file__).parents[1]
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                name, digest = file.relative_to(root), hashlib.sha256(file.read_bytes())
                total.update(f"{name}:{digest.hexdigest()};".encode())
    return total.hexdigest()


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()
