"""ARCHITECTURES: where each Hugging Face family keeps its writers and readers.

A new family is one entry here. Paths are module names: `blocks` is the list of layers, the other
block paths are relative to one layer; every path is checked when a model is patched. What every
family must have: attention is causal, and what a layer adds to the residual is a sum over heads
(its output projection, with or without a norm after it) and an MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from model_patches.graph import Shape

if TYPE_CHECKING:
    from torch import nn


NormKind = Literal["layer", "rms", "rms_plus_one", "none"]  # rms_plus_one: the gain is 1 + weight


@dataclass(frozen=True)
class Architecture:
    embeddings: dict[Literal["tok_embeds", "pos_embeds"], str]
    blocks: str
    attention_norm: str
    norm: NormKind  # what its attention_norm computes
    query_key_value: tuple[str, ...]  # three names, or one: a projection that fuses the three
    attention_output: str
    mlp_norm: str  # the same as attention_norm when one norm serves both
    mlp: str  # the module whose output the MLP writes: a norm after it, if there is one
    final_norm: str
    output_head: str
    grouped_heads: bool  # keys and values have fewer heads than queries (config.num_key_value_heads)
    fused_by_head: bool = False  # the fused projection holds q, k, v of one head after another
    # An RMS norm with gain 1 + weight between the attention's output and the residual; how its scale
    # is shared by the heads: projections.share_norm.
    attention_post_norm: str | None = None
    gated_mlp: bool = False  # down(activation(gate) · up): what it keeps for a backward (footprint.py)
    # The MLP reads what the attention of its layer reads. A name is the config's field that says so.
    parallel_residual: bool | str = False
    # What must hold of a config for this layout; the key is shown to whoever breaks it.
    requires: dict[str, Callable[[Any], bool]] = field(default_factory=dict)

    @property
    def shared_norm(self) -> bool:
        """Whether one norm serves the attention and the MLP of a layer."""
        return self.mlp_norm == self.attention_norm


CAUSAL: dict[str, Callable[[Any], bool]] = {
    "use_bidirectional_attention is not true": lambda config: not config.use_bidirectional_attention,
}


GPT2 = Architecture(
    embeddings={"tok_embeds": "transformer.wte", "pos_embeds": "transformer.wpe"},
    blocks="transformer.h",
    attention_norm="ln_1", norm="layer", query_key_value=("attn.c_attn",), attention_output="attn.c_proj",
    mlp_norm="ln_2", mlp="mlp",
    final_norm="transformer.ln_f", output_head="lm_head", grouped_heads=False,
)  # fmt: skip

LLAMA = Architecture(
    embeddings={"tok_embeds": "model.embed_tokens"},
    blocks="model.layers",
    attention_norm="input_layernorm", norm="rms",
    query_key_value=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.o_proj",
    mlp_norm="post_attention_layernorm", mlp="mlp", gated_mlp=True,
    final_norm="model.norm", output_head="lm_head", grouped_heads=True,
)  # fmt: skip

GEMMA = replace(LLAMA, norm="rms_plus_one", requires=CAUSAL)

GEMMA2 = replace(
    GEMMA,
    attention_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm", mlp="post_feedforward_layernorm",
)  # fmt: skip

GPT_NEOX = Architecture(
    embeddings={"tok_embeds": "gpt_neox.embed_in"},
    blocks="gpt_neox.layers",
    attention_norm="input_layernorm", norm="layer",
    query_key_value=("attention.query_key_value",), fused_by_head=True, attention_output="attention.dense",
    mlp_norm="post_attention_layernorm", mlp="mlp", parallel_residual="use_parallel_residual",
    final_norm="gpt_neox.final_layer_norm", output_head="lm_head", grouped_heads=False,
)  # fmt: skip

PHI = Architecture(
    embeddings={"tok_embeds": "model.embed_tokens"},
    blocks="model.layers",
    attention_norm="input_layernorm", norm="layer",
    query_key_value=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.dense",
    mlp_norm="input_layernorm", mlp="mlp", parallel_residual=True,
    final_norm="model.final_layernorm", output_head="lm_head", grouped_heads=True,
)  # fmt: skip

OPT = Architecture(
    embeddings={"tok_embeds": "model.decoder.embed_tokens", "pos_embeds": "model.decoder.embed_positions"},
    blocks="model.decoder.layers",
    attention_norm="self_attn_layer_norm", norm="layer",
    query_key_value=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.out_proj",
    mlp_norm="final_layer_norm", mlp="fc2",
    final_norm="model.decoder.final_layer_norm", output_head="lm_head", grouped_heads=False,
    requires={  # OPT-350m breaks the first and the last
        "do_layer_norm_before is true": lambda config: config.do_layer_norm_before,
        "_remove_final_layer_norm is not true": lambda config: not config._remove_final_layer_norm,
        "word_embed_proj_dim equals hidden_size": lambda c: c.word_embed_proj_dim == c.hidden_size,
    },
)  # fmt: skip

TRACR = Architecture(
    embeddings={"tok_embeds": "tok_embeds", "pos_embeds": "pos_embeds"},
    blocks="blocks",
    attention_norm="attention_norm", norm="none",
    query_key_value=("attention.query", "attention.key", "attention.value"),
    attention_output="attention.output",
    mlp_norm="mlp_norm", mlp="mlp",
    final_norm="final_norm", output_head="unembed", grouped_heads=False,
)  # fmt: skip

# By config.model_type, as transformers has it.
ARCHITECTURES: dict[str, Architecture] = {
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA2,  # Gemma 3's language model alone, as its 270m and 1b are published
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,  # Pythia too
    "llama": LLAMA,  # CodeLlama, SmolLM2 too
    "mistral": LLAMA,
    "opt": OPT,
    "phi": PHI,  # Phi 1, 1.5, 2
    "qwen2": LLAMA,  # Qwen2.5 too
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


def check_layout(config: object, architecture: Architecture) -> None:
    """Raises ValueError when a model of the family has a layout that the table does not describe. Of what
    `config` is silent, as a config.json may be, the family's defaults hold, and those the table describes."""
    for fact, holds in architecture.requires.items():
        with suppress(AttributeError):
            if not holds(config):
                raise ValueError(f"this model's layout is not supported: its config must say that {fact}")


def shape_of(config: object, architecture: Architecture) -> Shape:
    """The edge graph's shape. Reads head counts by what the table says, never by what a config
    happens to hold: HF configs keep keys that mean nothing to their model. Raises what check_layout does."""
    check_layout(config, architecture)
    layers, heads = getattr(config, "num_hidden_layers"), getattr(config, "num_attention_heads")  # noqa: B009
    kv = getattr(config, "num_key_value_heads") if architecture.grouped_heads else heads  # noqa: B009
    parallel = architecture.parallel_residual
    if isinstance(parallel, str):
        parallel = getattr(config, parallel)
    return Shape(layers, heads, kv, tuple(architecture.embeddings), parallel)


def blocks_of(model: nn.Module, architecture: Architecture) -> list[nn.Module]:
    return list(model.get_submodule(architecture.blocks).children())
