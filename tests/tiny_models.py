"""Tiny random models of every family in ARCHITECTURES, for tests.

Shapes are chosen to be awkward: grouped heads, a head size that is not width / heads, a sliding
window shorter than the prompts, biases and norm weights that are not 0 and 1.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from model_patches.tracr import TracrConfig, TracrModel

VOCAB = 61
LAYERS, WIDTH, QUERY_HEADS, KEY_VALUE_HEADS = 2, 32, 4, 2


def _gpt2() -> PreTrainedConfig:
    return GPT2Config(
        vocab_size=VOCAB, n_positions=48, n_embd=WIDTH, n_layer=LAYERS, n_head=QUERY_HEADS,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


def _grouped(config: type[PreTrainedConfig], **more: Any) -> PreTrainedConfig:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB, "max_position_embeddings": 48, "bos_token_id": 0, "eos_token_id": 0,
        "hidden_size": WIDTH, "intermediate_size": 40, "num_hidden_layers": LAYERS,
        "num_attention_heads": QUERY_HEADS, "num_key_value_heads": KEY_VALUE_HEADS,
    }  # fmt: skip
    return config(**(sizes | more))


TINY_CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": _gpt2,
    "llama": lambda: _grouped(LlamaConfig, attention_bias=True, mlp_bias=True),
    "mistral": lambda: _grouped(MistralConfig, sliding_window=4),
    "qwen2": lambda: _grouped(Qwen2Config, tie_word_embeddings=True),
    "qwen3": lambda: _grouped(Qwen3Config, head_dim=12),
}


def tiny_model(kind: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A tiny random model of an ARCHITECTURES family, unpatched and in eval mode.

    The same seed gives the same weights in every dtype, up to rounding. The global random state
    is left alone. Raises ValueError for a family without a tiny model.
    """
    with torch.random.fork_rng(devices=[]):
        model = _tracr() if kind == "tracr" else AutoModelForCausalLM.from_config(_config(kind))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_weights(name, parameter, generator))
    return model.to(dtype).eval()


def save_tiny(kind: str, folder: Path, seed: int = 0) -> Path:
    """Writes config.json and model.safetensors (float32) of a Hugging Face family; returns `folder`."""
    model = tiny_model(kind, torch.float32, seed)
    model.save_pretrained(folder)
    return folder


def tokens(batch: int, seq: int, seed: int) -> Tensor:
    """Random token ids [batch, seq]."""
    return torch.randint(0, VOCAB, (batch, seq), generator=torch.Generator().manual_seed(seed))


def _config(kind: str) -> PreTrainedConfig:
    if kind not in TINY_CONFIGS:
        raise ValueError(f"no tiny model of the family '{kind}': add its config to tests/tiny_models.py")
    return TINY_CONFIGS[kind]()


def _tracr() -> TracrModel:
    """Causal, so that padding may be tested on it as on the others."""
    config = TracrConfig(
        num_hidden_layers=LAYERS, num_attention_heads=QUERY_HEADS, head_dim=8, hidden_size=WIDTH,
        intermediate_size=40, vocab_size=VOCAB, output_size=VOCAB, max_position_embeddings=48, causal=True,
    )  # fmt: skip
    return TracrModel(config)


def _weights(name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor:
    """Scaled so that no head is idle and logits are of order 1 to 5."""
    noise = torch.randn(parameter.shape, generator=generator)
    if parameter.ndim == 1:
        scales = name.endswith("weight")  # of a norm; the other vectors are biases
        return 1 + 0.3 * noise if scales else 0.3 * noise
    embeds = any(part in name for part in ("embed", "wte", "wpe"))
    return noise if embeds else noise / WIDTH**0.5
