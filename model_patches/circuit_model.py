"""CircuitModel: a language model that can be run with any of its edges cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model_patches.architectures import architecture_of, blocks_of, shape_of
from model_patches.graph import EdgeGraph, Embeddings
from model_patches.patching import patch
from model_patches.stream import WriterStates


class CircuitModel(nn.Module):
    """Wraps and patches `model` (a Hugging Face causal language model or a TracrModel).

    The weights are frozen and dropout is off, always. Batches are padded on the right: attention
    is causal, so padding changes no scored logit. (Tracr programs attend both ways; their inputs
    all have one length.)

    Raises ValueError when the model's family is not in ARCHITECTURES.
    """

    def __init__(self, model: nn.Module, embeddings: Embeddings = "maskable") -> None:
        super().__init__()
        config: Any = model.config
        self.architecture = architecture_of(config.model_type)
        self.graph = EdgeGraph(shape_of(config, self.architecture), embeddings)
        self.model = model.eval().requires_grad_(False)
        self.stream, self.positions = patch(model, self.architecture, self.graph)

    def train(self, mode: bool = True) -> "CircuitModel":
        """Only the gates train: the model stays in eval mode, whatever an engine asks for."""
        del mode
        return super().train(False)

    @property
    def blocks(self) -> list[nn.Module]:
        return blocks_of(self.model, self.architecture)

    @torch.no_grad()
    def full(
        self, tokens: Int[Tensor, "batch seq"], positions: Int[Tensor, "batch scored"] | None = None
    ) -> Float[Tensor, "batch scored vocab"]:
        """Logits of the full model at `positions` (at every position if None)."""
        return self._logits(tokens, positions)

    @torch.no_grad()
    def record(self, corrupted: Int[Tensor, "batch seq"]) -> WriterStates:
        """What every writer writes in a run on corrupted tokens."""
        try:
            self.stream.record()
            self._logits(corrupted, corrupted.new_zeros(len(corrupted), 1))
            return self.stream.states()
        finally:
            self.stream.stop()

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        keep: Float[Tensor, "*samples writers readers"],
        corrupted: WriterStates | None,
        positions: Int[Tensor, "batch scored"] | None = None,
    ) -> Float[Tensor, "*samples batch scored vocab"]:
        """Logits when edge (w, r) carries `corrupted_w + keep[w, r] · (clean_w − corrupted_w)`.

        Several samples of gates run side by side in one pass, each on the whole batch.
        `corrupted=None` is zero ablation (corrupted_w = 0). Differentiable in `keep`; call
        backward before the next forward. Always-on embeddings must be 1 in `keep`.
        """
        by_sample = keep if keep.ndim == 3 else keep.unsqueeze(0)
        samples, batch = by_sample.shape[0], tokens.shape[0]
        assert by_sample.shape[1:] == self.graph.exists.shape, f"gates {tuple(keep.shape)} for another graph"
        if corrupted is not None:
            found = corrupted.writers.shape[1:3]
            assert found == tokens.shape, (
                f"a corrupted run of {tuple(found)} for tokens {tuple(tokens.shape)}"
            )
        with self._masked(tokens, by_sample, corrupted):
            wanted = None if positions is None else positions.repeat(samples, 1)
            logits = self._logits(tokens.repeat(samples, 1), wanted)
        return logits.view(samples, batch, *logits.shape[1:]) if keep.ndim == 3 else logits

    @contextmanager
    def _masked(self, tokens: Tensor, keep: Tensor, corrupted: WriterStates | None) -> Iterator[None]:
        self.stream.fit(keep.shape[0] * tokens.numel(), self.width, self.dtype, tokens.device)
        self.stream.mask(keep, corrupted)
        try:
            yield
        finally:
            self.stream.stop()

    def _logits(self, tokens: Tensor, positions: Tensor | None) -> Tensor:
        self.positions.wanted = positions
        try:
            return self.model(input_ids=tokens, use_cache=False).logits
        finally:
            self.positions.wanted = None

    @property
    def width(self) -> int:
        config: Any = self.model.config
        return config.hidden_size

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype
