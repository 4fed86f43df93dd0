"""The norm in front of a layer's queries, keys and values, folded into their projections.

    normed · W = scale · ((x − mean) · gain ∘ W) + shift · W,    scale = 1 / √(variance + eps)

Every head reads an x of its own, so norming them all would write as many residual streams again; folded,
only a head's output is scaled. Subtracting the mean is folded as well: x − mean = x · C, and C · (gain ∘ W)
is gain ∘ W less its mean over the width. RMS norms leave the mean where it is.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from model_patches.architectures import NormKind
from model_patches.layout import Kept


@dataclass(frozen=True)
class FoldedNorm:
    """A norm's values: copies, as ZeRO-3 takes a parameter back after the norm's forward."""

    centered: bool
    eps: float
    gain: Float[Tensor, " width"] | None  # None is 1
    shift: Float[Tensor, " width"] | None  # None is 0

    @classmethod
    def of(cls, norm: Any, kind: NormKind) -> "FoldedNorm | None":
        """None for `none`. Call it inside the norm's forward."""
        if kind == "none":
            return None
        eps = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
        gain, shift = norm.weight, getattr(norm, "bias", None)
        if gain is not None:
            gain = gain.detach() + 1 if kind == "rms_plus_one" else gain.detach().clone()
        return cls(kind == "layer", eps, gain, None if shift is None else shift.detach().clone())

    def fold(self, weight: Float[Tensor, "width out"], memory: Kept) -> Float[Tensor, "width out"]:
        """C · (gain ∘ weight), which lies in memory as the weight does."""
        gain = weight.new_ones(()) if self.gain is None else self.gain.to(weight.dtype)[:, None]
        transposed = weight.stride(0) < weight.stride(1)
        folded = (
            memory.take(weight.t().shape, weight).t() if transposed else memory.take(weight.shape, weight)
        )
        if not self.centered:
            return torch.mul(weight, gain, out=folded)
        mean = gain.expand(len(weight), 1).t() @ weight / len(weight)
        return torch.addcmul(-mean, weight, gain, out=folded)

    def bias(self, weight: Float[Tensor, "width out"], bias: Tensor | None) -> Float[Tensor, " out"] | None:
        """shift · weight, and a projection's own bias."""
        if self.shift is None:
            return bias
        shift = self.shift.to(weight.dtype)
        return shift @ weight if bias is None else torch.addmv(bias, weight.t(), shift)

    def moments(self, x: Float[Tensor, "... width"]) -> tuple[Tensor | None, Float[Tensor, "... 1"]]:
        """The mean, where it is subtracted, and the scale: [..., 1] each, in float32 at least."""
        wide = torch.promote_types(x.dtype, torch.float32)
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square() / x.shape[-1]
        if not self.centered:
            return None, torch.rsqrt(square + self.eps)
        # torch.var_mean is eight times as slow on a CPU. What this loses, 1e-7 · (mean / deviation)² of the
        # variance, is less than a float32 norm's own rounding while no mean is ten deviations large.
        mean = x.mean(-1, keepdim=True, dtype=wide)
        return mean, torch.rsqrt((square - mean.square()).clamp_(min=0) + self.eps)
