"""Specs: what a user got wrong is said in one line with its place, what was found and what is allowed."""

import datetime
import hashlib
from typing import Any

import pytest

from trainers.resources import Resources
from trainers.spec import SpecError, content_id, nearest, shortened, yaml_path
from trainers.trial import TrialSpec

GOOD: dict[str, Any] = {
    "model": {"builtin": "tracr-xproportion"},
    "task": {"name": "tracr"},
    "method": {"name": "edge_pruning", "target_sparsity": 0.9},
}


def message(**changes: Any) -> str:
    """What is said about a good trial with these changes; None takes a key away."""
    data = {key: value for key, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(SpecError) as error:
        TrialSpec.parse(data, "trial.yaml")
    return str(error.value)


def method(name: str = "edge_pruning", **fields: Any) -> dict[str, Any]:
    return {"name": name, **fields}


def test_good() -> None:
    trial = TrialSpec.parse(GOOD, "trial.yaml")
    assert TrialSpec.parse(trial.plain(), "again") == trial
    with pytest.raises(ValueError, match="frozen"):
        trial.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"modle": 1}, "modle: unknown key. Did you mean 'model'? Allowed: ablation, embeddings, method"),
        ({"qwertz": 1}, "qwertz: unknown key. Allowed: ablation"),
        (
            {"method": method(target_sparsty=0.5)},
            "method.target_sparsty: unknown key. Did you mean 'target_sparsity'? Allowed: batch_size",
        ),
        ({"model": None}, "model: required, but missing"),
        ({"model": {"builtin": "tracr-revers"}}, "model.builtin: found 'tracr-revers'. Did you mean 'tracr-"),
        ({"method": method("edge_prunning")}, "method.name: found 'edge_prunning'. Did you mean 'edge_pru"),
        ({"method": method("nap")}, "method.name: found 'nap'."),
        ({"method": {}}, "method: needs the key 'name'; allowed: acdc, eap,"),
        ({"method": 3}, "method: found 3; allowed: a mapping"),
        ({"task": []}, "task: found []; allowed: a mapping"),
        ({"method": method(target_sparsity="high")}, "method.target_sparsity: found 'high'; allowed: number"),
        ({"method": method(target_sparsity=True)}, "method.target_sparsity: found True; allowed: number"),
        ({"method": method(target_sparsity=2.5)}, "found 2.5; allowed: less than or equal to 2"),
        ({"method": method(target_sparsity=0)}, "method.target_sparsity: found 0; allowed: greater than 0"),
        ({"method": method(target_sparsity=float("nan"))}, "found nan; allowed: a finite number"),
        ({"method": method("random", edge_budgets=[3, "a"])}, "method.edge_budgets: found [3, 'a']"),
        ({"method": method("random", edge_budgets=[])}, "edge_budgets: found []; allowed: a list of"),
        ({"ablation": "zeroo"}, "found 'zeroo'. Did you mean 'zero'? Allowed: 'interchange', 'zero', 'mean'"),
        ({"seed": 1.5}, "seed: found 1.5; allowed: integer"),
        ({"seed": "1"}, "seed: found '1'; allowed: integer"),
        ({"seed": -1}, "seed: found -1; allowed: greater than or equal to 0"),
        ({"seed": 2**63}, f"seed: found {2**63}; allowed: less than {2**63}"),
        ({"model": {}}, "model: found none of them; allowed: exactly one of builtin, path, hub"),
        ({"model": {"path": "a", "hub": "b"}}, "model: found path and hub; allowed: exactly one of builtin"),
        ({"model": {"path": "a", "revision": "b"}}, "model: revision belongs to a hub model only"),
        ({"model": {"path": "a"}}, "(top level): task tracr needs a Tracr model"),
        ({"task": {"name": "induction"}}, "(top level): task induction needs a language model"),
    ],
)  # fmt: skip
def test_one_line_says_where_what_and_what_is_allowed(changes: dict[str, Any], said: str) -> None:
    lines = message(**changes).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("trial.yaml: ") and said in lines[0]


def test_every_problem_has_its_line() -> None:
    lines = message(seed=-1, ablation="none", method=method(steps=0, gate_lr="x")).splitlines()
    places = [line.split(": ")[1] for line in lines]
    assert sorted(places) == ["ablation", "method.gate_lr", "method.steps", "seed"]


def test_a_value_that_yaml_makes_a_date_is_refused() -> None:
    assert "trial.yaml: not plain YAML data" in message(seed=datetime.date(2026, 1, 1))


@pytest.mark.parametrize("data", [[1], None, "text", 3])
def test_not_a_mapping(data: object) -> None:
    with pytest.raises(SpecError, match="^x.yaml: .top level.: found .*; allowed: a mapping$"):
        Resources.parse(data, "x.yaml")


def test_a_long_value_is_cut_short() -> None:
    line = message(model={"builtin": "x" * 1000})
    assert len(line) < 250 and "…" in line
    assert shortened("x" * 5) == "'xxxxx'" and len(shortened("x" * 100)) == 80


def test_whole_numbers_may_stand_for_floats() -> None:
    first = TrialSpec.parse(GOOD | {"method": method(target_sparsity=1)}, "")
    second = TrialSpec.parse(GOOD | {"method": method(target_sparsity=1.0)}, "")
    assert first == second and first.trial_id == second.trial_id


def test_places() -> None:
    assert yaml_path(()) == "(top level)"
    assert yaml_path(("vary", 1, "grid", "seed", 2)) == "vary[1].grid.seed[2]"


def test_near_misses() -> None:
    assert nearest("sede", ["seed", "model"]) == " Did you mean 'seed'?"
    assert nearest("qwertz", ["seed", "model"]) == ""


def test_canonical_holds_what_differs_from_the_defaults() -> None:
    resources = Resources.parse({"ranks": 2, "zero_stage": 3, "lanes": None}, "")
    assert resources.canonical() == {"ranks": 2}


def test_content_id_does_not_know_the_order_of_keys() -> None:
    first = content_id({"a": 1, "b": {"c": [1, 2], "d": None}})
    assert first == content_id({"b": {"d": None, "c": [1, 2]}, "a": 1})
    canonical = b'{"a":1,"b":{"c":[1,2],"d":null}}'
    assert first == hashlib.sha256(canonical).hexdigest()[:16]
    assert first != content_id({"a": 1, "b": {"c": [2, 1], "d": None}})
    with pytest.raises(ValueError):
        content_id({"a": float("nan")})
