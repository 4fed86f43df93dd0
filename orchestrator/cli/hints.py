"""Hints: what to do after each command."""

# Printed to stderr at the end; `run`, `plan` and `status` know more and say it themselves.
NEXT = {
    "report": "open report.html; docs/report.md explains every file beside it",
    "schema": "`# yaml-language-server: $schema=schema.json` first in a sweep file lets editors complete it",
    "task": "circuit-sweep plan SPEC, then run SPEC --smoke",
    "circuit": "circuit-sweep circuit show | eval | draw | compare | export on any trial or circuit file",
    "track": "the command above opens MLflow; docs/mlflow.md shows how to see the curve there",
    "pause": "circuit-sweep resume RUNS",
    "resume": "circuit-sweep status RUNS",
    "cancel": "circuit-sweep status RUNS; `retry --failed` takes it back",
    "retry": "circuit-sweep status RUNS",
    "drain": "circuit-sweep status RUNS; a node comes back with the next `run`",
}
