"""Record: search.json in the sweep's folder, the questions that studies have asked.

It can be done without: asked again, the same results bring the same questions. It keeps them where results
have changed since (a failed trial that ran again), and spares `plan` and `status` the asking.
"""

import json
from collections.abc import Sequence
from typing import Any

from orchestrator.search.study import Progress, ResultOf, unknown
from orchestrator.sweep import SweepSpec
from trainers.folder import Folder
from trainers.outside import MAX_JSON, parse_json
from trainers.trial import TrialSpec

RECORD = "search.json"


def progress_of(sweep: SweepSpec, home: Folder, result_of: ResultOf = unknown) -> list[Progress]:
    """The sweep's studies as its folder `home` tells of them, and asked on as far as results go; without
    `result_of` no further than the record and the first round, which needs no result."""
    recorded = _read(home)
    found: list[Progress] = []
    for study in sweep.studies():
        progress = Progress(study)
        if study.key in recorded:
            progress.restore(recorded[study.key]["rounds"], recorded[study.key]["exhausted"])
        progress.go_on(result_of)
        found.append(progress)
    return found


def known_trials(sweep: SweepSpec, home: Folder) -> dict[str, TrialSpec]:
    """By id, in order: a sweep's trials, of a search those that were asked for so far."""
    if sweep.search is None:
        return sweep.trials_by_id()
    return {one.trial_id: one.trial for progress in progress_of(sweep, home) for one in progress.questions}


def write_record(home: Folder, studies: Sequence[Progress]) -> None:
    """Raises OSError."""
    content = {
        one.study.key: {
            "rounds": [[question.values for question in asked] for asked in one.rounds],
            "exhausted": one.exhausted,
        }
        for one in studies
    }
    home.write(RECORD, json.dumps(content, indent=0).encode())


def _read(home: Folder) -> dict[str, dict[str, Any]]:
    """By study; what is not as we write it is left out, and asked again."""
    try:
        content = parse_json(home.read(RECORD, MAX_JSON) or b"null")
    except ValueError:
        return {}
    studies = content.items() if isinstance(content, dict) else ()
    return {key: told for key, told in studies if _is_ours(told)}


def _is_ours(told: object) -> bool:
    if not isinstance(told, dict) or told.keys() != {"rounds", "exhausted"}:
        return False
    rounds = told["rounds"]
    return isinstance(rounds, list) and all(
        isinstance(asked, list) and all(isinstance(values, dict) for values in asked) for asked in rounds
    )
