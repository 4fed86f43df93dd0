"""What passes take, from sizes alone, against the buffers that they are."""

from typing import Any

import pytest
import torch

from model_patches.circuit_model import CircuitModel
from model_patches.footprint import Pass, Sizes, buffers, kept_by_autograd, recorded
from tests.tiny_models import KINDS, tiny_model, tokens


def sizes_of(model: CircuitModel) -> Sizes:
    config: Any = model.model.config
    return Sizes.of(config, model.architecture, model.dtype.itemsize)


def step(model: CircuitModel, run: Pass) -> None:
    states = model.record(tokens(run.batch, run.seq, seed=2), lent=True)
    keep = torch.rand(run.samples, *model.graph.exists.shape, requires_grad=run.backward)
    positions = torch.arange(run.seq - run.scored, run.seq).repeat(run.batch, 1)
    logits = model(tokens(run.batch, run.seq, seed=1), keep, states, positions, recompute=run.recompute)
    if run.backward:
        logits.sum().backward()


@pytest.mark.parametrize(
    "run",
    [
        Pass(1, 3, 7),
        Pass(4, 2, 5, scored=2),
        Pass(2, 2, 5, scored=3),  # too many for a buffer of their own
        Pass(2, 3, 6, recompute=True),
        Pass(2, 2, 4, backward=False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_keeps_what_is_told(kind: str, dtype: torch.dtype, run: Pass) -> None:
    model = CircuitModel(tiny_model(kind, dtype))
    step(model, run)
    stream = model.stream
    kept = {
        "differences": [one.memory for one in stream.masked],
        "gradients": [memory for one in stream.masked for memory in one.gradients._memory],
        "reads": [one.reads for one in stream.masked],
    }
    expected = buffers(sizes_of(model), run)
    assert {name: sum(one._flat.nbytes for one in memory) for name, memory in kept.items()} == expected
    assert sum(memory._flat.nbytes for memory in stream._lent) == recorded(
        sizes_of(model), run.batch, run.seq
    )


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma", "opt"])
def test_what_autograd_keeps_is_about_what_is_told(kind: str) -> None:
    """Counted tensor by tensor, without weights and the stream's buffers. GPT-NeoX's is left out: its count
    was half as much again once DeepSpeed had been loaded in the process, and why is not known."""
    model, run = CircuitModel(tiny_model(kind, layers=4)), Pass(1, 8, 32)
    step(model, run)
    stream = model.stream
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    known |= {
        memory._flat.untyped_storage().data_ptr()
        for memory in (*stream._lent, *(kept for one in stream.masked for kept in (one.memory, one.reads)))
    }
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step(model, run)
    counted = sum(one.untyped_storage().nbytes() for place, one in found.items() if place not in known)
    assert counted == pytest.approx(kept_by_autograd(sizes_of(model), run), rel=0.35)
