"""Patching: an unmodified Hugging Face model becomes one whose every reader sees its own residual.

Only leaf modules are touched. The projections of attention are swapped (projections.py); the
embeddings, norms, MLPs and the output head get hooks. Rotary embeddings, query/key norms, masks,
kernels and everything else stay Hugging Face's own code.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from model_patches.activations import fuse_activations
from model_patches.architectures import Architecture, blocks_of
from model_patches.graph import EdgeGraph
from model_patches.projections import HeadReader, HeadWriter, attention_readers, share_norm
from model_patches.reads import read_layer, read_mlp
from model_patches.stream import WriterStream, write_through


class AnswerPositions:
    """The positions [batch, scored] whose logits are wanted; None for all of them."""

    def __init__(self) -> None:
        self.wanted: Int[Tensor, "batch scored"] | None = None


def patch(
    model: nn.Module, architecture: Architecture, graph: EdgeGraph
) -> tuple[WriterStream, AnswerPositions]:
    """Patches `model` in place. Without a pass started on the returned stream, it computes exactly
    what it computed before.

    Raises AttributeError naming the module when the architecture table does not fit the model.
    """
    stream, positions = WriterStream(graph), AnswerPositions()
    for writer, path in enumerate(architecture.embeddings.values()):
        _hook_embedding(model.get_submodule(path), stream, writer)
    for layer, block in enumerate(blocks_of(model, architecture)):
        _patch_attention(block, architecture, stream, layer)
        fuse_activations(block, stream)
        mlp_norm, mlp = (block.get_submodule(path) for path in (architecture.mlp_norm, architecture.mlp))
        _hook_mlp_norm(mlp_norm, stream, layer, architecture.shared_norm)
        _hook_mlp(mlp, stream, graph.first_head(layer) + graph.shape.query_heads)
    _hook_final_norm(model.get_submodule(architecture.final_norm), stream)
    _hook_output_head(model.get_submodule(architecture.output_head), positions)
    return stream, positions


def _hook_embedding(module: nn.Module, stream: WriterStream, writer: int) -> None:
    def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        write = output.unsqueeze(0) if output.ndim == 3 else output[None, None]
        if stream.running:
            stream.write(writer, write)
        return output

    module.register_forward_hook(hook)


def _patch_attention(
    block: nn.Module,
    architecture: Architecture,
    stream: WriterStream,
    layer: int,
) -> None:
    shape = stream.graph.shape
    norm = block.get_submodule(architecture.attention_norm)
    paths = architecture.query_key_value
    readers = attention_readers(shape.query_heads, shape.key_value_heads, fused=len(paths) == 1)
    by_head = architecture.fused_by_head
    for path, own in zip(paths, readers, strict=True):
        _swap(block, path, lambda linear, own=own: HeadReader(linear, stream, own, by_head))
    first, post_norm = stream.graph.first_head(layer), architecture.attention_post_norm
    _swap(
        block,
        architecture.attention_output,
        lambda linear: HeadWriter(linear, stream, first, shape.query_heads, post_norm is not None),
    )
    if post_norm is not None:
        _hook_post_norm(block.get_submodule(post_norm), stream, first)

    def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if stream.masking:
            read_layer(stream, layer, inputs[0], mlp_everywhere=architecture.shared_norm)

    def after(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if stream.reads is None:
            return None
        stream.reads.fold(norm, architecture.norm)
        # The attention's own code wants [batch, seq, width]; its projections look at the reads. An MLP
        # that shares this norm has its own read, normed.
        return output if architecture.shared_norm else stream.token

    norm.register_forward_pre_hook(before)
    norm.register_forward_hook(after)


def _hook_mlp_norm(norm: nn.Module, stream: WriterStream, layer: int, shared: bool) -> None:
    """A norm that the attention shares has to see every token."""

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        residual = inputs[0]
        scored = None if shared else stream.scored(stream.graph.first_head(layer))
        if scored is not None:
            stream.spread = residual.shape
        if stream.masking:
            return (read_mlp(stream, layer, residual),)
        if scored is None:
            return None
        return (residual.flatten(0, -2)[scored].view(*[1] * (residual.ndim - 2), len(scored), -1),)

    norm.register_forward_pre_hook(hook)


def _hook_final_norm(norm: nn.Module, stream: WriterStream) -> None:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (stream.read_output(inputs[0]),) if stream.masking else None

    norm.register_forward_pre_hook(hook)


def _hook_post_norm(norm: nn.Module, stream: WriterStream, first: int) -> None:
    """The norm after the attention. Its weight is touched here only: under ZeRO-3 the hooks that fetch
    and release it are registered later, so this one runs in between."""

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        heads, stream.heads = stream.heads, None
        if heads is None:
            return None
        writes = share_norm(heads, inputs[0], output, norm)
        if stream.masking:
            return write_through(writes, stream, first)
        stream.write(first, stream.wanted(first, writes))
        return None

    norm.register_forward_hook(hook)


def _hook_mlp(mlp: nn.Module, stream: WriterStream, writer: int) -> None:
    def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        write, spread = output.unsqueeze(0), stream.spread
        thread = write_through(write, stream, writer) if stream.masking else None
        if stream.recording:
            stream.write(writer, write if spread is not None else stream.wanted(writer, write))
        if spread is not None and thread is None:
            thread = output.new_zeros(spread)
            thread.flatten(0, -2)[stream.layout.scored] = output.flatten(0, -2)
        stream.spread = None
        return thread

    mlp.register_forward_hook(hook)


def _hook_output_head(head: nn.Module, positions: AnswerPositions) -> None:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if positions.wanted is None:
            return None
        index = positions.wanted.unsqueeze(-1).expand(-1, -1, inputs[0].shape[-1])
        return (inputs[0].gather(1, index),)

    head.register_forward_pre_hook(hook)


def _swap(block: nn.Module, path: str, new: Callable[[nn.Module], nn.Module]) -> None:
    parent, _, leaf = path.rpartition(".")
    owner = block.get_submodule(parent)
    setattr(owner, leaf, new(getattr(owner, leaf)))
