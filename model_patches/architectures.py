"""ARCHITECTURES: where each Hugging Face family keeps its writers and readers.

A new family is one entry here. Paths are module names: `blocks` is the list of layers, the other
block paths are relative to one layer. `query_key_value` has three names, or one when the family
fuses the three projections into one; every path is checked when a model is patched.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from model_patches.graph import Shape


@dataclass(frozen=True)
class Architecture:
    embeddings: dict[Literal["tok_embeds", "pos_embeds"], str]
    blocks: str
    attention_norm: str
    query_key_value: tuple[str, ...]
    attention_output: str
    mlp_norm: str
    mlp: str
    final_norm: str
    output_head: str
    grouped_heads: bool  # keys and values have fewer heads than queries (config.num_key_value_heads)


GPT2 = Architecture(
    embeddings={"tok_embeds": "transformer.wte", "pos_embeds": "transformer.wpe"},
    blocks="transformer.h",
    attention_norm="ln_1", query_key_value=("attn.c_attn",), attention_output="attn.c_proj",
    mlp_norm="ln_2", mlp="mlp",
    final_norm="transformer.ln_f", output_head="lm_head", grouped_heads=False,
)  # fmt: skip

LLAMA = Architecture(
    embeddings={"tok_embeds": "model.embed_tokens"},
    blocks="model.layers",
    attention_norm="input_layernorm",
    query_key_value=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.o_proj",
    mlp_norm="post_attention_layernorm", mlp="mlp",
    final_norm="model.norm", output_head="lm_head", grouped_heads=True,
)  # fmt: skip

TRACR = Architecture(
    embeddings={"tok_embeds": "tok_embeds", "pos_embeds": "pos_embeds"},
    blocks="blocks",
    attention_norm="attention_norm",
    query_key_value=("attention.query", "attention.key", "attention.value"),
    attention_output="attention.output",
    mlp_norm="mlp_norm", mlp="mlp",
    final_norm="final_norm", output_head="unembed", grouped_heads=False,
)  # fmt: skip

ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "tracr": TRACR,
}


def architecture_of(model_type: str) -> Architecture:
    """Raises ValueError listing the known families when `model_type` (config.json) is not one."""
    if model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ValueError(
            f"model family '{model_type}' is not supported; known: {known}. "
            "A family is added by one entry in model_patches/architectures.py"
        )
    return ARCHITECTURES[model_type]


def shape_of(config: object, architecture: Architecture) -> Shape:
    """The edge graph's shape. Reads head counts by what the table says, never by what a config
    happens to hold: HF configs keep keys that mean nothing to their model."""
    layers, heads = getattr(config, "num_hidden_layers"), getattr(config, "num_attention_heads")  # noqa: B009
    kv = getattr(config, "num_key_value_heads") if architecture.grouped_heads else heads  # noqa: B009
    return Shape(layers, heads, kv, tuple(architecture.embeddings))


def blocks_of(model: nn.Module, architecture: Architecture) -> list[nn.Module]:
    return list(model.get_submodule(architecture.blocks).children())
