"""Circuit: top-k, names, connectivity, files."""

import json
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors
from torch import Tensor

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Embeddings, Shape

BOTH = ("tok_embeds", "pos_embeds")
GROUPED = EdgeGraph(Shape(layers=2, query_heads=4, key_value_heads=2, embeddings=("tok_embeds",)))


def random_scores(graph: EdgeGraph, seed: int = 0) -> Tensor:
    return torch.randn(graph.allowed.shape, generator=torch.Generator().manual_seed(seed))


def test_the_same_circuit_is_the_same_bytes() -> None:
    circuit = Circuit.top(GROUPED, random_scores(GROUPED), 9)
    assert len({circuit.save() for _ in range(20)}) == 1


def test_top_keeps_the_largest_scores_and_leaves_out_what_is_no_edge() -> None:
    scores = random_scores(GROUPED)
    scores[~GROUPED.allowed] = 100
    for number in (0, 1, 7, GROUPED.num_edges):
        circuit = Circuit.top(GROUPED, scores, number)
        assert circuit.num_edges == number == len(circuit.edges)
        kept, cut = circuit.scores[circuit.kept], circuit.scores[GROUPED.allowed & ~circuit.kept]
        assert number in (0, GROUPED.num_edges) or kept.min() >= cut.max()
        assert circuit.sparsity == pytest.approx(1 - number / GROUPED.num_edges)
    assert not Circuit.top(GROUPED, scores, 3).scores[~GROUPED.allowed].any()


def test_ties_go_to_the_edge_that_comes_first() -> None:
    everything = Circuit.top(GROUPED, torch.zeros(GROUPED.allowed.shape), GROUPED.num_edges).edges
    for number in (1, 10, 50):
        assert Circuit.top(GROUPED, torch.ones(GROUPED.allowed.shape), number).edges == everything[:number]
    scores = torch.zeros(GROUPED.allowed.shape)
    scores[GROUPED.locate("m1", "resid_post")] = 1
    assert set(Circuit.top(GROUPED, scores, 4).edges) == {*everything[:3], ("m1", "resid_post")}


@pytest.mark.parametrize("number", [-1, 10**6])
def test_top_refuses_an_impossible_number_of_edges(number: int) -> None:
    with pytest.raises(AssertionError, match=f"{number} of {GROUPED.num_edges} edges"):
        Circuit.top(GROUPED, random_scores(GROUPED), number)


def test_top_takes_gradients_and_other_dtypes_and_keeps_plain_float32() -> None:
    scores = random_scores(GROUPED).double().requires_grad_()
    circuit = Circuit.top(GROUPED, scores, 5)
    assert circuit.scores.dtype == torch.float32 and not circuit.scores.requires_grad


def test_from_edges_names_edges_in_graph_order() -> None:
    named = [("m1", "resid_post"), ("tok_embeds", "a0.h1.k"), ("a0.h3", "m0"), ("tok_embeds", "a0.h3.q")]
    circuit = Circuit.from_edges(GROUPED, [*named, named[0]])
    assert circuit.edges == [
        ("tok_embeds", "a0.h3.q"), ("tok_embeds", "a0.h1.k"), ("a0.h3", "m0"), ("m1", "resid_post"),
    ]  # fmt: skip
    assert circuit.num_edges == 4 and torch.equal(circuit.scores, circuit.kept.float())
    assert Circuit.from_edges(GROUPED, circuit.edges).edges == circuit.edges
    with pytest.raises(ValueError, match="no edge m1->m0"):
        Circuit.from_edges(GROUPED, [("m1", "m0")])


def test_keep_adds_the_always_on_edges() -> None:
    graph = EdgeGraph(GROUPED.shape, "always_on")
    keep = Circuit.from_edges(graph, [("m0", "m1")]).keep()
    assert keep.dtype == torch.float32 and torch.equal(keep[0], torch.ones(len(graph.readers)))
    assert keep[1:].sum() == 1 and keep[graph.locate("m0", "m1")] == 1
    with pytest.raises(ValueError, match="always on"):
        Circuit.from_edges(graph, [("tok_embeds", "m1")])


def test_a_circuit_is_a_subset_of_the_graph() -> None:
    with pytest.raises(AssertionError, match="allowed edges only"):
        Circuit(GROUPED, torch.zeros(GROUPED.allowed.shape), torch.ones_like(GROUPED.allowed))
    with pytest.raises(AssertionError, match="one value per edge"):
        Circuit(GROUPED, torch.zeros(3), torch.zeros_like(GROUPED.allowed))


def test_connected_drops_what_leads_nowhere_or_comes_from_nowhere() -> None:
    # Query heads 2 and 3 share the key of key/value head 1.
    path = [("tok_embeds", "a0.h1.k"), ("a0.h3", "m1"), ("m1", "resid_post")]
    loose = [("tok_embeds", "a0.h0.k"), ("m0", "resid_post"), ("m0", "a1.h0.q"), ("a0.h1", "a1.h1.v")]
    assert Circuit.from_edges(GROUPED, path + loose).connected().edges == path
    assert Circuit.from_edges(GROUPED, loose).connected().edges == []


def brute_force(circuit: Circuit) -> set[tuple[str, str]]:
    """Edges on some path from an embedding to resid_post, by following every path by name."""
    graph, group = circuit.graph, circuit.graph.shape.query_heads // circuit.graph.shape.key_value_heads
    present = {(graph.writers[w].name, graph.readers[r].name) for w, r in circuit.keep().nonzero().tolist()}
    useful: set[tuple[str, str]] = set()

    def writers_behind(reader: str) -> list[str]:
        if not reader.startswith("a"):
            return [reader]
        layer, head, part = reader.split(".")
        first = int(head[1:])
        served = [first] if part == "q" else range(first * group, (first + 1) * group)
        return [f"{layer}.h{number}" for number in served]

    def follow(writer: str, path: tuple[tuple[str, str], ...]) -> None:
        for edge in (edge for edge in present if edge[0] == writer):
            if edge[1] == "resid_post":
                useful.update((*path, edge))
            else:
                for behind in writers_behind(edge[1]):
                    follow(behind, (*path, edge))

    for embedding in graph.shape.embeddings:
        follow(embedding, ())
    return useful & set(circuit.edges)


@settings(deadline=None, max_examples=150)
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2)]),
    names=st.sampled_from([("tok_embeds",), BOTH]),
    convention=st.sampled_from(["maskable", "always_on"]),
    share=st.floats(0.05, 0.35),
    seed=st.integers(0, 10**6),
)
def test_connected_equals_following_every_path(
    layers: int, heads: tuple[int, int], names: Any, convention: Embeddings, share: float, seed: int
) -> None:
    graph = EdgeGraph(Shape(layers, *heads, names), convention)
    circuit = Circuit.top(graph, random_scores(graph, seed), round(share * graph.num_edges))
    connected = circuit.connected()
    assert set(connected.edges) == brute_force(circuit)
    assert connected.connected().edges == connected.edges
    assert torch.equal(connected.scores, circuit.scores)


def test_the_whole_graph_is_connected() -> None:
    for graph in (GROUPED, EdgeGraph(GROUPED.shape, "always_on"), EdgeGraph(Shape(12, 12, 12, BOTH))):
        everything = Circuit.top(graph, random_scores(graph), graph.num_edges)
        assert everything.connected().num_edges == graph.num_edges


@pytest.mark.parametrize("convention", ["maskable", "always_on"])
def test_a_saved_circuit_comes_back(tmp_path: Path, convention: Embeddings) -> None:
    graph = EdgeGraph(GROUPED.shape, convention)
    circuit = Circuit.top(graph, random_scores(graph), 9)
    file = tmp_path / "circuit-000.safetensors"
    file.write_bytes(circuit.save())
    loaded = Circuit.load(file)
    assert (loaded.graph.shape, loaded.graph.embeddings) == (graph.shape, convention)
    assert torch.equal(loaded.scores, circuit.scores) and torch.equal(loaded.kept, circuit.kept)
    assert loaded.edges == circuit.edges


def parts() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of a good file."""
    circuit = Circuit.top(GROUPED, random_scores(GROUPED), 9)
    content = circuit.save()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    return {"scores": circuit.scores, "kept": circuit.kept}, json.loads(header["circuit"])


def described(tensors: dict[str, Tensor], description: object) -> bytes:
    return save_safetensors(tensors, {"circuit": json.dumps(description)})


def with_shape(**changes: object) -> bytes:
    tensors, description = parts()
    return described(tensors, description | {"shape": description["shape"] | changes})


def with_header(**changes: object) -> bytes:
    tensors, description = parts()
    return described(tensors, description | changes)


def with_tensors(**changes: Tensor) -> bytes:
    tensors, description = parts()
    return described(tensors | changes, description)


def raw(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def good() -> bytes:
    return with_header()


ROWS, COLUMNS = GROUPED.allowed.shape
DAMAGED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "three bytes": lambda: b"abc",
    "text": lambda: b"edges: 12\n" * 40,
    "pickle": lambda: b"\x80\x04\x95" + b"\x00" * 200,
    "cut in half": lambda: good()[: len(good()) // 2],
    "one byte short": lambda: good()[:-1],
    "trailing bytes": lambda: good() + b"more",
    "header length 2^64 - 1": lambda: raw(b"{}", length=2**64 - 1),
    "header length 2^40": lambda: struct.pack("<Q", 2**40) + good()[8:],
    "header longer than the file": lambda: raw(b"{}", length=100),
    "header not JSON": lambda: raw(b"\xff\xfe not json"),
    "header a list": lambda: raw(b"[1, 2]"),
    "header deep": lambda: raw(b"[" * 200_000),
    "no metadata": lambda: save_safetensors(parts()[0]),
    "no shape": lambda: described(parts()[0], {"embeddings": "maskable"}),
    "another format": lambda: with_header(format="circuit-sweep/tracr/1"),
    "a later format": lambda: with_header(format="circuit-sweep/circuit/2"),
    "unknown convention": lambda: with_header(embeddings="sometimes"),
    "description not JSON": lambda: save_safetensors(parts()[0], {"circuit": "{"}),
    "description deep": lambda: save_safetensors(parts()[0], {"circuit": "[" * 200_000}),
    "description a number": lambda: described(parts()[0], 7),
    "shape a number": lambda: with_header(shape=7),
    "shape lacks heads": lambda: with_header(shape={"layers": 2, "embeddings": []}),
    "shape with more": lambda: with_shape(experts=3),
    "a billion layers": lambda: with_shape(layers=10**9),
    "absurd layers": lambda: with_shape(layers=10**30),
    "negative layers": lambda: with_shape(layers=-1),
    "layers a text": lambda: with_shape(layers="2"),
    "layers a float": lambda: with_shape(layers=2.0),
    "a billion heads": lambda: with_shape(query_heads=10**9, key_value_heads=10**9),
    "absurd key/value heads": lambda: with_shape(key_value_heads=10**18),
    "heads that do not divide": lambda: with_shape(query_heads=4, key_value_heads=3),
    "no embeddings": lambda: with_shape(embeddings=[]),
    "embeddings a text": lambda: with_shape(embeddings="tok_embeds"),
    "unknown embeddings": lambda: with_shape(embeddings=["a0.h0"]),
    "unhashable embeddings": lambda: with_shape(embeddings=[["tok_embeds"]]),
    "parallel not true or false": lambda: with_shape(parallel_residual="no"),
    "another shape": lambda: with_shape(layers=3),
    "scores too small": lambda: with_tensors(scores=torch.zeros(ROWS, COLUMNS - 1)),
    "scores flat": lambda: with_tensors(scores=torch.zeros(ROWS * COLUMNS)),
    "scores of integers": lambda: with_tensors(scores=torch.zeros(ROWS, COLUMNS, dtype=torch.int32)),
    "scores not finite": lambda: with_tensors(scores=torch.full((ROWS, COLUMNS), float("nan"))),
    "kept of floats": lambda: with_tensors(kept=torch.zeros(ROWS, COLUMNS)),
    "kept of bytes": lambda: with_tensors(kept=torch.zeros(ROWS, COLUMNS, dtype=torch.uint8)),
    "kept where no edge is": lambda: with_tensors(kept=torch.ones(ROWS, COLUMNS, dtype=torch.bool)),
    "kept missing": lambda: described({"scores": parts()[0]["scores"]}, parts()[1]),
}


@pytest.fixture
def stopped_in_time() -> Iterator[None]:
    """A reader that believes a billion layers shall fail its test, not fill the machine's memory."""

    def stop(*_: object) -> None:
        raise MemoryError("still busy with a small file")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 5, 1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.usefixtures("stopped_in_time")
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_or_hostile_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "circuit-007.safetensors"
    file.write_bytes(DAMAGED[damage]())
    with pytest.raises(ValueError) as caught:
        Circuit.load(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: not a circuit file: ")
    assert len(message) < len(str(file)) + 300 and "\n" not in message
    assert len(message) > len(f"{file}: not a circuit file: ") + 15, "says what is wrong"


def test_a_missing_file_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(ValueError, match=f"{path}: "):
            Circuit.load(path)
