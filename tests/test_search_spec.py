"""`search:` in a sweep file: what it means, and one message for every mistake, before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.search.space import Range, Search
from orchestrator.smoke import smoke
from orchestrator.sweep import SweepSpec
from orchestrator.yaml_source import parse_yaml, write_yaml
from trainers.spec import SpecError

SPACE: dict[str, Any] = {
    "method.target_sparsity": {"uniform": [0.5, 0.95]},
    "method.gate_lr": {"log": [0.03, 0.5]},
}
SEARCH = {"space": SPACE, "trials": 6, "startup": 3, "round": 2, "sampler": "tpe"}
METHOD = {"name": "edge_pruning", "steps": 20}


def sweep(search: dict[str, Any] | None = None, **changes: Any) -> SweepSpec:
    content = {
        "name": "s",
        "question": "Which?",
        "base": {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "method": METHOD},
        "search": SEARCH | (search or {}),
    }
    return SweepSpec.parse(content | changes, "test")


def refused(tmp_path: Path, search: dict[str, Any], **changes: Any) -> list[str]:
    """The lines of the message on a sweep file, without the file's name."""
    base = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "method": METHOD}
    content = {"name": "s", "question": "Which?", "base": base, "search": SEARCH | search} | changes
    path = tmp_path / "s.yaml"
    path.write_text(write_yaml(content))
    with pytest.raises(SpecError) as caught:
        SweepSpec.load(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("search", "where", "what"),
    [
        ({"trials": 0}, "search.trials", "found 0"),
        ({"round": 0}, "search.round", "found 0"),
        ({"sampler": "tpf"}, "search.sampler", "Did you mean 'tpe'?"),
        ({"trails": 4}, "search.trails", "unknown key. Did you mean 'trials'?"),
        ({"space": {}}, "search.space", "at least 1 entry"),
        ({"space": {"seed": {"integer": [0, 9]}}}, "search.space.seed", "seeds are no settings"),
        (
            {"space": {"model.builtin": {"choice": ["a", "b"]}}},
            "search.space.model.builtin",
            "goes into vary",
        ),
        (
            {"space": {"method.name": {"choice": ["eap", "acdc"]}}},
            "search.space.method.name",
            "a study for each",
        ),
        ({"space": {"method.gate_lr": {}}}, "search.space.method.gate_lr", "found none of them"),
        (
            {"space": {"method.gate_lr": {"log": [0.1, 1], "uniform": [0, 1]}}},
            "search.space.method.gate_lr",
            "found uniform and log",
        ),
        ({"space": {"method.gate_lr": {"log": [0, 1]}}}, "search.space.method.gate_lr", "above 0"),
        (
            {"space": {"method.gate_lr": {"uniform": [1, 1]}}},
            "search.space.method.gate_lr",
            "lower value first",
        ),
        ({"space": {"method.steps": {"integer": [1.5, 3]}}}, "search.space.method.steps.integer[0]", "1.5"),
        (
            {"space": {"method.warmup": {"choice": ["linear"]}}},
            "search.space.method.warmup.choice",
            "2 entries",
        ),
        (
            {"space": {"method.warmup": {"choice": ["linear", "linear"]}}},
            "search.space.method.warmup",
            "each value once",
        ),
        (
            {"space": {"method.warmup": {"choice": ["linear", "logarithmic"]}}},
            "search",
            "trials: found 6; allowed: at most 2",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_the_block(tmp_path: Path, search: dict[str, Any], where: str, what: str) -> None:
    (line,) = refused(tmp_path, search)
    assert f" {where}: " in line and what in line


@pytest.mark.parametrize(
    ("space", "where", "what"),
    [
        (
            {"method.target_sparsity": {"uniform": [0.5, 2.5]}},
            "search.space.method.target_sparsity.uniform[1]",
            "found 2.5; allowed: less than or equal to 2",
        ),
        (
            SPACE | {"method.warmup": {"choice": ["linear", "logarithmix"]}},
            "search.space.method.warmup.choice[1]",
            "Did you mean 'logarithmic'?",
        ),
        (SPACE | {"method.gate_ls": {"log": [0.1, 1]}}, "search.space.method.gate_ls.log[0]", "unknown key"),
        (
            SPACE | {"method.start_sparsity": {"uniform": [0.2, 0.7]}},
            "search.space",
            "at most target_sparsity",
        ),
        ({"method.gate_lr": {"log": [0.1, 1]}}, "search.space", "exactly one of target_sparsity"),
    ],
    ids=str,
)
def test_the_ends_of_all_ranges_make_trials(
    tmp_path: Path, space: dict[str, Any], where: str, what: str
) -> None:
    lines = refused(tmp_path, {"space": space})
    assert lines and all(f" {where}: " in line for line in lines) and any(what in line for line in lines)


def test_what_is_searched_is_not_varied(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, {}, vary={"method.gate_lr": [0.1, 0.2]})
    assert "search.space.method.gate_lr: found in vary, too" in line


def test_too_many_ends_are_checked_one_by_one() -> None:
    names = ("gate_lr", "multiplier_lr", "divergence_weight", "init_std", "weight_decay", "init_log_alpha")
    wide = {f"method.{name}": {"log": [0.1, 0.2]} for name in names} | {
        "method.gate_samples": {"choice": [1, 2, 3, 4, 5]}
    }
    corners = list(Search.parse({"space": wide, "trials": 3}, "test").corners())
    assert len(corners) < 2**6 * 5
    met = {(path, value) for corner in corners for path, (_, value) in corner.items()}
    assert {(path, end) for path in list(wide)[:6] for end in (0.1, 0.2)} <= met
    assert {("method.gate_samples", value) for value in range(1, 6)} <= met


@pytest.mark.parametrize(
    ("content", "kinds", "longest"),
    [
        ({"uniform": [0.5, 0.98]}, float, 5),
        ({"uniform": [0.99, 0.999]}, float, 7),
        ({"uniform": [0, 1000]}, float, 6),
        ({"log": [3e-4, 0.5]}, float, 8),
        ({"integer": [3, 9]}, int, 1),
    ],
    ids=str,
)
def test_numbers_stay_within_their_range_and_readable(
    content: dict[str, Any], kinds: type, longest: int
) -> None:
    one = Range.parse(content, "test")
    low, high = one.ends
    values = [one.at(share / 997) for share in range(997)]
    assert all(low <= value <= high and isinstance(value, kinds) for value in values)
    assert max(len(repr(value)) for value in values) <= longest
    assert len(set(values)) >= min(400, one.size)
    if kinds is int:
        assert set(values) == set(range(3, 10))


def test_every_setting_of_vary_on_every_seed_is_a_study() -> None:
    models = ["tracr-xproportion", "tracr-reverse"]
    one = sweep(vary={"model.builtin": models}, seeds=3)
    studies = one.studies()
    assert len({study.key for study in studies}) == 6
    assert [trial.seed for trial in one.trials()] == [0] * 3 + [1] * 3 + [2] * 3 + [0] * 3 + [1] * 3 + [2] * 3
    with pytest.raises(SpecError, match="found 150000 trials"):
        sweep({"trials": 5000}, vary={"model.builtin": models}, seeds=15)


def test_what_is_asked_first_needs_no_result_and_covers_the_ranges() -> None:
    trials = sweep({"trials": 20, "startup": 20}).trials()
    targets = sorted(trial.method.plain()["target_sparsity"] for trial in trials)
    part = (0.95 - 0.5) / 20
    assert all(
        int((target - 0.5) / part - 1e-6) in (place, place - 1) for place, target in enumerate(targets)
    )
    longer = sweep({"trials": 25, "startup": 20}).trials()
    assert [one.trial_id for one in longer] == [one.trial_id for one in trials], "more of the same search"


def test_a_snapshot_reads_back() -> None:
    one = sweep(vary={"ablation": ["zero", "interchange"]})
    again = SweepSpec.parse(parse_yaml(write_yaml(one.plain()), "snapshot").data, "snapshot")
    assert again == one and [s.key for s in again.studies()] == [s.key for s in one.studies()]


def test_a_smoke_run_asks_too() -> None:
    cut = smoke(sweep(seeds=3))
    assert cut.search is not None and (cut.search.trials, cut.search.startup) == (2, 1)
    assert len(cut.studies()) == 1 and all(trial.method.steps_planned() <= 6 for trial in cut.trials())
    only_cut = {"space": {"method.path_points": {"integer": [1, 90]}}}
    method = METHOD | {"target_sparsity": 0.5}
    base = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "method": method}
    assert smoke(sweep(only_cut, base=base)).search is None, "all that is searched is cut"
    assert json.loads(json.dumps(cut.plain())) == cut.plain()
