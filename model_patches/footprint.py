"""Footprint: how many bytes a masked pass takes, from sizes alone: no tensor, no torch.

What the stream keeps is exact (tests/test_footprint.py holds it against the buffers); what autograd keeps
of Hugging Face's own code was counted once, tensor by tensor, and what passes by is what was large
at the peak (benchmarks/memory_plan.py compares the whole with measured peaks). Bytes throughout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_patches.architectures import Architecture, shape_of
from model_patches.graph import Shape

GATED = 3  # [tokens, inner] that a gated MLP keeps: the gate before and after its activation, and the rest
SPELLED_OUT = "gelu_fast"  # an activation in several steps, which keep four
SPELLED_OUT_IN_16_BITS = "gelu_new"  # see activations.py
STEPPED, FUSED = 4, 1
LOSS = 6  # [answers, vocab] in float32 of a divergence and its backward


@dataclass(frozen=True)
class Sizes:
    """What of a model decides what its passes take. `number`: bytes of one. `mlp_kept`: tensors [tokens,
    inner] that its MLP keeps for the backward."""

    shape: Shape
    width: int
    head_dim: int
    inner: int
    vocab: int
    number: int
    mlp_kept: int
    shared_norm: bool = False  # of attention and MLP, which then reads at every token

    @classmethod
    def of(cls, config: object, architecture: Architecture, number: int) -> "Sizes":
        """From what has a config's fields. Raises AttributeError for what lacks its sizes."""
        told: Mapping[str, Any] = vars(config)
        shape, width = shape_of(config, architecture), told.get("hidden_size")
        width = width or getattr(config, "hidden_size")  # noqa: B009  # an alias: GPT-2's n_embd
        inner = next(
            (told[name] for name in ("intermediate_size", "ffn_dim", "n_inner") if told.get(name)), None
        )
        names = ("hidden_act", "activation_function", "hidden_activation")
        activation = next((told[name] for name in names if told.get(name)), "gelu_new")
        stepped = activation == SPELLED_OUT or (activation == SPELLED_OUT_IN_16_BITS and number < 4)
        ungated = STEPPED if stepped else FUSED
        return cls(
            shape, width, told.get("head_dim") or width // shape.query_heads, inner or 4 * width,
            getattr(config, "vocab_size"), number, GATED if architecture.gated_mlp else ungated,  # noqa: B009
            architecture.shared_norm,
        )  # fmt: skip

    @property
    def readers(self) -> int:
        """Of a layer."""
        return self.shape.query_heads + 2 * self.shape.key_value_heads + 1

    @property
    def cells(self) -> int:
        """Pairs of a writer and a reader."""
        writers, readers = self.shape.size
        return writers * readers


@dataclass(frozen=True)
class Pass:
    """A masked pass: samples of gates, each on all examples; scored positions of each; whether a backward
    follows, and computes blocks again."""

    samples: int
    batch: int
    seq: int
    scored: int = 1
    backward: bool = True
    recompute: bool = False

    @property
    def tokens(self) -> int:
        return self.samples * self.batch * self.seq

    @property
    def answers(self) -> int:
        return self.samples * self.batch * self.scored

    @property
    def apart(self) -> int:
        """Tokens that have a buffer of their own: see Layout.of."""
        return self.answers if 2 * self.scored <= self.seq else 0


def buffers(sizes: Sizes, run: Pass) -> dict[str, int]:
    """What the stream keeps from pass to pass: see WriterStream."""
    writers, _ = sizes.shape.size
    of_last, number = sizes.shape.query_heads + 1, sizes.width * sizes.number
    few = sizes.shape.query_heads + (not sizes.shared_norm) if run.apart else 0  # that read at the answers
    everywhere, apart = run.tokens * number, run.apart * number
    every = run.backward and not run.recompute
    return {
        "differences": (1 + writers - (of_last if apart else 0)) * everywhere + (1 + writers) * apart,
        "gradients": writers * (everywhere + apart) if run.backward else 0,
        "reads": (sizes.shape.layers * sizes.readers - few if every else sizes.readers) * everywhere
        + few * apart,
    }


def recorded(sizes: Sizes, batch: int, seq: int) -> int:
    """A corrupted run's writes, and the sums that groups of readers start from: see WriterStates."""
    writers, _ = sizes.shape.size
    return (writers + 2 * sizes.shape.layers + 1) * batch * seq * sizes.width * sizes.number


def kept_by_autograd(sizes: Sizes, run: Pass) -> int:
    """Between a forward and its backward, besides the stream's buffers; of one layer where blocks are
    computed again."""
    if not run.backward:
        return 0
    query, both = sizes.shape.query_heads, 2 * sizes.shape.key_value_heads
    # What the heads project, then with bias or rotated; what attention gives out.
    heads = (2 * (query + both) + query) * sizes.head_dim * sizes.number
    moments = 2 * 4 * sizes.readers + 4 * query
    norm = 4 * sizes.width  # the MLP's norm keeps its input in float32
    mlp = norm + sizes.mlp_kept * sizes.inner * sizes.number
    if run.recompute:
        return run.tokens * (heads + moments + mlp)
    layers = sizes.shape.layers  # the last one's MLP sees the answers alone
    return layers * run.tokens * (heads + moments) + ((layers - 1) * run.tokens + run.answers) * mlp


def passing(sizes: Sizes, run: Pass) -> int:
    """The largest of what is there for a moment: of the loss, of an MLP, of gates by token."""
    loss = LOSS * run.answers * sizes.vocab * 4
    mlp = 3 * run.tokens * sizes.inner * sizes.number
    writers, _ = sizes.shape.size
    gates = 2 * run.tokens * sizes.readers * writers * sizes.number if run.samples > 1 and run.backward else 0
    return max(loss, mlp, gates)


def trained_gates(sizes: Sizes, samples: int) -> int:
    """Gates of all edges, each with what sampling keeps; their matrices and the gradients of these; the
    optimiser's float32 copies and moments."""
    return samples * sizes.cells * (5 * 4 + 12) + 8 * 4 * sizes.cells // 2
