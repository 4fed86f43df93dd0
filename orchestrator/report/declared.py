"""What the methods of trials declare of themselves (trainers/methods/base.py): seeds, chance, gates."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from orchestrator.report.findings import Findings
from orchestrator.report.scenes import Curve

Trait = Literal["uses_seed", "chance", "trains_gates", "cuts_single_edges"]


def declares(trial: Mapping[str, Any], trait: Trait) -> bool | None:
    """What the method of a row of the trials table declares; None for a method that is not known."""
    from trainers.methods import METHODS  # imports transformers, which the rest of a report does without

    method = json.loads(trial["spec"] or "{}").get("method")
    name = method.get("name") if isinstance(method, dict) else None
    known = {str(one.model_fields["name"].default): bool(getattr(one, trait)) for one in METHODS}
    return known.get(str(name))


def is_fixed(findings: Findings, curve: Curve) -> bool:
    """Whether the curve's circuits do not depend on the trials' seeds."""
    return all(declares(trial, "uses_seed") is False for trial in _trials(findings, curve))


def is_chance(findings: Findings, curve: Curve) -> bool:
    """Whether the seed alone decides the curve's circuits, so that seeds differ by construction."""
    return all(declares(trial, "chance") is True for trial in _trials(findings, curve))


def _trials(findings: Findings, curve: Curve) -> list[Mapping[str, Any]]:
    return [findings.trials[trial_id] for trial_id in {row["trial_id"]: None for row in curve.rows}]
