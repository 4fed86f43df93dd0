"""Edge pruning of CodeLlama-13B's shape on one 80 GB GPU: random bf16 weights, a few steps.

    python -m benchmarks.llama13b_one_gpu [--batch 16] [--seq 32] [--steps 4] [--keep]
    python -m benchmarks.llama13b_one_gpu --scale 4   # a quarter of layers, heads, widths, on a CPU

Needs torch and transformers alone. The weights are made on the device: no copy of them passes through the
CPU. Blocks are computed again in the backward unless `--keep`. Prints the memory plan, seconds a step, and
the measured peak.
"""

import argparse
import sys
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from model_patches import gates
from model_patches.circuit_model import CircuitModel
from model_patches.footprint import Pass, Sizes, buffers, kept_by_autograd, passing, recorded, trained_gates
from trainers.memory import peak, restart_peak, settle


def config(scale: int) -> LlamaConfig:
    """CodeLlama-13B's, with a `scale`-th of the layers, heads and widths."""
    return LlamaConfig(
        vocab_size=32016, num_hidden_layers=40 // scale, num_attention_heads=40 // scale,
        num_key_value_heads=40 // scale, hidden_size=5120 // scale, intermediate_size=13824 // scale,
        max_position_embeddings=16384,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--keep", action="store_true", help="keep activations instead of computing them again"
    )
    parser.add_argument("--scale", type=int, default=1, choices=(1, 2, 4, 5, 8), help="above 1: on a CPU")
    asked = parser.parse_args()
    if asked.scale == 1 and not torch.cuda.is_available():
        sys.exit("no CUDA device here; --scale 8 runs an eighth of the shape on the CPU")
    device = torch.device("cuda" if asked.scale == 1 else "cpu")
    # A CPU computes in float32: its bfloat16 products make copies that a GPU does not.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        whole = AutoModelForCausalLM.from_config(config(asked.scale), dtype=dtype)
    model = CircuitModel(whole)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    loaded = settle(model.parameters(), device)
    run = Pass(1, asked.batch, asked.seq, recompute=not asked.keep)
    planned = _planned(model, run)
    total = (weights + planned) / 1e9
    print(f"weights {weights / 1e9:.2f} GB; plan: {planned / 1e9:.2f} GB above them, {total:.2f} in all")
    restart_peak(device)
    log_alpha = torch.full((model.graph.num_edges,), 2.0, device=device, requires_grad=True)
    optimizer = torch.optim.AdamW([log_alpha], lr=0.1)
    tokens = torch.randint(0, 32016, (2, asked.batch, asked.seq), device=device)
    for step in range(asked.steps):
        start = time.perf_counter()
        loss = _step(model, log_alpha, optimizer, tokens, run)
        print(f"step {step + 1}: {time.perf_counter() - start:.2f} s, KL {loss:.4f}", flush=True)
    measured = peak(device) - loaded
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    ratio = f"plan / measured {planned / measured:.2f}"
    print(f"peak {measured / 1e9:.2f} GB above the model: {ratio} ({name}, torch {torch.__version__})")


def _planned(model: CircuitModel, run: Pass) -> int:
    """As orchestrator/planning/memory.py counts it, without an evaluation."""
    sizes = Sizes.of(model.model.config, model.architecture, model.dtype.itemsize)
    kept = sum(buffers(sizes, run).values()) + recorded(sizes, run.batch, run.seq)
    scattered = kept_by_autograd(sizes, run) + passing(sizes, run) + trained_gates(sizes, run.samples)
    on_gpu = next(model.parameters()).device.type == "cuda"
    return kept + scattered if on_gpu else 50 * 2**20 + kept + int(1.4 * scattered)


def _step(
    model: CircuitModel,
    log_alpha: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    tokens: torch.Tensor,
    run: Pass,
) -> float:
    """References, a masked pass, its backward, and the optimiser's step; the KL."""
    positions = torch.full((run.batch, 1), run.seq - 1, device=tokens.device)
    full = model.full(tokens[0], positions).float().log_softmax(-1)
    states = model.record(tokens[1], lent=True)
    z = gates.sample(log_alpha, torch.rand_like(log_alpha))
    flat = model.graph.flat_index.to(tokens.device)
    keep = (
        log_alpha.new_zeros(model.graph.allowed.numel())
        .index_copy(0, flat, z)
        .view(model.graph.allowed.shape)
    )
    logits = model(tokens[0], keep, states, positions, recompute=run.recompute).float().log_softmax(-1)
    loss = torch.nn.functional.kl_div(logits, full, log_target=True, reduction="batchmean")
    (loss + z.mean()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


if __name__ == "__main__":
    main()
