"""Alerts: calls a webhook when trials fail or nothing moves any more."""

import json
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Callable

from orchestrator.faults import Faults
from orchestrator.observers import Notice, Observer
from orchestrator.wording import count, duration, headline
from trainers.progress import Progress
from trainers.result import TrialResult
from trainers.spec import SpecError

# Its URL is a secret with most services, so it is no option and no field of a spec.
WEBHOOK_VARIABLE = "CIRCUIT_SWEEP_WEBHOOK"
CALL_LIMIT = 10.0  # seconds
LOOK_SECONDS = 5.0
log = logging.getLogger(__name__)


class Alerts(Observer):
    """Posts {"sweep", "event", "text"}; `text` is also what Slack and its like show. Each silence and each
    `alert_failures` further failures are told once; a sweep that stops before its end always is."""

    def __init__(
        self, sweep: str, faults: Faults, url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises SpecError for what is no http(s) URL."""
        if not url.startswith(("http://", "https://")):
            raise SpecError(f"{WEBHOOK_VARIABLE}: found no URL in it; allowed: http://… or https://…")
        self._sweep, self._faults, self._url, self._clock = sweep, faults, url, clock
        self._failed = 0
        self._last, self._told_silence, self._paused = clock(), False, False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="alerts", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls, sweep: str, faults: Faults) -> "list[Alerts]":
        """One, if the variable is set."""
        url = os.environ.get(WEBHOOK_VARIABLE)
        return [cls(sweep, faults, url)] if url else []

    def on_progress(self, trial_id: str, progress: Progress) -> None:
        self._last, self._told_silence = self._clock(), False

    def on_result(self, trial_id: str, result: TrialResult) -> None:
        self._last, self._told_silence = self._clock(), False
        if result.status != "failed":
            return
        self._failed += 1
        if self._failed % self._faults.alert_failures == 0:
            reason = headline(result.error)[:300]
            self._call("failures", f"{count(self._failed, 'trial')} failed, the last one with: {reason}")

    def on_notice(self, notice: Notice) -> None:
        if notice.kind in ("paused", "resumed"):
            self._last, self._paused = self._clock(), notice.kind == "paused"
        if notice.kind == "stopped":
            self._call(notice.kind, f"stopped: {notice.text}")
        if notice.kind == "excluded":
            self._call(notice.kind, notice.text)

    def close(self) -> None:
        self._end.set()
        self._thread.join(timeout=CALL_LIMIT)

    def _watch(self) -> None:
        limit = 60 * self._faults.alert_silent_minutes
        while not self._end.wait(min(LOOK_SECONDS, limit)):
            silent = self._clock() - self._last
            if silent > limit and not self._told_silence and not self._paused:
                self._told_silence = True
                self._post("silent", f"no progress for {duration(silent)}")

    def _call(self, event: str, text: str) -> None:
        threading.Thread(target=self._post, args=(event, text), name="webhook", daemon=False).start()

    def _post(self, event: str, text: str) -> None:
        body = {"sweep": self._sweep, "event": event, "text": f"circuit-sweep {self._sweep}: {text}"}
        request = urllib.request.Request(
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            urllib.request.urlopen(request, timeout=CALL_LIMIT).close()
        except OSError as error:  # its text may hold the URL
            log.warning("the webhook could not be called: %s", type(error).__name__)
