"""Sweeps on a cluster of several nodes, each a `ray start` of its own: where trials go when nodes come,
leave, freeze or are drained."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.control import Control
from orchestrator.faults import failures
from orchestrator.records.trial_result import read_result
from orchestrator.sweep import SweepSpec
from tests.ray_cluster import Head, end, ray_head, ray_node
from tests.test_launch import results, until
from trainers.folder import Folder

pytestmark = pytest.mark.slow
LIMIT = 240.0  # seconds; nothing here takes as long unless it hangs


@pytest.fixture
def head() -> Iterator[Head]:
    """A head that computes nothing itself. One for each test: for some 20 s it would count the killed
    nodes of the test before among those that give room."""
    with ray_head(cpus=0) as one:
        yield one


@pytest.fixture
def runs(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path / "runs")


@contextmanager
def driver(runs: Folder, trials: int, head: Head, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    launched = {"address": head.address} | options.pop("launch", {})
    command = [sys.executable, "-m", "tests.standin", runs.path, str(trials)]
    command.append(json.dumps({"sweep": options, "launch": launched}))
    pipe = subprocess.PIPE
    environment = head.environment | {"PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ended(process: "subprocess.Popen[str]") -> str:
    """What a driver said; it must end well."""
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    return said


def events(runs: Folder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (runs.read("standin/events.jsonl") or b"").splitlines()]


def started(runs: Folder) -> list[list[str]]:
    """The nodes of each started attempt, by rank."""
    return [
        [rank["node"] for rank in event["ranks"]]
        for event in events(runs)
        if event["event"] == "trial_started"
    ]


def rank_processes(runs: Folder) -> list[tuple[str, int]]:
    """Node and process of the ranks of the last attempt, by rank."""
    last = [event for event in events(runs) if event["event"] == "trial_started"][-1]
    return [(rank["node"], rank["pid"]) for rank in last["ranks"]]


def test_a_dead_node_gives_its_trials_back(runs: Folder, head: Head) -> None:
    runs.write("fault.json", json.dumps({"slow": [0, 1]}).encode())
    with ray_node(head, "127.0.0.3"), ray_node(head, "127.0.0.4") as doomed:
        with driver(runs, 4, head, lanes=2) as process:
            assert until(lambda: len({node for place in started(runs) for node in place}) == 2)
            end(doomed)
            said = ended(process)
        done = results(runs, 4)
    assert [result.status for result in done] == ["complete"] * 4, said
    lost = [event for event in events(runs) if event["event"] == "attempt_failed"]
    assert lost and {event["kind"] for event in lost} == {"lost"} and all(event["again"] for event in lost)
    again = [result for result in done if result.execution["attempt"] > 1]
    assert again and all(result.execution["resumed_at"] >= 1 for result in again), "from the checkpoint"
    kept = failures(runs / "trials" / again[0].trial_id)
    assert [failure.kind for failure in kept] == ["lost"]


def test_a_cluster_that_is_too_small_is_waited_for_and_new_nodes_take_trials(
    runs: Folder, head: Head
) -> None:
    runs.write("fault.json", json.dumps({"slow": list(range(8))}).encode())
    with ray_node(head, "127.0.0.3"):
        with driver(runs, 1, head, ranks=2) as process:
            said, _ = process.communicate(timeout=LIMIT)
            assert process.returncode != 0 and "found room for 1" in said and "(--wait)" in said
        with driver(runs, 8, head, ranks=1, custom_per_rank={"rare": 1}, launch={"wait": True}) as process:
            assert until(lambda: any(event["event"] == "sweep_waiting" for event in events(runs)))
            (waiting,) = (event["text"] for event in events(runs) if event["event"] == "sweep_waiting")
            assert "1 CPU, 1 rare each; what is missing for 1 of them is not there yet" in waiting
            with ray_node(head, "127.0.0.4", resources={"rare": 1}):
                assert until(lambda: len(started(runs)) >= 1)
                with ray_node(head, "127.0.0.5", resources={"rare": 1}):
                    said = ended(process)
    assert len({node for place in started(runs) for node in place}) == 2, said
    assert [result.status for result in results(runs, 8)] == ["complete"] * 8


def attempts_by_node(runs: Folder) -> dict[str, list[tuple[str, int]]]:
    """Trial and attempt of what each node was given, in order, for trials of one rank."""
    found: dict[str, list[tuple[str, int]]] = {}
    for event in events(runs):
        if event["event"] == "trial_started":
            found.setdefault(event["ranks"][0]["node"], []).append((event["trial"], event["attempt"]))
    return found


@pytest.mark.parametrize("lanes", [{"lanes": 2}, {}], ids=["in the driver", "in Ray"])
def test_a_drained_node_gets_no_more_trials_and_no_other_node_loses_one(
    runs: Folder, head: Head, lanes: dict[str, int]
) -> None:
    """Trials that have no place yet wait in the driver, or all of them in Ray."""
    runs.write("fault.json", json.dumps({"slow": [0, 1, 2, 3, 4]}).encode())
    with ray_node(head, "127.0.0.3"), ray_node(head, "127.0.0.4"), driver(runs, 5, head, **lanes) as process:
        assert until(lambda: len(attempts_by_node(runs)) == 2)
        before = attempts_by_node(runs)
        Control(drained=frozenset({"127.0.0.4"})).write(runs / "standin")
        ended(process)
    (drained,) = (event["node"] for event in events(runs) if event["event"] == "sweep_drained")
    ((moved, _),) = before[drained]
    after = attempts_by_node(runs)
    assert after.pop(drained) == before[drained]
    (others,) = after.values()
    assert sorted(attempt for _, attempt in others) == [1, 1, 1, 1, 2], "no other trial was restarted"
    assert (moved, 2) in others
    (back,) = (event for event in events(runs) if event["event"] == "trial_given_back")
    assert (back["trial"], back["attempt"]) == (moved, 1)
    assert back["cause"] == "its node was drained or excluded"
    done = {result.trial_id: result for result in results(runs, 5)}
    assert [result.status for result in done.values()] == ["complete"] * 5
    assert done[moved].execution["resumed_at"] >= 1
    assert not [event for event in events(runs) if event["event"] == "attempt_failed"]


def test_an_excluded_node_costs_no_trial_of_another_node_its_attempt(runs: Folder, head: Head) -> None:
    runs.write("fault.json", json.dumps({"slow": [0, 1], "kill": [0]}).encode())
    bad = {"node_failures": 1}
    nodes = ray_node(head, "127.0.0.3"), ray_node(head, "127.0.0.4")
    with nodes[0], nodes[1], driver(runs, 2, head, lanes=2, faults=bad) as process:
        ended(process)
    (excluded,) = (event["node"] for event in events(runs) if event["event"] == "sweep_excluded")
    killed, other = results(runs, 2)
    given = attempts_by_node(runs)
    assert given.pop(excluded) == [(killed.trial_id, 1)]
    assert list(given.values()) == [[(other.trial_id, 1), (killed.trial_id, 2)]]
    assert other.execution["resumed_at"] == 0 and killed.execution["resumed_at"] >= 1


def test_a_frozen_rank_on_another_node_is_named_and_leaves_no_process(runs: Folder, head: Head) -> None:
    runs.write("fault.json", json.dumps({"freeze": [0]}).encode())
    spread = {"ranks": 2, "placement": "STRICT_SPREAD", "faults": {"stall_seconds": 5}}
    with ray_node(head, "127.0.0.3"), ray_node(head, "127.0.0.4"), driver(runs, 1, head, **spread) as process:
        assert until(lambda: bool(started(runs)))
        nodes = rank_processes(runs)
        ended(process)
        assert nodes[0][0] != nodes[1][0]
        assert until(lambda: not any(psutil.pid_exists(pid) for _, pid in nodes))
    (lost,) = (event for event in events(runs) if event["event"] == "attempt_failed")
    assert (lost["kind"], lost["ranks"], lost["node"]) == ("silent", [1], nodes[1][0])
    assert "rank 1 silent for 5 s while running its trial" in lost["cause"]


def test_a_killed_driver_leaves_no_rank_on_any_node(runs: Folder, head: Head) -> None:
    runs.write("fault.json", json.dumps({"slow": [0, 1]}).encode())
    spread = {"ranks": 2, "placement": "STRICT_SPREAD"}
    with ray_node(head, "127.0.0.3"), ray_node(head, "127.0.0.4"):
        with driver(runs, 2, head, **spread) as process:
            assert until(lambda: bool(started(runs)))
            pids = [pid for _, pid in rank_processes(runs)]
            os.kill(pids[1], signal.SIGSTOP)  # and one of them cannot even hear of it
            process.kill()
            assert until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
        runs.delete("fault.json")
        with driver(runs, 2, head, **spread) as process:
            ended(process)
    assert [result.execution["attempt"] for result in results(runs, 2)] == [2, 1]


def test_real_ranks_on_two_nodes_find_the_circuit_of_one(runs: Folder, head: Head, tmp_path: Path) -> None:
    base = {
        "model": {"builtin": "tracr-reverse", "dtype": "float64"}, "task": {"name": "tracr"},
        "method": {"name": "edge_pruning", "steps": 12, "target_sparsity": 0.8},
    }  # fmt: skip
    found = {}
    for name, resources in {"one": {}, "two": {"ranks": 2, "placement": "STRICT_SPREAD"}}.items():
        content = {"name": name, "question": "?", "base": base, "resources": resources}
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(json.dumps(content))
        with ray_node(head, "127.0.0.3"), ray_node(head, "127.0.0.4"):
            command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--address", head.address]
            command += ["--runs", str(tmp_path / name), "--no-report"]
            ran = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=LIMIT)
        assert ran.returncode == 0, ran.stderr
        (trial,) = SweepSpec.load(spec).trials()
        result, _ = read_result(Folder.open(tmp_path / name / "trials" / trial.trial_id))
        edges = json.loads((tmp_path / name / "trials" / trial.trial_id / "edges.json").read_bytes())
        assert result is not None and result.execution["ranks"] == int(resources.get("ranks", 1))
        found[name] = edges
    assert found["one"] == found["two"]
