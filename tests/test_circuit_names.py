"""Edge lists of other programs: every form, embedding conventions, unknown names; nothing is skipped."""

import json

import pytest

from model_patches.circuit import Circuit
from model_patches.graph import EdgeGraph, Embeddings, Shape
from orchestrator.circuits.edge_list import read_edge_list
from orchestrator.circuits.names import end_of
from orchestrator.circuits.placement import Adapt, carried, place
from trainers.spec import SpecError

TWO = ("tok_embeds", "pos_embeds")
ONE = EdgeGraph(Shape(4, 4, 4, TWO[:1]))
BOTH = EdgeGraph(Shape(4, 4, 4, TWO))
PLAIN = [("tok_embeds", "a0.h1.q"), ("a0.h1", "m3"), ("m3", "resid_post"), ("a1.h2", "a3.h0.k")]


def circuit(content: object, graph: EdgeGraph = ONE, adapt: Adapt | None = None) -> Circuit:
    text = content if isinstance(content, str) else json.dumps(content)
    return place(read_edge_list(text.encode(), "edges"), graph, "edges", adapt).circuit


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a3.h12", "a3.h12"), ("a3.h12.k", "a3.h12.k"), ("m7", "m7"), ("resid_post", "resid_post"),
        ("token_embeds", "tok_embeds"), ("hook_embed", "tok_embeds"), ("hook_pos_embed", "pos_embeds"),
        ("embeds", "embeds"), ("input", "embeds"), ("blocks.0.hook_resid_pre[:]", "embeds"),
        ("blocks.0.hook_resid_pre", "embeds"), ("logits", "resid_post"), ("a3.h2<v>", "a3.h2.v"),
        ("head.3.2", "a3.h2"), ("head.3.2.q", "a3.h2.q"), ("mlp.5", "m5"),
        ("blocks.3.attn.hook_result[:, :, 2]", "a3.h2"),
        ("blocks.3.attn.hook_result[COL, COL, 11]", "a3.h11"),
        ("blocks.3.hook_q_input[:, :, 2]", "a3.h2.q"), ("blocks.3.hook_mlp_out[:]", "m3"),
        ("blocks.3.hook_mlp_in[:]", "m3"), ("blocks.3.hook_resid_mid[:]", "m3"),
        ("blocks.11.hook_resid_post[:]", "resid_post"), ("blocks.3.attn.hook_k[:, :, 2]", "a3.h2"),
    ],
)  # fmt: skip
def test_names_of_the_field(text: str, name: str) -> None:
    end = end_of(text)
    assert end is not None and end.name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a3",
        "h2",
        "a3.h2.x",
        "m",
        "blocks.3.attn.hook_result",
        "blocks.2.hook_resid_pre[:]",
        "hook_z",
    ],
)
def test_other_names_are_not_guessed(text: str) -> None:
    assert end_of(text) is None


FORMS = {
    "pairs": [list(edge) for edge in PLAIN],
    "arrows": [f"{writer}->{reader}" for writer, reader in PLAIN],
    "mappings": [{"from": writer, "to": reader} for writer, reader in PLAIN],
    "under edges": {"edges": [list(edge) for edge in PLAIN]},
    "named truths": {f"{w}->{r}": True for w, r in PLAIN} | {"a0.h0->m1": False},
    "MIB names": ["input->a0.h1<q>", "a0.h1->m3", "m3->logits", "a1.h2->a3.h0<k>"],
    "lines": "# ours\n" + "\n".join(f"{writer} {reader}" for writer, reader in PLAIN) + "\n\n",
    "arrow lines": "\n".join(f"{writer} -> {reader}" for writer, reader in PLAIN),
    "hooks": [
        ["blocks.0.hook_q_input", [None, None, 1], "blocks.0.hook_resid_pre", [None]],
        ["blocks.3.hook_mlp_in", [None], "blocks.0.attn.hook_result", [None, None, 1]],
        [["blocks.3.hook_resid_post", [None], "blocks.3.hook_mlp_out", [None]], 0.25],
        [["blocks.3.hook_k_input", [None, None, 0], "blocks.1.attn.hook_result", [None, None, 2]], True],
        [["blocks.2.hook_mlp_in", [None], "blocks.1.attn.hook_result", [None, None, 2]], False],
    ],
    "hook lines": "blocks.0.hook_q_input[:, :, 1]blocks.0.hook_resid_pre[:]\n"
    "blocks.0.attn.hook_result[:, :, 1] -> blocks.3.hook_mlp_in[:]\n"
    "blocks.3.hook_resid_post[:] blocks.3.hook_mlp_out[:]\n"
    "blocks.3.hook_k_input[:, :, 0] <- blocks.1.attn.hook_result[:, :, 2]",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list_gives_the_same_edges(form: str) -> None:
    assert set(circuit(FORMS[form]).edges) == set(PLAIN)


def test_scores_come_along() -> None:
    read = circuit([["tok_embeds", "m0", 0.5], ["m0", "m1", -2], [["m0->m2"][0], 3]])
    located = {edge: float(read.scores[ONE.locate(*edge)]) for edge in read.edges}
    assert located == {("tok_embeds", "m0"): 0.5, ("m0", "m1"): -2.0, ("m0", "m2"): 3.0}
    assert float(read.scores[ONE.locate("m1", "m2")]) == -2, "an edge not named ranks with the lowest"


LOG = """Node: cur_parent=TLACDCInterpNode(blocks.1.attn.hook_result, [:, :, 2]) \
(self.current_node=TLACDCInterpNode(blocks.3.hook_k_input, [:, :, 0]))

Metric after removing connection to blocks.1.attn.hook_result [:, :, 2] is 0.9 (and current metric 0.1)
Result is 0.8...so keeping connection
Node: cur_parent=TLACDCInterpNode(blocks.0.hook_mlp_out, [COL]) \
(self.current_node=TLACDCInterpNode(blocks.3.hook_mlp_in, [COL]))
Result is 0.0...so removing connection
Node: cur_parent=TLACDCInterpNode(blocks.0.hook_resid_pre, [:]) \
(self.current_node=TLACDCInterpNode(blocks.1.hook_v_input, [:, :, 2]))
Result is 0.5...so keeping connection
"""


def test_the_log_of_acdc() -> None:
    assert set(circuit(LOG).edges) == {("a1.h2", "a3.h0.k"), ("tok_embeds", "a1.h2.v")}


PLACEHOLDERS = [
    ["blocks.3.attn.hook_q", [None, None, 2], "blocks.3.hook_q_input", [None, None, 2]],
    ["blocks.3.attn.hook_result", [None, None, 2], "blocks.3.attn.hook_q", [None, None, 2]],
    ["blocks.2.hook_mlp_out", [None], "blocks.2.hook_mlp_in", [None]],
    ["blocks.2.hook_mlp_out", [None], "blocks.2.hook_resid_mid", [None]],
    ["a3.h2.q", "a3.h2"],
    {"from": "blocks.3.hook_k_input", "to": "blocks.3.attn.hook_k", "head_num": 2},
    {"from": "blocks.3.attn.hook_k", "to": "blocks.3.attn.hook_result", "head_num": 2},
]


def test_steps_inside_a_head_or_an_mlp_are_left_out_with_a_count() -> None:
    listed = read_edge_list(json.dumps([*PLACEHOLDERS, ["m0", "m1"]]).encode(), "edges")
    placed = place(listed, ONE, "edges")
    assert placed.circuit.edges == [("m0", "m1")]
    assert any("7 steps inside heads and MLPs left out" in note for note in placed.notes)


def test_the_published_script_for_acdc() -> None:
    content = {
        "original": [{"from": "head.0.1", "to": "mlp.3"}, {"from": "mlp.3", "to": "resid_post"}],
        "extra": [PLACEHOLDERS[-1], {"from": "blocks.0.hook_resid_pre", "to": "head.0.1.q"}],
    }
    assert set(circuit(content).edges) == {("a0.h1", "m3"), ("m3", "resid_post"), ("tok_embeds", "a0.h1.q")}


def test_every_unknown_name_is_listed_at_once() -> None:
    edges = [["a9.h0", "m3"], ["a9.h0", "m2"], ["m0", "a1.h7.q"], ["m3", "m1"], ["tok_embeds", "m0"]]
    with pytest.raises(SpecError) as caught:
        circuit(edges)
    message = str(caught.value)
    assert "unknown writer a9.h0 (2 edges). Did you mean 'a3.h0'?" in message
    assert "unknown reader a1.h7.q" in message and "no edge m3->m1: the reader comes first" in message
    assert message.startswith("edges: does not fit the graph (4 layers, 4 heads, 1 embedding writer")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            [["tok_embeds"], ["x", "y"], 7],
            ["[0]: found ['tok_embeds']", "[1]: unknown name 'x'", "[2]: found 7"],
        ),
        (
            [["m0", "m1", "high"], ["a0.h1.q", "a0.h2.k"]],
            ["[0]: found", "[1]: a0.h1.q -> a0.h2.k does not lead"],
        ),
        ([["m0", "m1", float("nan")]], ["[0]: m0 -> m1 has the score nan"]),
        ({"nodes": []}, ["a mapping with the keys nodes"]),
        ("5", ["line 1: found '5'"]),
        ("[1, 2", ["not JSON"]),
        ("m0 m1\nm0\n", ["line 2: found 'm0'"]),
        ('"m0"', ["found str; allowed: a list"]),
    ],
)
def test_what_is_no_list_of_edges_is_refused_by_place(content: object, told: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        circuit(content)
    for text in told:
        assert text in str(caught.value)


def test_text_that_is_not_text_is_refused() -> None:
    with pytest.raises(SpecError, match="edges: neither a circuit file nor text"):
        read_edge_list(b"\xff\xfe\x00", "edges")


JOINT, SEPARATE = [["embeds", "m0"]], [["tok_embeds", "m0"], ["pos_embeds", "m1"]]
ON, OFF = EdgeGraph(BOTH.shape, "always_on"), EdgeGraph(ONE.shape, "always_on")


@pytest.mark.parametrize(
    ("edges", "graph", "adapt", "expected"),
    [
        (JOINT, ONE, None, [("tok_embeds", "m0")]),
        (JOINT, BOTH, "split", [("tok_embeds", "m0"), ("pos_embeds", "m0")]),
        (SEPARATE, ONE, "merge", [("tok_embeds", "m0"), ("tok_embeds", "m1")]),
        (SEPARATE, BOTH, None, [("tok_embeds", "m0"), ("pos_embeds", "m1")]),
        (SEPARATE, ON, "drop", []),
        (JOINT, OFF, "drop", []),
    ],
)
def test_embedding_conventions_are_bridged_when_asked(
    edges: list, graph: EdgeGraph, adapt: Adapt | None, expected: list
) -> None:
    assert circuit([*edges, ["m0", "m1"]], graph, adapt).edges == [*expected, ("m0", "m1")]


@pytest.mark.parametrize(
    ("edges", "graph", "adapt", "told"),
    [
        (
            JOINT,
            BOTH,
            None,
            "1 edge leaves the one embedding; the graph has two writers: --adapt-embeddings split",
        ),
        (JOINT, BOTH, "merge", "--adapt-embeddings split"),
        (SEPARATE, ONE, None, "1 edge leaves pos_embeds; the graph has one embedding writer"),
        (
            SEPARATE,
            ON,
            None,
            "1 edge leaves tok_embeds; embeddings are always on here: --adapt-embeddings drop",
        ),
    ],
)
def test_embedding_conventions_are_not_guessed(
    edges: list, graph: EdgeGraph, adapt: Adapt | None, told: str
) -> None:
    with pytest.raises(SpecError) as caught:
        circuit(edges, graph, adapt)
    assert told in str(caught.value)


def test_merged_edges_are_kept_if_either_is_and_take_the_higher_score() -> None:
    listed = [["tok_embeds", "m0", -3.0], ["pos_embeds", "m0", -1.0]]
    merged = circuit(listed, ONE, "merge")
    assert (
        merged.edges == [("tok_embeds", "m0")] and float(merged.scores[ONE.locate("tok_embeds", "m0")]) == -1
    )


@pytest.mark.parametrize("convention", ["maskable", "always_on"])
def test_a_list_without_embeddings_says_when_it_leads_nowhere(convention: Embeddings) -> None:
    listed = read_edge_list(b'[["m0", "resid_post"]]', "edges")
    placed = place(listed, EdgeGraph(ONE.shape, convention), "edges")
    assert bool(placed.notes) == (convention == "maskable")
    assert all("--embeddings always_on" in note for note in placed.notes)


def test_a_circuit_is_carried_to_grouped_heads_and_refused_elsewhere() -> None:
    grouped = EdgeGraph(Shape(4, 4, 2, TWO[:1]))
    ours = Circuit.from_edges(ONE, [("m0", "a1.h1.k"), ("m0", "a1.h2.k"), ("m0", "a1.h3.q")])
    moved = carried(ours, grouped, "c", None)
    assert set(moved.circuit.edges) == {("m0", "a1.h0.k"), ("m0", "a1.h1.k"), ("m0", "a1.h3.q")}
    assert any("key/value heads they share" in note for note in moved.notes)
    for other in (EdgeGraph(Shape(5, 4, 4, TWO[:1])), EdgeGraph(Shape(4, 4, 4, TWO[:1], True))):
        with pytest.raises(SpecError, match="c: on another graph"):
            carried(ours, other, "c", None)
    with pytest.raises(SpecError, match="--adapt-embeddings drop"):
        carried(Circuit.from_edges(OFF, [("m0", "m1")]), ONE, "c", None)
    assert carried(ours, OFF, "c", "drop").circuit.edges == ours.edges


def test_circuits_of_two_conventions_meet() -> None:
    two = Circuit.from_edges(BOTH, [("tok_embeds", "m0"), ("pos_embeds", "m1"), ("m1", "resid_post")])
    one = carried(two, ONE, "c", "merge").circuit
    assert set(one.edges) == {("tok_embeds", "m0"), ("tok_embeds", "m1"), ("m1", "resid_post")}
    back = carried(one, BOTH, "c", "split").circuit
    assert set(back.edges) == {*two.edges, ("pos_embeds", "m0"), ("tok_embeds", "m1")}


def test_unknown_names_nodes_out_of_range_and_impossible_edges_are_told_at_once() -> None:
    edges = [
        ["foo", "m0"], ["bar", "resid_post"], ["a9.h1", "m1"], ["tok_embeds", "a0.h9.q"], ["m1", "m0"],
        ["foo", "baz"], ["foo", "a8.h0.q"], ["m7", "a0.h0"],
    ]  # fmt: skip
    with pytest.raises(SpecError) as caught:
        circuit(edges)
    message = str(caught.value)
    for told in (
        "[0] (and 2 more): unknown name 'foo'", "[1]: unknown name 'bar'", "[5]: unknown name 'baz'",
        "unknown writer a9.h1", "unknown reader a0.h9.q", "no edge m1->m0: the reader comes first",
        "unknown reader a8.h0.q", "[7]: m7 -> a0.h0 does not lead", "unknown writer m7",
    ):  # fmt: skip
        assert told in message, message
    assert "m0 " not in message and "resid_post" not in message, "what is known is not told"


def test_both_names_of_an_edge_are_told() -> None:
    with pytest.raises(SpecError, match=r"(?s)unknown name 'foo'.*unknown name 'bar'"):
        circuit([["foo", "bar"]])


def test_of_very_many_problems_the_first_are_told_and_the_rest_counted() -> None:
    edges = [*([f"x{number}", "m0"] for number in range(30)), ["m1", "m0"]]
    with pytest.raises(SpecError) as caught:
        circuit(edges)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and lines[-1] == "  ... and 11 more"
