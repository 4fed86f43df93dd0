"""EdgeGraph: counts, names, order, causality, grouped heads."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_patches.architectures import ARCHITECTURES, Architecture, architecture_of, shape_of
from model_patches.graph import EdgeGraph, Embeddings, Node, Shape
from model_patches.tracr import TracrProgram
from tests.tiny_models import KEY_VALUE_HEADS, LAYERS, QUERY_HEADS, TINY_CONFIGS

BOTH = ("tok_embeds", "pos_embeds")
GPT2_SMALL = Shape(12, 12, 12, BOTH)
GROUPED = Shape(layers=2, query_heads=4, key_value_heads=2, embeddings=("tok_embeds",))


@pytest.mark.parametrize(
    ("shape", "embeddings", "edges"),
    [
        (GPT2_SMALL, "maskable", 32_936),  # Edge Pruning
        (GPT2_SMALL, "always_on", 32_046),
        (Shape(12, 12, 12, ("tok_embeds",)), "maskable", 32_491),  # ACDC, EAP-IG, MIB: one embedding writer
        (Shape(4, 1, 1, BOTH), "maskable", 94),  # Tracr's reverse
        (Shape(2, 1, 1, BOTH), "maskable", 32),  # Tracr's xproportion
    ],
)
def test_edge_counts_are_the_published_ones(shape: Shape, embeddings: Embeddings, edges: int) -> None:
    graph = EdgeGraph(shape, embeddings)
    assert graph.num_edges == edges == int(graph.allowed.sum())


@pytest.mark.parametrize(("program", "edges"), [("reverse", 94), ("xproportion", 32)])
def test_shipped_programs_have_the_published_counts(program: str, edges: int) -> None:
    config = TracrProgram.builtin(program).config
    assert EdgeGraph(shape_of(config, architecture_of("tracr"))).num_edges == edges


def test_names_and_order_of_a_grouped_model() -> None:
    graph = EdgeGraph(GROUPED)
    assert " ".join(node.name for node in graph.writers) == (
        "tok_embeds a0.h0 a0.h1 a0.h2 a0.h3 m0 a1.h0 a1.h1 a1.h2 a1.h3 m1"
    )
    assert " ".join(node.name for node in graph.readers) == (
        "a0.h0.q a0.h1.q a0.h2.q a0.h3.q a0.h0.k a0.h1.k a0.h0.v a0.h1.v m0 "
        "a1.h0.q a1.h1.q a1.h2.q a1.h3.q a1.h0.k a1.h1.k a1.h0.v a1.h1.v m1 resid_post"
    )
    assert [list(graph.writer_index), list(graph.reader_index)] == [
        [node.name for node in nodes] for nodes in (graph.writers, graph.readers)
    ]
    assert Node("head", 3, 2).name == "a3.h2" and Node("head", 3, 2, "q").name == "a3.h2.q"


def test_edges_go_by_writer_then_reader() -> None:
    graph = EdgeGraph(Shape(1, 1, 1, BOTH))
    cells = [divmod(index, len(graph.readers)) for index in graph.flat_index.tolist()]
    names = [(graph.writers[row].name, graph.readers[column].name) for row, column in cells]
    of_embeddings = list(product(BOTH, ["a0.h0.q", "a0.h0.k", "a0.h0.v", "m0", "resid_post"]))
    assert names == [*of_embeddings, ("a0.h0", "m0"), ("a0.h0", "resid_post"), ("m0", "resid_post")]
    assert [graph.locate(*edge) for edge in names] == cells


def test_always_on_embeddings_exist_but_are_not_counted() -> None:
    graph = EdgeGraph(GROUPED, "always_on")
    assert torch.equal(graph.exists, EdgeGraph(GROUPED).exists)
    assert torch.equal(graph.allowed | graph.always_on, graph.exists)
    assert not (graph.allowed & graph.always_on).any()
    assert graph.always_on.nonzero()[:, 0].unique().tolist() == [0] and graph.always_on[0].all()
    assert not EdgeGraph(GROUPED).always_on.any()


@pytest.mark.parametrize(
    ("writer", "reader", "message"),
    [
        ("a9.h0", "m0", "unknown writer 'a9.h0'; writers are tok_embeds, a0.h0, .*"),
        ("pos_embeds", "m0", "unknown writer 'pos_embeds'"),
        ("m0", "a1.h2.k", "unknown reader 'a1.h2.k'; readers are a0.h0.q, .*"),  # only two key/value heads
        ("a0.h0.q", "m0", "unknown writer 'a0.h0.q'"),
        ("m0", "a1.h0", "unknown reader 'a1.h0'"),
        ("m0", "m0", "no edge m0->m0: the reader comes first"),
        ("a0.h0", "a0.h1.q", "no edge a0.h0->a0.h1.q: the reader comes first"),
        ("m1", "a0.h0.q", "no edge m1->a0.h0.q: the reader comes first"),
    ],
)
def test_locate_says_why_there_is_no_such_edge(writer: str, reader: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EdgeGraph(GROUPED).locate(writer, reader)


def test_locate_refuses_always_on_edges_by_name() -> None:
    with pytest.raises(ValueError, match="no edge tok_embeds->m0: the embeddings are always on"):
        EdgeGraph(GROUPED, "always_on").locate("tok_embeds", "m0")


def test_a_long_list_of_names_is_cut() -> None:
    with pytest.raises(ValueError) as caught:
        EdgeGraph(GPT2_SMALL).locate("a12.h0", "m0")
    assert len(str(caught.value)) < 200 and str(caught.value).endswith("…")


heads = st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (6, 3), (4, 1)])
embedding_sets = st.sampled_from([("tok_embeds",), BOTH])
shapes = st.builds(
    lambda layers, heads, embeddings, parallel: Shape(layers, heads[0], heads[1], embeddings, parallel),
    st.integers(1, 4), heads, embedding_sets, st.booleans(),
)  # fmt: skip


def time_of(node: Node, reads: bool, parallel: bool) -> float:
    """When a node writes or reads: attention of layer l around 2l, its MLP around 2l + 1."""
    match node.kind:
        case "head":
            return 2 * node.layer + (0 if reads else 0.5)
        case "mlp" if parallel:
            return 2 * node.layer + (0.25 if reads else 0.5)
        case "mlp":
            return 2 * node.layer + (1 if reads else 1.5)
        case "resid_post":
            return float("inf")
        case _:
            return -1


@settings(deadline=None, max_examples=60)
@given(shape=shapes)
def test_an_edge_exists_exactly_when_its_writer_writes_before_its_reader_reads(shape: Shape) -> None:
    graph, parallel = EdgeGraph(shape), shape.parallel_residual
    for (row, writer), (column, reader) in product(enumerate(graph.writers), enumerate(graph.readers)):
        earlier = time_of(writer, False, parallel) < time_of(reader, True, parallel)
        assert bool(graph.exists[row, column]) is earlier, (writer.name, reader.name)


@settings(deadline=None, max_examples=60)
@given(shape=shapes)
def test_groups_cover_every_reader_once_in_order_and_see_ever_more_writers(shape: Shape) -> None:
    graph = EdgeGraph(shape)
    groups = list(graph.groups())
    covered = [i for group in groups for i in range(group.readers.start, group.readers.stop)]
    assert covered == list(range(len(graph.readers)))
    assert [g.visible for g in groups] == sorted(g.visible for g in groups)
    assert groups[-1].visible == len(graph.writers)
    for layer in range(shape.layers):
        assert graph.writers[graph.first_head(layer)].name == f"a{layer}.h0"
        assert graph.readers[graph.attention(layer).readers.start].name == f"a{layer}.h0.q"
        assert graph.readers[graph.mlp(layer).readers.start].name == f"m{layer}"


@pytest.mark.parametrize("kind", sorted(TINY_CONFIGS))
def test_shapes_come_from_the_architecture_table(kind: str) -> None:
    config = TINY_CONFIGS[kind]()
    shape = shape_of(config, architecture_of(config.model_type))
    kv_heads = QUERY_HEADS if kind.startswith(("gpt", "opt")) else KEY_VALUE_HEADS
    embeddings = BOTH if kind in ("gpt2", "opt") else BOTH[:1]
    assert shape == Shape(LAYERS, QUERY_HEADS, kv_heads, embeddings, kind in ("gpt_neox", "phi"))


def test_a_config_key_that_means_nothing_to_its_family_is_not_read() -> None:
    config = TINY_CONFIGS["gpt2"]()
    config.num_key_value_heads = 1
    assert shape_of(config, architecture_of("gpt2")).key_value_heads == QUERY_HEADS


def test_every_family_has_an_architecture_and_others_are_refused() -> None:
    assert all(isinstance(entry, Architecture) for entry in ARCHITECTURES.values())
    assert {make().model_type for make in TINY_CONFIGS.values()} | {"tracr"} == set(ARCHITECTURES)
    with pytest.raises(
        ValueError, match="model family 'bert' is not supported; known: gemma, gemma2, .*, tracr. A family is"
    ):
        architecture_of("bert")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((-1, 1, 1, BOTH), "layers must be an integer of at least 1, not -1"),
        ((0, 1, 1, BOTH), "layers"),
        ((2.0, 1, 1, BOTH), "layers"),
        ((True, 1, 1, BOTH), "layers"),
        ((1, 0, 1, BOTH), "query_heads"),
        ((1, 1, 0, BOTH), "key_value_heads"),
        ((1, 3, 2, BOTH), "3 query heads cannot share 2 key/value heads evenly"),
        ((1, 2, 4, BOTH), "2 query heads cannot share 4 key/value heads evenly"),
        ((1, 1, 1, ()), "embeddings"),
        ((1, 1, 1, ("pos_embeds", "tok_embeds")), "embeddings"),
        ((1, 1, 1, BOTH, "no"), "parallel_residual"),
    ],
    ids=str,
)
def test_an_impossible_shape_is_refused(sizes: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shape(*sizes)
