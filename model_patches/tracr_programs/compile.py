# pyright: reportMissingImports=false
# (tracr and jax are an optional extra: only this script needs them, to write the files beside it.)
"""Compiles RASP programs with Tracr into `NAME.safetensors` + `NAME.json`, read by model_patches.tracr.

    python -m model_patches.tracr_programs.compile [--out FOLDER] [--golden FILE]

Same program, same bytes: the files do not depend on the process, its hash seed or what it compiled before.
"""

import argparse
import copy
import itertools
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import haiku
import jax
import numpy as np
from safetensors.numpy import save as save_safetensors
from tracr.compiler import compiling, lib
from tracr.compiler.assemble import AssembledTransformerModel
from tracr.rasp import rasp

FORMAT = "circuit-sweep/tracr/1"
BOS, PAD = "BOS", "PAD"
MAX_EXAMPLES = 100_000
TOLERANCE = 1e-3

# The circuits that ACDC's zero ablation leaves (Conmy et al. 2023), with token and position embeddings
# as two writers. They are an algorithm's output, not derived from the program: for xproportion, the
# circuit without the two token edges into q and k has the same outputs.
REVERSE_CIRCUIT = (
    ("tok_embeds", "a0.h0.v"),
    ("tok_embeds", "m0"),
    ("a0.h0", "m0"),
    ("tok_embeds", "m1"),
    ("pos_embeds", "m1"),
    ("m0", "m1"),
    ("m1", "m2"),
    ("m2", "a3.h0.q"),
    ("pos_embeds", "a3.h0.k"),
    ("tok_embeds", "a3.h0.v"),
    ("a3.h0", "resid_post"),
)
XPROPORTION_CIRCUIT = (
    ("tok_embeds", "m0"),
    ("tok_embeds", "a1.h0.q"),
    ("pos_embeds", "a1.h0.q"),
    ("tok_embeds", "a1.h0.k"),
    ("pos_embeds", "a1.h0.k"),
    ("m0", "a1.h0.v"),
    ("a1.h0", "resid_post"),
)


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled program and what it does on its domain: every input of `length` tokens after BOS.

    `inputs` int64 [examples, seq]; `logits` float32 [examples, seq, outputs], the compiled JAX model's
    own; `expected` [examples, scored], the RASP interpreter's answer at the scored positions: the index
    of an output token (categorical) or a number (numerical).
    """

    name: str
    kind: Literal["categorical", "numerical"]
    vocab: tuple[Any, ...]
    max_seq_len: int
    length: int
    model: AssembledTransformerModel
    inputs: np.ndarray
    logits: np.ndarray
    scored_positions: tuple[int, ...]
    expected: list[list[float]]


def compile_program(
    program: rasp.SOp,
    vocab: Collection[Any],
    max_seq_len: int,
    name: str,
    out_dir: Path,
    *,
    length: int | None = None,
    ground_truth: Sequence[tuple[str, str]] = (),
    causal: bool = False,
    mlp_exactness: int = 100,
) -> Compiled:
    """Compiles `program` and writes `out_dir/name.safetensors` and `out_dir/name.json`.

    `length` is the number of tokens, without BOS, of the inputs on which circuits are tested (default
    `max_seq_len`); all len(vocab)**length of them are enumerated. `ground_truth` lists the edges of a
    circuit known to compute the program. A position after BOS at which the program gives no output (None)
    for some input is not scored.

    Raises ValueError when the domain is too large, two tokens read the same as text, no position can be
    scored, or the compiled model differs from the RASP interpreter; NotImplementedError (Tracr's) for
    RASP that Tracr cannot compile.
    """
    length = max_seq_len if length is None else length
    if not 1 <= length <= max_seq_len:
        raise ValueError(f"{name}: length {length} is not between 1 and max_seq_len {max_seq_len}")
    if len(vocab) ** length > MAX_EXAMPLES:
        raise ValueError(f"{name}: over {MAX_EXAMPLES} inputs of length {length}: choose a shorter length")
    if len({str(token) for token in vocab} | {BOS, PAD}) != len(vocab) + 2:
        raise ValueError(f"{name}: tokens must differ as text, from each other and from {BOS} and {PAD}")
    program = _renumbered(program)
    model = compiling.compile_rasp_to_model(
        program, set(vocab), max_seq_len, causal, BOS, PAD, mlp_exactness=mlp_exactness
    )
    compiled = _run(program, model, name, max_seq_len, length)
    _check_against_interpreter(compiled)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / f"{name}.safetensors").write_bytes(save_safetensors(_weights(model)))
    (out_dir / f"{name}.json").write_text(_json(_description(compiled, ground_truth)))
    return compiled


def compile_builtin(out_dir: Path) -> list[Compiled]:
    """Writes the two programs of the ACDC and Edge Pruning papers."""
    reverse = lib.make_reverse(rasp.tokens)
    xproportion = lib.make_frac_prevs((rasp.tokens == "x").named("is_x"))
    circuits = {"reverse": REVERSE_CIRCUIT, "xproportion": XPROPORTION_CIRCUIT}
    return [
        compile_program(program, vocab, 5, name, out_dir, length=length, ground_truth=circuits[name])
        for name, program, vocab, length in (
            ("reverse", reverse, [1, 2, 3], 3),
            ("xproportion", xproportion, ["a", "b", "c", "x"], 4),
        )
    ]


def _renumbered(program: rasp.SOp) -> rasp.SOp:
    """A copy whose expressions are numbered in breadth-first order.

    Tracr sorts residual directions by names that end in a process-wide counter: without this, what was
    compiled before would permute the weights.
    """
    program = copy.deepcopy(program)
    found: list[rasp.RASPExpr] = [program]
    for number, expression in enumerate(found, start=1):  # grows while it is walked
        expression.unique_id = number
        found += [child for child in expression.children if not any(child is known for known in found)]
    return program


def _run(
    program: rasp.SOp, model: AssembledTransformerModel, name: str, max_seq_len: int, length: int
) -> Compiled:
    """The compiled model's and the RASP interpreter's outputs on every input of `length` tokens."""
    encoder = model.input_encoder
    vocab = tuple(token for token in encoder.encoding_map if token not in (BOS, PAD))
    words = list(itertools.product(vocab, repeat=length))
    inputs = np.array([encoder.encode([BOS, *word]) for word in words], dtype=np.int64)
    out = model.forward(model.params, inputs)
    logits = np.asarray(out.transformer_output.output) @ _unembedding(model)

    answers = [program(list(word)) for word in words]
    scored = [i for i in range(length) if all(answer[i] is not None for answer in answers)]
    if not scored:
        raise ValueError(f"{name}: for every position some input gives no output (None)")
    if rasp.is_categorical(program):
        kind, index = "categorical", model.output_encoder.encoding_map
        expected = [[index[answer[i]] for i in scored] for answer in answers]
    else:
        kind = "numerical"
        expected = [[float(answer[i]) for i in scored] for answer in answers]
    positions = tuple(i + 1 for i in scored)
    return Compiled(name, kind, vocab, max_seq_len, length, model, inputs, logits, positions, expected)


def _check_against_interpreter(compiled: Compiled) -> None:
    """Raises ValueError unless the compiled model computes its program on the whole domain."""
    logits = compiled.logits[:, list(compiled.scored_positions)]
    expected = np.array(compiled.expected)
    if compiled.kind == "categorical":
        wrong = logits.argmax(-1) != expected
    else:
        wrong = np.abs(logits[..., 0] - expected) > TOLERANCE
    if wrong.any():
        raise ValueError(
            f"{compiled.name}: the compiled model differs from the RASP program on "
            f"{int(wrong.any(1).sum())} of {len(wrong)} inputs"
        )


def _unembedding(model: AssembledTransformerModel) -> np.ndarray:
    """float32 [width, outputs]. Tracr keeps it in a closure, not among its parameters."""
    width = len(model.residual_labels)

    def unembed(residual: jax.Array) -> jax.Array:
        return model.get_compiled_model().unembed(residual, use_unembed_argmax=False)

    transformed = haiku.without_apply_rng(haiku.transform(unembed))
    matrix = transformed.apply({}, np.eye(width, dtype=np.float32))
    return np.asarray(matrix, dtype=np.float32).reshape(width, -1)


def _weights(model: AssembledTransformerModel) -> dict[str, np.ndarray]:
    """float32 tensors under TracrModel's names; linear weights as torch has them, [out, in]."""
    params = model.params
    linear = {"attn/query": "attention.query", "attn/key": "attention.key", "attn/value": "attention.value"}
    linear |= {"attn/linear": "attention.output", "mlp/linear_1": "mlp.up", "mlp/linear_2": "mlp.down"}
    weights = {
        "tok_embeds.weight": params["token_embed"]["embeddings"],
        "pos_embeds.weight": params["pos_embed"]["embeddings"],
        "unembed.weight": _unembedding(model).T,
    }
    for layer, (theirs, ours) in itertools.product(range(model.model_config.num_layers), linear.items()):
        module = params[f"transformer/layer_{layer}/{theirs}"]
        assert not np.any(module["b"]), "Tracr never sets a bias, and TracrModel has none"
        weights[f"blocks.{layer}.{ours}.weight"] = module["w"].T
    return {name: np.ascontiguousarray(weight, dtype=np.float32) for name, weight in weights.items()}


def _description(compiled: Compiled, ground_truth: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What TracrProgram.load reads besides the weights."""
    model, encoding = compiled.model, compiled.model.input_encoder.encoding_map
    outputs = model.output_encoder.encoding_map if compiled.kind == "categorical" else {}
    return {
        "format": FORMAT,
        "name": compiled.name,
        "kind": compiled.kind,
        "config": {
            "model_type": "tracr",
            "num_hidden_layers": model.model_config.num_layers,
            "num_attention_heads": model.model_config.num_heads,
            "head_dim": model.model_config.key_size,
            "hidden_size": len(model.residual_labels),
            "intermediate_size": model.model_config.mlp_hidden_size,
            "vocab_size": len(encoding),
            "output_size": compiled.logits.shape[-1],
            "max_position_embeddings": compiled.max_seq_len + 1,
            "causal": model.model_config.causal,
        },
        "vocab": [str(token) for token in compiled.vocab],
        "encoding": {str(token): index for token, index in encoding.items()},
        "bos": BOS,
        "pad": PAD,
        "max_seq_len": compiled.max_seq_len,
        "length": compiled.length,
        "output_vocab": [str(token) for token in sorted(outputs, key=outputs.__getitem__)],
        "residual_labels": model.residual_labels,
        "scored_positions": compiled.scored_positions,
        "ground_truth": list(ground_truth),
        "expected": compiled.expected,
    }


def _json(fields: dict[str, Any]) -> str:
    """One field a line, so that diffs stay readable and long tables short."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in fields.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _golden(compiled: Iterable[Compiled]) -> dict[str, Any]:
    """The JAX models' outputs, rounded: what another CPU computes differs in the last bits."""
    return {
        program.name: {
            "inputs": program.inputs.tolist(),
            "logits": (program.logits.astype(float).round(6) + 0.0).tolist(),  # + 0.0: no -0.0
        }
        for program in compiled
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compile the built-in RASP programs with Tracr.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--golden", type=Path, help="also write the JAX models' outputs to this JSON file")
    options = parser.parse_args(arguments)
    compiled = compile_builtin(options.out)
    if options.golden:
        options.golden.parent.mkdir(parents=True, exist_ok=True)
        options.golden.write_text(_json(_golden(compiled)))


if __name__ == "__main__":
    main()
