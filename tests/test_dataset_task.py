"""Published data sets: templates over columns, folders and hub repositories, and their ids."""

import shutil
import time
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests import worded_model
from trainers.model import Loaded
from trainers.spec import SpecError
from trainers.tasks import dataset_source
from trainers.tasks.base import SPLITS
from trainers.tasks.columns import columns, fill
from trainers.tasks.published_dataset import DatasetTask

WORDS = ["Mary", "John", "Anna", "gave", "it", "to", "So", "is", "great", "he", "she", "A", "B", "Answer"]
NAMES = ("Mary", "John", "Anna")
IOI = {"clean": "{ioi_sentences}", "corrupted": "{corr_ioi_sentences}", "predict": "last_word"}
HUB = {
    "hub": "someone/something",
    "revision": "a" * 40,
    "clean": "{a}",
    "corrupted": "{b}",
    "predict": "last_word",
}


def ioi_row(a: str, b: str, c: str) -> dict[str, str]:
    return {
        "ioi_sentences": f"So {a} it {b} it {b} gave it to {a}",
        "corr_ioi_sentences": f"So {b} it {c} it {c} gave it to {b}",
        "a": a,
        "b": b,
    }


def saved(folder: Path, **rows: list[dict[str, Any]]) -> Path:
    made: dict[Any, datasets.Dataset] = {
        split: datasets.Dataset.from_list(some) for split, some in rows.items()
    }
    datasets.DatasetDict(made).save_to_disk(folder)
    return folder


def task(**fields: Any) -> DatasetTask:
    return DatasetTask.parse({key: str(v) if isinstance(v, Path) else v for key, v in fields.items()}, "task")


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return worded_model.loaded(worded_model.save(tmp_path_factory.mktemp("worded"), WORDS))


@pytest.fixture(scope="module")
def ioi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mary, john, anna = NAMES
    rows = {
        "train": [ioi_row(mary, john, anna), ioi_row(john, mary, anna)],
        "validation": [ioi_row(anna, john, mary)],
        "test": [ioi_row(mary, anna, john), ioi_row(john, anna, mary), ioi_row(anna, mary, john)],
    }
    return saved(tmp_path_factory.mktemp("data") / "ioi", **rows)


ROW = {"a": " x ", "n": 7, "f": 0.5, "s": {"t": "deep", "l": ["p", "q"]}, "k": {"i": 1}, "none": None}


@pytest.mark.parametrize(
    "template, said, needed",
    [
        ("{a}|", "x|", {"a"}),
        ("{n:02d} {n} {f:.2f}", "07 7 0.50", {"n", "f"}),
        ("{s.t} {s.l[k.i]}", "deep q", {"s", "k"}),
        ("{{{a}}}", "{x}", {"a"}),
    ],
)
def test_a_template_by_hand(template: str, said: str, needed: set[str]) -> None:
    assert columns(template) == needed and fill(template, ROW) == said


@pytest.mark.parametrize(
    "template, said",
    [("{b}", "found no b"), ("{a.b}", "found no b"), ("{none}", "found None"), ("{n:q}", "code 'q'"),
     ("{s}", "a text or a number"), ("{a[n]}", "found no entry 7 of a"), ("{s.l[n]}", "no entry 7 of s.l")],
)  # fmt: skip
def test_a_row_that_does_not_fit_the_template_is_refused(template: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fill(template, ROW)


@pytest.mark.parametrize("template", ["{a.__class__!r}", "{}", "{a b}", "{a", "plain", "{a[0].b}"])
def test_what_is_no_template_is_refused(template: str) -> None:
    with pytest.raises(SpecError, match="task: clean: "):
        task(path="x", clean=template, corrupted="{b}")


def test_the_published_ioi_columns_are_the_pairs_they_were(ioi: Path, worded: Loaded) -> None:
    dataset = task(path=ioi, distractor=" {b}", **IOI).dataset(worded)
    assert {split: len(dataset.splits[split]) for split in SPLITS} == {"train": 2, "validation": 1, "test": 3}
    assert not dataset.dropped and not dataset.in_sample
    assert "in-sample" not in task(path=ioi, **IOI).test_set
    first = dataset.splits["train"][0]
    ids = (first.clean, first.corrupted, first.answers, first.distractors)
    assert [worded.tokenizer.decode([int(i) for i in some]) for some in ids] == [
        "So Mary it John it John gave it to",
        "So John it Anna it Anna gave it to",
        " Mary",
        " John",
    ]
    assert first.positions == (len(first.clean) - 1,)


def test_tags_in_templates_are_predicted(tmp_path: Path, worded: Loaded) -> None:
    row = {
        "prefix": "So Mary is great ",
        "pronoun": "she",
        "corr_prefix": "So John is great",
        "corr_pronoun": "he",
    }
    folder = saved(tmp_path / "gp", train=[row], test=[row])
    texts = {
        "clean": "{prefix}<predict> {pronoun}</predict>",
        "corrupted": "{corr_prefix}<predict> {corr_pronoun}</predict>",
    }
    gp = task(path=folder, splits={"validation": "train"}, **texts)
    (example,) = gp.examples("test", worded)
    answer, distractor = (
        worded.tokenizer.decode([int(i) for i in some]) for some in (example.answers, example.distractors)
    )
    assert (answer, distractor) == (" she", " he")
    assert worded.tokenizer.decode(list(example.clean)) == "So Mary is great"
    assert gp.dataset(worded).in_sample, "the same row in both splits"


def test_the_first_rows_may_be_asked_for_and_no_more_than_there_are(ioi: Path, worded: Loaded) -> None:
    few = task(path=ioi, train=1, test=2, **IOI)
    assert [len(few.examples(split, worded)) for split in SPLITS] == [1, 1, 2]
    every = task(path=ioi, **IOI).examples("test", worded)
    assert few.examples("test", worded) == every[:2]
    with pytest.raises(SpecError, match="task.test: found 4; the data set has 3 rows in that split"):
        task(path=ioi, test=4, **IOI).dataset(worded)


def test_one_table_without_splits_serves_all_of_them(tmp_path: Path, worded: Loaded) -> None:
    datasets.Dataset.from_list([ioi_row(*NAMES), ioi_row(*NAMES[::-1])]).save_to_disk(tmp_path / "one")
    one = task(path=tmp_path / "one", **IOI)
    dataset = one.dataset(worded)
    assert dataset.in_sample and one.test_set.endswith("in-sample")
    assert dataset.splits["train"] == dataset.splits["test"] and len(dataset.splits["test"]) == 2


def test_splits_with_identical_rows_are_marked_in_sample(tmp_path: Path, worded: Loaded) -> None:
    rows = [ioi_row(*NAMES), ioi_row(*NAMES[::-1])]
    same = task(path=saved(tmp_path / "same", train=rows, validation=rows, test=rows), **IOI)
    dataset = same.dataset(worded)
    assert dataset.in_sample and dataset.same_splits and same.test_set.endswith(", in-sample")


def test_the_tables_decide_the_identity_and_their_place_does_not(ioi: Path, tmp_path: Path) -> None:
    first = task(path=ioi, **IOI).identity()
    assert "path" not in first and str(ioi) not in str(first)
    moved = shutil.copytree(ioi, tmp_path / "moved")
    (moved / "cache-0123.arrow").write_bytes(b"of some map()")
    assert task(path=moved, **IOI).identity() == first
    assert task(path=ioi, train=1, **IOI).identity() != first
    swapped = saved(
        tmp_path / "other", train=[ioi_row(*NAMES)], validation=[ioi_row(*NAMES)], test=[ioi_row(*NAMES)]
    )
    assert task(path=swapped, **IOI).identity()["digest"] != first["digest"]
    sets = {task(path=ioi, **fields, **IOI).test_set for fields in ({}, {"test": 2}, {"distractor": " {b}"})}
    assert len(sets) == 3
    assert task(path=ioi, train=1, **IOI).test_set == task(path=ioi, **IOI).test_set


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"clean": "{ioi_sentence}"}, "found column 'ioi_sentence'. Did you mean '(corr_)?ioi_sentences'?"),
        ({"splits": {"validation": "valid"}}, "task.splits: found 'valid'. Did you mean 'validation'"),
        ({"path": "nowhere"}, "task.path: no folder nowhere"),
    ],
)
def test_what_the_folder_lacks_is_found_before_a_run(ioi: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        task(**{"path": ioi, **IOI, **fields}).identity()


def test_a_folder_that_holds_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no data set; allowed: a folder of save_to_disk"):
        task(path=tmp_path, **IOI).identity()


def test_bad_rows_are_told_at_once(tmp_path: Path, worded: Loaded) -> None:
    rows = [
        ioi_row(*NAMES),
        ioi_row(*NAMES) | {"ioi_sentences": "one"},
        ioi_row(*NAMES) | {"ioi_sentences": None},
    ]
    folder = saved(tmp_path / "bad", train=rows, validation=rows, test=rows[:1])
    with pytest.raises(SpecError) as refused:
        task(path=folder, **IOI).dataset(worded)
    head, *told = str(refused.value).splitlines()
    assert head == "task: 4 bad rows"
    assert [line.partition(":")[0] for line in told] == [
        "  train row 1", "  train row 2", "  validation row 1", "  validation row 2"
    ]  # fmt: skip


def test_rows_that_do_not_fit_the_tokenizer_are_counted(tmp_path: Path, worded: Loaded) -> None:
    rows = [ioi_row(*NAMES), ioi_row(*NAMES) | {"corr_ioi_sentences": "So unknown words gave it to Mary"}]
    folder = saved(tmp_path / "data", train=rows, validation=rows, test=rows)
    dataset = task(path=folder, **IOI).dataset(worded)
    (reason,) = dataset.dropped
    assert reason.endswith("(rows 1, 1, 1)") and dataset.dropped[reason] == 3


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"path": "a"}, "found both; allowed: one of path, hub"),
        ({"hub": None, "revision": None}, "found neither; allowed: one of path, hub"),
        ({"revision": None}, "hub: found no revision; allowed: a commit"),
        ({"revision": "main"}, "hub: found revision 'main'; allowed: a commit"),
        ({"hub": None, "path": "a"}, "revision belongs to a hub data set only"),
        ({"data_seed": 3}, "data_seed does nothing here"),
    ],
)
def test_a_source_is_one_and_pinned(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        task(**HUB | fields)


def test_a_hub_data_set_is_known_by_id_and_revision_without_the_network() -> None:
    first = task(**HUB)
    assert first.identity().items() >= {"hub": HUB["hub"], "revision": HUB["revision"]}.items()
    assert task(**HUB | {"revision": "b" * 40}).identity() != first.identity()
    assert first.test_set != task(**HUB | {"revision": "b" * 40}).test_set


def test_a_hub_that_cannot_be_reached_is_one_clear_message_at_once(
    worded: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    def never(seconds: float) -> None:
        raise AssertionError(f"slept {seconds} seconds to try again")

    monkeypatch.setattr(time, "sleep", never)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        SpecError, match="^task.hub: someone/something at a{40} is not, or not whole, .*save_to_disk"
    ):
        task(**HUB).dataset(worded)


def test_a_cached_hub_data_set_needs_no_network(
    worded: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the hub's own cache lays a repository out: a snapshot of plain files."""
    from huggingface_hub import constants

    snapshot = tmp_path / "hub" / "datasets--someone--something" / "snapshots" / str(HUB["revision"])
    snapshot.mkdir(parents=True)
    splits = dict.fromkeys(SPLITS, [{"a": "So Mary gave it to John", "b": "So John gave it to Anna"}])
    for split, rows in splits.items():
        datasets.Dataset.from_list(rows).to_json(snapshot / f"{split}.jsonl")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "tables"))
    assert dataset_source.from_hub(str(HUB["hub"]), str(HUB["revision"]), None).keys() == set(SPLITS)
    assert len(task(**HUB).examples("test", worded)) == 1
