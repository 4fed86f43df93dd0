"""`circuit-sweep task show`: what it prints, for words, bare tokens and compiled programs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli.main import main
from tests import worded_model
from tests.tiny_models import tiny_model
from trainers.tasks.gendered_pronoun import GenderedPronounTask
from trainers.tasks.greater_than import GreaterThanTask
from trainers.tasks.ioi import IoiTask

TASKS = {
    1: "{name: ioi, test: 230}",
    2: "{name: gendered_pronoun, test: 20}",
    3: "{name: greater_than, test: 20}",
    4: "{name: induction, test: 20}",
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    classes = (IoiTask, GenderedPronounTask, GreaterThanTask)
    worded_model.save(folder / "worded", worded_model.words([task.parse({}, "task") for task in classes]))
    tiny_model("gpt2").save_pretrained(folder / "bare")
    blocks = "\n".join(f"  - set: {{task: {task}}}" for task in TASKS.values())
    (folder / "q.yaml").write_text(
        "name: q\nquestion: Is it?\nbase: {model: {path: worded}, method: {name: random}}\n"
        f"vary:\n{blocks}\n"
        "  - set: {task: {name: induction, test: 20}, model.path: bare}\n"
        "  - set: {task: {name: tracr}, model: {builtin: tracr-reverse}}\n"
        "  - set: {task: {name: tracr}, model: {builtin: tracr-xproportion}}\n"
    )
    return folder / "q.yaml"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["task", "show", *map(str, arguments)])


def shown(*arguments: object) -> list[str]:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_examples_are_shown_token_by_token_with_what_the_model_says(spec: Path) -> None:
    lines = shown(spec, "--n", 2, "--device", "cpu")
    assert lines[0] == "worded ioi, trial 1 of 7, on cpu"
    assert lines[1] == "examples: 230 test, 200 validation, 200 train"
    assert lines[2] == "test set: 230 examples, data seed 0" and lines[3] == "dropped: none"
    assert [line for line in lines if line.startswith("test example")] == ["test example 1", "test example 2"]
    clean = lines[6].removeprefix("  clean      ").split("|")
    assert " and" in clean and clean[-1] in (" to", " for", " with")
    answer = lines[8].split("'")[1]
    assert lines[8].startswith("  answer '") and answer in clean
    assert "   distractor ' " in lines[8] and "   predicted '" in lines[8]
    assert "the full model on 200 test examples" in lines
    (flagged,) = [line for line in lines if line.startswith("NOT ABOVE CHANCE: ")]
    assert "the full model is not above chance: logit_difference" in flagged


def test_json_holds_the_same(spec: Path) -> None:
    result = call(spec, "--n", 3, "--split", "train", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["split"] == "train" and told["sizes"] == {"test": 230, "validation": 200, "train": 200}
    assert len(told["examples"]) == 3 and told["dropped"] == {}
    first = told["examples"][0]
    (scored,) = first["scored"]
    assert scored["position"] == len(first["clean"]) - 1 == len(first["corrupted"]) - 1
    assert 0 < scored["answer_probability"] <= scored["predicted_probability"] < 1
    assert first["metrics"]["exact_match"] == 1
    level = told["knowledge"]["levels"]["logit_difference"]
    assert level["chance"] == 0 and level["above_chance"] is False and len(told["knowledge"]["warnings"]) == 1


def test_other_trials_of_the_sweep(spec: Path) -> None:
    assert shown(spec, "--trial", 2, "--n", 0)[0] == "worded gendered_pronoun, trial 2 of 7, on cpu"
    greater = shown(spec, "--trial", 3, "--n", 1)
    assert any(line.startswith("  above '") for line in greater), (
        "an answer that is a bound is not called one"
    )
    with_tokenizer = "\n".join(shown(spec, "--trial", 4, "--n", 1))
    without = "\n".join(shown(spec, "--trial", 5, "--n", 1))
    assert "|#" in without and "|#" not in with_tokenizer, "bare token ids where there is no tokenizer"


def test_compiled_programs_speak_their_own_vocabulary(spec: Path) -> None:
    reverse = shown(spec, "--trial", 6, "--n", 1)
    assert "in-sample" in reverse[1] and reverse[-1] == "the task states no chance level"
    (clean,) = [line for line in reverse if line.startswith("  clean")]
    assert "BOS" in clean and len([line for line in reverse if line.startswith("  after token")]) == 3
    number = shown(spec, "--trial", 7, "--n", 1)
    assert any(line.startswith("  after token 2   answer '") for line in number)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--trial", 8], "Error: --trial: found 8; allowed: 1 to 7, the trials of "),
        (["--device", "cuda"], "Error: --device: found cuda, but no GPU is seen here; allowed: cpu"),
    ],
)
def test_a_mistake_is_one_message(
    spec: Path, arguments: list[object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = call(spec, *arguments)
    assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(said)


def test_no_such_file() -> None:
    result = call("nowhere.yaml")
    assert result.exit_code == 2 and result.stderr == "Error: nowhere.yaml: no such file.\n"


@pytest.fixture(scope="module")
def few(spec: Path) -> Path:
    """12 train, 6 validation and 10 test examples; 3 of the test prompts are trained on. And 7 without
    splits."""
    names = ("John", "Mary", "Tom", "James", "Sarah", "Kate", "Anna", "Paul")
    pairs = [(a, b) for a in names for b in names if a != b]

    def entry(a: str, b: str, **split: str) -> str:
        text = "Then, {} and {} went to the<predict> {}</predict>"
        return json.dumps({"clean": text.format(a, b, a), "corrupted": text.format(b, a, b), **split})

    rows = [*(("train", one) for one in pairs[:12]), *(("validation", one) for one in pairs[12:18])]
    rows += [("test", one) for one in [*pairs[:3], *pairs[18:25]]]
    (spec.parent / "few.jsonl").write_text("\n".join(entry(*one, split=split) for split, one in rows))
    (spec.parent / "same.jsonl").write_text("\n".join(entry(*one) for one in pairs[:7]))
    (spec.parent / "few.yaml").write_text(
        "name: q\nquestion: Is it?\nbase: {model: {path: worded}, method: {name: random}}\nvary:\n"
        "  - set: {task: {name: jsonl, path: few.jsonl}}\n  - set: {task: {name: jsonl, path: same.jsonl}}\n"
    )
    return spec.parent / "few.yaml"


def test_splits_that_share_prompts_are_told_from_splits_that_are_the_same(few: Path) -> None:
    shared, same = shown(few, "--n", 0), shown(few, "--n", 0, "--trial", 2)
    sizes = "examples: 12 train, 6 validation, 10 test"
    assert shared[1] == f"{sizes} (in-sample: 3 of the 10 test examples are in the training set)"
    assert same[1].endswith("7 test (in-sample: the splits are the same examples)")


def test_of_few_examples_nothing_is_judged(few: Path) -> None:
    lines = shown(few, "--n", 0)
    assert not any("NOT ABOVE CHANCE" in line for line in lines)
    said = (
        "too few examples to judge whether the full model is above chance: found 10; at least 20 are needed"
    )
    assert lines[-1] == said
    told = json.loads(call(few, "--n", 0, "--json").stdout)["knowledge"]
    assert told["warnings"] == [said]
    assert {level["above_chance"] for level in told["levels"].values()} == {None}
