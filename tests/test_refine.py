"""Refining: a circuit loses exactly the edges that it can spare, the weakest first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_patches.circuit import Circuit
from tests.one_rank import joined, loaded, session
from trainers.distributed import Ranks
from trainers.methods.base import Found
from trainers.methods.refine import refine
from trainers.progress import Progress
from trainers.session import Session

SPARE = [("m0", "resid_post"), ("tok_embeds", "a0.h0.q"), ("pos_embeds", "m0")]
PRUNING = {"name": "edge_pruning", "target_sparsity": 0.9}


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    with joined() as ranks:
        yield ranks


@pytest.fixture
def opened(ranks: Ranks, tmp_path: Path) -> Iterator[Session]:
    one = session(loaded("tracr-reverse", "float32"), ranks, tmp_path, PRUNING, ablation="zero")
    one.open()
    yield one
    one.close()


def refined(opened: Session, circuits: list[Circuit], epsilon: float) -> tuple[Found | None, list[Progress]]:
    found = [Found(circuit, "path", 0.5, 3) for circuit in circuits]
    steps, reports = refine(opened, found, epsilon, 7), []
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as end:
            return end.value, reports


def truth(opened: Session) -> list[tuple[str, str]]:
    edges = opened.spec.task.ground_truth(opened.loaded)
    assert edges is not None
    return edges


def test_spare_edges_are_cut_and_needed_ones_are_kept(opened: Session) -> None:
    known = truth(opened)
    start = Circuit.from_edges(opened.graph, known + SPARE)
    found, reports = refined(opened, [start, Circuit.from_edges(opened.graph, known[:5])], 1e-3)
    assert found is not None and sorted(found.circuit.edges) == sorted(known)
    assert (found.kind, found.target_sparsity, found.step) == ("refined", 0.5, 7)
    tried = [int(report.values["num_edges"]) for report in reports if report.phase == "refine"]
    assert len(tried) == 15 and (tried[0], tried[-1]) == (14, 11)


def test_a_circuit_without_spare_edges_gives_no_new_point(opened: Session) -> None:
    found, reports = refined(opened, [Circuit.from_edges(opened.graph, truth(opened))], 1e-3)
    assert found is None and sum(report.phase == "refine" for report in reports) == 12


def test_nothing_within_epsilon_is_not_refined(opened: Session) -> None:
    found, reports = refined(opened, [Circuit.from_edges(opened.graph, truth(opened)[:9])], 1e-3)
    assert found is None and not any(report.phase == "refine" for report in reports)
