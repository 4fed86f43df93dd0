"""Folder: whole files, written atomically, on a local disk and behind URIs."""

import os
import threading
from pathlib import Path

import fsspec
import pytest
from pyarrow import fs

from trainers.folder import Folder
from trainers.spec import SpecError


@pytest.fixture(params=["path", "file URI", "memory store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """The store in memory takes the way of an object store: nothing there is a local file."""
    match request.param:
        case "path":
            return Folder.open(tmp_path / "runs")
        case "file URI":
            return Folder.open(f"file://{tmp_path}/runs")
        case _:
            memory = fsspec.filesystem("memory", skip_instance_cache=True)
            memory.store, memory.pseudo_dirs = {}, [""]
            return Folder(fs.PyFileSystem(fs.FSSpecHandler(memory)), "/runs", "memory://runs")


def test_a_file_comes_back_whole(folder: Folder) -> None:
    assert folder.read("a/b.bin") is None and not folder.exists("a/b.bin") and folder.names() == []
    folder.write("a/b.bin", b"\x00one")
    assert folder.read("a/b.bin") == b"\x00one" and folder.exists("a/b.bin") and folder.exists("a")
    folder.write("a/b.bin", b"two")
    assert folder.read("a/b.bin") == b"two"
    assert folder.names() == ["a"] and (folder / "a").names() == ["b.bin"]
    assert (folder / "a").read("b.bin") == b"two"
    folder.write("empty", b"")
    assert folder.read("empty") == b""


def test_create_refuses_a_second_one(folder: Folder) -> None:
    assert folder.create("lease.json", b"first")
    assert not folder.create("lease.json", b"second")
    assert folder.read("lease.json") == b"first" and folder.names() == ["lease.json"]


def test_append(folder: Folder) -> None:
    folder.append("t/progress.jsonl", b"one\n")
    folder.append("t/progress.jsonl", b"two\n")
    assert folder.read("t/progress.jsonl") == b"one\ntwo\n"


def test_rename_and_delete(folder: Folder) -> None:
    folder.write("t/old", b"x")
    folder.rename("t/old", "t/new")
    assert (folder / "t").names() == ["new"] and folder.read("t/new") == b"x"
    folder.write("t/deep/er", b"y")
    folder.delete("t/new")
    folder.delete("t/new")
    assert (folder / "t").names() == ["deep"]
    (folder / "t").delete("")
    folder.delete("t")
    assert folder.names() == [] and not folder.exists("t")


def test_half_written_files_are_not_listed(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path)
    (tmp_path / "result.json.1234.part").write_bytes(b"half")
    folder.write("b", b"")
    folder.write("a", b"")
    assert folder.names() == ["a", "b"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.open(tmp_path)
    folder.write("result.json", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write("result.json", b"new")
    assert os.listdir(tmp_path) == ["result.json"] and folder.read("result.json") == b"old"


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
    folder, contents = Folder.open(tmp_path), {bytes([letter]) * 200_000 for letter in b"abc"}
    folder.write("f", b"a" * 200_000)
    over = threading.Event()

    def write() -> None:
        for _ in range(10):
            for content in contents:
                folder.write("f", content)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not over.is_set():
        seen.add(folder.read("f"))
    writer.join()
    assert seen <= contents


def test_of_many_creators_one_wins(tmp_path: Path) -> None:
    folder, start = Folder.open(tmp_path), threading.Barrier(8)
    won: list[int] = []

    def create(number: int) -> None:
        start.wait()
        if folder.create("lease", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        len(won) == 1 and folder.read("lease") == str(won[0]).encode() and os.listdir(tmp_path) == ["lease"]
    )


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Folder.open("runs/../runs/").location == str(tmp_path / "runs")
    assert Folder.open("~/runs").location == str(tmp_path / "home" / "runs")
    uri = f"file://{tmp_path}/runs"
    inside = Folder.open(uri) / "trials" / "abc"
    assert inside.location == f"{uri}/trials/abc" and inside.is_local
    inside.write("f", b"x")
    assert (tmp_path / "runs/trials/abc/f").read_bytes() == b"x"
    assert Folder.open(inside.location) == inside
    query = Folder.open("s3://bucket/runs?region=eu-north-1") / "trials"
    assert query.location == "s3://bucket/runs/trials?region=eu-north-1" and not query.is_local


@pytest.mark.parametrize("location", ["nonsense://bucket/runs", "file://relative", "://"])
def test_a_location_that_cannot_be_understood(location: str) -> None:
    with pytest.raises(SpecError, match="not a folder or URI that can be opened"):
        Folder.open(location)
