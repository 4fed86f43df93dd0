"""Edge pruning's loss by the book: in float64, on a model that was never patched, without the engine.

Only what other tests pin is taken from the code under test: the noise of a step, the order of its
batch, and E[gate].
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model_patches import gates as hard_concrete
from tests import one_rank
from tests.naive_model import NaiveModel
from tests.tiny_models import tiny_model
from trainers.data import batch_order
from trainers.distributed import Engine, Ranks
from trainers.methods.edge_pruning import EdgePruning
from trainers.model import Loaded
from trainers.progress import Progress
from trainers.session import Session

FAST = {"name": "edge_pruning", "target_sparsity": 0.9, "steps": 4, "path_points": 0}


@pytest.fixture(scope="module")
def gpt2() -> Loaded:
    return one_rank.loaded("gpt2", "float64")


@dataclass
class Stepped:
    """What the engine was given at one step, and where training stood."""

    loss: float
    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


def spied(session: Session, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Stepped], list[Progress]]:
    """Every step of a trial: its loss and gradients before the optimiser acts, and the reports."""
    steps: list[Stepped] = []
    step = Engine.step

    def spy(engine: Engine, loss: Tensor, learning_rates: list[float]) -> bool:
        found: dict[str, Tensor] = {}
        values = {name: engine.value(name) for name in engine.parameters}
        hooks = [
            parameter.register_hook(lambda gradient, name=name: found.update({name: gradient.clone()}))
            for name, parameter in engine.parameters.items()
        ]
        applied = step(engine, loss, learning_rates)
        for hook in hooks:
            hook.remove()
        steps.append(Stepped(float(loss), values, found))
        return applied

    monkeypatch.setattr(Engine, "step", spy)
    return steps, one_rank.discover(session)[1]


class PublishedLoss:
    """The published loss in float64, on a model that was never patched."""

    def __init__(self, session: Session, model: Any) -> None:
        assert isinstance(session.spec.method, EdgePruning)
        self.session, self.method = session, session.spec.method
        self.naive = NaiveModel(model)
        self.graph, self.examples = session.graph, session.examples["train"]

    def loss(self, values: dict[str, Tensor], step: int) -> tuple[float, float, float]:
        """The loss, the divergence and the sparsity of a step at these trained values."""
        method, seed = self.method, self.session.spec.seed
        values = {name: value.double() for name, value in values.items()}
        chosen = batch_order(len(self.examples), method.batch_size, seed, step)
        edges, writers = [], []
        for sample in range(method.gate_samples):
            count = self.graph.num_edges + len(values.get("writers", ()))
            noise = hard_concrete.noise((count,), seed, step, sample).float().double()
            of_edges = _stretched(values["edges"], noise[: self.graph.num_edges])
            if "writers" in values:
                writers.append(_stretched(values["writers"], noise[self.graph.num_edges :]))
                of_edges = of_edges * writers[-1][self._writer_of_edge()]
            edges.append(of_edges)
        divergence = sum(self._divergence(gates, chosen) for gates in edges) / len(edges)
        sampled = torch.stack(edges)
        sparsity = 1 - float(sampled.mean())
        if method.sparsity_estimate == "expected":
            sparsity = 1 - float(hard_concrete.expected(values["edges"]).mean())
        pressure = self._pressure(values, step, sparsity, writers)
        return method.divergence_weight * divergence + pressure, divergence, sparsity

    def _pressure(
        self, values: dict[str, Tensor], step: int, sparsity: float, writers: list[Tensor]
    ) -> float:
        method = self.method
        done = min(1.0, step / method.warmup_length)
        if method.penalty is not None:
            opened = torch.sigmoid(values["edges"] + 2 / 3 * math.log(11))
            return method.penalty * done * float(opened.mean())
        assert method.target_sparsity is not None
        gap = sparsity - (method.start_sparsity + (method.target_sparsity - method.start_sparsity) * done)
        first, second = values["lambda_edges"].tolist()
        total = first * gap + second * gap**2
        if method.writer_target_sparsity is not None:
            gap = 1 - float(torch.stack(writers).mean()) - method.writer_target_sparsity * done
            first, second = values["lambda_writers"].tolist()
            total += first * gap + second * gap**2
        return total

    def _divergence(self, gates: Tensor, chosen: list[int]) -> float:
        """KL(full ‖ circuit) in nats at the answers, mean over the batch."""
        names = {self._edge_name(index): float(gate) for index, gate in enumerate(gates)}
        clean = torch.tensor([self.examples[i].clean for i in chosen])
        corrupted = torch.tensor([self.examples[i].corrupted for i in chosen])
        ablated = corrupted if self.session.spec.ablation == "interchange" else None
        order = [node.name for node in self.graph.writers]
        ours = self.naive.masked_logits(
            clean, ablated, lambda writer, reader: names.get((writer, reader), 1.0), order
        )
        ours, full = (logits[:, -1].softmax(-1) for logits in (ours, self.naive.logits(clean)))
        return float((full * (full / ours).log()).sum(-1).mean())

    def _edge_name(self, index: int) -> tuple[str, str]:
        row, column = divmod(int(self.graph.flat_index[index]), len(self.graph.readers))
        return self.graph.writers[row].name, self.graph.readers[column].name

    def _writer_of_edge(self) -> Tensor:
        return self.graph.allowed.nonzero()[:, 0]


def _stretched(log_alpha: Tensor, u: Tensor) -> Tensor:
    """Louizos et al., equations 10 and 11, with the published constants."""
    s = 1 / (1 + torch.exp(-(torch.log(u / (1 - u)) + log_alpha) * 3 / 2))
    return torch.clamp(1.2 * s - 0.1, 0, 1)


SETTINGS: dict[str, dict[str, Any]] = {
    "sampled": {"init_std": 1.5},
    "several samples, small batches": {"init_std": 1.5, "gate_samples": 3, "batch_size": 4},
    "start and weight": {"start_sparsity": 0.3, "divergence_weight": 2.5, "init_log_alpha": 0.5},
    "expected": {"sparsity_estimate": "expected", "init_std": 1.5},
    "writer gates": {"writer_gates": True, "init_std": 1.5},
    "writer gates with node loss": {"writer_gates": True, "writer_target_sparsity": 0.5, "init_std": 1.5},
    "penalty": {"target_sparsity": None, "penalty": 0.7, "multiplier_lr": 0.1, "init_std": 1.5},
    "reproduce": {"preset": "reproduce", "target_sparsity": 1.02, "warmup_steps": 3, "lr_warmup_steps": 1},
}


CASES = [(name, "interchange", "maskable") for name in SETTINGS] + [
    (name, "zero", "always_on") for name in ("sampled", "writer gates with node loss", "penalty")
]


@pytest.mark.parametrize("name, ablation, embeddings", CASES)
def test_the_loss_is_the_published_one(
    name: str,
    ablation: str,
    embeddings: str,
    gpt2: Loaded,
    ranks: Ranks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At every step, so with multipliers that have moved and targets that have risen."""
    method = FAST | {"gate_lr": 0.3, "multiplier_lr": 0.2, "lr_warmup_steps": 0} | SETTINGS[name]
    session = one_rank.session(
        gpt2, ranks, tmp_path, method, ablation=ablation, embeddings=embeddings, seed=3
    )
    steps, reports = spied(session, monkeypatch)
    reference = PublishedLoss(session, tiny_model("gpt2", torch.float64))
    assert len(steps) == len(reports) == 4
    for number, (step, report) in enumerate(zip(steps, reports, strict=True)):
        loss, divergence, sparsity = reference.loss(step.values, number)
        assert step.loss == pytest.approx(loss, rel=1e-5, abs=1e-6)
        assert report.values["kl"] == pytest.approx(divergence, rel=1e-5, abs=1e-6)
        assert report.values["sparsity"] == pytest.approx(sparsity, abs=1e-6)
        assert report.step == number + 1 and report.total == 4


@pytest.mark.parametrize("name", ["sampled", "writer gates with node loss", "penalty"])
def test_the_gradient_is_the_slope_of_the_published_loss(
    name: str, gpt2: Loaded, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = (
        FAST | {"steps": 2, "multiplier_lr": 0.2, "lr_warmup_steps": 0, "gate_samples": 1} | SETTINGS[name]
    )
    session = one_rank.session(gpt2, ranks, tmp_path, method, seed=1)
    step, reference = (
        spied(session, monkeypatch)[0][1],
        PublishedLoss(session, tiny_model("gpt2", torch.float64)),
    )
    for parameter, gradient in step.gradients.items():
        largest = int(gradient.abs().argmax())
        for index in {largest, len(gradient) // 2}:
            slopes = []
            for change in (1e-5, -1e-5):
                moved = {key: value.double().clone() for key, value in step.values.items()}
                moved[parameter][index] += change
                slopes.append(reference.loss(moved, 1)[0] / (2 * change))
            assert float(gradient[index]) == pytest.approx(sum(slopes), rel=1e-3, abs=2e-6)


def test_multipliers_climb(
    gpt2: Loaded, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam's first step is one learning rate: below the target λ1 falls, above it rises; λ2 always rises."""
    for target, start, sign in ((0.9, 0.9, -1), (0.01, 0.0, 1)):
        method = FAST | {
            "target_sparsity": target, "start_sparsity": start, "lr_warmup_steps": 0, "steps": 2,
            "lr_decay": "constant", "multiplier_lr": 0.25,
        }  # fmt: skip
        session = one_rank.session(gpt2, ranks, tmp_path, method)
        steps, _ = spied(session, monkeypatch)
        assert steps[0].values["lambda_edges"].tolist() == [0, 0]
        assert steps[1].values["lambda_edges"].tolist() == pytest.approx([sign * 0.25, 0.25], rel=1e-3)
        monkeypatch.undo()


def test_weight_decay_thaws_gates_and_leaves_multipliers(
    gpt2: Loaded, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At log-alpha 40 no gate has a gradient: AdamW's decay, 1 − lr · wd, is all that moves them."""
    method = FAST | {
        "init_log_alpha": 40, "init_std": 0, "weight_decay": 0.5, "lr_warmup_steps": 0,
        "lr_decay": "constant", "gate_lr": 0.1,
    }  # fmt: skip
    steps, _ = spied(one_rank.session(gpt2, ranks, tmp_path, method), monkeypatch)
    for number, step in enumerate(steps):
        assert step.gradients["edges"].eq(0).all()
        assert torch.allclose(step.values["edges"], torch.tensor(40 * 0.95**number))


def test_gates_start_where_the_spec_says(
    gpt2: Loaded, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = FAST | {"init_log_alpha": 3, "init_std": 0.5, "steps": 1, "writer_gates": True}
    starts = []
    for seed in (0, 0, 1):
        session = one_rank.session(gpt2, ranks, tmp_path, method, seed=seed)
        starts.append(spied(session, monkeypatch)[0][0].values)
        monkeypatch.undo()
    edges = starts[0]["edges"]
    assert len(edges) == gpt2.graph("maskable").num_edges and edges.dtype == torch.float32
    assert abs(edges.mean() - 3) < 0.15 and abs(edges.std() - 0.5) < 0.1
    assert torch.equal(edges, starts[1]["edges"]) and not torch.equal(edges, starts[2]["edges"])
    assert len(starts[0]["writers"]) == len(gpt2.graph("maskable").writers)
    assert not torch.equal(edges[: len(starts[0]["writers"])], starts[0]["writers"])
