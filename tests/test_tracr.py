"""Tracr programs: the torch model computes what the compiled model and plain Python compute."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_patches.graph import EdgeGraph, Shape
from model_patches.tracr import BUILTIN, TracrFileError, TracrProgram

GOLDEN = Path(__file__).parent / "golden" / "tracr_outputs.json"
SHIPPED = Path(__file__).parent.parent / "model_patches" / "tracr_programs"


@pytest.fixture(params=BUILTIN)
def program(request: pytest.FixtureRequest) -> TracrProgram:
    return TracrProgram.builtin(request.param)


def words(program: TracrProgram) -> list[list[str]]:
    """The domain as tokens, without BOS."""
    token = {index: token for token, index in program.encoding.items()}
    return [[token[index] for index in row[1:]] for row in program.domain().tolist()]


def logits(program: TracrProgram, dtype: torch.dtype = torch.float32) -> Tensor:
    return program.model(dtype)(program.domain()).logits


def copy_of(program: TracrProgram, folder: Path) -> Path:
    """A damaged program starts as a copy; returns the path without suffix."""
    for suffix in (".json", ".safetensors"):
        (folder / f"{program.name}{suffix}").write_bytes((SHIPPED / f"{program.name}{suffix}").read_bytes())
    return folder / program.name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_equals_the_compiled_model_on_every_input(program: TracrProgram, dtype: torch.dtype) -> None:
    golden = json.loads(GOLDEN.read_text())[program.name]
    ours = logits(program, dtype)
    assert program.domain().tolist() == golden["inputs"]
    assert len(golden["inputs"]) == {"reverse": 27, "xproportion": 256}[program.name]
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.double(), torch.tensor(golden["logits"]).double(), atol=1e-5, rtol=0)


def test_reverse_is_pythons_reversed() -> None:
    program = TracrProgram.builtin("reverse")
    best = logits(program)[:, list(program.scored_positions)].argmax(-1)
    decoded = [[program.output_vocab[index] for index in row] for row in best.tolist()]
    assert decoded == [list(reversed(word)) for word in words(program)]
    assert torch.equal(best, program.expected())


def test_xproportion_is_the_fraction_of_x_so_far() -> None:
    program = TracrProgram.builtin("xproportion")
    fractions = [
        [float(Fraction(word[: i + 1].count("x"), i + 1)) for i in range(4)] for word in words(program)
    ]
    expected = torch.tensor(fractions, dtype=torch.float64)
    outputs = logits(program, torch.float64)[:, list(program.scored_positions), 0]
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(program.expected(), expected, atol=1e-12, rtol=0)


def test_ground_truth_is_made_of_edges_of_the_graph(program: TracrProgram) -> None:
    heads = program.config.num_attention_heads
    graph = EdgeGraph(Shape(program.config.num_hidden_layers, heads, heads, ("tok_embeds", "pos_embeds")))
    rows = {graph.locate(writer, reader) for writer, reader in program.ground_truth}
    assert len(rows) == len(program.ground_truth) == {"reverse": 11, "xproportion": 7}[program.name]
    assert graph.num_edges == {"reverse": 94, "xproportion": 32}[program.name]


def test_ground_truth_alone_computes_the_program(program: TracrProgram) -> None:
    """Zero ablation: each reader sees the sum of the writers that it keeps an edge from."""
    model, edges = program.model(torch.float64), set(program.ground_truth)
    tokens = program.domain()
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    written = {"tok_embeds": model.tok_embeds(tokens), "pos_embeds": model.pos_embeds(positions)}
    nothing = torch.zeros_like(written["tok_embeds"])

    def seen_by(reader: str) -> Tensor:
        return sum((out for writer, out in written.items() if (writer, reader) in edges), start=nothing)

    for layer in range(program.config.num_hidden_layers):
        block = model.get_submodule(f"blocks.{layer}")
        for part, projection in (("q", "query"), ("k", "key"), ("v", "value")):
            residual = seen_by(f"a{layer}.h0.{part}")
            block.get_submodule(f"attention.{projection}").register_forward_pre_hook(
                lambda _module, _inputs, residual=residual: (residual,)
            )
        written[f"a{layer}.h0"] = block.get_submodule("attention")(nothing)
        written[f"m{layer}"] = block.get_submodule("mlp")(seen_by(f"m{layer}"))
    circuit = model.unembed(seen_by("resid_post"))
    assert program.same_output(circuit, logits(program, torch.float64)).all()


def test_models_of_one_program_share_nothing_and_draw_no_random_numbers(program: TracrProgram) -> None:
    state = torch.get_rng_state()
    first, second = program.model(), program.model()
    assert torch.equal(torch.get_rng_state(), state)
    first.unembed.weight.zero_()
    assert second.unembed.weight.any() and program.weights["unembed.weight"].any()
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_same_output_looks_at_every_scored_position_and_only_there(program: TracrProgram) -> None:
    reference = logits(program)[:4]
    changed = reference.clone()
    changed[0, 0] += 5
    changed[1, 2] = torch.roll(changed[1, 2], 1) if program.kind == "categorical" else changed[1, 2] + 2e-3
    changed[2, 3] = float("nan")
    changed[3, 1] += 5e-4
    assert program.same_output(changed, reference).tolist() == [True, False, False, True]


def test_unknown_builtin_is_refused() -> None:
    with pytest.raises(ValueError, match="sort.*reverse, xproportion"):
        TracrProgram.builtin("sort")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "something else"),
        ("kind", "symbolic"),
        ("length", 2),
        ("length", 10**12),
        ("max_seq_len", 4),
        ("encoding", {"1": 0, "2": 0, "3": 2, "BOS": 3, "PAD": 4}),
        ("bos", "start"),
        ("scored_positions", [0, 1]),
        ("ground_truth", [["a9.h0", "resid_post"]]),
        ("ground_truth", [["tok_embeds"]]),
        ("expected", [[0, 0, 0]]),
        ("expected", [[0, 0, 7]] * 27),
        ("output_vocab", ["1"]),
        ("residual_labels", []),
        ("config", {"model_type": "tracr"}),
        ("surplus", 1),
    ],
)
def test_description_that_is_off_is_refused_naming_the_file(
    tmp_path: Path, field: str, value: object
) -> None:
    stem = copy_of(TracrProgram.builtin("reverse"), tmp_path)
    file = stem.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(TracrFileError, match="reverse.json"):
        TracrProgram.load(stem)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing"])
def test_damaged_file_is_refused_naming_it(
    program: TracrProgram, tmp_path: Path, suffix: str, damage: str
) -> None:
    stem = copy_of(program, tmp_path)
    file = stem.with_suffix(suffix)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\xff" * 64)
    if damage == "missing":
        file.unlink()
    with pytest.raises(TracrFileError, match=f"{program.name}{suffix}"):
        TracrProgram.load(stem)


@pytest.mark.parametrize("damage", ["shape", "dtype", "nan", "absent", "surplus"])
def test_weights_that_do_not_fit_are_refused_naming_the_file(
    program: TracrProgram, tmp_path: Path, damage: str
) -> None:
    stem = copy_of(program, tmp_path)
    file = stem.with_suffix(".safetensors")
    weights = load_file(file)
    name = "blocks.1.attention.key.weight"
    match damage:
        case "shape":
            weights[name] = weights[name].T.contiguous()
        case "dtype":
            weights[name] = weights[name].double()
        case "nan":
            weights[name][0, 0] = float("nan")
        case "absent":
            del weights[name]
        case _:
            weights["blocks.1.attention.key.bias"] = torch.zeros(1)
    save_file(weights, file)
    with pytest.raises(TracrFileError, match=rf"{program.name}\.safetensors"):
        TracrProgram.load(stem)


@pytest.mark.parametrize("layers", [3, 10**6])
def test_config_that_contradicts_the_weights_is_refused(tmp_path: Path, layers: int) -> None:
    stem = copy_of(TracrProgram.builtin("reverse"), tmp_path)
    file = stem.with_suffix(".json")
    description = json.loads(file.read_text())
    description["config"]["num_hidden_layers"] = layers
    file.write_text(json.dumps(description))
    with pytest.raises(TracrFileError, match=r"reverse\.safetensors"):
        TracrProgram.load(stem)


def test_folder_with_one_program_is_loaded_and_with_two_refused(tmp_path: Path) -> None:
    copy_of(TracrProgram.builtin("reverse"), tmp_path)
    assert TracrProgram.load(tmp_path).name == "reverse"
    copy_of(TracrProgram.builtin("xproportion"), tmp_path)
    with pytest.raises(TracrFileError, match="2 programs"):
        TracrProgram.load(tmp_path)


@pytest.mark.slow
def test_compiling_again_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("tracr")
    from model_patches.tracr_programs import compile as script

    golden = tmp_path / "golden.json"
    script.main(["--out", str(tmp_path / "first"), "--golden", str(golden)])
    script.main(["--out", str(tmp_path / "second")])
    for name in (f"{name}{suffix}" for name in BUILTIN for suffix in (".json", ".safetensors")):
        shipped = (SHIPPED / name).read_bytes()
        assert (tmp_path / "first" / name).read_bytes() == shipped
        assert (tmp_path / "second" / name).read_bytes() == shipped, "numbering depends on what came before"
    for name, table in json.loads(golden.read_text()).items():
        shipped = json.loads(GOLDEN.read_text())[name]
        assert table["inputs"] == shipped["inputs"]
        torch.testing.assert_close(
            torch.tensor(table["logits"]), torch.tensor(shipped["logits"]), atol=1e-5, rtol=0
        )


@pytest.mark.slow
def test_users_program_is_compiled_and_loads(tmp_path: Path) -> None:
    """The previous token: undefined at the first position, which is therefore not scored."""
    pytest.importorskip("tracr")
    from tracr.compiler import lib  # pyright: ignore[reportMissingImports]
    from tracr.rasp import rasp  # pyright: ignore[reportMissingImports]

    from model_patches.tracr_programs.compile import compile_program

    compile_program(lib.shift_by(1, rasp.tokens), ["a", "b"], 3, "previous", tmp_path)
    program = TracrProgram.load(tmp_path / "previous")
    best = logits(program)[:, list(program.scored_positions)].argmax(-1)
    decoded = [[program.output_vocab[index] for index in row] for row in best.tolist()]
    assert program.scored_positions == (2, 3) and program.ground_truth == ()
    assert decoded == [word[:-1] for word in words(program)]
    with pytest.raises(ValueError, match="shorter length"):
        compile_program(rasp.tokens, range(20), 9, "large", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_two_heads_and_causal_attention_equal_the_compiled_model(tmp_path: Path, causal: bool) -> None:
    pytest.importorskip("tracr")
    from tracr.compiler import lib  # pyright: ignore[reportMissingImports]
    from tracr.rasp import rasp  # pyright: ignore[reportMissingImports]

    from model_patches.tracr_programs.compile import compile_program

    balance = lib.make_pair_balance(rasp.tokens, "(", ")")
    compiled = compile_program(balance, ["(", ")", "-"], 4, "balance", tmp_path, causal=causal)
    program = TracrProgram.load(tmp_path / "balance")
    assert (program.config.num_attention_heads, program.config.causal) == (2, causal)
    torch.testing.assert_close(logits(program), torch.tensor(compiled.logits), atol=1e-5, rtol=0)
