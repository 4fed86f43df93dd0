"""Hard-concrete gates (Louizos et al. 2018), one per edge, as Edge Pruning uses them.

A gate is z = min(1, max(0, s·(r − l) + l)) with s = sigmoid((log u − log(1 − u) + log_alpha) / T) and
u uniform: exactly 0 or 1 with positive probability, differentiable in between. Edge Pruning's
constants (appendix B): T = 2/3, l = -0.1, r = 1.1, and log_alpha starts near 10, where every gate is 1.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

TEMPERATURE = 2 / 3
LEFT, RIGHT = -0.1, 1.1
EPSILON = 1e-6  # keeps u off 0 and 1
PUBLISHED_FACTOR = 0.8  # of log_alpha / T in the published deterministic mask
QUADRATURE = 64


def sample(log_alpha: Float[Tensor, " gates"], uniform: Float[Tensor, "*samples gates"]) -> Tensor:
    """Gates in [0, 1] from uniform noise in (0, 1); broadcasts over samples."""
    uniform = uniform.clamp(EPSILON, 1 - EPSILON)
    concrete = torch.sigmoid((uniform.log() - (-uniform).log1p() + log_alpha) / TEMPERATURE)
    return (concrete * (RIGHT - LEFT) + LEFT).clamp(0, 1)


def probability_open(log_alpha: Float[Tensor, " gates"]) -> Float[Tensor, " gates"]:
    """P(gate > 0) (Louizos et al., eq. 12)."""
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LEFT / RIGHT))


def expected(log_alpha: Float[Tensor, " gates"]) -> Float[Tensor, " gates"]:
    """E[gate] = ∫ P(gate > t) dt over [0, 1], by the midpoint rule; smooth in log_alpha everywhere."""
    levels = (torch.arange(QUADRATURE, dtype=log_alpha.dtype, device=log_alpha.device) + 0.5) / QUADRATURE
    concrete = (levels - LEFT) / (RIGHT - LEFT)
    return torch.sigmoid(log_alpha - TEMPERATURE * torch.logit(concrete).unsqueeze(1)).mean(0)


def published_mask(
    log_alpha: Float[Tensor, " gates"], tensor_of: Int[Tensor, " gates"]
) -> Float[Tensor, " gates"]:
    """The published deterministic gates: sigmoid(0.8 · log_alpha / T), with the
    round(E[number of zeros]) smallest set to 0 in each of the published code's parameter tensors.

    `tensor_of` numbers the tensor that each gate is kept in there.
    """
    soft = torch.sigmoid(PUBLISHED_FACTOR * log_alpha / TEMPERATURE)
    closed = 1 - probability_open(log_alpha)
    for tensor in tensor_of.unique():
        members = (tensor_of == tensor).nonzero().squeeze(1)
        zeros = round(float(closed[members].sum()))
        smallest = members[torch.sort(soft[members], stable=True).indices[:zeros]]
        soft = soft.index_fill(0, smallest, 0.0)
    return soft


def noise(shape: tuple[int, ...], seed: int, step: int, sample_index: int) -> Float[Tensor, "..."]:
    """Uniform noise keyed by (seed, step, sample): the same on every rank, after every resume."""
    key = (seed * 1_000_003 + step) * 1_009 + sample_index
    generator = torch.Generator().manual_seed(key % (2**63 - 1))
    return torch.rand(shape, generator=generator, dtype=torch.float64)
