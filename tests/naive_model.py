"""A second opinion on masking: slow, by name, with plain hooks on an untouched model.

Nothing of model_patches is used. Two implementations: `cut_one` changes the input of ONE reader in
an otherwise normal clean run (path patching as the textbooks have it); `masked_logits` mixes the
input of every reader for any set of edges.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.naive_parts import Parts, located

Writes = dict[str, Tensor]  # writer name -> [batch, seq, width]
Input = Callable[[str, Tensor], Tensor]  # (reader name, the model's own residual) -> what it reads


class NaiveModel:
    """`model` is never changed; hooks live only inside a `with`. float64 for exact comparisons."""

    def __init__(self, model: Any) -> None:
        self.model, parts = model, located(model)
        self.heads: int = model.config.num_attention_heads
        self.kv_heads, self.parallel = parts.kv_heads, parts.parallel
        self.embeddings, self.layers, self.final_norm = parts.embeddings, parts.layers, parts.final_norm
        self.shape = (0, 0, 0)  # of the residual in the pass at hand

    def logits(self, tokens: Tensor) -> Tensor:
        self.shape = (*tokens.shape, self.model.config.hidden_size)
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
        self,
        clean: Tensor,
        corrupted: Tensor | Writes | None,
        gate: Callable[[str, str], float],
        order: list[str],
    ) -> Tensor:
        """Logits when every edge carries corrupted + gate(writer, reader) · (write − corrupted).

        `corrupted` is tokens, or what stands for each write (a mean, say), or None for zeros. `order`
        lists the writers; a reader sees those that have written when its turn comes.
        """
        if isinstance(corrupted, dict):
            other = corrupted
        else:
            other = self.writes(clean if corrupted is None else corrupted)
        if corrupted is None:
            other = {name: torch.zeros_like(write) for name, write in other.items()}
        now: Writes = {}

        def mixed(reader: str, residual: Tensor) -> Tensor:
            total = torch.zeros_like(residual)
            for writer in order:
                beside = self.parallel and writer.startswith(reader.replace("m", "a") + ".")
                if writer in now and not beside:
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
                hooks.after(layer.output, heads)
                mlp = layer.mlp if layer.mlp_post is None else layer.mlp_post
                note = lambda _x, y, index=index: into.update({f"m{index}": y.view(self.shape)})  # noqa: E731
                hooks.after(mlp, note)
            yield

    def _head_writes(self, index: int, layer: Parts, into: Writes, z: Tensor, total: Tensor) -> None:
        weight, bias = _matrix(layer.output)
        size = z.shape[-1] // self.heads
        parts = [slice(head * size, (head + 1) * size) for head in range(self.heads)]
        writes = torch.stack([z[..., part] @ weight[part] + bias / self.heads for part in parts])
        if (norm := layer.attention_post) is not None:
            scale = (total.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt()
            writes = writes / scale * (1 + norm.weight)
        into |= {f"a{index}.h{head}": write for head, write in enumerate(writes)}

    @contextmanager
    def _reading(self, read: Input) -> Iterator[None]:
        with _hooks() as hooks:
            for index, layer in enumerate(self.layers):
                residual: Writes = {}
                hooks.before(layer.attention_norm, lambda x, keep=residual: keep.update(residual=x))
                for letters, module in layer.projections.items():
                    heads = partial(self._projected, index, layer, letters, residual, read)
                    hooks.after(module, lambda _x, y, heads=heads: heads(y.shape))
                mlp = partial(self._mlp_input, index, layer, residual, read)
                hooks.before(layer.mlp if layer.mlp_norm is None else layer.mlp_norm, mlp)
            hooks.before(self.final_norm, lambda x: read("resid_post", x))
            yield

    def _mlp_input(self, index: int, layer: Parts, kept: Writes, read: Input, x: Tensor) -> Tensor:
        if layer.mlp_norm is None:
            return layer.attention_norm.forward(read(f"m{index}", kept["residual"]))
        return read(f"m{index}", x.view(self.shape)).view_as(x)

    def _projected(
        self, index: int, layer: Parts, letters: str, kept: Writes, read: Input, shape: torch.Size
    ) -> Tensor:
        """A projection's output with every head of every letter computed by hand, one by one."""
        (weight, bias), residual = _matrix(layer.projections[letters]), kept["residual"]
        out, column = torch.empty(shape, dtype=residual.dtype), 0
        readers = [(letter, head) for letter in letters for head in range(self._count(letter))]
        if layer.by_head:
            readers = sorted(readers, key=lambda reader: reader[1])
        size = shape[-1] // len(readers)
        for letter, head in readers:
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
