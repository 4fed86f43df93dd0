"""Specs that name a model folder: where it is looked for, what identifies it, and which are refused."""

import json
from pathlib import Path

from orchestrator.sweep import SweepSpec
from tests.test_sweep import INDUCTION, refusal, write


def test_relative_model_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "models" / "tiny")
    sweep = tmp_path / "sweeps"
    sweep.mkdir()
    text = INDUCTION.replace("{builtin: tracr-reverse}", "{path: ../models/tiny}")
    by_base = SweepSpec.load(write(sweep, text)).trials()
    tail = "vary:\n- set: {model: {path: ../models/tiny}}\n- grid: {model: [{path: ../models/tiny}]}\n"
    by_vary = SweepSpec.load(write(sweep, INDUCTION + tail)).trials()
    assert [trial.model.path for trial in by_base] == [str(folder)]
    assert by_vary == by_base


def test_moving_a_model_folder_keeps_the_ids(tmp_path: Path) -> None:
    text = INDUCTION.replace("{builtin: tracr-reverse}", "{path: tiny}")
    ids = []
    for place in ("here", "there"):
        model_folder(tmp_path / place / "tiny")
        (trial,) = SweepSpec.load(write(tmp_path / place, text)).trials()
        ids.append(trial.trial_id)
    assert ids[0] == ids[1]


def test_a_model_folder_must_hold_weights_of_a_known_family(tmp_path: Path) -> None:
    text = INDUCTION.replace("{builtin: tracr-reverse}", "{path: tiny}")
    folder = model_folder(tmp_path / "tiny", model_type="bert")
    assert "q.yaml:4: base.model.path: model family 'bert' is not supported; known: " in refusal(
        tmp_path, text
    )
    model_folder(folder, model_type=None)
    assert "names no model_type" in refusal(tmp_path, text)
    (folder / "config.json").write_text("{")
    assert "q.yaml:4: base.model.path: " in refusal(tmp_path, text)
    weights = folder / "model.safetensors"
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", header({"a": 1}), b"\xff" * 50):
        model_folder(folder)
        weights.write_bytes(content)
        assert f"q.yaml:4: base.model.path: {weights} is not a safetensors file".replace(
            f"{tmp_path}/", ""
        ) == refusal(tmp_path, text)
    weights.write_bytes(header({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}) + b"123")
    assert "is cut short: found" in refusal(tmp_path, text)
    weights.unlink()
    assert "holds no weights; allowed: *.safetensors" in refusal(tmp_path, text)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "holds only pytorch_model.bin, which could run code" in refusal(tmp_path, text)
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(tmp_path, text)


def test_weights_of_an_unknown_family_may_be_of_any_kind(tmp_path: Path) -> None:
    text = INDUCTION.replace("{builtin: tracr-reverse}", "{path: tiny}")
    (model_folder(tmp_path / "tiny", model_type="rwkv") / "model.safetensors").unlink()
    assert "model family 'rwkv' is not supported; known: " in refusal(tmp_path, text)


def test_a_layout_that_the_family_has_seldom_is_refused_before_anything_runs(tmp_path: Path) -> None:
    text = INDUCTION.replace("{builtin: tracr-reverse}", "{path: tiny}")
    folder = model_folder(tmp_path / "tiny", model_type="opt", do_layer_norm_before=False)
    assert refusal(tmp_path, text) == (
        "q.yaml:4: base.model.path: this model's layout is not supported: its config must say that "
        "do_layer_norm_before is true"
    )
    model_folder(folder, model_type="opt")
    assert SweepSpec.load(write(tmp_path, text)).trials(), "a config.json need not say what is the default"


def model_folder(folder: Path, model_type: str | None = "gpt2", **config: object) -> Path:
    """A model folder as far as planning looks at it: weights without a tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    content = config | ({"model_type": model_type} if model_type else {})
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(header({}))
    return folder


def header(content: object) -> bytes:
    """The start of a safetensors file."""
    text = json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text
