"""A tiny random GPT-2 with a tokenizer of its own that knows the words of the text tasks."""

import random
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from model_patches.circuit_model import CircuitModel
from trainers.model import Loaded, ModelSpec
from trainers.tasks.text import TextTask


def words(tasks: Iterable[TextTask], pairs: int = 3000) -> list[str]:
    """Those of the tasks' texts, and all numbers of one and two digits."""
    unread: Any = None  # the model: no task's texts depend on it
    texts = {
        text
        for task in tasks
        for pair in islice(task.pairs(random.Random(0), unread), pairs)
        for spans in pair.versions
        for text in re.findall(r"[^\W\d]+", "".join(spans))
    }
    return sorted(texts) + [f"{number:02}" for number in range(100)]


def tokenizer(words: list[str], digits: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which each word, alone or after a space, is one token. `digits`: every digit
    is a token of its own, as in SmolLM2; else two digits are one, as in most years in GPT-2."""
    built = Tokenizer(models.BPE())
    alone: Any = pre_tokenizers.Digits(individual_digits=True)
    first = alone if digits else pre_tokenizers.Split(Regex(r" ?\d{1,2}"), "isolated")
    built.pre_tokenizer = pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        show_progress=False,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    built.train_from_iterator([f"{word} {word}" for word in words for _ in range(2)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<|end|>")


def save(folder: Path, words: list[str], digits: bool = False) -> Path:
    """config.json, weights and tokenizer files."""
    tokens = tokenizer(words, digits)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(tokens), n_positions=512, n_embd=32, n_layer=2, n_head=4,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> Loaded:
    spec = ModelSpec.parse({"path": str(folder)}, "model")
    model: Any = GPT2LMHeadModel.from_pretrained(folder)
    return Loaded(spec, 0, CircuitModel(model), None)
