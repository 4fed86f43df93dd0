"""EAP-IG against exact integrals on an untouched model, and what attribution methods share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import one_rank
from tests.naive_model import NaiveModel
from tests.tiny_models import tiny_model
from trainers.distributed import Ranks
from trainers.methods.attribution import Attribution
from trainers.methods.eap import EdgeAttributionPatching
from trainers.methods.eap_ig import EapIgActivations, EapIgInputs, components
from trainers.methods.edge_pruning import mean_ranks
from trainers.methods.exact_patching import ExactPatching
from trainers.methods.ranking import Ranking, budgets_in, count_budgets
from trainers.model import Loaded
from trainers.session import Session
from trainers.spec import SpecError

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)  # of order 23, on [-1, 1]
WIDTH = 1e-4  # of central differences, in float64


@pytest.fixture(scope="module")
def gpt2() -> Loaded:
    return one_rank.loaded("gpt2", "float64")


def integral(values: Callable[[float], float]) -> float:
    """∫ over [0, 1]."""
    return sum(w / 2 * values((x + 1) / 2) for x, w in zip(NODES, WEIGHTS, strict=True))


@dataclass
class Untouched:
    """The model that was never patched, with the training examples and what cut edges carry."""

    session: Session

    def __post_init__(self) -> None:
        examples = self.session.examples["train"]
        self.naive = NaiveModel(tiny_model("gpt2", torch.float64))
        self.order = [node.name for node in self.session.graph.writers]
        self.clean = torch.tensor([example.clean for example in examples])
        self.answers = torch.tensor([example.answers[0] for example in examples])
        self.wrong = torch.tensor([example.distractors[0] for example in examples])
        self.writes = self.naive.writes(self.clean)
        self.full = self.naive.logits(self.clean)[:, -1]
        self.carried = {name: torch.zeros_like(write) for name, write in self.writes.items()}
        if self.session.spec.ablation != "zero":
            corrupted = torch.tensor([example.corrupted for example in examples])
            self.carried = self.naive.writes(corrupted)
        if self.session.spec.ablation == "mean":
            self.carried = {
                name: write.mean((0, 1)).expand_as(self.writes[name]) for name, write in self.carried.items()
            }

    def metric(self, name: str, logits: Tensor) -> float:
        """The mean over the examples; higher is better."""
        last = logits[:, -1]
        if name == "logit_difference":
            right, wrong = last.gather(1, self.answers[:, None]), last.gather(1, self.wrong[:, None])
            return float((right - wrong).mean())
        theirs = F.log_softmax(self.full, -1)
        return -float((theirs.exp() * (theirs - F.log_softmax(last, -1))).sum(-1).mean())

    def masked(self, name: str, gate: Callable[[str, str], float]) -> float:
        return self.metric(name, self.naive.masked_logits(self.clean, self.carried, gate, self.order))

    def nudged(self, name: str, edge: tuple[str, str], alpha: float) -> float:
        """∂metric/∂(reader's input) · (clean − carried), the embeddings `alpha` of the way to clean."""
        writer, reader = edge
        step = WIDTH * (self.writes[writer] - self.carried[writer])
        hooks = [
            module.register_forward_hook(
                lambda _m, _x, _y, name=name: (
                    self.carried[name] + alpha * (self.writes[name] - self.carried[name])
                )
            )
            for name, module in self.naive.embeddings.items()
        ]
        ends = [self.naive.cut_one(reader, self.clean, sign * step) for sign in (1, -1)]
        for hook in hooks:
            hook.remove()
        return (self.metric(name, ends[0]) - self.metric(name, ends[1])) / (2 * WIDTH)

    def tilted(self, name: str, edge: tuple[str, str], rows: slice, alpha: float) -> float:
        """∂metric/∂gate of an edge, the gates of all edges from `rows` at `alpha`."""
        turned = self.order[rows]

        def at(change: float) -> float:
            def gate(writer: str, reader: str) -> float:
                return (alpha if writer in turned else 1.0) + (change if (writer, reader) == edge else 0.0)

            return self.masked(name, gate)

        return (at(WIDTH) - at(-WIDTH)) / (2 * WIDTH)


def signed(session: Session) -> Tensor:
    scores = one_rank.discover(session)[0].signed
    assert scores is not None
    return scores


def strongest(session: Session, scores: Tensor, number: int) -> list[tuple[int, int]]:
    """Of the layers' writers and of the embeddings."""
    first = session.graph.num_embeddings
    late = scores.abs().clone()
    late[:first] = 0
    chosen = late.flatten().topk(number).indices.tolist()
    early = scores.abs()[:first].flatten().topk(2).indices.tolist()
    columns = len(session.graph.readers)
    return [divmod(index, columns) for index in chosen + early]


def names(session: Session, place: tuple[int, int]) -> tuple[str, str]:
    return session.graph.writers[place[0]].name, session.graph.readers[place[1]].name


def by_activations(untouched: Untouched, place: tuple[int, int]) -> Callable[[str, float], float]:
    """∂metric/∂gate of an edge, by metric and α of its own component."""
    session = untouched.session
    (rows,) = [rows for rows in components(session.graph) if rows.start <= place[0] < rows.stop]
    return lambda metric, alpha: untouched.tilted(metric, names(session, place), rows, alpha)


def by_inputs(untouched: Untouched, place: tuple[int, int]) -> Callable[[str, float], float]:
    return lambda metric, alpha: untouched.nudged(metric, names(untouched.session, place), alpha)


SLOPES = {"eap_ig_inputs": by_inputs, "eap_ig_activations": by_activations}


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("metric", ["logit_difference", "kl"])
def test_eap_ig_converges_to_the_exact_integral(
    name: str, metric: str, gpt2: Loaded, ranks: Ranks, tmp_path: Path
) -> None:
    found = {}
    for steps in (4, 16, 64):
        method = {"name": name, "metric": metric, "steps": steps, "edge_budgets": [1]}
        session = one_rank.session(gpt2, ranks, tmp_path, method)
        found[steps] = signed(session)
    untouched = Untouched(session)
    places = strongest(session, found[64], 2)
    slopes = [SLOPES[name](untouched, place) for place in places]
    exact = [integral(lambda alpha, slope=slope: slope(metric, alpha)) for slope in slopes]
    assert_converges(found, places, exact)
    # Completeness: the scores of a component's edges add up to what cutting it does.
    whole = untouched.masked(metric, lambda _w, _r: 1.0)
    for rows in components(session.graph) if name == "eap_ig_activations" else ():
        turned = untouched.order[rows]
        without = untouched.masked(metric, lambda w, _r, turned=turned: float(w not in turned))
        assert float(found[64][rows].sum()) == pytest.approx(whole - without, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_eap_ig_is_the_mean_slope_at_its_points(
    name: str, ablation: str, gpt2: Loaded, ranks: Ranks, tmp_path: Path
) -> None:
    """Where a norm sees next to nothing the integrand is too steep for any quadrature."""
    method = {"name": name, "metric": "kl", "steps": 3, "edge_budgets": [1]}
    session = one_rank.session(gpt2, ranks, tmp_path, method, ablation=ablation)
    scores, untouched = signed(session), Untouched(session)
    for place in strongest(session, scores, 3):
        slope = SLOPES[name](untouched, place)
        expected = sum(slope("kl", alpha) for alpha in (1 / 6, 1 / 2, 5 / 6)) / 3
        assert float(scores[place]) == pytest.approx(expected, rel=1e-4)


def assert_converges(found: dict[int, Tensor], places: list[tuple[int, int]], exact: list[float]) -> None:
    """Of second order: four times the steps, a sixteenth of the error, or next to it."""
    errors = {
        steps: np.abs([float(scores[place]) - value for place, value in zip(places, exact, strict=True)])
        for steps, scores in found.items()
    }
    scale = np.abs(exact).max()
    assert scale > 1e-3 and errors[64].max() < 2e-4 * scale
    assert errors[64].max() < errors[16].max() / 8 and errors[16].max() < errors[4].max()


def test_one_step_at_the_clean_end_is_eap(gpt2: Loaded, ranks: Ranks, tmp_path: Path) -> None:
    eap = signed(one_rank.session(gpt2, ranks, tmp_path, {"name": "eap"}))
    for name in ("eap_ig_inputs", "eap_ig_activations"):
        method = {"name": name, "steps": 1, "points": "right"}
        assert torch.allclose(signed(one_rank.session(gpt2, ranks, tmp_path, method)), eap, atol=1e-12)


def test_the_points_of_the_integral() -> None:
    for points, expected in (("left", [0, 0.25, 0.5, 0.75]), ("right", [0.25, 0.5, 0.75, 1])):
        method = EapIgInputs.parse({"steps": 4, "points": points}, "")
        assert [method.alpha(step) for step in range(4)] == expected
    assert [EapIgInputs.parse({"steps": 2}, "").alpha(step) for step in range(2)] == [0.25, 0.75]


@pytest.mark.parametrize("name", ["eap", "eap_ig_inputs", "eap_ig_activations", "exact_patching"])
@pytest.mark.parametrize("ablation", ["interchange", "mean"])
def test_scores_do_not_depend_on_how_the_work_is_cut(
    name: str, ablation: str, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grouped heads; batches of 5, runs one by one."""
    llama, method = one_rank.loaded("llama", "float64"), {"name": name, "edge_budgets": [1]}
    whole = one_rank.session(llama, ranks, tmp_path, method, ablation=ablation)
    expected = signed(whole)
    parts = one_rank.session(llama, ranks, tmp_path, method, ablation=ablation)
    parts.resources = parts.resources.model_copy(update={"batch_examples": 5})
    monkeypatch.setattr("trainers.methods.attribution.PASS_BYTES", 1)
    monkeypatch.setattr("trainers.methods.exact_patching.WINDOW", 7)
    assert torch.allclose(signed(parts), expected, rtol=1e-6, atol=1e-8)  # Llama's norms are float32
    assert expected.ne(0).double().mean() > 0.2


def test_always_on_embeddings_are_not_scored(gpt2: Loaded, ranks: Ranks, tmp_path: Path) -> None:
    for name in ("eap", "eap_ig_inputs", "eap_ig_activations", "exact_patching"):
        on = signed(one_rank.session(gpt2, ranks, tmp_path, {"name": name}, embeddings="always_on"))
        off = signed(one_rank.session(gpt2, ranks, tmp_path, {"name": name}))
        assert on[:2].eq(0).all() and off[:2].ne(0).any()
        assert torch.allclose(on[2:], off[2:], atol=1e-12)


# ---- fields


@pytest.mark.parametrize("method", [EapIgInputs, EapIgActivations])
def test_integrated_gradients_take_divergences_but_no_counts(method: type[Attribution]) -> None:
    assert method.parse({"metric": "kl"}, "").metric == "kl"
    with pytest.raises(SpecError, match="metric: found 'accuracy', which has no gradient; allowed: kl, "):
        method.parse({"metric": "accuracy"}, "")
    assert ExactPatching.parse({"metric": "accuracy"}, "").metric == "accuracy"
    with pytest.raises(SpecError, match="metric: found 'k'; allowed: kl, "):
        ExactPatching.parse({"metric": "k"}, "")


@pytest.mark.parametrize("given", [[], [0], [1.5], ["mib"], "MIB", 3, [True], {}])
def test_edge_budgets_that_are_none(given: Any) -> None:
    with pytest.raises(SpecError) as error:
        EdgeAttributionPatching.parse({"edge_budgets": given}, "eap.yaml")
    said = str(error.value)
    assert said.startswith("eap.yaml: edge_budgets: found ") and len(said.splitlines()) == 1
    assert said.endswith("allowed: a list of whole numbers above 0, or mib")


def test_mibs_grid_of_budgets(gpt2: Loaded) -> None:
    graph = gpt2.graph("maskable")
    assert graph.num_edges == 137
    assert budgets_in("mib", graph) == [1, 2, 6, 13, 27, 68, 137] and count_budgets("mib") == 10
    assert budgets_in((500, 4, 4), graph) == [4, 137] and count_budgets((500, 4, 4)) == 2
    method = Ranking.parse({"edge_budgets": "mib"}, "")
    assert method.budgets(graph) == budgets_in("mib", graph) and method.points_planned() == 10
    assert Ranking.parse(method.plain(), "") == method


def test_ranks_of_a_warm_start_by_hand() -> None:
    assert mean_ranks(torch.tensor([3.0, 1, 2])).tolist() == [1, 0, 0.5]
    assert mean_ranks(torch.tensor([0.0, 0, 5, 0, 9])).tolist() == [0.25, 0.25, 0.75, 0.25, 1]
    assert mean_ranks(torch.tensor([2.0])).tolist() == [0]
