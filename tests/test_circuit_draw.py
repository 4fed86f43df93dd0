"""Drawings of circuits: only what lies on paths, boxes that do not overlap, the same bytes."""

import random
import re
from itertools import pairwise

import pytest

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Shape
from orchestrator.circuits.layout import NODE_WIDTH, WAYPOINT_WIDTH, layered
from orchestrator.drawing import FORMATS, MAX_EDGES, Format, draw, draw_circuit, left_out, on_paths

GPT2 = EdgeGraph(Shape(12, 12, 12, ("tok_embeds", "pos_embeds")))
GROUPED = EdgeGraph(Shape(3, 6, 2, ("tok_embeds",)))
PATH = [("tok_embeds", "a0.h1.k"), ("a0.h3", "m1"), ("m1", "resid_post")]


def connected(graph: EdgeGraph, num_edges: int) -> Circuit:
    """A circuit of about so many edges, all on paths."""
    chooser = random.Random(0)
    edges = [
        (graph.writers[w].name, graph.readers[r].name)
        for w, r in graph.allowed.nonzero().tolist()
        if graph.writers[w].head < 4 and graph.readers[r].head < 4
    ]
    kept: list[tuple[str, str]] = []
    while True:
        kept += [edge for edge in chooser.sample(edges, 60) if edge not in kept]
        circuit = Circuit.from_edges(graph, kept).connected()
        if circuit.num_edges >= num_edges:
            return circuit


@pytest.mark.parametrize("form", sorted(set(FORMATS.values())))
def test_the_same_circuit_is_the_same_bytes(form: Format) -> None:
    circuit = connected(GROUPED, 40)
    first, second = draw(circuit, "title", form), draw(circuit, "title", form)
    assert first == second
    assert first.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[form])
    assert not re.search(rb"CreationDate|<dc:date>", first)


def test_only_nodes_on_kept_paths_are_drawn() -> None:
    loose = [("tok_embeds", "a2.h5.q"), ("m0", "resid_post"), ("a0.h1", "a1.h1.v")]
    edges = Circuit.from_edges(GROUPED, PATH + loose)
    assert set(on_paths(edges.edges, heads_per_kv=3)) == set(edges.connected().edges)
    assert on_paths(loose) == []
    alone = [("m0", "m1"), ("m1", "resid_post"), ("a0.h0", "a1.h0.q")]
    assert on_paths(alone) == alone[:2], "without edges of embeddings, every writer is alive"


def labels(picture: bytes) -> set[str]:
    """Texts of an SVG whose glyphs are outlines: matplotlib keeps each text as a comment."""
    return set(re.findall(r"<!-- (\S+) -->", picture.decode()))


def test_a_picture_names_its_nodes() -> None:
    circuit = Circuit.from_edges(GROUPED, [*PATH, ("tok_embeds", "a2.h5.q")])
    assert {"tok", "a0.kv1", "a0.h3", "m1", "resid_post"} <= labels(draw(circuit, "t", "svg"))
    assert "a2.h5" not in labels(draw(circuit, "t", "svg"))
    assert "a0.h4" not in labels(draw(circuit, "t", "svg")), (
        "a head that shares a key head but writes nothing"
    )


def test_nothing_kept_is_said() -> None:
    assert draw(Circuit.from_edges(GROUPED, []), "t").startswith(b"\x89PNG")
    assert draw_circuit([("m0", "m1")], "t").startswith(b"\x89PNG")


def test_five_hundred_edges_of_gpt2_are_all_drawn_and_no_box_covers_another() -> None:
    circuit = connected(GPT2, 500)
    assert circuit.num_edges < MAX_EDGES
    links = {(w, r.rpartition(".")[0] if r[-2:] in (".q", ".k", ".v") else r) for w, r in circuit.edges}
    names = {end for link in links for end in link}
    levels = {name: level(name) for name in names}
    rows = {height: row for row, height in enumerate(sorted(set(levels.values())))}
    row_of = {name: rows[levels[name]] for name in sorted(names)}
    layout = layered(row_of, sorted(links))
    for items in layout.rows:
        widths = [NODE_WIDTH if row_of[name] == row else WAYPOINT_WIDTH for name, row in items]
        places = [layout.x[item] for item in items]
        for (left, right), (one, other) in zip(pairwise(places), pairwise(widths), strict=True):
            assert right - left >= (one + other) / 2 - 1e-9
    assert {(low, high) for low, high in links} == reached(layout.branches, row_of)
    again = layered(row_of, sorted(links))
    assert again.x == layout.x


def level(name: str) -> tuple[int, int]:
    if "embeds" in name:
        return (-1, 0)
    if name == "resid_post":
        return (99, 0)
    return (int(re.findall(r"\d+", name)[0]), int(name.startswith("m")))


def reached(branches: dict, row_of: dict[str, int]) -> set[tuple[str, str]]:
    """(writer, node) pairs that the trunks and branches connect, one row at a time."""
    found = set()
    for name in row_of:
        item = (name, row_of[name])
        while item in branches:
            trunk = [end for end in branches[item] if end[0] == name]
            found |= {(name, end[0]) for end in branches[item] if end[0] != name}
            assert all(end[1] == item[1] + 1 for end in branches[item]) and len(trunk) <= 1
            if not trunk:
                break
            item = trunk[0]
    return found


def test_a_large_circuit_says_that_it_is_cut() -> None:
    edges = [(f"a{layer}.h{head}", "resid_post") for layer in range(2) for head in range(600)]
    picture = draw_circuit(edges, "title", form="svg").decode()
    assert f"the {MAX_EDGES:,} of {len(edges):,} edges that are closest to the output" in picture


def test_kept_edges_that_are_not_drawn_are_told_in_the_picture() -> None:
    loose = [("tok_embeds", "a2.h5.q"), ("m0", "resid_post")]
    picture = draw(Circuit.from_edges(GROUPED, PATH + loose), "t", "svg").decode()
    assert "3 of 5 kept edges lie on a path; 2 are not drawn" in picture
    assert "not drawn" not in draw(Circuit.from_edges(GROUPED, PATH), "t", "svg").decode()
    nothing = draw(Circuit.from_edges(GROUPED, loose), "t", "svg").decode()
    assert "0 of 2 kept edges lie on a path; 2 are not drawn" in nothing and "no edges on a path" in nothing


def test_edges_beyond_the_limit_count_as_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five kept edges three lie on a path, and two of these are drawn."""
    monkeypatch.setattr("orchestrator.drawing.MAX_EDGES", 2)
    loose = [("tok_embeds", "a2.h5.q"), ("m0", "resid_post")]
    picture = draw(Circuit.from_edges(GROUPED, PATH + loose), "t", "svg").decode()
    assert "3 of 5 kept edges lie on a path; 3 are not drawn" in picture
    assert "the 2 of 3 edges that are closest to the output" in picture
    assert left_out(Circuit.from_edges(GROUPED, PATH)) == "3 of 3 kept edges lie on a path; 1 is not drawn"
