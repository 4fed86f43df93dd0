"""What a family must have for its table entry, and which attention kernel it runs on."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import Gemma3TextConfig, GPTNeoXConfig, OPTConfig

from model_patches.architectures import architecture_of, shape_of
from model_patches.circuit_model import CircuitModel
from model_patches.graph import Shape
from tests.tiny_models import KINDS, LAYERS, QUERY_HEADS, TINY_CONFIGS, tiny_model, tokens

OWN_KERNEL = ("gemma2", "tracr")  # Gemma 2's attention has a soft-cap, which SDPA lacks


@pytest.mark.parametrize(
    ("config", "fact"),
    [
        (OPTConfig(do_layer_norm_before=False), "do_layer_norm_before is true"),
        (OPTConfig(_remove_final_layer_norm=True), "_remove_final_layer_norm is not true"),
        (OPTConfig(word_embed_proj_dim=512), "word_embed_proj_dim equals hidden_size"),
        (Gemma3TextConfig(use_bidirectional_attention=True), "use_bidirectional_attention is not true"),
    ],
)
def test_another_layout_of_a_known_family_is_refused(config: Any, fact: str) -> None:
    with pytest.raises(ValueError, match=f"layout is not supported: its config must say that {fact}"):
        shape_of(config, architecture_of(config.model_type))


def test_a_model_of_another_layout_is_refused_before_it_is_touched() -> None:
    model = tiny_model("opt")
    model.config.do_layer_norm_before = False
    hooked = lambda: [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]  # noqa: E731
    before = len(hooked())
    with pytest.raises(ValueError, match="do_layer_norm_before"):
        CircuitModel(model)
    assert len(hooked()) == before


def test_pythia_is_parallel_by_default_and_serial_on_demand() -> None:
    sizes: dict[str, Any] = {"num_hidden_layers": 6, "num_attention_heads": 8, "hidden_size": 512}
    for parallel in (True, False):
        shape = shape_of(GPTNeoXConfig(**sizes, use_parallel_residual=parallel), architecture_of("gpt_neox"))
        assert shape == Shape(6, 8, 8, ("tok_embeds",), parallel)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_runs_on_sdpa_in_every_pass(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, kernel = [], functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k)
    )
    model = CircuitModel(tiny_model(kind))
    x = tokens(2, 5, seed=1)
    real = torch.ones_like(x, dtype=torch.bool)
    states = model.record(x)
    model.full(x)
    model(x, model.graph.exists.float(), states)
    model(x, model.graph.exists.float(), states, real=real)
    assert len(calls) == (0 if kind in OWN_KERNEL else 4 * LAYERS)


@pytest.mark.parametrize("kind", sorted(TINY_CONFIGS))
def test_readers_are_those_of_key_value_heads(kind: str) -> None:
    graph = CircuitModel(tiny_model(kind)).graph
    kv_heads = getattr(TINY_CONFIGS[kind](), "num_key_value_heads", QUERY_HEADS)
    names = [node.name for node in graph.readers if node.layer == 1 and node.part == "k"]
    assert names == [f"a1.h{head}.k" for head in range(kv_heads)]
