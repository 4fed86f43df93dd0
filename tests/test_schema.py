"""The JSON Schema of sweep files, which editors complete and check with."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from orchestrator.cli.main import main
from orchestrator.schema import sweep_schema
from orchestrator.yaml_source import parse_yaml
from trainers.methods import METHODS
from trainers.tasks import TASKS

SWEEPS = Path(__file__).parent.parent / "sweeps"
FILES = sorted(SWEEPS.glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(sweep_schema())
WHOLE: dict[str, Any] = {
    "name": "a",
    "question": "b?",
    "base": {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "method": {"name": "eap"}},
}


def problems(**changes: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(WHOLE | changes)]


def test_the_file_beside_the_sweeps_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(main, ["schema"])
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == json.loads((SWEEPS / "schema.json").read_text()), (
        "circuit-sweep schema > sweeps/schema.json"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_sweeps_fit_and_name_the_schema(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert [error.message for error in VALIDATOR.iter_errors(parse_yaml(text, path.name).data)] == []


def test_what_may_be_left_to_a_grid_is_not_required() -> None:
    assert not problems()
    assert not problems(base={"model": {"builtin": "tracr-reverse"}, "method": {"steps": 5}}, seeds=3)
    assert not problems(vary={"method.steps": [1, 2], "ablation": ["zero"]}, seeds=[0, 4])
    assert not problems(vary=[{"set": {"method.name": "acdc"}, "grid": {"seed": [1]}}, {"set": {}}])


@pytest.mark.parametrize(
    "changes",
    [
        {"quesion": "?"},
        {"seeds": 0},
        {"seeds": []},
        {"vary": {"method.stepz": [1]}},
        {"vary": {"method.steps": 5}},
        {"vary": {"method.steps": []}},
        {"vary": [{"grid": {"model.builtin": [5]}}]},
        {"base": {"ablation": "none"}},
        {"base": {"seed": 1}},
        {"base": {"model": {"bultin": "tracr-reverse"}}},
        {"search": {"trials": 4}},
        {"search": {"space": {"method.stepz": {"integer": [1, 2]}}, "trials": 4}},
        {"search": {"space": {"method.name": {"choice": ["eap", "acdc"]}}, "trials": 4}},
        {"search": {"space": {"method.steps": {"integer": [1, 2.5]}}, "trials": 4}},
        {"resources": {"ranks": 0}},
        {"resources": {"gpus": 1}},
    ],
    ids=str,
)
def test_what_loading_refuses_for_its_form_is_marked(changes: dict[str, Any]) -> None:
    assert problems(**changes)


@pytest.mark.parametrize("entry", [*METHODS, *TASKS], ids=lambda entry: entry.__name__)
def test_every_field_can_be_varied_and_says_what_it_is(entry: Any) -> None:
    part = "method" if entry in METHODS else "task"
    grid = sweep_schema()["$defs"]["Grid"]["properties"]
    assert {f"{part}.{field}" for field in entry.model_fields} <= grid.keys()
