"""Methods at equal budget: what is left out, and that it is told."""

from pathlib import Path

from orchestrator.records.results import Results
from orchestrator.report.budget import within
from tests.run_folders import Runs, point, trial


def test_trials_that_took_more_examples_are_left_out_and_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for number, (forward, backward) in enumerate([(60, 40), (61, 40), (500, 500)]):
        points = [point(0, 10, 0.1), point(1, 20, 0.01)]
        runs.trial(trial(f"t{number}", number, points, examples=forward, backward_examples=backward))
    results = Results.load([runs.folder])
    cheap = within(results, 100)
    assert cheap.trials["trial_id"].to_pylist() == ["t0"]
    assert cheap.points["trial_id"].to_pylist() == ["t0", "t0"]
    assert cheap.trials.schema.equals(results.trials.schema, check_metadata=True)
    (problem,) = cheap.problems
    assert problem.where == "edge pruning on tracr-reverse"
    assert problem.what == "2 trials took more than 100 examples and are left out; the cheapest took 101"
    assert within(results, 1000).problems == results.problems == ()
    assert within(results, 1).points.num_rows == 0
    empty = within(within(results, 1), 1)
    assert empty.trials.num_rows == empty.points.num_rows == 0
