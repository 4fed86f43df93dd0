"""Tiny random models of every family in ARCHITECTURES, for tests.

Shapes are chosen to be awkward: grouped heads, a head size that is not width / heads, a sliding
window shorter than the prompts, biases and norm weights that are not 0 and 1, soft-caps that bend.
A family whose layout depends on its config is here once for each: KINDS are the names.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
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


def _sized(config: type[PreTrainedConfig], **more: Any) -> PreTrainedConfig:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB, "max_position_embeddings": 48, "bos_token_id": 0, "eos_token_id": 0,
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": QUERY_HEADS,
        "pad_token_id": None,
    }  # fmt: skip
    return config(**(sizes | more))


def _grouped(config: type[PreTrainedConfig], **more: Any) -> PreTrainedConfig:
    return _sized(config, intermediate_size=40, num_key_value_heads=KEY_VALUE_HEADS, **more)


def _gemma(config: type[PreTrainedConfig], **more: Any) -> PreTrainedConfig:
    """The query scale is not that of the head size, and the logits' soft-cap is as large as they are."""
    windows = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
    caps = {"query_pre_attn_scalar": 10, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 60.0}
    return _grouped(config, head_dim=12, **windows, **caps, **more)


TINY_CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gemma": lambda: _grouped(GemmaConfig, head_dim=12),
    "gemma2": lambda: _gemma(Gemma2Config, attention_bias=True),
    "gemma3_text": lambda: _gemma(Gemma3TextConfig),
    "gpt2": _gpt2,
    "gpt_neox": lambda: _sized(GPTNeoXConfig, intermediate_size=40, rotary_pct=0.5),
    "gpt_neox-serial": lambda: _sized(GPTNeoXConfig, intermediate_size=40, use_parallel_residual=False),
    "llama": lambda: _grouped(LlamaConfig, attention_bias=True, mlp_bias=True),
    "mistral": lambda: _grouped(MistralConfig, sliding_window=4),
    "opt": lambda: _sized(OPTConfig, ffn_dim=40),
    "phi": lambda: _grouped(PhiConfig, qk_layernorm=True),
    "qwen2": lambda: _grouped(Qwen2Config, tie_word_embeddings=True),
    "qwen3": lambda: _grouped(Qwen3Config, head_dim=12),
}

KINDS = sorted([*TINY_CONFIGS, "tracr"])


def tiny_model(kind: str, dtype: torch.dtype = torch.float32, seed: int = 0, layers: int = LAYERS) -> Any:
    """A tiny random model, unpatched and in eval mode.

    The same seed gives the same weights in every dtype, up to rounding. The global random state
    is left alone. Raises ValueError for a family without a tiny model.
    """
    with torch.random.fork_rng(devices=[]):
        model = _tracr(layers) if kind == "tracr" else AutoModelForCausalLM.from_config(_config(kind, layers))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_weights(name, parameter, generator))
    return model.to(dtype).eval()


def exact_model(kind: str, seed: int = 0) -> Any:
    """A tiny model that computes in float64 throughout.

    Hugging Face computes RMS norms, and Gemma 2's attention, in float32 even in a float64 model: its
    rounding would hide whatever is smaller than 1e-7. Here the norms do not, and Gemma 2 attends as the
    others do, without its attention's soft-cap.
    """
    model = tiny_model(kind, torch.float64, seed)
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(_rms_norm, module)
        if kind == "gemma2" and hasattr(module, "attn_logit_softcapping"):
            module.attn_logit_softcapping = None
    if kind == "gemma2":
        model.config._attn_implementation = "sdpa"
    return model


def _rms_norm(norm: Any, x: Tensor) -> Tensor:
    gemma = "Gemma" in type(norm).__name__
    eps, gain = (norm.eps, 1 + norm.weight) if gemma else (norm.variance_epsilon, norm.weight)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


def save_tiny(kind: str, folder: Path, seed: int = 0) -> Path:
    """Writes config.json and model.safetensors (float32) of a Hugging Face kind; returns `folder`."""
    model = tiny_model(kind, torch.float32, seed)
    model.save_pretrained(folder)
    return folder


def tokens(batch: int, seq: int, seed: int) -> Tensor:
    """Random token ids [batch, seq]."""
    return torch.randint(0, VOCAB, (batch, seq), generator=torch.Generator().manual_seed(seed))


def _config(kind: str, layers: int) -> PreTrainedConfig:
    if kind not in TINY_CONFIGS:
        raise ValueError(f"no tiny model of the family '{kind}': add its config to tests/tiny_models.py")
    config: Any = TINY_CONFIGS[kind]()
    if layers != LAYERS:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = (config.layer_types * layers)[:layers]
    return config


def _tracr(layers: int) -> TracrModel:
    """Causal, so that padding may be tested on it as on the others."""
    config = TracrConfig(
        num_hidden_layers=layers, num_attention_heads=QUERY_HEADS, head_dim=8, hidden_size=WIDTH,
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
