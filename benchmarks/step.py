"""The cost of an edge-pruning step, against plain Hugging Face, in one process.

    python -m benchmarks.step [--shape gpt2] [--batch 8] [--seq 32] [--rounds 7] [--threads 2] [--device cpu]
                              [--compile]

Random weights; needs torch and transformers alone. `plain` is a forward of the unpatched model and a
backward from the embeddings, logits at the answers' positions only; `cached` is a masked step (forward, KL,
backward to the gates) with its references at hand; `whole` computes them, too. The three take turns, and a
ratio is the median over rounds of the ratio within a round: of CPU seconds (of seconds on a GPU). Memory is
the peak above the loaded models, of a masked step and of a plain one. `per edge` is what `cached` takes
beyond `plain`, in picoseconds per edge, token and number of the width: where it does not rise with a model's
depth, the cost of masking grows no faster than edges × width. With --compile the MLPs of the masked
model go through torch.compile; the whole model cannot: it does not follow writes into the stream's buffers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig

from model_patches import gates
from model_patches.circuit_model import CircuitModel
from model_patches.states import WriterStates
from trainers.memory import in_use, peak, restart_peak


def _gpt2(layers: int) -> PreTrainedConfig:
    return GPT2Config(n_layer=layers)


SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": partial(_gpt2, 12),
    "gpt2-6": partial(_gpt2, 6),
    "gpt2-24": partial(_gpt2, 24),
    "gpt2-48": partial(_gpt2, 48),
    "smollm2-135m": lambda: LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
    ),
    "llama-1b": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True,
    ),
}  # fmt: skip


@dataclass
class Batch:
    clean: Tensor
    corrupted: Tensor
    positions: Tensor


class Steps:
    """The work that is timed, on one model: plain before it is patched, masked after."""

    def __init__(self, shape: str, batch: int, seq: int, device: str, compiled: bool = False) -> None:
        torch.manual_seed(0)
        config = SHAPES[shape]()
        with torch.device(device):
            self.plain_model: Any = AutoModelForCausalLM.from_config(config)
            self.model = CircuitModel(AutoModelForCausalLM.from_config(config))
            shape_of_tokens = (batch, seq)
            self.batch = Batch(
                torch.randint(0, config.vocab_size, shape_of_tokens),
                torch.randint(0, config.vocab_size, shape_of_tokens),
                torch.full((batch, 1), seq - 1),
            )
            self.log_alpha = torch.full((self.model.graph.num_edges,), 2.0, requires_grad=True)
        self.plain_model.eval().requires_grad_(False)
        for block in self.model.blocks if compiled else ():
            mlp = block.get_submodule(self.model.architecture.mlp)
            mlp.forward = torch.compile(mlp.forward)
        self.full: Tensor | None = None
        self.states: WriterStates | None = None

    def plain(self) -> None:
        embeds = self.plain_model.get_input_embeddings()(self.batch.clean).requires_grad_()
        logits = self.plain_model(inputs_embeds=embeds, use_cache=False, logits_to_keep=1).logits
        logits.log_softmax(-1)[..., 0].sum().backward()

    def whole(self) -> None:
        self.full = self.model.full(self.batch.clean, self.batch.positions)
        self.states = self.model.record(self.batch.corrupted, positions=self.batch.positions, lent=True)
        self.cached()

    def cached(self) -> None:
        assert self.full is not None, "the references come first"
        graph, like = self.model.graph, self.log_alpha
        z = gates.sample(like, torch.rand(1, graph.num_edges, device=like.device))[0]
        flat = graph.flat_index.to(like.device)
        keep = like.new_zeros(graph.allowed.numel()).index_copy(0, flat, z).view(graph.allowed.shape)
        logits = self.model(self.batch.clean, keep, self.states, self.batch.positions).log_softmax(-1)
        full = self.full.log_softmax(-1)
        loss = torch.nn.functional.kl_div(logits, full, log_target=True, reduction="batchmean")
        loss.backward()
        self.log_alpha.grad = None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=["gpt2"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    where = (
        f"{asked.device}, {asked.threads} threads, torch {torch.__version__}" + ", compiled" * asked.compile
    )
    print(f"{asked.batch} x {asked.seq} tokens, {where}")
    print(
        f"{'':14}{'edges':>10}{'plain, s':>10}{'cached':>10}{'whole':>10}{'per edge':>10}"
        f"{'MB masked':>11}{'MB plain':>10}"
    )
    for shape in asked.shape:
        steps = Steps(shape, asked.batch, asked.seq, asked.device, asked.compile)
        work = (steps.plain, steps.whole, steps.cached)
        memory = [_peak(step, torch.device(asked.device)) for step in work]
        rounds = [[_cost(step, asked.device) for step in work] for _ in range(asked.rounds)]
        plain = statistics.median(one[0] for one in rounds)
        whole, cached = (statistics.median(one[i] / one[0] for one in rounds) for i in (1, 2))
        numbers = steps.model.graph.num_edges * steps.model.width * asked.batch * asked.seq
        extra = statistics.median(one[2] - one[0] for one in rounds) / numbers
        print(
            f"{shape:14}{steps.model.graph.num_edges:>10,}{plain:>10.3f}{cached:>8.2f} x{whole:>8.2f} x"
            f"{extra * 1e12:>10.0f}{max(memory[1:]) / 1e6:>11.0f}{memory[0] / 1e6:>10.0f}",
            flush=True,
        )


def _cost(work: Callable[[], None], device: str) -> float:
    """CPU seconds of the process, or seconds on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    _wait(device)
    start = clock()
    work()
    _wait(device)
    return clock() - start


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _peak(work: Callable[[], None], device: torch.device) -> int:
    """Bytes above what is in use before, over two runs."""
    before = in_use(device)
    restart_peak(device)
    for _ in range(2):
        work()
    return peak(device) - before


if __name__ == "__main__":
    main()
