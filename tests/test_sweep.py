"""Sweep files: what they expand to, and what is said when something in them is wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import parse_yaml, write_yaml
from trainers.spec import SpecError
from trainers.trial import TrialSpec

HEAD = """name: q
question: is it?
base:
  model: {builtin: tracr-reverse}
  task: {name: tracr}
  method: {name: edge_pruning, target_sparsity: 0.9}
"""
INDUCTION = HEAD.replace("{name: tracr}", "{name: induction}")


def write(folder: Path, text: str) -> Path:
    path = folder / "q.yaml"
    path.write_text(text)
    return path


def trials(folder: Path, tail: str = "") -> list[TrialSpec]:
    return SweepSpec.load(write(folder, HEAD + tail)).trials()


def refusal(folder: Path, text: str) -> str:
    """The message, with the file's folder cut off."""
    with pytest.raises(SpecError) as caught:
        SweepSpec.load(write(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


def test_a_spec_without_vary_is_one_trial(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path)
    assert (trial.method.name, trial.seed, trial.model.builtin) == ("edge_pruning", 0, "tracr-reverse")


def test_a_mapping_is_the_product_of_its_lists_times_the_seeds(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        "vary:\n  method.target_sparsity: [0.5, 0.9]\n  model.builtin: [tracr-reverse, tracr-xproportion]\n"
        "seeds: 3\n",
    )
    told = [(trial.method.plain()["target_sparsity"], trial.model.builtin, trial.seed) for trial in found]
    assert told == [
        (target, model, seed)
        for target in (0.5, 0.9)
        for model in ("tracr-reverse", "tracr-xproportion")
        for seed in (0, 1, 2)
    ]


def test_blocks_are_united_and_duplicates_collapse(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        "vary:\n- grid: {method.target_sparsity: [0.5, 0.6]}\n- set: {method.target_sparsity: 0.6}\n"
        "- set: {method: {name: random}}\n  grid: {ablation: [zero, interchange]}\nseeds: [4, 2]\n",
    )
    told = [(trial.method.name, trial.ablation, trial.seed) for trial in found]
    assert told == [
        *[("edge_pruning", "interchange", seed) for _ in (0.5, 0.6) for seed in (4, 2)],
        *[("random", ablation, seed) for ablation in ("zero", "interchange") for seed in (4, 2)],
    ]


def test_an_empty_set_is_the_base_itself(tmp_path: Path) -> None:
    tail = "vary:\n- set: {}\n- grid: {method.target_sparsity: [0.5]}\n"
    assert [trial.method.plain()["target_sparsity"] for trial in trials(tmp_path, tail)] == [0.9, 0.5]
    sweep = SweepSpec.load(tmp_path / "q.yaml")
    assert SweepSpec.load(write(tmp_path, write_yaml(sweep.plain()))) == sweep


def test_a_method_without_chance_runs_once(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path, "vary: {method: [{name: eap}]}\nseeds: 5\n")
    assert (trial.method.name, trial.seed) == ("eap", 0)


def test_a_seed_in_a_block_wins_over_the_seeds(tmp_path: Path) -> None:
    found = trials(tmp_path, "vary:\n- set: {seed: 7}\n- grid: {method.steps: [10]}\nseeds: 2\n")
    assert [trial.seed for trial in found] == [7, 0, 1]


def test_shorter_paths_are_applied_first(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path, "vary:\n- set: {method.steps: 5, method: {name: edge_pruning, penalty: 1}}\n")
    assert trial.method.plain()["steps"] == 5


def test_every_combination_of_different_values_has_its_own_id(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        "vary:\n  method: [{name: edge_pruning, penalty: 1}, {name: eap}, {name: random}]\n"
        "  model.builtin: [tracr-reverse, tracr-xproportion]\n  ablation: [zero, interchange]\n",
    )
    assert len({trial.trial_id for trial in found}) == len(found) == 12


def test_ids_do_not_depend_on_what_is_written_out(tmp_path: Path) -> None:
    """A default that is spelled out is the same trial."""
    (short,) = trials(tmp_path)
    (long,) = trials(
        tmp_path,
        f"vary: [{{set: {json.dumps({'method': short.method.plain(), 'ablation': 'interchange'})}}}]",
    )
    assert short.trial_id == long.trial_id


def test_the_snapshot_says_the_same(tmp_path: Path) -> None:
    tail = (
        "vary:\n- grid: {method.target_sparsity: [0.5, 1e-5]}\n- set: {method: {name: random}}\n"
        "seeds: 2\nresources: {ranks: 2}\nobjectives: {epsilon: 1e-6}\n"
    )
    sweep = SweepSpec.load(write(tmp_path, HEAD + tail))
    again = SweepSpec.load(write(tmp_path, write_yaml(sweep.plain())))
    assert again == sweep
    assert [trial.trial_id for trial in again.trials()] == [trial.trial_id for trial in sweep.trials()]


MISTAKES = {
    "unknown key": (
        HEAD + "resorces: {ranks: 2}\n",
        "q.yaml:7: resorces: unknown key. Did you mean 'resources'? Allowed: base, faults, name, objectives, "
        "question, resources, search, seeds, vary",
    ),
    "unknown key in a block": (
        HEAD + "vary:\n- grd: {method.steps: [1]}\n",
        "q.yaml:8: vary[0].grd: unknown key. Did you mean 'grid'? Allowed: grid, set",
    ),
    "unknown field of a method": (
        HEAD + "vary:\n  method.target_sparsty: [0.5]\n",
        "q.yaml:8: vary.method.target_sparsty[0]: unknown key. Did you mean 'target_sparsity'?",
    ),
    "unknown field, once for all values of its grid": (
        HEAD + "vary:\n  method.target_sparsty: [0.5, 0.6, 0.7]\n  method.steps: [1, 2]\n",
        "q.yaml:8: vary.method.target_sparsty[0]: unknown key. Did you mean 'target_sparsity'?",
    ),
    "unknown part of a trial": (
        HEAD + "vary:\n  metod.steps: [1]\n",
        "q.yaml:8: vary.metod.steps[0]: unknown key. Did you mean 'method'?",
    ),
    "unknown method": (
        HEAD.replace("edge_pruning", "edge_prunning"),
        "q.yaml:6: base.method.name: found 'edge_prunning'. Did you mean 'edge_pruning'? Allowed: ",
    ),
    "field of another method": (
        HEAD + "vary:\n- set: {method: {name: eap, steps: 3}}\n",
        "q.yaml:8: vary[0].set.method.steps: unknown key.",
    ),
    "target out of range": (
        HEAD + "vary:\n- grid:\n    method.target_sparsity:\n    - 0.5\n    - 3\n",
        "q.yaml:11: vary[0].grid.method.target_sparsity[1]: found 3; allowed: less than or equal to 2",
    ),
    "wrong type": (
        HEAD + "vary: {method.steps: [x]}\n",
        "q.yaml:7: vary.method.steps[0]: found 'x'; allowed: integer",
    ),
    "wrong type in resources": (
        HEAD + "resources:\n  ranks: two\n",
        "q.yaml:8: resources.ranks: found 'two'; allowed: integer",
    ),
    "number as text": (
        HEAD + 'vary: {method.steps: ["5"]}\n',
        "q.yaml:7: vary.method.steps[0]: found '5'; allowed: integer",
    ),
    "part of a number": (
        HEAD + "vary:\n- set: {seed: 1, seed.a: 1}\n",
        "q.yaml:8: vary[0].set.seed.a: found seed = 1, which has no parts; allowed: a field of the trial",
    ),
    "empty grid": (HEAD + "vary: {}\n", "q.yaml:7: vary: found nothing in it; allowed: at least one path"),
    "empty list of blocks": (HEAD + "vary: []\n", "q.yaml:7: vary: found nothing in it"),
    "empty list of values": (
        HEAD + "vary: {method.steps: []}\n",
        "q.yaml:7: vary.method.steps: found []; allowed: at least 1 entry",
    ),
    "empty block": (HEAD + "vary: [{}]\n", "q.yaml:7: vary[0]: found neither set nor grid with an entry"),
    "value instead of list": (
        HEAD + "vary: {method.steps: 3}\n",
        "q.yaml:7: vary.method.steps: found 3; allowed: a list",
    ),
    "set and grid disagree": (
        HEAD + "vary: [{set: {seed: 1}, grid: {seed: [1, 2]}}]\n",
        "q.yaml:7: vary[0]: seed: found in both set and grid; allowed: in one of them",
    ),
    "no seeds": (HEAD + "seeds: []\n", "q.yaml:7: seeds: found []; allowed: a count, or a list of integers"),
    "one seed twice": (HEAD + "seeds: [3, 3]\n", "q.yaml:7: seeds: found [3, 3], with one seed twice"),
    "zero seeds": (HEAD + "seeds: 0\n", "q.yaml:7: seeds: found 0; allowed: a count from 1"),
    "negative seed": (
        HEAD + "seeds: [1, -1]\n",
        "q.yaml:7: seeds[1]: found -1; allowed: greater than or equal",
    ),
    "seed in base": (
        HEAD + "  seed: 3\n",
        "q.yaml:3: base: found the key seed; allowed: the sweep's own key seeds",
    ),
    "name that leaves the runs folder": (
        HEAD.replace("name: q", "name: ../q", 1),
        "q.yaml:1: name: found '../q'; allowed: at most 64 letters, digits, - and _",
    ),
    "name of another folder": (
        HEAD.replace("name: q", "name: trials", 1),
        "q.yaml:1: name: found 'trials', which is another folder of a runs folder",
    ),
    "question missing": (HEAD.replace("question: is it?\n", ""), "q.yaml:1: question: required, but missing"),
    "method missing": (
        HEAD.replace("  method: {name: edge_pruning, target_sparsity: 0.9}\n", ""),
        "q.yaml:3: base.method: required, but missing",
    ),
    "no model folder": (
        INDUCTION.replace("{builtin: tracr-reverse}", "{path: nowhere}"),
        "q.yaml:4: base.model.path: no folder nowhere",
    ),
    "task of another model": (
        HEAD + "vary:\n- grid: {model: [{builtin: tracr-reverse}, {hub: some/model}]}\n",
        "q.yaml:8: vary[0]: task tracr needs a Tracr model: model: {builtin: tracr-reverse}",
    ),
    "too many trials": (
        HEAD + f"vary: {{method.steps: {list(range(1, 1001))}, seed: {list(range(1000))}}}\n",
        "q.yaml:1: (top level): found 1000000 trials; allowed: at most 100000 in one sweep",
    ),
    "negative epsilon": (
        HEAD + "objectives: {epsilon: -1}\n",
        "q.yaml:7: objectives.epsilon: found -1; allowed: greater than or equal to 0",
    ),
    "not a mapping": ("- 1\n", "q.yaml: found [1]; allowed: name, question, base, vary"),
    "empty file": ("", "q.yaml: is empty; allowed: name, question, base, vary"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_pointed_at(mistake: str, tmp_path: Path) -> None:
    text, expected = MISTAKES[mistake]
    message = refusal(tmp_path, text)
    assert message.startswith(expected)
    assert len(message.splitlines()) == 1


def test_all_mistakes_are_told_at_once_and_each_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEAD + "baze: 1\nresources: {ranks: 0}\nseeds: x\n")
    assert [line.split(":")[2].strip() for line in message.splitlines()] == [
        "seeds",
        "resources.ranks",
        "baze",
    ]
    message = refusal(tmp_path, HEAD + f"vary: {{method.steps: {list(range(-40, 0))}}}\nseeds: 3\n")
    assert len(message.splitlines()) == 21
    assert message.splitlines()[-1] == "q.yaml: and 20 more problems"


NOT_YAML = {
    "syntax error": (
        "a: [1\nb: 2\n",
        "x.yaml:2:2: not YAML: while parsing a flow sequence expected ',' or ']'",
    ),
    "tab": ("a: 1\n\tb: 2\n", "x.yaml:2:1: not YAML: "),
    "two documents": ("a: 1\n---\nb: 1\n", "x.yaml:2:1: not YAML: expected a single document"),
    "unknown alias": ("a: *x\n", "x.yaml:1:4: not YAML: found undefined alias 'x'"),
    "same key twice": ("a: 1\nb: 2\na: 2\n", "x.yaml:3: a: found the same key twice, first on line 1"),
    "key that is a list": ("? [1]\n: 2\n", "x.yaml:1: (top level): found a key that is not a word"),
    "Python object": ("a: !!python/object/apply:os.system [x]\n", "x.yaml:1: a: found the tag "),
    "tag on a mapping": ("a: !!set {b}\n", "x.yaml:1: a: found the tag "),
    "value inside itself": ("a: &a [*a]\n", "x.yaml:1: a[0]: found an alias to a value that contains it"),
    "merge key": ("a: {<<: {b: 1}}\n", "x.yaml:1: a: found a merge key"),
    "too deep": ("[" * 3000, "x.yaml: found values nested hundreds of levels deep"),
    "huge number": ("a: 1e999\n", "x.yaml:1: a: found '1e999', not usable as float"),
    "control character": ("a: '\x00'\n", "x.yaml: not YAML: "),
}


@pytest.mark.parametrize("mistake", NOT_YAML)
def test_what_is_not_plain_yaml_is_refused_with_its_place(mistake: str) -> None:
    text, expected = NOT_YAML[mistake]
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "x.yaml")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(SpecError, match="more than 100000 values"):
        parse_yaml("\n".join(lines), "x.yaml")


def test_words_and_numbers_are_those_of_yaml_1_2() -> None:
    text = "[1e-3, .5, 1., -2, no, on, 1:30, 1_000, 0x1f, 2020-01-01, true, 'true', ~, null, ]"
    expected = [
        1e-3,
        0.5,
        1.0,
        -2,
        "no",
        "on",
        "1:30",
        "1_000",
        "0x1f",
        "2020-01-01",
        True,
        "true",
        None,
        None,
    ]
    assert parse_yaml(text, "x").data == expected


def test_missing_files_get_a_hint(tmp_path: Path) -> None:
    write(tmp_path, HEAD)
    with pytest.raises(SpecError, match=r"qq.yaml: no such file. Did you mean 'q.yaml'\?"):
        SweepSpec.load(tmp_path / "qq.yaml")
    with pytest.raises(SpecError, match="There is no folder"):
        SweepSpec.load(tmp_path / "nowhere" / "q.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        SweepSpec.load(tmp_path)


AMBIGUOUS = ["1e5", "12e3456", "no", "1:30", "null", "~", "0o7", "0x1F", "2020-01-01", "1_0", "<<", "="]
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from("019e:-+._~"))
NUMBERS = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | st.sampled_from(AMBIGUOUS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_is_read_back_equal(data: object) -> None:
    assert parse_yaml(write_yaml(data), "x").data == data
