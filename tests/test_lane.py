"""Lanes without Ray: what a gang asks for, when it counts as frozen, how attempts and ends are recorded."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.attempt import Attempt, Owner
from orchestrator.cluster.lane import STALL_FLOOR, bundles, stall_limit
from orchestrator.cluster.rank import Place
from orchestrator.cluster.relay import ERROR_CHARACTERS, Relay, shorten
from orchestrator.cluster.room import fits, require_room
from orchestrator.faults import Failure, Faults
from orchestrator.observers import Notice, Observer
from orchestrator.planning.plan import look
from tests.run_folders import trial
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.resources import Resources
from trainers.result import TrialResult
from trainers.spec import SpecError
from trainers.trial import TrialSpec

TRIAL = "aaaa000000000001"
OWNER = Owner(sweep="demo", host="here", pid=7)


def spec() -> TrialSpec:
    data = {"model": {"builtin": "tracr-reverse"}, "task": {"name": "tracr"}, "method": {"name": "random"}}
    return TrialSpec.parse(data, "test")


class Notes(Observer):
    """Remembers; `broken` makes it raise."""

    def __init__(self, broken: bool = False) -> None:
        self.heard: list[str] = []
        self.failures: list[Failure] = []
        self.places: list[Sequence[Place]] = []
        self.notices: list[Notice] = []
        self.broken = broken

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if self.broken:
            raise OSError("no terminal")

    def on_start(self, trial_id: str, spec: TrialSpec) -> None:
        self._hear("start")

    def on_place(self, trial_id: str, attempt: int, places: Sequence[Place]) -> None:
        self.places.append(places)

    def on_failure(self, trial_id: str, failure: Failure, again: bool) -> None:
        self.failures.append(failure)
        self._hear(f"{'retry' if again else 'given up'} {failure.cause}")

    def on_progress(self, trial_id: str, progress: Progress) -> None:
        self._hear(f"step {progress.step}")

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        self._hear(result.status)

    def on_notice(self, notice: Notice) -> None:
        self.notices.append(notice)

    def close(self) -> None:
        self._hear("close")


def test_a_lane_asks_for_one_bundle_per_rank_and_nothing_for_itself() -> None:
    assert bundles(Resources(ranks=2, cpus_per_rank=3)).bundles == [{"CPU": 3}, {"CPU": 3}]
    assert bundles(Resources(gpus_per_rank=0.5)).bundles == [{"CPU": 1, "GPU": 0.5}]


def node(**has: float) -> dict[str, Any]:
    """A node that is free."""
    return {"id": "n", "name": "n", "address": "127.0.0.1", "resources": has, "free": has}


CPUS3 = [node(CPU=3.0), node(CPU=3.0)]


@pytest.mark.parametrize(
    ("nodes", "resources", "expected"),
    [
        ([node(CPU=2.0)], {}, 2),
        (CPUS3, {"ranks": 1, "cpus_per_rank": 2}, 2),  # not 3: a rank stays on a node
        (CPUS3, {"ranks": 2, "cpus_per_rank": 2}, 1),  # a gang may span nodes
        (CPUS3, {"ranks": 2, "cpus_per_rank": 2, "placement": "STRICT_PACK"}, 0),
        (CPUS3, {"ranks": 2, "placement": "STRICT_PACK"}, 2),
        (CPUS3, {"ranks": 2, "placement": "STRICT_SPREAD"}, 3),
        ([node(CPU=8.0), node(CPU=1.0)], {"ranks": 2, "placement": "STRICT_SPREAD"}, 1),
        (CPUS3, {"ranks": 3, "placement": "STRICT_SPREAD"}, 0),
        ([node(CPU=1.0)], {"cpus_per_rank": 0.25}, 4),
        ([node(CPU=64.0, GPU=2.0)], {"gpus_per_rank": 0.5}, 4),
        ([node(CPU=64.0, GPU=2.0), node(CPU=64.0)], {"ranks": 2, "gpus_per_rank": 1}, 1),
        ([node(CPU=8.0, memory=4 * 2.0**30)], {"memory_gib_per_rank": 1.5}, 2),
        ([node(CPU=8.0, scratch=2.0)], {"custom_per_rank": {"scratch": 1}}, 2),
        ([node(**{"CPU": 8.0, "GPU": 2.0, "accelerator_type:H100": 1.0})], {"accelerator": "H100"}, 8),
        ([node(**{"CPU": 8.0, "GPU": 2.0, "accelerator_type:H100": 1.0})], {"accelerator": "A100"}, 0),
    ],
)  # fmt: skip
def test_how_many_gangs_fit(nodes: list[dict[str, Any]], resources: dict[str, Any], expected: int) -> None:
    assert fits(Resources.model_validate(resources), nodes) == expected


@pytest.mark.parametrize(
    ("nodes", "resources", "message"),
    [
        (
            [node(CPU=2.0)],
            {"ranks": 3},
            r"asks for 3 rank\(s\) with 1 CPU each.*room for 2.*a node with 2 CPU",
        ),
        (CPUS3, {"cpus_per_rank": 4}, r"asks for 1 rank\(s\) with 4 CPU each.*room for 0"),
        ([node(CPU=8.0)], {"gpus_per_rank": 1}, r"1 CPU, 1 GPU each, found room for 0"),
        (CPUS3, {"ranks": 4, "placement": "STRICT_PACK"}, r"placed STRICT_PACK, found room for 6"),
        ([node(CPU=8.0)], {"custom_per_rank": {"scratch": 1}}, r"1 CPU, 1 scratch each, found room for 0"),
        ([], {}, "no live node"),
    ],
)  # fmt: skip
def test_a_gang_that_can_never_fit_is_refused(
    nodes: list[dict[str, Any]], resources: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        require_room(Resources.model_validate(resources), nodes)


def test_a_rank_is_frozen_after_twenty_median_reports_but_never_before_two_minutes() -> None:
    faults = Faults()
    assert stall_limit(faults, []) == STALL_FLOOR == 120
    assert stall_limit(faults, [0.1, 0.1, 50.0]) == 120, "one slow report does not move the median"
    assert stall_limit(faults, [10.0, 20.0, 30.0]) == 400
    assert stall_limit(Faults(stall_seconds=5), [30.0]) == 5


def test_attempts_are_counted_and_the_spec_is_written_once(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path) / TRIAL
    assert Attempt.last(folder) is None
    assert [Attempt.begin(folder, {"seed": 1}, OWNER).attempt for _ in range(3)] == [1, 2, 3]
    Attempt.begin(folder, {"seed": 2}, OWNER)
    assert json.loads(folder.read("spec.json") or b"") == {"seed": 1}
    last = Attempt.last(folder)
    assert last is not None and last.attempt == 4 and last.owner == OWNER


def test_an_unreadable_attempt_record_costs_no_trial(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path) / TRIAL
    folder.write("attempt.json", b"{")
    assert Attempt.begin(folder, {}, OWNER).attempt == 1


def test_a_trial_that_is_given_up_gets_a_failed_result(tmp_path: Path) -> None:
    runs, notes = Folder.open(tmp_path), Notes()
    relay = Relay(runs, {TRIAL: spec()}, OWNER, [notes])
    for _ in range(2):
        Attempt.begin(runs / "trials" / TRIAL, spec().plain(), OWNER)
    relay.give_up(
        TRIAL, "\x1b[36mrank 0 raised\x1b[39m:\n   ^^^^\nValueError: no gates", "twice", Resources(ranks=2)
    )
    result = TrialResult.model_validate_json(runs.read(f"trials/{TRIAL}/result.json") or b"")
    assert result.status == "failed" and result.error == "rank 0 raised:\nValueError: no gates"
    assert result.execution["attempt"] == 2 and result.spec == spec().plain()
    assert (relay.failed, relay.complete, notes.heard) == (1, 0, ["failed"])


@pytest.mark.parametrize("ran", [True, False])
def test_a_failed_trial_took_the_time_of_its_last_attempt_if_that_ran(tmp_path: Path, ran: bool) -> None:
    runs = Folder.open(tmp_path)
    attempt = Attempt.begin(runs / "trials" / TRIAL, spec().plain(), OWNER)
    earlier = datetime.fromisoformat(attempt.started) - timedelta(seconds=100)
    begun = attempt.model_copy(update={"started": earlier.isoformat(timespec="seconds")})
    runs.write(f"trials/{TRIAL}/attempt.json", begun.model_dump_json().encode())
    Relay(runs, {TRIAL: spec()}, OWNER).give_up(TRIAL, "no gates", "cancelled", Resources(), ran)
    result = TrialResult.model_validate_json(runs.read(f"trials/{TRIAL}/result.json") or b"")
    assert 100 <= result.seconds < 1000 if ran else result.seconds == 0


def test_a_result_that_is_there_wins_over_a_lost_lane(tmp_path: Path) -> None:
    runs = Folder.open(tmp_path)
    runs.write(f"trials/{TRIAL}/result.json", trial(TRIAL, 0, []).model_dump_json().encode())
    relay = Relay(runs, {TRIAL: spec()}, OWNER, [])
    relay.give_up(TRIAL, "rank 1 died while ending", "", Resources())
    assert (relay.failed, relay.complete) == (0, 1)


def test_only_an_attempt_of_ours_is_given_back(tmp_path: Path) -> None:
    """A lane that is stopped before it began leaves another driver's attempt as it is."""
    runs = Folder.open(tmp_path)
    folder = runs / "trials" / TRIAL
    relay = Relay(runs, {TRIAL: spec()}, OWNER)
    for owner, ours in ((OWNER.model_copy(update={"pid": OWNER.pid + 1}), False), (OWNER, True)):
        Attempt.begin(folder, spec().plain(), owner)
        relay.start(TRIAL)
        relay.given_back(TRIAL, "paused")
        assert not relay.running
        last = Attempt.last(folder)
        assert last is not None and bool(last.given_back) == ours


def test_a_trial_that_lost_an_attempt_waits_until_it_is_tried_again(tmp_path: Path) -> None:
    """Its nodes may be gone for hours."""
    runs = Folder.open(tmp_path)
    folder, relay = runs / "trials" / TRIAL, Relay(runs, {TRIAL: spec()}, OWNER)
    Attempt.begin(folder, spec().plain(), OWNER)
    relay.start(TRIAL)
    relay.failure(TRIAL, Failure(kind="lost", cause="rank 1 died"), again=True)
    assert look(folder, runs) == ("waiting", None, "")
    assert Attempt.begin(folder, spec().plain(), OWNER).attempt == 2
    assert look(folder, runs)[0] != "waiting"


def test_a_result_is_told_once(tmp_path: Path) -> None:
    runs, notes = Folder.open(tmp_path), Notes()
    relay = Relay(runs, {TRIAL: spec()}, OWNER, [notes])
    assert not relay.over(TRIAL, here=True)
    runs.write(f"trials/{TRIAL}/result.json", trial(TRIAL, 0, []).model_dump_json().encode())
    assert relay.over(TRIAL, here=False) and relay.over(TRIAL, here=True)
    assert notes.heard == ["complete"] and (relay.elsewhere, relay.complete) == (1, 0)


def test_an_observer_that_fails_is_dropped_and_the_others_hear_on(tmp_path: Path) -> None:
    broken, notes = Notes(broken=True), Notes()
    relay = Relay(Folder.open(tmp_path), {TRIAL: spec()}, OWNER, [broken, notes])
    relay.start(TRIAL)
    relay.progress(TRIAL, Progress(1, 2))
    relay.close()
    assert broken.heard == ["start"] and notes.heard == ["start", "step 1", "close"]


def test_errors_keep_their_last_lines() -> None:
    text = shorten("\n".join(f"line {number}" for number in range(100)))
    assert text.startswith("line 60") and text.endswith("line 99")
    assert len(shorten("x" * 10**6)) == ERROR_CHARACTERS + 1
