"""Trial ids: the same content has the same id, wherever it lies; what decides a result changes it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import save_tiny
from trainers.methods.edge_pruning import EdgePruning
from trainers.spec import SpecError
from trainers.tasks.induction import InductionTask
from trainers.trial import TrialSpec

METHOD: dict[str, Any] = {"name": "edge_pruning", "target_sparsity": 0.9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("gpt2", tmp_path_factory.mktemp("models") / "tiny")


def trial_id(path: Path | str, **changes: Any) -> str:
    data = {"model": {"path": str(path)}, "task": {"name": "induction"}, "method": METHOD} | changes
    return TrialSpec.parse(data, "trial.yaml").trial_id


def test_an_id_is_16_hexadecimal_digits(folder: Path) -> None:
    assert len(trial_id(folder)) == 16 and int(trial_id(folder), 16) >= 0


def test_the_path_of_a_model_does_not_count(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    (copy / "README.md").write_text("not part of the model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert trial_id(folder) == trial_id(copy) == trial_id("elsewhere") == trial_id("~/elsewhere")


def test_a_default_may_be_given(folder: Path) -> None:
    whole = TrialSpec.parse(
        {"model": {"path": str(folder)}, "task": {"name": "induction"}, "method": METHOD}, ""
    ).plain()
    given = TrialSpec.parse(whole, "")
    assert "steps" in whole["method"] and "seed" in whole and given.trial_id == trial_id(folder)
    assert trial_id(folder, seed=0, ablation="interchange", embeddings="maskable") == trial_id(folder)
    assert trial_id(folder, method=METHOD | {"variant": "", "penalty": None}) == trial_id(folder)


def test_the_order_of_keys_does_not_count(folder: Path) -> None:
    assert trial_id(folder, method=dict(reversed(METHOD.items()))) == trial_id(folder)


def test_a_preset_is_what_it_fills_in(folder: Path) -> None:
    preset = METHOD | {"preset": "reproduce"}
    assert trial_id(folder, method=preset) == trial_id(folder, method=preset | {"gate_lr": 0.8})
    assert trial_id(folder, method=preset) != trial_id(folder, method=preset | {"gate_lr": 0.7})


def test_whatever_decides_the_result_counts(folder: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"ablation": "zero"},
        {"embeddings": "always_on"},
        {"model": {"path": str(folder), "dtype": "float64"}},
        {"task": {"name": "induction", "data_seed": 1}},
        {"task": {"name": "induction", "period": 7}},
        {"method": METHOD | {"target_sparsity": 0.91}},
        {"method": METHOD | {"steps": 999}},
        {"method": METHOD | {"variant": "ours"}},
        {"method": {"name": "eap"}},
        {"method": {"name": "random"}},
    ]
    assert len({trial_id(folder, **change) for change in changes}) == len(changes)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_the_bytes_of_a_model_count(name: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = trial_id(copy)
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content + b" ")
    assert trial_id(copy) != before
    (copy / name).write_bytes(content)
    assert trial_id(copy) == before, "the digest follows the content, not the clock"


@pytest.mark.parametrize("owner", [EdgePruning, InductionTask])
def test_the_version_of_a_method_and_of_a_task_counts(
    owner: type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = trial_id(folder)
    monkeypatch.setattr(owner, "version", owner.version + 1)
    assert trial_id(folder) != before


def test_the_schema_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = trial_id(folder)
    monkeypatch.setattr("trainers.trial.TRIAL_SCHEMA", 10**6)
    assert trial_id(folder) != before


def test_hub_models_go_by_name_and_revision() -> None:
    ids = {
        trial_id("", model={"hub": "a/b"}),
        trial_id("", model={"hub": "a/b", "revision": "main"}),
        trial_id("", model={"hub": "a/b", "trust_remote_code": True}),
    }
    assert len(ids) == 1
    assert trial_id("", model={"hub": "a/b", "revision": "v2"}) not in ids
    assert trial_id("", model={"hub": "a/c"}) not in ids


def test_programs_have_ids_of_their_own() -> None:
    task = {"name": "tracr"}
    names = ("tracr-reverse", "tracr-xproportion")
    assert len({trial_id("", model={"builtin": name}, task=task) for name in names}) == 2


def test_a_model_that_cannot_be_identified_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="model.path: no folder .*nowhere"):
        trial_id(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match="model.path: .*empty has no config.json"):
        trial_id(tmp_path / "empty")
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "model.safetensors").rename(bare / "pytorch_model.bin")
    with pytest.raises(SpecError, match="holds only pytorch_model.bin, which could run code when loaded"):
        trial_id(bare)
    (bare / "pytorch_model.bin").unlink()
    with pytest.raises(SpecError, match=r"holds no weights; allowed: \*.safetensors"):
        trial_id(bare)


def test_resources_are_no_part_of_a_trial() -> None:
    data = {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "method": METHOD}
    with pytest.raises(SpecError, match="resources: unknown key"):
        TrialSpec.parse(data | {"resources": {"ranks": 2}}, "trial.yaml")
