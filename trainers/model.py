"""ModelSpec: which model a trial studies, where its files are, and what identifies them."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator

from model_patches.circuit_model import CircuitModel
from model_patches.graph import EdgeGraph, Embeddings
from model_patches.tracr import TracrProgram
from trainers.memory import in_use
from trainers.spec import Spec, SpecError

if TYPE_CHECKING:
    from trainers.distributed import Ranks

WEIGHT_FILES = "*.safetensors"
DESCRIBING_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


class ModelSpec(Spec):
    """Exactly one of `builtin`, `path` and `hub`."""

    builtin: Literal["tracr-reverse", "tracr-xproportion"] | None = None
    path: str | None = Field(None, description="a Hugging Face folder with config.json and safetensors")
    hub: str | None = Field(None, description="a model id on the Hugging Face hub")
    revision: str | None = Field(None, description="hub only: commit, tag or branch; pin a commit")
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    trust_remote_code: bool = Field(False, description="hub only: run the model author's Python code")

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSpec":
        given = [name for name in ("builtin", "path", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"found {found}; allowed: exactly one of builtin, path, hub")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision belongs to a hub model only")
        return self

    @property
    def label(self) -> str:
        """The model's name in tables and plots."""
        return self.builtin or self.hub or Path(str(self.path)).name

    def identity(self) -> dict[str, str]:
        """What goes into a trial id: never a path, always the content.

        Raises SpecError when a folder lacks its config or its weights.
        """
        identity = {"dtype": self.dtype}
        if self.hub is not None:
            return identity | {"hub": self.hub, "revision": self.revision or "main"}
        return identity | {"digest": _digest(tuple(str(file) for file in self.files()))}

    def files(self) -> list[Path]:
        """The local files that define the model. Raises SpecError when they are not there."""
        if self.builtin is not None:
            import model_patches.tracr_programs as programs

            stem = self.builtin.removeprefix("tracr-")
            return [Path(programs.__path__[0]) / f"{stem}{ending}" for ending in (".json", ".safetensors")]
        folder = Path(str(self.path)).expanduser()
        if not folder.is_dir():
            raise SpecError(f"model.path: no folder {folder}")
        if not (folder / "config.json").is_file():
            raise SpecError(f"model.path: {folder} has no config.json")
        weights = sorted(folder.glob(WEIGHT_FILES))
        if not weights:
            pickled = ", ".join(sorted(file.name for file in folder.glob("*.bin"))[:3])
            why = f"only {pickled}, which could run code when loaded" if pickled else "no weights"
            raise SpecError(f"model.path: {folder} holds {why}; allowed: {WEIGHT_FILES}")
        return [folder / name for name in DESCRIBING_FILES if (folder / name).is_file()] + weights


@dataclass(frozen=True)
class Loaded:
    """A model in memory, patched, ready for one trial after another."""

    spec: ModelSpec
    zero_stage: int
    model: CircuitModel
    program: TracrProgram | None
    resident_bytes: int = 0  # in use when the model had just been loaded: what a trial's memory is above

    @property
    def vocab_size(self) -> int:
        config: Any = self.model.model.config
        return config.vocab_size

    @property
    def context(self) -> int:
        """Tokens that the model can read at once."""
        config: Any = self.model.model.config
        return config.max_position_embeddings

    def graph(self, embeddings: Embeddings) -> EdgeGraph:
        return EdgeGraph(self.model.graph.shape, embeddings)


def load(spec: ModelSpec, ranks: "Ranks", zero_stage: int) -> Loaded:
    """Loads and patches a model, its weights partitioned from the start under ZeRO-3.

    Raises SpecError when the files cannot be loaded or the family is not known.
    """
    from trainers.distributed import loading

    dtype = getattr(torch, spec.dtype)
    program = None
    if spec.builtin is not None:
        program = TracrProgram.builtin(spec.builtin.removeprefix("tracr-"))
        model: Any = program.model(dtype)
    else:
        with loading(ranks, zero_stage):
            model = _from_pretrained(spec, dtype)
    try:
        patched = CircuitModel(model.to(ranks.device))
        return Loaded(spec, zero_stage, patched, program, in_use(ranks.device))
    except (ValueError, AttributeError) as error:
        raise SpecError(f"model: {error}") from None


def _from_pretrained(spec: ModelSpec, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    source = spec.hub or str(Path(str(spec.path)).expanduser())
    try:
        return AutoModelForCausalLM.from_pretrained(
            source,
            revision=spec.revision or "main",
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=spec.trust_remote_code,
            local_files_only=spec.hub is None,
        )
    except (OSError, ValueError) as error:
        raise SpecError(f"model: cannot load {source}: {str(error).splitlines()[0]}") from None


def _digest(files: tuple[str, ...]) -> str:
    stats = tuple((Path(file).stat().st_size, Path(file).stat().st_mtime_ns) for file in files)
    return _digest_of(files, stats)


@lru_cache(maxsize=64)
def _digest_of(files: tuple[str, ...], stats: tuple[tuple[int, int], ...]) -> str:
    """SHA-256 over names and contents; a file that has not changed is read once per process."""
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            total.update(f"{Path(file).name}:{hashlib.file_digest(stream, 'sha256').hexdigest()};".encode())
    return total.hexdigest()
