"""A small GPT-2 that knows induction: the model of `sweeps/path_induction.yaml`.

    python -m benchmarks.induction_model models/induction

Trained from random weights on repeated random tokens, the prompts of trainers/tasks/induction.py, until it
answers nearly all of them. The same versions of torch and the same processor give the same weights.
Needs torch and transformers alone.
"""

import argparse
import sys

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

VOCABULARY, PERIOD, SHOWN = 64, 8, 4
STEPS, BATCH, RATE = 3000, 128, 2e-3
ENOUGH = 0.98


def main(folder: str) -> int:
    """Trains and saves; exit code 1 when the model does not know the task well enough."""
    set_seed(0)
    shape = GPT2Config(
        vocab_size=VOCABULARY, n_positions=2 * PERIOD, n_embd=64, n_layer=4, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
    for step in range(STEPS):
        tokens = prompts(BATCH)
        logits = model(tokens).logits[:, PERIOD - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, PERIOD:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 499:
            print(f"step {step + 1}: loss {float(loss):.3f}", flush=True)
    known = accuracy(model.eval())
    model.save_pretrained(folder)
    print(f"{folder}: answers {known:.1%} of 4,096 prompts (wanted {ENOUGH:.0%})")
    return 0 if known >= ENOUGH else 1


def prompts(count: int) -> Tensor:
    """int64 [count, 2 * PERIOD]: distinct random tokens, twice."""
    first = torch.rand(count, VOCABULARY).argsort(1)[:, :PERIOD]
    return torch.cat([first, first], 1)


@torch.no_grad()
def accuracy(model: GPT2LMHeadModel) -> float:
    """The share of prompts whose right next token is the most probable one, after SHOWN repeated tokens."""
    tokens = prompts(4096)
    last = PERIOD + SHOWN - 1
    return float((model(tokens).logits[:, last].argmax(-1) == tokens[:, last + 1]).float().mean())


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("folder", nargs="?", default="models/induction")
    sys.exit(main(arguments.parse_args().folder))
