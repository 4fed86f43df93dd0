"""Edge pruning that starts from attribution scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model_patches.graph import Embeddings
from tests import one_rank
from trainers.distributed import Engine, Ranks
from trainers.methods.base import Discovery
from trainers.methods.edge_pruning import EdgePruning
from trainers.model import Loaded
from trainers.session import Session
from trainers.spec import SpecError

FAST = {"name": "edge_pruning", "target_sparsity": 0.9, "steps": 4, "path_points": 0}


@pytest.fixture(scope="module")
def gpt2() -> Loaded:
    return one_rank.loaded("gpt2", "float64")


def parse(**fields: Any) -> EdgePruning:
    return EdgePruning.parse({"target_sparsity": 0.9, **fields}, "method")


def started(session: Session, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Discovery]:
    """log_alpha of edges before the first step, and what the trial found."""
    values: list[Tensor] = []
    step = Engine.step

    def spy(engine: Engine, loss: Tensor, learning_rates: list[float]) -> bool:
        values.append(engine.value("edges"))
        return step(engine, loss, learning_rates)

    monkeypatch.setattr(Engine, "step", spy)
    found = one_rank.discover(session)[0]
    monkeypatch.undo()
    return values[0], found


@pytest.mark.parametrize("warm, name, more", [("eap", "eap", 39), ("eap_ig", "eap_ig_inputs", 26 + 6 * 13)])
@pytest.mark.parametrize("embeddings", ["maskable", "always_on"])
def test_a_warm_start_is_monotone_in_the_rank_of_the_scores(
    warm: str,
    name: str,
    more: int,
    embeddings: Embeddings,
    gpt2: Loaded,
    ranks: Ranks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored = one_rank.session(gpt2, ranks, tmp_path / "scores", {"name": name}, embeddings=embeddings)
    signed = one_rank.discover(scored)[0].signed
    assert signed is not None
    scores = signed.abs().flatten()[scored.graph.flat_index]
    method = FAST | {"warm_start": warm, "warm_lowest": -1, "warm_highest": 3, "init_std": 0}
    session = one_rank.session(gpt2, ranks, tmp_path, method, embeddings=embeddings)
    first, found = started(session, monkeypatch)
    smaller = (scores[:, None] > scores).sum(1)
    equal = (scores[:, None] == scores).sum(1) - 1
    expected = -1 + 4 * (smaller + equal / 2).double() / (len(scores) - 1)
    assert torch.allclose(first.double(), expected, atol=1e-6)
    cold = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path, FAST, embeddings=embeddings))[0]
    steps = 1 if warm == "eap" else 5
    assert (found.steps, cold.steps) == (4 + steps, 4)
    assert found.examples == cold.examples + more
    assert found.backward_examples == cold.backward_examples + 13 * steps


def test_a_warm_start_that_was_stopped_goes_on(gpt2: Loaded, ranks: Ranks, tmp_path: Path) -> None:
    method = FAST | {"warm_start": "eap", "steps": 6, "gate_lr": 1.0}
    whole, reports = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path / "whole", method))
    assert [report.phase for report in reports] == ["warm start"] + 6 * ["train"]
    first = one_rank.session(gpt2, ranks, tmp_path / "parts", method)
    steps = first.spec.method.discover(first)
    while next(steps).step < 3:
        pass
    steps.close()
    first.close()
    rest, reports = one_rank.discover(one_rank.session(gpt2, ranks, tmp_path / "parts", method))
    assert [report.phase for report in reports] == 3 * ["train"], "the attribution is not done again"
    assert torch.equal(rest.found[0].circuit.scores, whole.found[0].circuit.scores)
    assert rest.examples == whole.examples, "a trial that was stopped costs in the tables what any other does"


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"warm_start": "eap_ig_inputs"}, "warm_start: found 'eap_ig_inputs'. Did you mean"),
        ({"warm_start": "eap", "init_log_alpha": 1}, "init_log_alpha does nothing with warm_start"),
        ({"warm_lowest": 1}, "warm_lowest does nothing without warm_start"),
        ({"warm_start": "eap", "warm_lowest": 4}, "found 4.0; allowed: below warm_highest (4.0)"),
        ({"ranking_budgets": []}, "ranking_budgets: found []; allowed: a list of whole numbers"),
    ],
)
def test_impossible_starts_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(**fields)
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_preset_may_start_warm() -> None:
    assert parse(preset="reproduce", warm_start="eap").warm_start == "eap"


def test_a_warm_start_and_the_published_algorithm_are_curves_of_their_own() -> None:
    plain = {"name": "edge_pruning", "target_sparsity": 0.9}
    warm = {"warm_start": "eap"}
    changed = ({}, warm, {"warm_start": "eap_ig"}, warm | {"variant": "x"}, {"preset": "reproduce"})
    titles = {EdgePruning.parse(plain | changes, "").title for changes in changed}
    assert titles == {
        "edge pruning",
        "edge pruning (from EAP)",
        "edge pruning (from EAP-IG)",
        "edge pruning (from EAP, x)",
        "edge pruning (reproduce)",
    }
