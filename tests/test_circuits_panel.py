"""The circuits and consensus panels: what they choose, encode and count, against the run folder."""

import json
from importlib import import_module
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph
from orchestrator.circuits.paths import on_paths
from orchestrator.records.results import Results
from orchestrator.report import codes
from orchestrator.report.drawn import Graph, summary
from orchestrator.report.findings import Findings
from orchestrator.report.kept import KeptEdges
from orchestrator.report.page import page
from orchestrator.report.panels.blocks import Block, CircuitsView, Details, Matrix, Paragraph, Table
from orchestrator.report.panels.circuits import circuits
from orchestrator.report.panels.consensus import consensus, edge_budgets_of
from orchestrator.report.room import BUDGET, Held, room
from orchestrator.statistics.consensus import iou_by_chance
from tests.circuit_runs import BIG, GRAPH, GROUPED, OTHER_GROUP, Given, kept, ranking_runs, stored, top, write
from tests.run_folders import GROUP, Runs, point, trial


def findings(runs: Runs) -> Findings:
    return Findings.of(Results.load([runs.folder]))


def said(blocks: list[Block]) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, Paragraph))


def read_numbers(text: str) -> list[int]:
    """The decoder, written anew from the description of the code."""
    found, value, place = [], 0, 0
    for character in text:
        digit = codes.DIGITS.index(character)
        value += (digit & 31) << (5 * place)
        place += 1
        if digit < 32:
            found.append(value)
            value, place = 0, 0
    return found


def test_codes_say_what_was_written() -> None:
    values = [0, 1, 31, 32, 33, 1023, 1024, 70_651, 10**9]
    assert read_numbers(codes.numbers(values)) == values
    gaps = read_numbers(codes.rising([900, 3, 4, 40]))
    assert np.cumsum(np.array(gaps) + 1).tolist() == [4, 5, 41, 901]
    assert codes.rising([]) == "" and codes.same_or_numbers([3, 3]) == 3


def test_codes_keep_scores_to_one_percent() -> None:
    values = np.array([12.5, -3e-4, 0.0, 7.7, 1e-7])
    told = codes.scores(values)
    levels = str(told["levels"])
    for place, value in enumerate(values):
        code = 64 * codes.DIGITS.index(levels[2 * place]) + codes.DIGITS.index(levels[2 * place + 1])
        level = code % 2048
        size = 0.0 if level == 0 else float(told["top"]) * 10 ** ((level - codes.LOWEST) / 256)
        assert (-size if code >= 2048 else size) == pytest.approx(value, rel=0.01, abs=2e-7)
    assert codes.scores(np.array([0.25, 0.25])) == {"top": 0.25}
    assert codes.scores(np.array([])) == {}


def test_a_summary_counts_every_edge_once() -> None:
    edges = top(GRAPH, 0, 60).edges
    told = summary(edges, (-1, 0, 1, 2, 10**6))
    grid = np.array(read_numbers(told["grid"])).reshape(5, 5)
    assert grid.sum() == sum(told["kinds"]) == 60
    between = sum(w[:2] in ("a0", "m0") and r[:2] in ("a2", "m2") for w, r in edges)
    assert grid[1, 3] == between > 0
    assert grid[0].sum() == sum(w == "tok_embeds" for w, _ in edges)
    mlps = sum(w.startswith("m") and r == "resid_post" for w, r in edges)
    assert told["kinds"][-1] == mlps


def test_scores_fit_the_edge_list_or_are_left_out(tmp_path: Path) -> None:
    runs = ranking_runs(tmp_path, seeds=1)
    results = Results.load([runs.folder])
    row = next(row for row in results.points.to_pylist() if row["point"] == 2)
    found = KeptEdges(results).scores(row)
    circuit = stored(runs, "seed0", 2)
    assert found is not None and found.heads_per_kv == 1
    expected = [float(circuit.scores[circuit.graph.locate(*edge)]) for edge in kept(runs, "seed0", 2)]
    np.testing.assert_allclose(found.of_edges, expected)
    file = tmp_path / "trials" / "seed0" / "circuit-002.safetensors"
    file.write_bytes(stored(runs, "seed0", 1).save())
    assert KeptEdges(results).scores(row) is None, "another circuit's scores"
    for damage in (b"", b"12", file.read_bytes()[:200], b"\x80\x04N."):
        file.write_bytes(damage)
        assert KeptEdges(results).scores(row) is None


def test_a_seed_is_best_by_validation_within_the_budget(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    points = [point(0, 9, 0.5), point(1, 4, 0.7), point(2, 30, 0.6), point(3, 20, float("nan"))]
    runs.trial(trial("t", 0, points))
    (curve,) = next(iter(findings(runs).scenes.values()))
    sizes = lambda found: None if found is None else int(curve.num_edges[found])  # noqa: E731
    assert [sizes(curve.best_of_seed(0, n)) for n in (3, 4, 9, 94)] == [None, 4, 9, 9]
    assert sizes(curve.nearest_of_seed(0, 3)) == 4
    assert curve.num_edges[curve.seed_front(0)].tolist() == [4, 9]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    runs = ranking_runs(tmp_path, seeds=1)
    (tmp_path / "trials" / "seed0" / "edges-001.json").write_text("[[")
    blocks = list(circuits(findings(runs)))
    assert "1 edge list could not be read" in said(blocks)
    (view,) = (block for block in blocks if isinstance(block, CircuitsView))
    assert [one["n"] for one in view.data["circuits"]] == [8, 20, 33]
    for number in range(5):
        (tmp_path / "trials" / "seed0" / f"edges-{number:03d}.json").unlink(missing_ok=True)
    blocks = list(circuits(findings(runs)))
    assert "No circuit to show" in said(blocks) and len(blocks) < 5


def test_an_empty_front_shows_nothing(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("t", 0, [point(0, 5, float("nan"))]), edges={0: [("m0", "resid_post")]})
    found = findings(runs)
    assert "No circuit to show" in said(list(circuits(found)))
    assert "No circuit has a finite validation divergence" in said(list(consensus(found)))
    assert "No circuit to show" in page(found)


def test_many_fronts_fit_into_the_page(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for number in range(120):
        method = GROUP.model_copy(update={"method": f"method {number % 6}"})
        given = [Given(top(GRAPH, number, 5 + 6 * n), 1 / (1 + n)) for n in range(15)]
        write(runs, f"t{number:03d}", number // 6, given, group=method)
    found = findings(runs)
    given = room(found)
    assert {(view.curve.method, view.seed) for view in given.views} >= {
        (f"method {n}", None) for n in range(6)
    }
    assert len(given.views) + len(given.left_out) == 6 * 21
    (view,) = (block for block in circuits(found) if isinstance(block, CircuitsView))
    assert len(json.dumps(view.data)) < 1.1 * BUDGET


def test_the_room_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the circuits take is what was reckoned, whatever their sizes: with BUDGET the page has 6 MB."""
    monkeypatch.setattr(import_module("orchestrator.report.room"), "BUDGET", 120_000)
    runs = Runs(tmp_path)
    for number in range(24):
        method = GROUP.model_copy(update={"method": f"method {number % 4}"})
        sizes = [(50 + 97 * number, 400 + 61 * number, 1500 + 83 * number)[n] for n in range(3)]
        given = [Given(top(BIG, number, n), 1.0 / n) for n in sizes]
        write(runs, f"t{number:03d}", number // 4, given, group=method)
    found = findings(runs)
    held = room(found).held
    assert len(set(held.values())) > 1, "not all fits"
    (view,) = (block for block in circuits(found) if isinstance(block, CircuitsView))
    assert 60_000 < len(json.dumps(view.data["circuits"])) < 126_000


def test_room_goes_to_fronts_first_and_to_small_circuits(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for seed in (0, 1):
        given = [Given(top(BIG, seed, n), 1.0 / n + seed) for n in (40, 600, 3000)]
        write(runs, f"seed{seed}", seed, given)
    found = findings(runs)
    front = [("seed0", n) for n in range(3)]
    before = 0
    for budget in (3_400, 8_000, 30_000):
        given = room(found, budget)
        held = [given.held[ref] for ref in sorted(given.held, key=lambda ref: (ref[1], ref[2]))][:3]
        assert held == sorted(held, reverse=True), "the smaller a circuit, the more of it is held"
        assert {ref[1:] for ref in given.held} >= set(front)
        assert sum(held) > before, "more room, more of the front"
        before = sum(held)
    assert set(room(found).held.values()) == {Held.DETAIL} and not room(found).left_out


@pytest.mark.parametrize(("budget", "told"), [(500, "summarised"), (1_000, "without scores and stability")])
def test_what_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, told: str
) -> None:
    monkeypatch.setattr(import_module("orchestrator.report.room"), "BUDGET", budget)
    runs = Runs(tmp_path)
    for seed in (0, 1):
        write(runs, f"seed{seed}", seed, [Given(top(BIG, seed, 3000), 1.0 + seed)])
    blocks = list(circuits(findings(runs)))
    assert f"1 circuit {'only ' if budget < 1000 else ''}{told}" in said(blocks)
    assert "circuit-sweep circuit show" in said(blocks)
    assert "of single seeds left out" in said(blocks)


def test_a_large_circuit_is_held_edge_by_edge(tmp_path: Path) -> None:
    """Every edge, its score and what is on no path can be read back from the page's data."""
    runs = Runs(tmp_path)
    for seed in (0, 1):
        write(runs, f"seed{seed}", seed, [Given(top(BIG, seed, n), 1.0 / n + seed) for n in (900, 3700)])
    (view,) = (block for block in circuits(findings(runs)) if isinstance(block, CircuitsView))
    (graph,) = view.data["graphs"]
    pairs = read_members(graph["pairs"])
    names = [
        (graph["nodes"][pair // len(graph["readers"])][0], graph["readers"][pair % len(graph["readers"])][0])
        for pair in pairs
    ]
    for place, told in enumerate(view.data["circuits"][:2]):
        edges = [names[number] for number in read_members(told["edges"])]
        assert set(edges) == set(kept(runs, "seed0", place)) and len(edges) == told["n"] > 800
        circuit = stored(runs, "seed0", place)
        loose = {names[number] for number in read_members(told["loose"])}
        assert loose == set(circuit.edges) - set(circuit.connected().edges)
        for at in range(0, len(edges), 97):
            first, second = (codes.DIGITS.index(letter) for letter in told["levels"][2 * at : 2 * at + 2])
            size = told["top"] * 10 ** (((64 * first + second) % 2048 - codes.LOWEST) / 256)
            assert size == pytest.approx(float(circuit.scores[circuit.graph.locate(*edges[at])]), rel=0.01)


def read_members(text: str) -> list[int]:
    """The decoder of sets, written anew from the description of the code."""
    if not text.startswith("."):
        return (np.cumsum(np.array(read_numbers(text)) + 1) - 1).tolist()
    bits = [codes.DIGITS.index(digit) >> bit & 1 for digit in text[1:] for bit in range(6)]
    return np.flatnonzero(bits).tolist()


def test_members_are_written_in_the_shorter_way() -> None:
    for values in ([], [0], [5, 9, 700], list(range(0, 700, 2)), list(range(699))):
        told = codes.members(values, 700)
        assert read_members(told) == values
        assert len(told) <= min(-(-700 // 6) + 1, len(codes.rising(values)) + 1)
    assert codes.members(range(700), 700).startswith(".") and not codes.members([3], 700).startswith(".")


@pytest.mark.parametrize("graph", [GRAPH, GROUPED])
def test_edges_on_no_path_are_those_of_on_paths(graph: EdgeGraph) -> None:
    rng = np.random.default_rng(0)
    everything = top(graph, 0, graph.num_edges).edges
    drawn = Graph(frozenset(everything), graph.shape.query_heads // graph.shape.key_value_heads, (0,))
    for share in (0.02, 0.05, 0.1, 0.3):
        for _ in range(10):
            chosen = [edge for edge in everything if rng.random() < share]
            numbers = np.array([drawn.numbers[edge] for edge in chosen], dtype=np.int64)
            names = list(drawn.numbers)
            expected = set(chosen) - set(on_paths(chosen, drawn.heads_per_kv))
            assert {names[number] for number in drawn.loose(numbers).tolist()} == expected


def within(blocks: list[Block]) -> list[Block]:
    inner = [one for block in blocks if isinstance(block, Details) for one in block.blocks]
    return blocks + (within(inner) if inner else [])


def test_consensus_counts_what_the_run_folder_holds(tmp_path: Path) -> None:
    runs = ranking_runs(tmp_path, ground_truth=top(GRAPH, 0, 20).edges)
    for seed in (0, 1):
        given = [Given(top(GRAPH, seed + 7, n), 1 / n) for n in (9, 19)]
        write(runs, f"eap{seed}", seed, given, group=OTHER_GROUP)
    blocks = within(list(consensus(findings(runs))))
    sets = [set(kept(runs, f"seed{seed}", 2)) for seed in range(3)]  # 20 edges: the known circuit's size
    others = [set(kept(runs, f"eap{seed}", 1)) for seed in (0, 1)]
    table = next(
        block for block in blocks if isinstance(block, Table) and "at most 20 edges" in block.caption
    )
    row = next(row for row in table.rows if row[0] == GROUP.method)
    times = {edge: sum(edge in one for one in sets) for edge in set().union(*sets)}
    mean = np.mean([len(a & b) / len(a | b) for a, b in combinations(sets, 2)])
    majority = sum(2 * number > 3 for number in times.values())
    expected = [str(sum(number == 3 for number in times.values())), str(majority), str(len(times))]
    assert row[1:4] == ["20", "3 of 3", "20"] and row[4:7] == expected and row[7] == f"{mean:.2f}"
    matrices = {block.caption: block for block in blocks if isinstance(block, Matrix)}
    methods = next(matrix for caption, matrix in matrices.items() if "between methods" in caption)
    cross = np.mean([len(a & b) / len(a | b) for a in sets for b in others])
    names = [name.partition(":")[0] for name, _ in methods.rows]
    cells = {name.partition(":")[0]: row for name, row in methods.rows}
    assert (
        cells[GROUP.method][names.index("EAP")][0]
        == f"{cross:.2f} ({iou_by_chance(20, 19, GRAPH.num_edges):.2f})"
        == cells["EAP"][names.index(GROUP.method)][0]
    )
    assert cells[GROUP.method][names.index(GROUP.method)][0].startswith(f"{mean:.2f} (")
    assert "In brackets: by chance" in methods.caption
    stable = [block for block in blocks if isinstance(block, Table) and "stable" in block.caption]
    (three,) = (one for one in stable if one.rows[0][1].endswith("of 3"))
    for edge, told, in_known in three.rows:
        writer, reader = edge.split(" → ")
        assert told == f"{times[writer, reader]} of 3"
        assert (in_known == "✓ yes") == ((writer, reader) in sets[0]), "seed 0's circuit is the known one"


def test_tasks_of_one_model_are_compared(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    tasks = {"first": 0, "second": 3}
    for task, shift in tasks.items():
        group = GROUP.model_copy(update={"task": task, "model": "m"})
        write(runs, task, 0, [Given(top(GRAPH, shift, n), 1 / n) for n in (10, 30)], group=group)
    (matrix,) = (
        block
        for block in consensus(findings(runs))
        if isinstance(block, Matrix) and "mean IoU over" in block.caption
    )
    one, other = (set(kept(runs, task, 0)) for task in tasks)
    assert "at 10 edges" in matrix.caption
    assert matrix.rows[0][1][1][0].startswith(f"{len(one & other) / len(one | other):.2f} (")


def test_equal_seeds_of_a_method_that_sees_no_task_are_no_pair(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for task in ("first", "second"):
        group = GROUP.model_copy(update={"task": task, "model": "m", "method": "random"})
        for seed in (0, 1):
            given = [Given(top(GRAPH, 5 * seed, 10), 0.1)]
            write(runs, f"{task}{seed}", seed, given, group=group, examples=0, backward_examples=0)
    (matrix,) = (
        block
        for block in consensus(findings(runs))
        if isinstance(block, Matrix) and "mean IoU over" in block.caption
    )
    one, other = (set(kept(runs, f"first{seed}", 0)) for seed in (0, 1))
    assert matrix.rows[0][1][1][0].startswith(f"{len(one & other) / len(one | other):.2f} ("), "not near 1"
    assert "of different seeds" in matrix.caption


def test_budgets_are_round_and_common(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.trial(trial("a", 0, [point(0, 3, 0.5), point(1, 94, 0.0)]))
    runs.trial(trial("b", 1, [point(0, 40, 0.5)]))
    group = next(iter(findings(runs).scenes.values()))
    assert edge_budgets_of(group, None) == [5, 10, 20, 50]
    assert edge_budgets_of(group, 13) == [5, 10, 13, 20, 50]
    assert edge_budgets_of(group, 2) == [5, 10, 20, 50]


def test_the_same_runs_give_the_same_data(tmp_path: Path) -> None:
    runs = ranking_runs(tmp_path)
    first, second = (list(circuits(findings(runs)))[-1] for _ in range(2))
    assert isinstance(first, CircuitsView) and isinstance(second, CircuitsView)
    assert str(first.data) == str(second.data)
    empty = Circuit.from_edges(GRAPH, [])
    write(runs, "none", 5, [Given(empty, 9.0)])
    assert "consensus" in page(findings(runs))
