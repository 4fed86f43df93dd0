"""Blocks that forget: what a block's forward kept for its backward is computed again in the backward.

The weights are frozen and dropout is off, so a block computes the same again. Its reads come from the
writers' differences, which still hold what the forward left there; what it writes is there already, and
is not written again (`WriterStream.again`). So instead of all layers' reads and activations, one layer's
are there at a time, for the price of a second forward.

torch.utils.checkpoint does not fit: gates reach a block through the stream, not as an argument, and a
nested backward through them would free the graph that all blocks share. Here every block gets the gates
as a leaf of its own, and gives their gradient to autograd.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model_patches.stream import WriterStream


def recomputable(block: nn.Module, stream: WriterStream) -> None:
    """Makes a patched block do so in passes of the stream that ask for it. What it takes the place of is the
    forward alone: hooks on the block, such as those that fetch weights under ZeRO-3, see one call."""
    run: Callable[..., Tensor] = block.forward

    @wraps(run)
    def forward(thread: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if not (stream.recompute and stream.backward and stream.masking) or stream.again:
            return run(thread, *arguments, **named)
        return _Block.apply(stream.keep, thread, stream, lambda thread: run(thread, *arguments, **named))  # type: ignore[no-any-return]

    block.forward = forward


class _Block(Function):
    @staticmethod
    def forward(
        ctx: Any, keep: Tensor, thread: Tensor, stream: WriterStream, run: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.stream, ctx.number, ctx.run, ctx.corrupted = stream, stream.number, run, stream.corrupted
        ctx.save_for_backward(keep)
        run(thread)
        return thread.new_zeros(()).expand(thread.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        stream: WriterStream = ctx.stream
        assert ctx.number == stream.number, "the backward of a pass comes before the next masked pass"
        own = keep.detach().requires_grad_()
        zeros = gradient.new_zeros(()).expand(gradient.shape)
        with torch.enable_grad(), stream.repeated(own, ctx.corrupted):
            (by_keep,) = torch.autograd.grad(ctx.run(zeros), own, zeros)
        return by_keep, zeros, None, None
