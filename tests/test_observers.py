"""Events, Prometheus and the webhook: what they tell of a sweep."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.rank import Place
from orchestrator.faults import Failure, Faults
from orchestrator.observers import Notice
from orchestrator.observers.alerts import WEBHOOK_VARIABLE, Alerts
from orchestrator.observers.events import EventLog
from orchestrator.observers.prometheus import Metrics
from orchestrator.planning.plan import plan
from tests.run_folders import trial
from tests.standin import sweep
from trainers.folder import Folder
from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.spec import SpecError

LOST = Failure(kind="lost", cause="rank 1 died", ranks=(1,), node="abc", host="gpu-07", attempt=2)


def failed(trial_id: str) -> TrialResult:
    return trial(trial_id, 0, []).model_copy(update={"status": "failed", "error": "ValueError: no gates"})


def test_every_event_is_one_line_that_says_who_where_and_why(tmp_path: Path) -> None:
    events = EventLog(Folder.open(tmp_path))
    events.on_notice(Notice("started", "2 trials to run"))
    events.on_place("t1", 2, [Place("abc", "gpu-07", 12, ("GPU-1",)), Place("def", "gpu-08", 13)])
    events.on_failure("t1", LOST, True)
    events.on_result("t1", failed("t1"))
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "sweep_started", "trial_started", "attempt_failed", "trial_failed",
    ]  # fmt: skip
    assert all(line["time"].endswith("+00:00") for line in lines)
    assert lines[1]["ranks"][0] == {"node": "abc", "host": "gpu-07", "pid": 12, "gpus": ["GPU-1"]}
    told = {"trial": "t1", "attempt": 2, "kind": "lost", "host": "gpu-07", "node": "abc", "again": True}
    assert told.items() <= lines[2].items() and lines[2]["cause"] == "rank 1 died"
    assert lines[3]["cause"].endswith("ValueError: no gates")


def test_events_of_a_store_that_was_away_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(folder: Folder, name: str, content: bytes) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION")

    events = EventLog(Folder.open(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "append", away)
        events.on_notice(Notice("started", "2 trials to run"))
        events.on_failure("t1", LOST, True)
    events.on_result("t1", failed("t1"))
    lines = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert lines == ["sweep_started", "attempt_failed", "trial_failed"]


def test_prometheus_reads_the_sweep_on_loopback(tmp_path: Path) -> None:
    planned = plan(sweep(3), Folder.open(tmp_path))
    first, second, third = planned.trials
    metrics = Metrics(planned, 0)
    try:
        with pytest.raises(SpecError, match=f"--metrics-port: 127.0.0.1:{metrics.port} cannot be used"):
            Metrics(planned, metrics.port)
        metrics.on_start(first.trial_id, first.spec)
        metrics.on_progress(first.trial_id, Progress(3, 5))
        metrics.on_failure(first.trial_id, LOST, True)
        metrics.on_start(first.trial_id, first.spec)
        metrics.on_progress(first.trial_id, Progress(2, 5))
        metrics.on_progress(first.trial_id, Progress(5, 5))
        metrics.on_result(first.trial_id, trial(first.trial_id, 0, []))
        metrics.on_result(second.trial_id, failed(second.trial_id))  # another driver's
        metrics.on_start(third.trial_id, third.spec)
        metrics.on_given_back(third.trial_id, 1, "paused")
        page = urllib.request.urlopen(metrics.url, timeout=10).read().decode()
    finally:
        metrics.close()
    assert 'circuit_sweep_trials{state="complete",sweep="standin"} 1.0' in page
    assert 'circuit_sweep_trials{state="failed",sweep="standin"} 1.0' in page
    assert 'circuit_sweep_trials{state="waiting",sweep="standin"} 1.0' in page
    assert 'circuit_sweep_trials{state="running",sweep="standin"} 0.0' in page
    assert 'circuit_sweep_failures_total{kind="lost",sweep="standin"} 1.0' in page
    assert 'circuit_sweep_steps_total{sweep="standin"} 6.0' in page, "steps done again count again"


def test_prometheus_counts_a_failed_trial_that_is_asked_for_again_as_waiting(tmp_path: Path) -> None:
    planned = plan(sweep(2), Folder.open(tmp_path))
    first, second = planned.trials
    metrics = Metrics(planned, 0)

    def states() -> dict[str, float | None]:
        names = ("waiting", "running", "complete", "failed")
        value = metrics._registry.get_sample_value
        return {n: value("circuit_sweep_trials", {"sweep": "standin", "state": n}) for n in names}

    try:
        metrics.on_start(first.trial_id, first.spec)
        metrics.on_failure(first.trial_id, LOST, True)
        assert states() == {"waiting": 2, "running": 0, "complete": 0, "failed": 0}, "no lane has it"
        metrics.on_start(first.trial_id, first.spec)
        metrics.on_result(first.trial_id, failed(first.trial_id))
        metrics.on_again(first.trial_id)
        assert states() == {"waiting": 2, "running": 0, "complete": 0, "failed": 0}
        for one in (first, second):
            metrics.on_start(one.trial_id, one.spec)
            metrics.on_result(one.trial_id, trial(one.trial_id, 0, []))
        assert states() == {"waiting": 0, "running": 0, "complete": 2, "failed": 0}
    finally:
        metrics.close()


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its URL, and what it was told."""
    told: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook?key=SECRET", told
    server.shutdown()
    thread.join()
    server.server_close()


def heard(told: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while len(told) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    return told


def test_the_webhook_hears_of_every_third_failure_and_of_a_stop(
    webhook: tuple[str, list[dict[str, Any]]],
) -> None:
    url, told = webhook
    alerts = Alerts("demo", Faults(alert_failures=3), url)
    for number in range(5):
        alerts.on_result(f"t{number}", failed(f"t{number}"))
    heard(told, 1)
    alerts.on_notice(Notice("stopped", "5 trials in a row failed alike"))
    heard(told, 2)
    alerts.close()
    assert [one["event"] for one in told] == ["failures", "stopped"]
    assert told[1]["text"] == "circuit-sweep demo: stopped: 5 trials in a row failed alike"
    assert told[0] == {
        "sweep": "demo", "event": "failures",
        "text": "circuit-sweep demo: 3 trials failed, the last one with: ValueError: no gates",
    }  # fmt: skip


def test_silence_is_told_once_and_again_after_progress(webhook: tuple[str, list[dict[str, Any]]]) -> None:
    url, told = webhook
    alerts = Alerts("demo", Faults(alert_silent_minutes=0.002), url)
    assert [one["event"] for one in heard(told, 1)] == ["silent"]
    time.sleep(0.4)
    assert len(told) == 1
    alerts.on_progress("t", Progress(1, 2))
    assert len(heard(told, 2)) == 2
    alerts.close()


def test_a_pause_is_no_silence_and_none_is_told_when_it_ends(
    webhook: tuple[str, list[dict[str, Any]]],
) -> None:
    url, told = webhook
    now = [0.0]
    alerts = Alerts("demo", Faults(alert_silent_minutes=0.002), url, clock=lambda: now[0])
    alerts.on_notice(Notice("paused", ""))
    now[0] = 9e4
    time.sleep(0.4)
    alerts.on_notice(Notice("resumed", ""))
    time.sleep(0.4)
    assert told == []
    now[0] += 60
    assert [one["text"] for one in heard(told, 1)] == ["circuit-sweep demo: no progress for 1 min"]
    alerts.close()


def test_a_dead_webhook_costs_nothing_and_its_url_is_told_to_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, "http://127.0.0.1:9/hook?key=SECRET")
    (alerts,) = Alerts.from_environment("demo", Faults(alert_failures=1))
    alerts.on_result("t", failed("t"))
    deadline = time.monotonic() + 20
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.02)
    alerts.close()
    assert "could not be called" in caplog.text and "SECRET" not in caplog.text
    monkeypatch.delenv(WEBHOOK_VARIABLE)
    assert Alerts.from_environment("demo", Faults()) == []
    with pytest.raises(SpecError, match=f"{WEBHOOK_VARIABLE}: found no URL"):
        Alerts("demo", Faults(), "file:///etc/passwd")
