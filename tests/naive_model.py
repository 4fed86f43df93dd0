"""A second opinion on masking: slow, by name, with plain hooks on an untouched model.

Nothing of model_patches is used. Two implementations: `cut_one` changes the input of ONE reader in
an otherwise normal clean run (path patching as the textbooks have it); `masked_logits` mixes the
input of every reader for any set of edges.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Writes = dict[str, Tensor]  # writer name -> [batch, seq, width]
Input = Callable[[str, Tensor], Tensor]  # (reader name, the model's own residual) -> what it reads


@dataclass(frozen=True)
class Parts:
    """Modules of one layer: norms, projections by letter (one fused "qkv" for GPT-2), output, MLP."""

    attention_norm: nn.Module
    projections: dict[str, nn.Module]
    output: Any
    mlp_norm: nn.Module
    mlp: nn.Module


class NaiveModel:
    """`model` is never changed; hooks live only inside a `with`. float64 for exact comparisons."""

    def __init__(self, model: Any) -> None:
        self.model, config = model, model.config
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = self.heads
        if config.model_type == "gpt2":
            base = model.transformer
            self.embeddings = {"tok_embeds": base.wte, "pos_embeds": base.wpe}
            self.layers = [
                Parts(b.ln_1, {"qkv": b.attn.c_attn}, b.attn.c_proj, b.ln_2, b.mlp) for b in base.h
            ]
            self.final_norm = base.ln_f
        elif config.model_type == "tracr":
            self.embeddings = {"tok_embeds": model.tok_embeds, "pos_embeds": model.pos_embeds}
            self.layers = [
                Parts(
                    b.attention_norm,
                    {"q": b.attention.query, "k": b.attention.key, "v": b.attention.value},
                    b.attention.output, b.mlp_norm, b.mlp,
                )
                for b in model.blocks
            ]  # fmt: skip
            self.final_norm = model.final_norm
        else:
            base = model.model
            self.kv_heads = config.num_key_value_heads
            self.embeddings = {"tok_embeds": base.embed_tokens}
            self.layers = [
                Parts(
                    b.input_layernorm,
                    {"q": b.self_attn.q_proj, "k": b.self_attn.k_proj, "v": b.self_attn.v_proj},
                    b.self_attn.o_proj, b.post_attention_layernorm, b.mlp,
                )
                for b in base.layers
            ]  # fmt: skip
            self.final_norm = base.norm

    def logits(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model(input_ids=tokens, use_cache=False).logits

    def writes(self, tokens: Tensor) -> Writes:
        """What every writer writes in a normal run."""
        recorded: Writes = {}
        with self._recording(recorded):
            self.logits(tokens)
        return recorded

    def cut_one(self, reader: str, clean: Tensor, change: Tensor) -> Tensor:
        """Logits of the clean run in which one reader sees its residual plus `change`.

        With change = corrupted write − clean write that is one edge cut: nothing before the reader is
        touched, so its residual still holds the writer's clean write.
        """
        with self._reading(lambda name, residual: residual + change if name == reader else residual):
            return self.logits(clean)

    def masked_logits(
        self, clean: Tensor, corrupted: Tensor | None, gate: Callable[[str, str], float], order: list[str]
    ) -> Tensor:
        """Logits when every edge carries corrupted + gate(writer, reader) · (write − corrupted).

        `order` lists the writers; a reader sees those that have written when its turn comes.
        """
        other = self.writes(clean if corrupted is None else corrupted)
        if corrupted is None:
            other = {name: torch.zeros_like(write) for name, write in other.items()}
        now: Writes = {}

        def mixed(reader: str, residual: Tensor) -> Tensor:
            total = torch.zeros_like(residual)
            for writer in order:
                if writer in now:
                    total = total + other[writer] + gate(writer, reader) * (now[writer] - other[writer])
            return total

        with self._recording(now), self._reading(mixed):
            return self.logits(clean)

    @contextmanager
    def _recording(self, into: Writes) -> Iterator[None]:
        with _hooks() as hooks:
            for name, embedding in self.embeddings.items():
                hooks.after(embedding, lambda _x, y, name=name: into.update({name: y}))
            for index, layer in enumerate(self.layers):
                heads = partial(self._head_writes, index, layer, into)
                hooks.after(layer.output, lambda z, _y, heads=heads: heads(z))
                hooks.after(layer.mlp, lambda _x, y, index=index: into.update({f"m{index}": y}))
            yield

    def _head_writes(self, index: int, layer: Parts, into: Writes, z: Tensor) -> None:
        weight, bias = _matrix(layer.output)
        size = z.shape[-1] // self.heads
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            into[f"a{index}.h{head}"] = z[..., part] @ weight[part] + bias / self.heads

    @contextmanager
    def _reading(self, read: Input) -> Iterator[None]:
        with _hooks() as hooks:
            for index, layer in enumerate(self.layers):
                residual: Writes = {}
                hooks.before(layer.attention_norm, lambda x, keep=residual: keep.update(residual=x))
                for letters, module in layer.projections.items():
                    heads = partial(self._projected, index, layer, letters, residual, read)
                    hooks.after(module, lambda _x, y, heads=heads: heads(y.shape))
                hooks.before(layer.mlp_norm, lambda x, index=index: read(f"m{index}", x))
            hooks.before(self.final_norm, lambda x: read("resid_post", x))
            yield

    def _projected(
        self, index: int, layer: Parts, letters: str, kept: Writes, read: Input, shape: torch.Size
    ) -> Tensor:
        """A projection's output with every head of every letter computed by hand, one by one."""
        (weight, bias), residual = _matrix(layer.projections[letters]), kept["residual"]
        out, column = torch.empty(shape, dtype=residual.dtype), 0
        size = shape[-1] // sum(self._count(letter) for letter in letters)
        for letter in letters:
            for head in range(self._count(letter)):
                own = read(f"a{index}.h{head}.{letter}", residual)
                normed = layer.attention_norm.forward(own)
                part = slice(column, column + size)
                out[..., part] = normed @ weight[:, part] + bias[part]
                column += size
        return out

    def _count(self, letter: str) -> int:
        return self.heads if letter == "q" else self.kv_heads


def _matrix(module: Any) -> tuple[Tensor, Tensor]:
    """Weight [in, out] and bias [out] of a Linear or of GPT-2's Conv1D."""
    weight = module.weight.T if isinstance(module, nn.Linear) else module.weight
    bias = module.bias if module.bias is not None else torch.zeros(weight.shape[1], dtype=weight.dtype)
    return weight, bias


class _Hooks:
    """Forward hooks whose functions take and give plain tensors; None leaves things as they are."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def after(self, module: nn.Module, function: Callable[[Tensor, Tensor], Any]) -> None:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> Any:
            return function(inputs[0], output)

        self.handles.append(module.register_forward_hook(hook))

    def before(self, module: nn.Module, function: Callable[[Tensor], Any]) -> None:
        self.handles.append(module.register_forward_pre_hook(lambda _m, x: _tuple(function(x[0]))))


def _tuple(value: Tensor | None) -> tuple[Tensor] | None:
    return None if value is None else (value,)


@contextmanager
def _hooks() -> Iterator[_Hooks]:
    hooks = _Hooks()
    try:
        yield hooks
    finally:
        for handle in hooks.handles:
            handle.remove()
