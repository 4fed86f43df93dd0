"""FusedGelu: GPT-2's activation in one kernel.

Hugging Face spells `gelu_new` out in eight operations. Each passes over the MLP's widest tensor, and four
keep one for the backward. torch has the same function in one, which keeps one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import NewGELUActivation

from model_patches.stream import WriterStream

EXACT = (
    torch.float32,
    torch.float64,
)  # in bf16 the spelled-out form rounds eight times, and the model with it


class FusedGelu(nn.Module):
    """gelu_new. In a plain pass it computes what the model computed, to the last bit."""

    def __init__(self, spelled_out: NewGELUActivation, stream: WriterStream) -> None:
        super().__init__()
        self.spelled_out = spelled_out
        self.stream = stream

    def forward(self, x: Tensor) -> Tensor:
        if self.stream.running and x.dtype in EXACT:
            return F.gelu(x, approximate="tanh")
        return self.spelled_out(x)


def fuse_activations(block: nn.Module, stream: WriterStream) -> None:
    """Replaces the spelled-out activations of a block."""
    for owner in list(block.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, NewGELUActivation):
                setattr(owner, name, FusedGelu(child, stream))
