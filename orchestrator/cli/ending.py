"""Ending: how a run ended, for people and for scripts."""

from typing import Any

from orchestrator.drive import Finished
from orchestrator.wording import count, duration, headline, masked


def finished_json(finished: Finished) -> dict[str, Any]:
    return {
        "sweep": finished.plan.sweep.name,
        "exit_code": finished.exit_code,
        "ran": finished.ran,
        "counts": finished.plan.counts,
        "unasked": finished.plan.unasked,
        "seconds": finished.seconds,
        "stopped": finished.stopped,
        "reason": finished.reason,
        "report": finished.report and finished.report.location,
        "mlflow": mlflow_hint(finished.tracking_uri),
        "failed": [trial.trial_id for trial in finished.plan.trials if trial.state == "failed"],
    }


def finished_text(finished: Finished) -> str:
    states = ", ".join(f"{number} {state}" for state, number in finished.plan.counts.items() if number)
    ended = f"{count(finished.ran, 'trial')} ended in {duration(finished.seconds)}"
    ran = {
        "interrupted": f"interrupted; {ended}",
        "max_hours": f"stopped by --max-hours; {ended}",
        "storage": f"stopped, as {finished.reason}; {ended}",
        "failing": f"stopped, as {finished.reason}; {ended}",
    }.get(finished.stopped, ended.replace("ended", "ran") if finished.ran else "nothing to do")
    lines = [finished.table, ""] if finished.table else []
    lines.append(f"{finished.plan.sweep.name}: {ran}; now {states}")
    for trial in finished.plan.trials:
        if trial.state == "failed" and trial.result is not None:
            reason = headline(trial.result.error)
            lines.append(f"failed {trial.trial_id}: {reason[:200]}")
    if missing := len(finished.plan.missing) + finished.plan.unasked:
        lines.append(f"{count(missing, 'trial')} missing; run the same command again to go on")
    if finished.plan.counts["failed"]:
        lines.append("To run failed trials again: add --retry-failed")
    if finished.report is not None:
        lines.append(f"Report: {finished.report.location}/report.html")
    return "\n".join([*lines, f"MLflow: {mlflow_hint(finished.tracking_uri)}"])


def mlflow_hint(uri: str) -> str:
    """How to look at the mirror."""
    if uri.startswith(("http://", "https://")):
        return masked(uri)
    return f"mlflow ui --backend-store-uri {masked(uri)} --host 127.0.0.1"
