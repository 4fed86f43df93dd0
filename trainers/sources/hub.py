"""Models on the Hugging Face hub: a snapshot of one commit, in the hub's own cache.

HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and the like mean what they mean to every Hugging Face library.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from trainers.outside import read_json
from trainers.spec import SpecError

# What beside the weights makes a model: its config and its tokenizer.
DESCRIBING_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
# No weights but safetensors, and not the copies in other formats that lie in subfolders.
FILES = [
    *DESCRIBING_FILES,
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
]
COMMIT = re.compile("[0-9a-f]{40}")
# The hub's own rule for a name and for who owns it.
NAME = r"(?![-.])(?!.*(?:--|\.\.))[\w.-]{1,96}(?<![-.])"
TIMEOUT = 10.0  # seconds that the hub may be silent


def check_id(name: str) -> None:
    """Raises ValueError for what cannot be a model's id on the hub, without asking it."""
    if not re.fullmatch(rf"(?:{NAME}/)?{NAME}", name, re.ASCII):
        raise ValueError(
            f"hub: found {name!r}; allowed: `name` or `owner/name`, each of letters, digits, - _ and ."
        )


@dataclass(frozen=True)
class Snapshot:
    """`commit` is what the revision stood for when it was looked up."""

    folder: Path
    commit: str


def snapshot(hub: str, revision: str, code: bool = False) -> Snapshot:
    """Downloads what is missing; `code` takes the repository's Python files too.

    A branch or tag is looked up on the hub; when the hub cannot be reached, in the cache.
    Raises SpecError with what was tried and what to do.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    if COMMIT.fullmatch(revision) and (cached := cached_snapshot(hub, revision)):
        return cached
    try:
        HfApi().repo_info(hub, revision=revision, timeout=TIMEOUT)  # what follows may wait for ever
        found = snapshot_download(
            hub, revision=revision, allow_patterns=[*FILES, *(["*.py"] if code else [])]
        )
    except errors.RevisionNotFoundError:
        raise _refused(hub, revision, "the model has no commit, tag or branch of that name") from None
    except errors.HFValidationError as error:
        raise _refused(hub, revision, _first_line(error)) from None
    except Exception as error:  # no network, a proxy, a full disk: each library below has its own errors
        if cached := cached_snapshot(hub, revision):
            return cached
        raise _refused(hub, revision, _why(error, hub, revision)) from error
    return Snapshot(Path(found), Path(found).name)


def cached_snapshot(hub: str, revision: str) -> Snapshot | None:
    """What is in the cache already, with config and all weights; else None. Asks no network."""
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(hub, revision=revision, local_files_only=True, allow_patterns=FILES))
        wanted = {"config.json", *_weights(found)}
    except (OSError, ValueError):
        return None
    return Snapshot(found, found.name) if all((found / name).is_file() for name in wanted) else None


def _weights(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return {"model.safetensors"}
    try:
        return {str(name) for name in read_json(index)["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {f"{index.name} is damaged"}  # a file that is not there: the snapshot is not whole


def _refused(hub: str, revision: str, why: str) -> SpecError:
    return SpecError(f"model.hub: cannot load {hub} at {revision}: {why}")


def _why(error: Exception, hub: str, revision: str) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return "its authors must grant access; log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such model, or a private one that needs `hf auth login`"
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _first_line(error.__cause__ or error)
    return (
        f"it is not, or not whole, in the cache {constants.HF_HUB_CACHE}, and asking {constants.ENDPOINT} "
        f"failed: {reason}. On a machine that reaches it: `hf download {hub} --revision {revision} "
        "--local-dir FOLDER`; bring the folder here and give `model: {path: FOLDER}`"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
