"""From a Hugging Face folder into memory: weights and tokenizer. Nothing here asks the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_patches.lazy import torch
from trainers.sources.converted import why_no_tokenizer
from trainers.sources.progress_bars import bars_at_a_terminal
from trainers.sources.refusals import check_model, check_tokenizer
from trainers.spec import SpecError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARIES = ("tokenizer.json", "vocab.json", "tokenizer.model")


def load_weights(folder: Path, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """The causal language model, from safetensors alone.

    Raises SpecError when the files ask for code, cannot be loaded or lack weights of the model.
    """
    from transformers import AutoModelForCausalLM

    check_model(folder, trust_remote_code)

    try:
        with bars_at_a_terminal():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                output_loading_info=True,
            )
        model, told = loaded
    except Exception as error:  # transformers' loader meets foreign files with errors of all kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise SpecError(f"model: cannot load {folder}: {reason}") from error
    if missing := sorted(told["missing_keys"]):
        # transformers would go on with random values there.
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise SpecError(f"model: {folder} lacks {len(missing)} weights of its model: {names}")
    return model


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARIES)


def load_tokenizer(folder: Path, label: str, trust_remote_code: bool = False) -> PreTrainedTokenizerFast:
    """A fast tokenizer; a tokenizer.json is taken as it is.

    (AutoTokenizer of transformers 5 rebuilds some from the class that tokenizer_config.json names,
    and loses how they split: SmolLM2's, saved as GPT2Tokenizer, no longer splits digits.)
    Raises SpecError when there is none, or none that gives offsets; `label` names the model there.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not has_tokenizer(folder):
        why = why_no_tokenizer(folder)
        raise SpecError(f"model: {label} has no tokenizer{f' ({why})' if why else ''}; this task needs one")
    check_tokenizer(folder, trust_remote_code)
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        else:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # a damaged file raises whatever the tokenizers library pleases
        reason = str(error).strip().partition("\n")[0]
        raise SpecError(f"model: cannot load the tokenizer of {label} in {folder}: {reason}") from error
    if not tokenizer.is_fast:
        raise SpecError(f"model: the tokenizer of {label} gives no offsets; allowed: a fast tokenizer")
    return tokenizer
