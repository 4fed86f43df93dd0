"""Snapshot: what a sweep's folder says of its trials, written before they run."""

import json
from collections.abc import Sequence

from orchestrator.search.record import write_record
from orchestrator.search.study import Progress
from trainers.folder import Folder


def write_trials(home: Folder, trial_ids: Sequence[str], studies: Sequence[Progress]) -> None:
    """trials.json, and of a sweep that searches search.json first: it is what the trials follow from. Raises
    OSError."""
    if studies:
        write_record(home, studies)
    home.write("trials.json", json.dumps(list(trial_ids), indent=0).encode())
