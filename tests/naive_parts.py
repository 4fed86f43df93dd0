"""Where each family keeps its parts, by attribute and not by the table under test."""

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Parts:
    """Modules of one layer: norms, projections by letters (one fused "qkv" for some), output, MLP. A norm
    that stands behind the attention or the MLP is a `post`; `mlp_norm` is None where one norm serves both."""

    attention_norm: nn.Module
    projections: dict[str, nn.Module]
    output: Any
    mlp_norm: nn.Module | None
    mlp: nn.Module
    attention_post: Any = None
    mlp_post: nn.Module | None = None
    by_head: bool = False  # the fused projection holds q, k, v of one head after another


@dataclass(frozen=True)
class Located:
    """A model's parts. `parallel`: the MLP reads what the attention of its layer reads."""

    embeddings: dict[str, nn.Module]
    layers: list[Parts]
    final_norm: nn.Module
    kv_heads: int
    parallel: bool = False


def located(model: Any) -> Located:
    """The parts of a tiny model of any family; a family like Llama needs no case of its own."""
    config = model.config
    grouped = getattr(config, "num_key_value_heads", config.num_attention_heads)
    match config.model_type:
        case "gpt2":
            return _gpt2(model.transformer, config.num_attention_heads)
        case "gpt_neox":
            return _gpt_neox(model.gpt_neox, config)
        case "opt":
            return _opt(model.model.decoder, config.num_attention_heads)
        case "phi":
            return _phi(model.model, grouped)
        case "tracr":
            return _tracr(model, config.num_attention_heads)
        case "gemma2" | "gemma3_text":
            return _with_post_norms(model.model, grouped)
        case _:
            return _like_llama(model.model, grouped)


def letters(attention: Any) -> dict[str, nn.Module]:
    return {"q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj}


def _gpt2(base: Any, heads: int) -> Located:
    layers = [Parts(b.ln_1, {"qkv": b.attn.c_attn}, b.attn.c_proj, b.ln_2, b.mlp) for b in base.h]
    return Located({"tok_embeds": base.wte, "pos_embeds": base.wpe}, layers, base.ln_f, heads)


def _gpt_neox(base: Any, config: Any) -> Located:
    layers = [
        Parts(
            b.input_layernorm, {"qkv": b.attention.query_key_value}, b.attention.dense,
            b.post_attention_layernorm, b.mlp, by_head=True,
        )
        for b in base.layers
    ]  # fmt: skip
    parallel, heads = config.use_parallel_residual, config.num_attention_heads
    return Located({"tok_embeds": base.embed_in}, layers, base.final_layer_norm, heads, parallel)


def _opt(base: Any, heads: int) -> Located:
    layers = [
        Parts(b.self_attn_layer_norm, letters(b.self_attn), b.self_attn.out_proj, b.final_layer_norm, b.fc2)
        for b in base.layers
    ]
    embeddings = {"tok_embeds": base.embed_tokens, "pos_embeds": base.embed_positions}
    return Located(embeddings, layers, base.final_layer_norm, heads)


def _phi(base: Any, kv_heads: int) -> Located:
    layers = [
        Parts(b.input_layernorm, letters(b.self_attn), b.self_attn.dense, None, b.mlp) for b in base.layers
    ]
    return Located({"tok_embeds": base.embed_tokens}, layers, base.final_layernorm, kv_heads, True)


def _tracr(model: Any, heads: int) -> Located:
    layers = [
        Parts(
            b.attention_norm,
            {"q": b.attention.query, "k": b.attention.key, "v": b.attention.value},
            b.attention.output, b.mlp_norm, b.mlp,
        )
        for b in model.blocks
    ]  # fmt: skip
    embeddings = {"tok_embeds": model.tok_embeds, "pos_embeds": model.pos_embeds}
    return Located(embeddings, layers, model.final_norm, heads)


def _with_post_norms(base: Any, kv_heads: int) -> Located:
    layers = [
        Parts(
            b.input_layernorm, letters(b.self_attn), b.self_attn.o_proj,
            b.pre_feedforward_layernorm, b.mlp,
            b.post_attention_layernorm, b.post_feedforward_layernorm,
        )
        for b in base.layers
    ]  # fmt: skip
    return Located({"tok_embeds": base.embed_tokens}, layers, base.norm, kv_heads)


def _like_llama(base: Any, kv_heads: int) -> Located:
    layers = [
        Parts(b.input_layernorm, letters(b.self_attn), b.self_attn.o_proj, b.post_attention_layernorm, b.mlp)
        for b in base.layers
    ]
    return Located({"tok_embeds": base.embed_tokens}, layers, base.norm, kv_heads)
