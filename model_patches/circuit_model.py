"""CircuitModel: a language model that can be run with any of its edges cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from model_patches.architectures import architecture_of, blocks_of, shape_of
from model_patches.graph import EdgeGraph, Embeddings, OutputBias
from model_patches.layout import Layout
from model_patches.patching import patch
from model_patches.recompute import recomputable
from model_patches.states import WriterStates


class CircuitModel(nn.Module):
    """Wraps and patches `model` (a Hugging Face causal language model or a TracrModel).

    The weights are frozen and dropout is off, always. Batches that are padded on the right need
    nothing more: attention is causal, so padding changes no scored logit. (Tracr programs attend both
    ways; their inputs all have one length.) Batches padded on the left say where there is a token, in
    `real`; an example's logits are then those it has alone, and are finite where there is no token
    (except Gemma 2 in float64: Hugging Face's eager attention gives NaN for such an example).

    Raises ValueError when the model's family is not in ARCHITECTURES or its layout is another.
    """

    def __init__(self, model: nn.Module, embeddings: Embeddings = "maskable") -> None:
        super().__init__()
        config: Any = model.config
        self.architecture = architecture_of(config.model_type)
        self.graph = EdgeGraph(shape_of(config, self.architecture), embeddings)
        self.model = model.eval().requires_grad_(False)
        self.stream, self.positions = patch(model, self.architecture, self.graph)
        for block in self.blocks:
            recomputable(block, self.stream)

    def train(self, mode: bool = True) -> "CircuitModel":
        """Only the gates train: the model stays in eval mode, whatever an engine asks for."""
        del mode
        return super().train(False)

    @property
    def blocks(self) -> list[nn.Module]:
        return blocks_of(self.model, self.architecture)

    @torch.no_grad()
    def full(
        self,
        tokens: Int[Tensor, "batch seq"],
        positions: Int[Tensor, "batch scored"] | None = None,
        real: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch scored vocab"]:
        """Logits of the full model at `positions` (at every position if None)."""
        with self._pass():
            self.stream.plain(self._layout(1, tokens, positions))
            return self._logits(tokens, positions, real)

    @torch.no_grad()
    def record(
        self,
        corrupted: Int[Tensor, "batch seq"],
        real: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch scored"] | None = None,
        lent: bool = False,
    ) -> WriterStates:
        """What every writer writes in a run on corrupted tokens. Given `positions`, the states are good for
        masked passes that want these positions' logits: what the last layer writes elsewhere is 0 in them.
        `lent` states lie in memory that the next lent ones are written to: nothing new has to be taken from
        the system at every step."""
        with self._pass():
            self.stream.record(self._layout(1, corrupted, positions), self._like, lent)
            self._logits(corrupted, corrupted.new_zeros(len(corrupted), 0), real)  # no logits are wanted
            return self.stream.states()

    @torch.no_grad()
    def zeros(self, output_bias: OutputBias) -> WriterStates | None:
        """What to give `forward` as `corrupted` for zero ablation; its batch and seq are 1.

        The two conventions differ in whose an attention layer's output bias is. `shared`: every head
        writes an equal share of it, so a cut head leaves nothing behind; this is published (Edge
        Pruning) and needs no states: None. `kept`: it is no head's, so a cut head leaves its share
        behind. The same for models without such a bias. Runs the model on one token: under ZeRO-3 all
        ranks call it together. Raises ValueError for `kept` when a norm follows a bias (Gemma 2 and 3
        with attention_bias): what it leaves then depends on the pass.
        """
        if output_bias == "shared":
            return None
        token = torch.zeros(1, 1, dtype=torch.long, device=self._like.device)
        with self._pass():
            self.stream.record(self._layout(1, token, None), self._like)
            self._logits(token, None, None)
            writers = torch.zeros_like(self.stream.states().writers)
            for first, share in self.stream.bias_shares.items():
                writers[first : first + self.graph.shape.query_heads] = share
        if self.architecture.attention_post_norm is not None and writers.any():
            raise ValueError(
                "output_bias 'kept' is not defined for this model: its attention output has a bias and a "
                "norm after it; allowed: 'shared'"
            )
        return WriterStates.of(self.graph, writers)

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        keep: Float[Tensor, "*samples writers readers"],
        corrupted: WriterStates | None,
        positions: Int[Tensor, "batch scored"] | None = None,
        real: Bool[Tensor, "batch seq"] | None = None,
        recompute: bool = False,
    ) -> Float[Tensor, "*samples batch scored vocab"]:
        """Logits when edge (w, r) carries `corrupted_w + keep[w, r] · (clean_w − corrupted_w)`.

        Several samples of gates run side by side in one pass, each on the whole batch.
        `corrupted=None` is zero ablation (corrupted_w = 0); states whose batch or seq is 1, such as a
        mean over a reference set, serve all examples or positions. Differentiable in `keep`; call
        backward before the next forward. Always-on embeddings must be 1 in `keep`. With `recompute`
        the backward computes every block again, which takes less memory and gives the same (recompute.py).
        """
        by_sample = keep if keep.ndim == 3 else keep.unsqueeze(0)
        samples, batch = by_sample.shape[0], tokens.shape[0]
        assert by_sample.shape[1:] == self.graph.exists.shape, f"gates {tuple(keep.shape)} for another graph"
        if corrupted is not None:
            found = tuple(corrupted.writers.shape[1:3])
            fits = all(size in (1, wanted) for size, wanted in zip(found, tokens.shape, strict=True))
            assert fits, f"a corrupted run of {found} for tokens {tuple(tokens.shape)}"
        with self._pass():
            layout = self._layout(samples, tokens, positions)
            self.stream.mask(by_sample, corrupted, layout, self._like, recompute)
            repeated = [None if x is None else x.repeat(samples, 1) for x in (positions, real)]
            logits = self._logits(tokens.repeat(samples, 1), *repeated)
        return logits.view(samples, batch, *logits.shape[1:]) if keep.ndim == 3 else logits

    @contextmanager
    def _pass(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.stream.stop()

    def _logits(self, tokens: Tensor, positions: Tensor | None, real: Tensor | None) -> Tensor:
        self.positions.wanted = positions
        padding: dict[str, Tensor] = {}
        if real is not None:
            assert real.shape == tokens.shape, f"real is {tuple(real.shape)}, tokens {tuple(tokens.shape)}"
            padding = {"attention_mask": real.long(), "position_ids": (real.cumsum(-1) - 1).clamp(min=0)}
        try:
            return self.model(input_ids=tokens, use_cache=False, **padding).logits
        finally:
            self.positions.wanted = None

    def _layout(self, samples: int, tokens: Tensor, positions: Tensor | None) -> Layout:
        return Layout.of(samples, tokens, positions, self.width)

    @property
    def _like(self) -> Tensor:
        """Has the model's dtype and device."""
        return next(self.model.parameters())

    @property
    def width(self) -> int:
        config: Any = self.model.config
        return config.hidden_size

    @property
    def dtype(self) -> torch.dtype:
        return self._like.dtype
