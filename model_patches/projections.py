"""HeadReader and HeadWriter: what takes the place of a model's attention projections.

They own the very parameters of the projection they replace, under the same names, so the model's
state dict is unchanged. In a plain pass they compute what the projection computed. Under ZeRO-3 a
parameter may be touched only inside a forward or backward of the module that owns it, so the
functions below keep the parameter itself, never a view of it.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from model_patches.norms import FoldedNorm
from model_patches.reads import project_heads
from model_patches.stream import WriterStream


class Projection(nn.Module):
    """A linear layer's parameters; `transposed` marks GPT-2's Conv1D, which stores [in, out]."""

    def __init__(self, linear: nn.Module, num_heads: int) -> None:
        super().__init__()
        if not isinstance(linear, nn.Linear | Conv1D):
            raise TypeError(f"expected a linear layer, found {type(linear).__name__}")
        self.weight: nn.Parameter = linear.weight  # type: ignore[assignment]
        self.bias: nn.Parameter | None = linear.bias  # type: ignore[assignment]
        self.transposed = isinstance(linear, Conv1D)
        self.num_heads = num_heads

    def plain(self, x: Tensor) -> Tensor:
        """What the replaced layer computed, to the last bit."""
        if not self.transposed:
            return F.linear(x, self.weight, self.bias)
        assert self.bias is not None, "a Conv1D has a bias"
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])


class HeadReader(Projection):
    """A query, key or value projection (or all three fused): every head projects its own read.

    `readers` are its heads' places among the reads of the layer: all queries, then keys, then values.
    `by_head` says that a fused weight goes head by head instead, as GPT-NeoX has it.
    """

    def __init__(self, linear: nn.Module, stream: WriterStream, readers: slice, by_head: bool) -> None:
        super().__init__(linear, readers.stop - readers.start)
        self.stream = stream
        self.readers = readers
        # How the readers fold so that swapping the two axes gives the weight's order.
        self.fold = (3, self.num_heads // 3) if by_head else (1, self.num_heads)

    def head_weights(self, norm: FoldedNorm | None) -> Float[Tensor, "heads width head_dim"]:
        weight = self.weight if self.transposed else self.weight.t()
        folded = weight if norm is None else norm.fold(weight, self.stream.folded)
        parts, heads = self.fold
        return folded.t().unflatten(0, (heads, parts, -1)).transpose(0, 1).flatten(0, 1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, seq, width] -> [batch, seq, heads * head_dim]."""
        if self.stream.reads is None:
            return self.plain(x)
        heads = project_heads(self.stream, self.readers, self.head_weights)
        out = heads.view(*self.fold, *x.shape[:2], -1).permute(2, 3, 1, 0, 4).reshape(*x.shape[:2], -1)
        bias = self.bias
        if self.stream.reads.norm is not None:
            bias = self.stream.reads.norm.bias(self.weight if self.transposed else self.weight.t(), bias)
        return out if bias is None else out + bias


class HeadWriter(Projection):
    """An attention output projection: every head's write goes into the stream.

    The output bias, if any, is shared equally by the heads, as published, so that all heads cut
    under zero ablation leave nothing behind (another convention: `CircuitModel.zeros`). `normed` says
    that a norm follows before the residual: then the hook on that norm does the writing.
    """

    stream: WriterStream

    def __init__(
        self, linear: nn.Module, stream: WriterStream, first: int, num_heads: int, normed: bool
    ) -> None:
        super().__init__(linear, num_heads)
        self.stream = stream
        self.first = first
        self.normed = normed

    def head_weights(self) -> Float[Tensor, "heads head_dim width"]:
        weight = self.weight if self.transposed else self.weight.t()
        return weight.unflatten(0, (self.num_heads, -1))

    def writes(self, x: Float[Tensor, "batch seq inner"]) -> Float[Tensor, "heads batch_seq width"]:
        heads = x.unflatten(-1, (self.num_heads, -1)).flatten(0, 1).transpose(0, 1)
        if self.bias is None:
            return torch.bmm(heads, self.head_weights())
        share = (self.bias / self.num_heads).view(1, 1, -1)
        return torch.baddbmm(share, heads, self.head_weights())

    def forward(self, x: Tensor) -> Tensor:
        """[batch, seq, heads * head_dim] -> [batch, seq, width], or the thread in a masked pass."""
        stream = self.stream
        if stream.masking and not self.normed:
            return _WriteHeads.apply(x, self)  # type: ignore[no-any-return]
        if stream.masking:
            heads: Tensor = _ProjectHeads.apply(x, self).view(self.num_heads, *x.shape[:2], -1)  # type: ignore[union-attr]
            stream.heads = heads
            return heads.sum(0)
        if not stream.recording:
            return self.plain(x)
        if self.bias is not None:
            stream.bias_shares[self.first] = self.bias / self.num_heads
        if self.normed:
            stream.heads = self.writes(x).view(self.num_heads, *x.shape[:2], -1)
            return self.plain(x)
        _write_heads(x, self)
        if x.dtype.itemsize < 4 or stream.scored(self.first) is not None:
            return self.plain(x)  # what is written has another rounding, and is not written everywhere
        return stream.home(self.first).sum(self.first, self.num_heads).view(*x.shape[:2], -1)

    def gradient(self, by_head: Float[Tensor, "heads batch_seq width"]) -> Float[Tensor, "batch_seq inner"]:
        """With respect to the input, from that of the heads' outputs."""
        return torch.bmm(by_head, self.head_weights().transpose(1, 2)).transpose(0, 1).flatten(1)


def _write_heads(x: Float[Tensor, "batch seq inner"], module: HeadWriter) -> None:
    """Puts what all heads write, at the tokens where it is wanted, straight into the stream's buffer."""
    inputs = module.stream.wanted(module.first, x.unsqueeze(0))[0].flatten(0, -2)
    heads = inputs.unflatten(-1, (module.num_heads, -1)).transpose(0, 1)
    share = None if module.bias is None else module.bias / module.num_heads
    module.stream.write_product(module.first, heads, module.head_weights(), share)


class _WriteHeads(Function):
    """Writes of all heads; gives out the thread."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: HeadWriter) -> Tensor:
        ctx.module, ctx.number, ctx.shape = module, module.stream.number, x.shape
        ctx.scored, ctx.buffer = module.stream.scored(module.first), module.stream.home(module.first)
        _write_heads(x, module)
        return x.new_zeros(()).expand(*x.shape[:2], module.stream.layout.width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        del gradient  # zeros; see stream.py
        module: HeadWriter = ctx.module
        assert ctx.number == module.stream.number, "the backward of a pass comes before the next masked pass"
        rows = slice(module.first, module.first + module.num_heads)
        by_input = module.gradient(ctx.buffer.gradients.of(rows))
        if ctx.scored is None:
            return by_input.view(ctx.shape), None
        spread = by_input.new_zeros(ctx.shape)
        spread.flatten(0, 1)[ctx.scored] = by_input
        return spread, None


class _ProjectHeads(Function):
    """[heads, tokens, width]: what the heads put out, the weight frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: HeadWriter) -> Tensor:
        ctx.module, ctx.shape = module, x.shape
        return module.writes(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.module.gradient(gradient).view(ctx.shape), None


def share_norm(
    heads: Float[Tensor, "heads batch seq width"],
    total: Float[Tensor, "batch seq width"],
    normed: Float[Tensor, "batch seq width"],
    norm: Any,
) -> Float[Tensor, "heads batch seq width"]:
    """What each head writes when `normed` = norm(`total`) goes into the residual, `total` = Σ `heads`.

    Gemma 2 and 3 put an RMS norm after the attention. Its scale depends on the sum of the heads, so it
    is not any head's own: the scale of that pass's sum is shared, head · scale · (1 + weight), and the
    writes add up to what the norm gives. What its rounding adds is shared equally.
    """
    wide = torch.promote_types(total.dtype, torch.float32)
    x = total.to(wide)
    gain = torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps) * (1 + norm.weight.to(wide))
    rounding = (normed - gain * x).detach() / len(heads)
    return torch.addcmul(rounding, heads, gain).to(total.dtype)


def attention_readers(num_heads: int, key_value_heads: int, fused: bool) -> list[slice]:
    """A layer's readers that each projection takes, among q, k, v in this order, or all in one."""
    ends = [num_heads, num_heads + key_value_heads, num_heads + 2 * key_value_heads]
    return [slice(0, ends[-1])] if fused else [slice(*ends_of) for ends_of in pairwise([0, *ends])]
