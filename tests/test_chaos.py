"""Every fault of benchmarks/chaos.py in a small sweep of real trials on a real cluster, and whether the
comparison that says that nothing is lost does find what is."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.chaos import inject, reference, scene
from benchmarks.chaos_cluster import Cluster, cluster
from benchmarks.chaos_compare import differences
from benchmarks.chaos_faults import FAULTS
from tests.run_folders import EDGES, Runs, point, trial

SMALL = {"seeds": 2, "lanes": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def expected(folder: Path) -> Path:
    """The undisturbed sweep's runs folder."""
    return reference(folder / "reference", **SMALL)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost(name: str, folder: Path, expected: Path, nodes: Cluster) -> None:
    fault = FAULTS[name]
    with scene(fault, nodes, folder / name, **SMALL) as one:
        seen = inject(fault, one, expected)
    assert not seen.wrong
    assert not fault.kinds or (seen.noticed is not None and seen.recovered is not None), "it did strike"


def write_runs(path: Path) -> Path:
    runs = Runs(path)
    runs.trial(trial("aaaa", 0, [point(0, 6, 0.01)]), edges={0: EDGES})
    runs.trial(trial("bbbb", 1, [point(0, 5, 0.02)]), edges={0: EDGES[:5]})
    runs.sweep("chaos", ["aaaa", "bbbb"])
    for name in ("aaaa", "bbbb"):
        (path / "trials" / name / "circuit-000.safetensors").write_bytes(name.encode())
    return path


def edit_result(runs: Path, **changes: object) -> None:
    file = runs / "trials" / "aaaa" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))


def test_when_and_where_trials_ran_makes_no_difference(tmp_path: Path) -> None:
    one, other = write_runs(tmp_path / "one"), write_runs(tmp_path / "other")
    assert differences(one, other) == []
    execution = {"ranks": 1, "threads": 1, "zero_stage": 3, "attempt": 7, "host": "elsewhere"}
    execution["code"] = "0.1.0+abc"
    edit_result(other, seconds=99.0, peak_memory_bytes=5, started="x", finished="y", execution=execution)
    assert differences(one, other) == []


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a point": (
        lambda runs: edit_result(runs, points=[point(0, 6, 0.010000000000000002).model_dump()]),
        "points: aaaa: divergence_validation: 0.010000000000000002, expected 0.01",
    ),
    "no point": (lambda runs: edit_result(runs, points=[]), "points: 1 rows, expected 2"),
    "its cost": (lambda runs: edit_result(runs, examples=3), "trials: aaaa: examples: 3, expected None"),
    "a lost trial": (
        lambda runs: (runs / "trials" / "bbbb" / "result.json").unlink(),
        "trials: bbbb: status: 'unfinished', expected 'complete'",
    ),
    "an edge": (
        lambda runs: (runs / "trials" / "aaaa" / "edges-000.json").write_text("[]"),
        "aaaa/edges-000.json: other bytes",
    ),
    "a circuit": (
        lambda runs: (runs / "trials" / "bbbb" / "circuit-000.safetensors").unlink(),
        "bbbb: ['circuit-000.safetensors'] in one of the two only",
    ),
    "half a file": (
        lambda runs: (runs / "trials" / "aaaa" / "result.json.1234abcd.part").touch(),
        "left behind: trials/aaaa/result.json.1234abcd.part",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_lost_is_found(damage: str, tmp_path: Path) -> None:
    one, other = write_runs(tmp_path / "one"), write_runs(tmp_path / "other")
    harm, said = DAMAGES[damage]
    harm(other)
    assert said in differences(one, other)
