"""Failures in words and records, and what a supervisor makes of them."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.cluster.lane import LaneError
from orchestrator.cluster.scheduling import _failure
from orchestrator.cluster.supervisor import Decision, Supervisor
from orchestrator.faults import Failure, Faults, Kind, failures, parse, record
from trainers.folder import Folder
from trainers.spec import SpecError

NODES = ["node-a", "node-b"]


def failure(kind: Kind = "lost", cause: str = "rank 0 died", node: str = "") -> Failure:
    return Failure(kind=kind, cause=cause, node=node)


def test_a_failure_survives_the_way_through_tune_as_text() -> None:
    said = Failure(kind="raised", cause='a\n"b"\n{"kind": 1}', ranks=(1,), node="n", host="h", attempt=3)
    assert parse(str(copy.copy(LaneError(said)))) == said, "Tune copies it"


def test_what_a_killed_lane_leaves_behind_counts_as_lost() -> None:
    assert parse("") == Failure(kind="lost", cause="the lane died: Ray kept no error")
    assert parse("The actor\ndied  unexpectedly").cause == "the lane died: The actor died unexpectedly"
    assert parse('{"kind": "no such kind"}').kind == "lost"


def test_of_what_tune_wrote_its_count_and_clock_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "error.txt"
    entries = ("The actor\ndied unexpectedly.", "Socket\nclosed")
    file.write_text(
        "".join(
            f"Failure # {n} (occurred at 2026-01-01_10-00-00)\n{text}\n" for n, text in enumerate(entries, 1)
        )
    )
    lost = _failure(SimpleNamespace(error_file=str(file)))
    assert lost == Failure(kind="lost", cause="the lane died: Socket closed")
    file.write_text(
        f"Failure # 1 (occurred at 2026)\norchestrator.cluster.lane.LaneError: {LaneError(lost)}\n"
    )
    assert _failure(SimpleNamespace(error_file=str(file))) == lost


def test_failures_are_kept_in_order_and_torn_lines_are_skipped(tmp_path: Path) -> None:
    trial = Folder.open(tmp_path)
    assert failures(trial) == []
    record(trial, failure("lost"))
    trial.append("failures.jsonl", b'{"kind": "rai\n')
    record(trial, failure("raised"))
    assert [one.kind for one in failures(trial)] == ["lost", "raised"]


def test_failures_are_alike_but_for_numbers_and_addresses() -> None:
    frame = '  File "{}", line 1, in step\n    launch()\n'
    one = failure("raised", frame.format("a.py") + "CUDA error at 0x7ffe12 in step 12 of 3f2a9c01d4e5")
    other = failure("raised", frame.format("b.py") + "CUDA error at 0x1 in step 7 of 99aa88bb77cc")
    assert one.likeness == other.likeness
    assert one.likeness != failure("lost", one.cause).likeness


def test_the_headline_is_the_whole_message_of_what_failed_first() -> None:
    """torch's errors have many lines; the last one alone says nothing. Peers fail after the first."""
    trace = (
        'rank 1 raised an error while loading:\nTraceback (most recent call last):\n  File "a.py", line 3\n'
    )
    torch = (
        "    model.load(x)\n    ^^^^^^^^^\nRuntimeError: Error(s) in loading GPT2:\n\tsize mismatch for wte"
    )
    said = "RuntimeError: Error(s) in loading GPT2: size mismatch for wte"
    assert failure("raised", trace + torch).headline == said
    assert (
        failure("raised", f"{trace}{torch}\n\nrank 0 raised an error while loading:\nReset by peer").headline
        == said
    )
    assert failure("raised", f"{trace}    fail()\ntrainers.spec.SpecError: model: no").headline == "model: no"
    died = "rank 0 died while loading: the actor is dead"
    assert failure("lost", f"{died}\n\nrank 1 raised an error while loading:\n  File x").headline == died
    assert failure("node", "trainers.preflight.PreflightError: no room").headline == "no room"
    assert failure("lost", " ").headline == "no reason given"


@pytest.mark.parametrize(
    ("faults", "kinds", "gives_up"),
    [
        ({}, ["raised"], False),
        ({}, ["raised", "raised"], True),
        ({}, ["refused"], True),
        ({}, ["raised", "lost", "lost", "silent", "node", "lost"], False),
        ({}, ["lost"] * 6, True),
        ({"machine_retries": 0}, ["lost"], True),
        ({"trial_retries": 0}, ["memory"], True),
        ({"trial_retries": 0}, ["lost"], False),
    ],
)
def test_retries_of_trials_and_of_machines_are_counted_apart(
    faults: dict[str, int], kinds: list[Kind], gives_up: bool
) -> None:
    history = [failure(kind) for kind in kinds]
    decision = Supervisor(Faults.parse(faults, "test")).failed("t", history)
    assert bool(decision.give_up) == gives_up
    assert decision.stop == decision.exclude == ""


def test_trials_given_up_alike_in_a_row_stop_the_sweep() -> None:
    supervisor = Supervisor(Faults(identical_failures=3))
    same = [failure("raised", "no module named x")] * 2
    assert [supervisor.failed(trial, same).stop for trial in ("a", "a", "b")] == ["", "", ""], "two trials"
    assert supervisor.failed("c", same).stop == "3 trials in a row failed alike: no module named x"
    supervisor.complete()
    assert supervisor.failed("d", same).stop == "", "a trial that completes shows that others can"
    supervisor.failed("e", same)
    supervisor.failed("f", [failure("lost")] * 6)
    assert supervisor.failed("g", same).stop == "", "a failure of another kind ends the row"


def test_attempts_that_are_tried_again_stop_no_sweep() -> None:
    """A node that dies takes the trials of all its lanes with it; they go on elsewhere."""
    supervisor = Supervisor(Faults(identical_failures=2))
    for number in range(64):
        assert supervisor.failed(f"t{number}", [failure("lost")]) == Decision()
    given_up = [failure("raised", "no module named x")] * 2
    assert supervisor.failed("a", given_up).stop == ""
    assert supervisor.failed("b", [failure("lost")]).stop == "", "nor do they end a row"
    assert supervisor.failed("c", given_up).stop == "2 trials in a row failed alike: no module named x"


def test_a_node_on_which_three_trials_failed_is_excluded() -> None:
    supervisor = Supervisor(Faults(node_failures=3, identical_failures=99))
    on_a = [failure("silent", "frozen", "node-a")]
    assert [supervisor.failed(trial, on_a, (), NODES).exclude for trial in "aab"] == ["", "", ""]
    assert supervisor.failed("c", on_a, (), NODES) == Decision(exclude="node-a")
    assert supervisor.excluded == {"node-a"}
    assert supervisor.failed("d", on_a, (), NODES).exclude == "", "once is enough"
    on_b = [failure("silent", "frozen", "node-b")]
    assert [supervisor.failed(trial, on_b, (), NODES).exclude for trial in "abcd"] == [""] * 4, "the last one"


def test_a_node_that_can_start_nothing_is_excluded_before_a_trial_has_lost_all_its_attempts() -> None:
    supervisor = Supervisor(Faults())
    unfit = failure("node", "PreflightError: /tmp has 3 MiB free", "node-a")
    decided = [supervisor.failed("t", [unfit] * tried, (), NODES) for tried in (1, 2, 3)]
    assert decided == [Decision(), Decision(), Decision(exclude="node-a")]


def test_a_bad_spec_costs_no_node() -> None:
    """Trials that fail alike wherever they run are not the nodes' doing."""
    supervisor = Supervisor(Faults(node_failures=2, identical_failures=99))
    for number, node in enumerate(NODES * 3):
        own = [failure("raised", "ValueError: no gates", node)]
        assert supervisor.failed(f"t{number}", own, (), NODES).exclude == ""


def test_a_full_runs_folder_stops_the_sweep_and_costs_no_attempt() -> None:
    decision = Supervisor(Faults()).failed("t", [failure("storage", "OSError: no space left")] * 9)
    assert decision == Decision(stop="OSError: no space left")


@pytest.mark.parametrize("where", ["cause", "log"])
def test_log_rules_act_on_the_cause_and_on_what_ranks_logged(where: str) -> None:
    rules = [
        {"pattern": "CUDA out of memory", "action": "stop_retrying"},
        {"pattern": r"Xid \d+", "action": "exclude_node"},
    ]
    supervisor = Supervisor(Faults.parse({"log_rules": rules}, "test"))

    def decided(line: str) -> Decision:
        cause, lines = (line, []) if where == "cause" else ("died", [line])
        return supervisor.failed("t", [failure("lost", cause, "node-a")], lines, NODES)

    assert decided("CUDA out of memory. Tried").give_up == "a log rule says stop_retrying"
    assert decided("NVRM: Xid 79, fallen off the bus").exclude == "node-a"
    assert decided("nothing of the kind") == Decision()


def test_a_pattern_that_does_not_compile_is_refused() -> None:
    with pytest.raises(SpecError, match=r"faults: log_rules\[0\].pattern: found '\(', not a regular expr"):
        Faults.parse({"log_rules": [{"pattern": "(", "action": "stop_retrying"}]}, "faults")


def test_a_failure_is_one_line_of_json() -> None:
    assert json.loads(failure("node", "a\nb").model_dump_json())["kind"] == "node"
    assert "\n" not in failure("node", "a\nb").model_dump_json()
