"""Custom tasks from a JSONL file: what is read, what is refused, what is dropped, what has which id."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep import SweepSpec
from tests import worded_model
from trainers.metrics import METRICS
from trainers.model import Loaded
from trainers.spec import SpecError
from trainers.tasks.base import SPLITS
from trainers.tasks.jsonl import JsonlTask
from trainers.tasks.jsonl_file import tagged
from trainers.trial import TrialSpec

WORDS = ["Mary", "John", "Anna", "met", "and", "left", "So", "then", "1", "2", "3", "4", "5", "="]


def entry(clean: str, corrupted: str, **more: Any) -> dict[str, Any]:
    return {"clean": clean, "corrupted": corrupted, **more}


GOOD = entry("So Mary left <predict>John</predict>", "So Anna left <predict>Mary</predict>")
OTHER = entry("So John left <predict>Anna</predict>", "So Mary left <predict>John</predict>")
THIRD = entry("So Anna left <predict>John</predict>", "So Mary left <predict>Anna</predict>")
SPLIT = [one | {"split": split} for one, split in zip((GOOD, OTHER, THIRD), SPLITS, strict=True)]


def written(file: Path, *entries: dict[str, Any], indent: int | None = None) -> JsonlTask:
    file.write_text("\n".join(json.dumps(one, indent=indent) for one in entries) + "\n")
    return JsonlTask.parse({"path": str(file)}, "task")


def refusal(file: Path, content: str | bytes) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError) as refused:
        JsonlTask.parse({"path": str(file)}, "task").identity()
    return str(refused.value)


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return worded_model.loaded(worded_model.save(tmp_path_factory.mktemp("worded"), WORDS, digits=True))


@pytest.mark.parametrize(
    "text, spans, predicted",
    [
        ("1 = <predict>2</predict>", ("1 = ", "2", ""), (1,)),
        ("a <predict>b c</predict> d <predict>e</predict>.", ("a ", "b c", " d ", "e", "."), (1, 3)),
        ("<predict>a</predict><predict>b</predict>", ("", "a", "", "b", ""), (1, 3)),
    ],
)
def test_a_tagged_text_by_hand(text: str, spans: tuple[str, ...], predicted: tuple[int, ...]) -> None:
    assert tagged(text) == (spans, predicted)


def test_an_example_by_hand(tmp_path: Path, worded: Loaded) -> None:
    """Two predictions, the second of two tokens: every token is scored where the one before it stands."""
    text = "So {} left <predict>{}</predict> and {} <predict>3{}</predict> then"
    clean, corrupted = text.format("Mary", "John", "left", 1), text.format("Anna", "Mary", "met", 2)
    task = written(tmp_path / "a.jsonl", entry(clean, corrupted))
    (example,) = task.examples("test", worded)
    tokenizer = worded.tokenizer
    assert tokenizer.decode(list(example.clean)) == "So Mary left John and left 3"
    assert tokenizer.decode(list(example.corrupted)) == "So Anna left Mary and met 3"
    said = tokenizer.convert_ids_to_tokens([example.clean[position] for position in example.positions])
    assert [token.lstrip("Ġ") for token in said] == ["left", "", "3"]
    assert [tokenizer.decode([int(i)]) for i in example.answers] == [" John", "3", "1"]
    assert [tokenizer.decode([i]) for i in example.distractors] == [" Mary", "3", "2"]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_a_line_and_pretty_printed_are_the_same(
    tmp_path: Path, worded: Loaded, indent: int | None
) -> None:
    plain = written(tmp_path / "plain.jsonl", *SPLIT)
    task = written(tmp_path / "a.jsonl", *SPLIT, indent=indent)
    assert task.dataset(worded) == plain.dataset(worded)
    assert {split: len(task.examples(split, worded)) for split in SPLITS} == dict.fromkeys(SPLITS, 1)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path, worded: Loaded) -> None:
    task = written(tmp_path / "a.jsonl", *SPLIT)
    expected = task.dataset(worded)
    text = (tmp_path / "a.jsonl").read_text().replace("\n", "\r\n")
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert JsonlTask.parse({"path": str(tmp_path / "b.jsonl")}, "").dataset(worded) == expected


def test_without_split_the_same_data_serve_all_and_that_is_said(tmp_path: Path, worded: Loaded) -> None:
    task = written(tmp_path / "a.jsonl", GOOD, OTHER)
    dataset = task.dataset(worded)
    assert dataset.in_sample and task.test_set.endswith("in-sample")
    assert dataset.splits["train"] == dataset.splits["validation"] == dataset.splits["test"]
    assert dataset.same_splits and dataset.tests_trained_on == 2
    split = written(tmp_path / "b.jsonl", *SPLIT)
    assert not split.dataset(worded).in_sample and "in-sample" not in split.test_set


def test_a_test_prompt_that_is_trained_on_is_in_sample(tmp_path: Path, worded: Loaded) -> None:
    again = SPLIT[0] | {"split": "test"}
    dataset = written(tmp_path / "a.jsonl", *SPLIT, again).dataset(worded)
    assert dataset.in_sample and dataset.tests_trained_on == 1 and not dataset.same_splits


A, B = '"clean": "<predict>a</predict>"', '"corrupted": "<predict>b</predict>"'
ALL_WRONG = [
    (f"{{{A}}}", "corrupted is missing"),
    (f'{{"clean": 3, {B}}}', "clean is no text: found 3"),
    (f'{{"clean": "a", {B}}}', "clean has no <predict>...</predict>"),
    (f'{{"clean": "a <predict>b", {B}}}', "clean has unbalanced tags: found <predict>;"),
    (f'{{"clean": "</predict>a<predict>", {B}}}', "clean has unbalanced tags: found </predict> <predict>;"),
    (f'{{"clean": "<predict>a<predict>b</predict></predict>", {B}}}', "clean has unbalanced tags: found"),
    (f'{{"clean": "a<predict></predict>", {B}}}', "clean predicts nothing: found <predict></predict>"),
    (
        f'{{"clean": "<predict>a</predict><predict>c</predict>", {B}}}',
        "clean and corrupted have different numbers of predictions: found 2 and 1",
    ),
    ('["clean", "corrupted"]', "is not an object: found ['clean', 'corrupted']"),
    (f'{{{A}, {B}, "split": "dev"}}', "split: found 'dev'; allowed: train, validation, test"),
    (f'{{{A}, {B}, "split": null}}', "split: found None"),
    (f'{{{A}, {B}, "splits": "test"}}', "unknown key 'splits'. Did you mean 'split'?"),
    (f"{{{A} {B}}}", "is not JSON: Expecting ',' delimiter (column 34)"),
    (f'{{"clean": "<predict>\\ud800</predict>", {B}}}', "half of a surrogate pair"),
]


@pytest.mark.parametrize("line, said", ALL_WRONG)
def test_a_bad_entry_is_told_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "a.jsonl"
    told = refusal(file, f"{json.dumps(GOOD)}\n\n{line}\n{json.dumps(OTHER)}\n")
    assert told.startswith(f"task.path: {file}: 1 bad entry\n  line 3: ") and said in told
    assert len(told.splitlines()) == 2, told


def test_all_bad_entries_are_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path / "a.jsonl", "\n".join(line for line, _ in ALL_WRONG))
    head, *lines = told.splitlines()
    assert head.endswith(f": {len(ALL_WRONG)} bad entries")
    assert [line.split(":")[0] for line in lines] == [f"  line {n + 1}" for n in range(len(ALL_WRONG))]
    assert all(said in line for line, (_, said) in zip(lines, ALL_WRONG, strict=True))


def test_of_very_many_bad_entries_the_last_are_told_by_line_alone(tmp_path: Path) -> None:
    told = refusal(tmp_path / "a.jsonl", "3\n" * 60).splitlines()
    assert told[0].endswith("60 bad entries") and len(told) == 52
    assert told[-1] == f"  and 10 more problems, in lines {', '.join(map(str, range(51, 61)))}"


def test_a_bad_pretty_printed_entry_hides_no_other(tmp_path: Path) -> None:
    bad = json.dumps(GOOD, indent=2).replace('",\n', '"\n', 1)
    told = refusal(tmp_path / "a.jsonl", f"{bad}\n{json.dumps(GOOD, indent=2)}\n[]\n{bad}\n")
    assert [line.split(":")[0] for line in told.splitlines()[1:]] == [
        "  line 1",
        "  line 9",
        "  line 10",
    ] or told
    assert "line 1: is not JSON: Expecting ',' delimiter (line 3, column 3)" in told
    assert "line 10: is not JSON" in told


def test_lines_that_are_not_utf8_are_told_along_with_the_rest(tmp_path: Path) -> None:
    good = json.dumps(GOOD).encode()
    told = refusal(tmp_path / "a.jsonl", b"\n".join([good, b'{"clean": "\xff"}', good, b"3", b"\xe9"]))
    assert "line 2: is not UTF-8: found byte 0xff in column 12" in told
    assert "line 4: is not an object" in told and "line 5: is not UTF-8: found byte 0xe9 in column 1" in told


@pytest.mark.parametrize("content", ["", "\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str | bytes) -> None:
    assert "holds no entry; allowed: at least one object" in refusal(tmp_path / "a.jsonl", content)


def test_a_split_is_of_all_entries_and_all_three_occur(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    told = refusal(file, "\n".join(map(json.dumps, (SPLIT[0], GOOD, SPLIT[1], SPLIT[2]))))
    assert told.splitlines()[1:] == ["  line 2: has no split, and other entries have one"]
    told = refusal(file, "\n".join([json.dumps(GOOD), "{}", *map(json.dumps, SPLIT), "3"]))
    mixed = "has no split, and other entries have one"
    assert f"  line 1: {mixed}" in told and f"  line 2: {mixed}" in told, "along with all other problems"
    assert told.startswith(f"task.path: {file}: 3 bad entries")
    told = refusal(file, "\n".join(map(json.dumps, (GOOD, SPLIT[0], GOOD, GOOD))))
    assert told.splitlines()[1:] == ["  line 2: has a split, and most other entries have none"]
    told = refusal(file, json.dumps(SPLIT[0]))
    allowed = "allowed: entries of train, validation and test, or no key split at all"
    assert told.splitlines() == [
        f"task.path: {file} has no entry of split {split}; {allowed}" for split in ("test", "validation")
    ]


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "no.jsonl", "no file"), (tmp_path, "cannot read")):
        with pytest.raises(SpecError, match=f"^task.path: {said} {path}"):
            JsonlTask.parse({"path": str(path)}, "task").identity()


def test_what_does_not_fit_the_tokenizer_is_counted_with_its_lines(tmp_path: Path, worded: Loaded) -> None:
    longer = entry("So Mary left <predict>John</predict>", "So unknown left <predict>Mary</predict>")
    same = entry("So Mary left <predict>John</predict>", "So Mary left <predict>Anna</predict>")
    task = written(tmp_path / "a.jsonl", longer, GOOD, same, OTHER, longer)
    dataset = task.dataset(worded)
    assert len(dataset.splits["test"]) == 2
    assert task.test_set.startswith("5 examples") and task.test_set_of(dataset) == f"2 of {task.test_set}"
    all_fit = written(tmp_path / "c.jsonl", GOOD, OTHER)
    assert all_fit.test_set_of(all_fit.dataset(worded)) == all_fit.test_set
    assert dataset.dropped == {
        "clean and corrupted differ in the number of tokens of a span (lines 1, 5)": 2,
        "clean and corrupted prompts are the same (line 3)": 1,
    }
    many = written(tmp_path / "b.jsonl", *[longer] * 12, GOOD).dataset(worded)
    assert list(many.dropped) == [
        "clean and corrupted differ in the number of tokens of a span "
        "(lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)"
    ]


def test_when_nothing_of_a_split_fits_the_reasons_are_told(tmp_path: Path, worded: Loaded) -> None:
    longer = entry("So Mary <predict>John</predict>", "So unknown <predict>Mary</predict>", split="test")
    task = written(tmp_path / "a.jsonl", SPLIT[0], SPLIT[1], longer)
    with pytest.raises(
        SpecError, match=r"found no test example that fits this tokenizer; dropped 1: .*\(line 3\)"
    ):
        task.dataset(worded)


def test_the_content_decides_the_id_and_the_place_does_not(
    tmp_path: Path, worded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial_id(path: str) -> str:
        task = {"name": "jsonl", "path": path}
        data = {"model": worded.spec.plain(), "task": task, "method": {"name": "eap"}}
        return TrialSpec.parse(data, "trial").trial_id

    written(tmp_path / "a.jsonl", *SPLIT)
    first = trial_id(str(tmp_path / "a.jsonl"))
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "b" / "c.jsonl")
    monkeypatch.chdir(tmp_path / "b")
    monkeypatch.setenv("HOME", str(tmp_path / "b"))
    assert trial_id("c.jsonl") == trial_id("~/c.jsonl") == first
    written(tmp_path / "a.jsonl", *SPLIT, GOOD | {"split": "train"})
    assert trial_id(str(tmp_path / "a.jsonl")) != first


def test_a_sweep_finds_its_file_beside_it_and_tells_what_is_wrong_where(
    tmp_path: Path, worded: Loaded
) -> None:
    base = f"base: {{model: {{path: {worded.spec.path}}}, method: {{name: eap}}}}"
    sweep = tmp_path / "s.yaml"
    sweep.write_text(
        f"name: s\nquestion: What?\n{base}\nvary:\n  task:\n    - {{name: jsonl, path: data/a.jsonl}}\n"
    )
    with pytest.raises(SpecError, match=r"s.yaml:6: vary.task\[0\].path: no file .*data/a.jsonl$"):
        SweepSpec.load(sweep)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("3\n4\n")
    with pytest.raises(
        SpecError, match=r"s.yaml:6: vary.task\[0\].path: .*: 2 bad entries\n  line 1: .*\n  line 2"
    ):
        SweepSpec.load(sweep)
    assert SweepSpec.load(sweep, models=False), "where the files are not"
    written(tmp_path / "data" / "a.jsonl", *SPLIT)
    (trial,) = SweepSpec.load(sweep).trials()
    assert trial.task.plain()["path"] == str(tmp_path / "data" / "a.jsonl")


def test_metrics_fit_the_task(tmp_path: Path, worded: Loaded) -> None:
    task = written(tmp_path / "a.jsonl", GOOD)
    names = task.metrics(worded.spec)
    assert METRICS[names[0]].divergence and set(names) <= set(METRICS)
    for attribution in ("logit_difference", "answer_log_probability"):
        chosen = JsonlTask.parse({"path": "a", "attribution": attribution}, "task")
        assert chosen.attribution_metric(worded.spec) == attribution in names
    task.check(worded.spec)


def test_a_seed_of_given_data_is_refused() -> None:
    with pytest.raises(SpecError, match="data_seed does nothing here"):
        JsonlTask.parse({"path": "a.jsonl", "data_seed": 1}, "task")


def test_a_compiled_program_is_refused() -> None:
    data = {
        "model": {"builtin": "tracr-reverse"},
        "task": {"name": "jsonl", "path": "no"},
        "method": {"name": "eap"},
    }
    with pytest.raises(SpecError, match="task jsonl needs a language model, not tracr-reverse"):
        TrialSpec.parse(data, "trial")
