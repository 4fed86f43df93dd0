"""Mean ablation against means of an untouched model, of prompts that differ in length."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model_patches.circuit import Circuit
from tests import gang, one_rank
from tests.naive_model import NaiveModel, Writes
from tests.tiny_models import save_tiny, tiny_model
from trainers.data import Batch, Example
from trainers.distributed import Ranks
from trainers.session import Session
from trainers.spec import SpecError
from trainers.tasks.base import Dataset, Split

KINDS = ("gpt2", "llama")


def shortened(example: Example, by: int) -> Example:
    """Without its first tokens; scored at its own last one."""
    length = len(example.clean) - by
    return Example(
        example.clean[by:], example.corrupted[by:], (length - 1,), example.answers, example.distractors
    )


def uneven(session: Session) -> Session:
    """Training prompts of 3 to 6 tokens in batches of 4, the others of 5 and 6."""
    splits: dict[Split, list[Example]] = {
        split: [
            shortened(example, number % (4 if split == "train" else 2)) for number, example in enumerate(all_)
        ]
        for split, all_ in session.examples.items()
    }
    session.__dict__["dataset"] = Dataset(splits)
    session.resources = session.resources.model_copy(update={"batch_examples": 4})
    return session


def means_by_hand(naive: NaiveModel, examples: list[Example], per_position: bool) -> dict[str, Tensor]:
    """[width], or [longest, width]: every corrupted prompt alone, without padding."""
    by_writer: dict[str, list[Tensor]] = {}
    for example in examples:
        for name, write in naive.writes(torch.tensor([example.corrupted])).items():
            by_writer.setdefault(name, []).append(write[0])
    if not per_position:
        return {name: torch.cat(rows).mean(0) for name, rows in by_writer.items()}
    longest = max(len(example.corrupted) for example in examples)
    return {
        name: torch.stack(
            [
                torch.stack([row[place] for row in rows if place < len(row)]).mean(0)
                for place in range(longest)
            ]
        )
        for name, rows in by_writer.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ablation", ["mean", "mean_positional"])
def test_a_cut_edge_carries_the_mean_over_the_training_splits_corrupted_prompts(
    kind: str, ablation: str, ranks: Ranks, tmp_path: Path
) -> None:
    loaded = one_rank.loaded(kind, "float64")
    session = uneven(
        one_rank.session(loaded, ranks, tmp_path, {"name": "random", "edge_budgets": [40]}, ablation=ablation)
    )
    circuit = one_rank.discover(session)[0].found[0].circuit
    naive = NaiveModel(tiny_model(kind, torch.float64))
    means = means_by_hand(naive, session.examples["train"], ablation == "mean_positional")
    order, kept = [node.name for node in session.graph.writers], set(circuit.edges)
    engine, batch = session.open(), session.share(session.examples["test"])
    logits = engine.run(lambda: session.logits(batch, circuit.keep(), session.references(batch))).detach()
    session.close()
    for row, example in enumerate(session.examples["test"]):
        clean = torch.tensor([example.clean])
        carried: Writes = {
            name: (mean[: clean.shape[1]] if mean.ndim == 2 else mean).expand(1, clean.shape[1], -1)
            for name, mean in means.items()
        }
        expected = naive.masked_logits(clean, carried, lambda w, r: float((w, r) in kept), order)[0, -1]
        assert torch.allclose(logits[row, 0], expected, rtol=1e-5, atol=1e-5)
    lengths = {len(example.clean) for example in session.examples["test"]}
    assert len(lengths) == 2, "padding in the batch changed nothing"


def test_the_means_are_taken_once_and_counted(ranks: Ranks, tmp_path: Path) -> None:
    loaded = one_rank.loaded("gpt2", "float64")
    session = uneven(
        one_rank.session(loaded, ranks, tmp_path, {"name": "random"}, ablation="mean_positional")
    )
    engine = session.open()
    batch = session.share(session.examples["test"])
    first = engine.run(lambda: [session.references(batch)])[0].corrupted
    assert session.cost() == (13 + 7, 0)
    second = engine.run(lambda: [session.references(batch)])[0].corrupted
    assert session.cost() == (13 + 7 + 7, 0)
    session.close()
    assert first is not None and second is not None
    assert first.writers.shape[1:3] == (1, 6) and torch.equal(first.writers, second.writers)


def test_a_position_without_a_mean_is_told(ranks: Ranks, tmp_path: Path) -> None:
    loaded = one_rank.loaded("gpt2", "float64")
    said = (
        "ablation: mean_positional has no mean from position 5 on: the longest (test|validation) prompt has 6"
    )
    for ablation in ("mean_positional", "mean"):
        session = one_rank.session(loaded, ranks, tmp_path, {"name": "eap"}, ablation=ablation)
        splits = dict(session.examples)
        splits["train"] = [shortened(example, 1) for example in splits["train"]]
        session.__dict__["dataset"] = Dataset(splits)
        if ablation == "mean":
            one_rank.discover(session)
            continue
        with pytest.raises(SpecError, match=said):
            one_rank.discover(session)
        session.close()


def test_a_batch_says_what_is_padding() -> None:
    first, second = Example((1, 2, 3), (4, 5, 6), (2,), (7,)), Example((1,), (2,), (0,), (3,))
    batch = Batch.of([first, second], [1.0, 1.0], torch.device("cpu"))
    assert batch.real.tolist() == [[True, True, True], [True, False, False]]
    assert batch.repeat(2).real.tolist() == batch.real.tolist() * 2


def test_mean_ablation_is_not_another_one(ranks: Ranks, tmp_path: Path) -> None:
    """The four ablations make four trials and four empty circuits."""
    loaded, outputs, ids = one_rank.loaded("gpt2", "float64"), [], set()
    for ablation in ("interchange", "zero", "mean", "mean_positional"):
        session = one_rank.session(loaded, ranks, tmp_path, {"name": "random"}, ablation=ablation)
        outputs.append(cut_everywhere(session))
        ids.add(session.spec.canonical().get("ablation", "interchange"))
    assert len(ids) == 4
    for first in range(4):
        for second in range(first):
            assert not torch.allclose(outputs[first], outputs[second], atol=1e-2)


def cut_everywhere(session: Session) -> Tensor:
    batch, keep = session.share(session.examples["test"]), torch.zeros(session.graph.allowed.shape)
    engine = session.open()
    logits = engine.run(lambda: session.logits(batch, keep, session.references(batch)))
    session.close()
    return logits


# ---- two ranks


METHODS: dict[str, dict[str, Any]] = {
    "mean": {"ablation": "mean", "method": {"name": "eap", "rank_by": "signed"}},
    "positional": {"ablation": "mean_positional", "method": {"name": "eap_ig_inputs", "steps": 2}},
    "zero": {
        "ablation": "zero",
        "embeddings": "always_on",
        "method": {"name": "eap_ig_activations", "steps": 1},
    },
    "exact": {"method": {"name": "exact_patching"}},
    "acdc": {"method": {"name": "acdc", "thresholds": [0.02]}},
    "nodes": {"method": {"name": "node_pruning", "target_sparsity": 0.5, "steps": 6, "path_points": 0}},
    "warm": {
        "method": {
            "name": "edge_pruning", "warm_start": "eap", "target_sparsity": 0.5, "steps": 6, "path_points": 0,
        }
    },
}  # fmt: skip


@pytest.mark.slow
def test_two_ranks_score_what_one_scores(tmp_path: Path) -> None:
    """13 examples, which two ranks cannot share evenly; float64, scores as far as float32 stores them."""
    model = {"path": str(save_tiny("gpt2", tmp_path / "gpt2")), "dtype": "float64"}
    folders = []
    for ranks in (1, 2):
        for name, fields in METHODS.items():
            folders.append(tmp_path / str(ranks) / name)
            one_rank.write_spec(folders[-1], {"model": model, "task": one_rank.TINY_TASK, **fields})
        here = [str(folder) for folder in folders[-len(METHODS) :]]
        ended = gang.torchrun(ranks, "tests.gang", f'{{"ranks": {ranks}, "zero_stage": 0}}', "", *here)
        assert ended.returncode == 0, ended.stderr[-4000:]
    for name in METHODS:
        one, two = (one_rank.result(tmp_path / str(ranks) / name) for ranks in (1, 2))
        assert (one.status, two.status) == ("complete", "complete")
        assert [(p.kind, p.num_edges) for p in one.points] == [(p.kind, p.num_edges) for p in two.points]
        assert (one.examples, one.backward_examples) == (two.examples, two.backward_examples)
        for first, second in zip(one.points, two.points, strict=True):
            circuits = [Circuit.load(tmp_path / str(ranks) / name / first.circuit) for ranks in (1, 2)]
            assert torch.equal(circuits[0].kept, circuits[1].kept)
            assert torch.allclose(circuits[0].scores, circuits[1].scores, rtol=1e-6, atol=1e-10)
            assert first.metrics["test"] == pytest.approx(second.metrics["test"], rel=1e-6, abs=1e-9)
