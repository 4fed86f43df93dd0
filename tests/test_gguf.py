"""GGUF files: converted once, exactly, by however many processes; every fault is told in one line."""

import json
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from tests import gguf_files, worded_model
from trainers.model import Loaded, ModelSpec
from trainers.sources import converted
from trainers.sources.converted import cache_folder
from trainers.sources.gguf_file import read_header
from trainers.sources.pretrained import load_tokenizer, load_weights
from trainers.spec import SpecError

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
SENTENCES = ("Mary gave 1732 drinks", "a\n\n1. b", "two  3", " Mary, John's 17", "naïve – ok\t9")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIRCUIT_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_in(cache: Path) -> list[str]:
    """Folders in the cache, whole or in part."""
    return [path.name for path in (cache / "gguf").iterdir() if path.is_dir()]


@pytest.mark.parametrize("tied", [True, False])
def test_the_converted_model_is_the_one_that_was_written(tmp_path: Path, tied: bool) -> None:
    original = gguf_files.llama(61, tied)
    folder = converted.converted(gguf_files.write(tmp_path / "m.gguf", original))
    model = load_weights(folder, torch.float32)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in original.named_parameters()]
    for name, parameter in original.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, original(TOKENS).logits)
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config and config["tie_word_embeddings"] is tied
    assert not list(folder.glob("*.bin"))


def test_quantised_weights_are_dequantised(tmp_path: Path) -> None:
    original = gguf_files.llama(61)
    file = gguf_files.write(tmp_path / "m.gguf", original, kind=gguf.GGMLQuantizationType.Q8_0)
    model = load_weights(converted.converted(file), torch.bfloat16)
    for name, parameter in original.named_parameters():
        ours = model.get_parameter(name)
        assert ours.dtype == torch.bfloat16
        assert 0 < (ours - parameter).abs().max() < 0.02, name


def test_a_file_is_converted_once_whatever_it_is_called(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(61))
    spec = ModelSpec(path=str(file))
    before, identity = converted.converted(file), spec.identity()
    renamed = file.rename(tmp_path / "renamed.gguf")
    monkeypatch.setattr(converted, "_convert", None)
    assert converted.converted(renamed) == before and len(left_in(cache)) == 1
    assert ModelSpec(path=str(renamed)).identity() == identity
    other = gguf_files.write(tmp_path / "other.gguf", gguf_files.llama(60))
    assert ModelSpec(path=str(other)).identity() != identity


def test_processes_at_once_convert_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread opens the lock itself, as another process would; what a killed one left is gone."""
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(61))
    name = f"{ModelSpec(path=str(file)).identity()['digest']}-{converted.CONVERSION}"
    (cache / "gguf" / f".{name}-killed").mkdir(parents=True)
    calls, found, convert = [], [], converted._convert

    def counted(*arguments: object) -> None:
        calls.append(arguments)
        convert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(converted, "_convert", counted)
    threads = [threading.Thread(target=lambda: found.append(converted.converted(file))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and found == [cache / "gguf" / name] * 3
    assert left_in(cache) == [name]


def tokenizer_of(file: Path) -> Loaded:
    return Loaded(ModelSpec(path=str(file)), 0, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("split, digits", [("smollm", True), ("gpt-2", False)])
def test_the_tokenizer_is_the_one_that_was_written(tmp_path: Path, split: str, digits: bool) -> None:
    """`smollm` splits digits before words: where a space or a line break meets a digit, GPT-2's split
    gives other tokens."""
    original = worded_model.tokenizer(["Mary", "John", "gave", "\n\n", "  ", "17", "drinks"], digits)
    if split == "gpt-2":
        original.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(len(original)), original, split)
    tokenizer = tokenizer_of(file).tokenizer
    for sentence in SENTENCES:
        assert tokenizer(sentence).input_ids == original(sentence).input_ids
        assert tokenizer.decode(tokenizer(sentence).input_ids) == sentence
    assert (tokenizer.tokenize("17") == ["1", "7"]) is digits
    assert tokenizer.eos_token == original.eos_token and tokenizer.bos_token is None


def test_a_tokenizer_that_splits_in_an_unknown_way_is_refused_when_a_task_asks(tmp_path: Path) -> None:
    original = worded_model.tokenizer(["Mary"])
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(len(original)), original, "novel")
    load_weights(converted.converted(file), torch.float32)
    said = r"model: m.gguf has no tokenizer \(the GGUF file splits text as 'novel'.*\); this task needs one"
    with pytest.raises(SpecError, match=said):
        tokenizer_of(file).tokenizer  # noqa: B018


def test_the_header_tells_family_and_size(tmp_path: Path) -> None:
    original = gguf_files.llama(61, tied=False)
    header = read_header(gguf_files.write(tmp_path / "m.gguf", original))
    assert header.model_type == "llama" and header.metadata["llama.block_count"] == 2
    assert header.parameters == sum(parameter.numel() for parameter in original.parameters())
    gemma = gguf_files.write(tmp_path / "g.gguf", original, architecture="gemma3")
    assert ModelSpec(path=str(gemma)).family() == "gemma3_text"


def cut(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])


def patched(file: Path, at: int, content: bytes) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:at] + content + whole[at + len(content) :])


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda file: file.write_bytes(b"PK\x03\x04" * 9), "is not a GGUF file: it does not begin with GGUF"),
        (lambda file: file.write_bytes(b""), "is not a GGUF file"),
        (lambda file: cut(file, 0.002), "is a damaged GGUF file: its header ends early"),
        (lambda file: cut(file, 0.9), r"is cut short: found \d+ bytes; its header tells of \d+"),
        (lambda file: patched(file, 4, b"\x01\0\0\0"), "is GGUF version 1; allowed: 2, 3"),
        (
            lambda file: patched(file, 4, b"xxxx"),
            "is not a GGUF file: found b'xxxx' where its version stands; allowed: versions 2, 3",
        ),
        (
            lambda file: patched(file, 4, b"\0\0\0\x03"),
            "is a big-endian GGUF file; allowed: versions 2, 3 .little endian.",
        ),
        (lambda file: patched(file, 16, b"\xff" * 8), "is a damaged GGUF file: its header ends early"),
    ],
)
def test_a_damaged_file(tmp_path: Path, cache: Path, damage, said: str) -> None:  # noqa: ANN001
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(61))
    damage(file)
    with pytest.raises(SpecError, match=f"^model: .*m.gguf {said}"):
        converted.converted(file)
    assert not cache.exists()


def test_a_file_that_transformers_does_not_take_whole(tmp_path: Path, cache: Path) -> None:
    """Llama 3's rope factors are a tensor that its GGUF loading passes over."""
    model = gguf_files.llama(61)
    rope = {"rope_freqs.weight": np.ones(8, dtype=np.float32)}
    file = gguf_files.write(tmp_path / "m.gguf", model, extra=rope)
    found = sum(parameter.numel() for parameter in model.parameters())
    said = f"does not take all of .*m.gguf: found {found + 8} parameters in the file, {found} in the model"
    with pytest.raises(SpecError, match=said):
        converted.converted(file)
    assert left_in(cache) == []


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"architecture": "bert"}, "transformers cannot load .*m.gguf: GGUF model with architecture bert"),
        ({"keys": {"split.count": 2}}, "m.gguf is one of several parts; allowed: a GGUF in one file"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, changes: dict, said: str) -> None:
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(61), **changes)
    with pytest.raises(SpecError, match=said):
        converted.converted(file)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CIRCUIT_SWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/circuit-sweep")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/circuit-sweep")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIRCUIT_SWEEP_CACHE", str(tmp_path / "file"))
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(61))
    with pytest.raises(
        SpecError, match=r"cannot convert .*m.gguf in the cache .*file \(CIRCUIT_SWEEP_CACHE\)"
    ):
        converted.converted(file)


def test_a_damaged_tokenizer_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(SpecError, match="model: cannot load the tokenizer of x in "):
        load_tokenizer(tmp_path, "x")
