"""The cost of an edge-pruning step on the GPT-2 small shape, against plain Hugging Face, in one process.

    python benchmarks/step.py [--batch 8] [--seq 32] [--steps 3] [--threads 2]

Random weights; needs torch and transformers alone. Prints seconds, ratios and the peak memory above
the loaded model. `plain` is a forward and a backward from the embeddings to the answer's logits.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from model_patches import gates
from model_patches.circuit_model import CircuitModel


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval().requires_grad_(False)
    tokens = torch.randint(0, 50257, (arguments.batch, arguments.seq))
    corrupted = torch.randint(0, 50257, (arguments.batch, arguments.seq))
    positions = torch.full((arguments.batch, 1), arguments.seq - 1)
    plain = _median(lambda: _plain(model, tokens), arguments.steps)
    loaded = _peak()
    circuit_model = CircuitModel(model)
    log_alpha = torch.full((circuit_model.graph.num_edges,), 2.0, requires_grad=True)
    full, states = circuit_model.full(tokens, positions), circuit_model.record(corrupted)

    def cached() -> None:
        _masked(circuit_model, log_alpha, tokens, positions, full, states)

    def uncached() -> None:
        references = circuit_model.full(tokens, positions), circuit_model.record(corrupted)
        _masked(circuit_model, log_alpha, tokens, positions, *references)

    masked, with_references = _median(cached, arguments.steps), _median(uncached, arguments.steps)
    print(f"plain Hugging Face, forward + activation backward: {plain:.2f} s")
    print(f"edge-pruning step, cached references:              {masked:.2f} s = {masked / plain:.2f} x plain")
    print(f"edge-pruning step, references in the step:         {with_references:.2f} s", end="")
    print(f" = {with_references / plain:.2f} x plain")
    print(f"peak memory above the plain pass: {(_peak() - loaded) / 1e9:.2f} GB")
    print(f"torch {torch.__version__}, {arguments.threads} threads, edges {circuit_model.graph.num_edges}")


def _plain(model: GPT2LMHeadModel, tokens: Tensor) -> None:
    embeds = model.transformer.wte(tokens).requires_grad_()
    logits = model(inputs_embeds=embeds, use_cache=False, logits_to_keep=1).logits
    logits.log_softmax(-1)[..., 0].sum().backward()


def _masked(
    model: CircuitModel, log_alpha: Tensor, tokens: Tensor, positions: Tensor, full: Tensor, states: Any
) -> None:
    graph = model.graph
    z = gates.sample(log_alpha, torch.rand(1, graph.num_edges))[0]
    keep = torch.zeros(graph.allowed.numel()).index_copy(0, graph.flat_index, z).view(graph.allowed.shape)
    logits = model(tokens, keep, states, positions).log_softmax(-1)
    loss = torch.nn.functional.kl_div(logits, full.log_softmax(-1), log_target=True, reduction="batchmean")
    loss.backward()
    log_alpha.grad = None


def _median(work: Callable[[], None], steps: int) -> float:
    work()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
