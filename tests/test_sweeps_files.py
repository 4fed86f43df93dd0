"""Every sweep that is shipped loads, plans, and asks no trial twice."""

from pathlib import Path

import pytest

from orchestrator.planning.estimate import estimate
from orchestrator.planning.plan import plan
from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import parse_yaml, write_yaml
from trainers.folder import Folder

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


def test_there_are_sweeps() -> None:
    assert {"quickstart.yaml", "tracr.yaml"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_sweep_plans(path: Path, tmp_path: Path) -> None:
    sweep = SweepSpec.load(path)
    assert path.name == f"{sweep.name}.yaml" and sweep.question.endswith("?")
    planned = plan(sweep, Folder.open(tmp_path))
    ids = [trial.trial_id for trial in planned.trials]
    assert len(ids) == len(set(ids)) > 0
    not_here = all(trial.spec.model.hub is not None for trial in planned.trials)
    assert estimate(planned, Folder.open(tmp_path)).memory_bytes is not None or not_here
    again = SweepSpec.parse(parse_yaml(write_yaml(sweep.plain()), "snapshot").data, "snapshot")
    assert again == sweep


def test_quickstart_asks_what_the_readme_shows() -> None:
    """Both programs, every method, several targets and at least three seeds where chance matters."""
    trials = SweepSpec.load(ROOT / "sweeps" / "quickstart.yaml").trials()
    asked = {(trial.model.builtin, trial.method.name) for trial in trials}
    assert asked == {
        (model, method)
        for model in ("tracr-reverse", "tracr-xproportion")
        for method in ("edge_pruning", "eap", "random")
    }
    pruned = [trial for trial in trials if trial.method.name == "edge_pruning"]
    assert len({trial.seed for trial in pruned}) >= 3
    targets = {trial.method.plain()["target_sparsity"] for trial in pruned}
    assert len(targets) >= 3


def test_no_shipped_target_is_the_known_answer() -> None:
    """The sparsest faithful circuit must be found, not asked for: 7 or 5 of 32 edges, 11 of 94. Nobody
    chooses the targets of a search; that its draws come near is chance."""
    answers = (1 - 7 / 32, 1 - 5 / 32, 1 - 11 / 94)
    for path in FILES:
        sweep = SweepSpec.load(path)
        if sweep.search is not None and "method.target_sparsity" in sweep.search.space:
            continue
        for trial in sweep.trials():
            target = trial.method.plain().get("target_sparsity")
            assert target is None or min(abs(target - answer) for answer in answers) > 0.002
