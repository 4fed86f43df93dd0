"""Memory per rank under ZeRO-3: a model of random weights, loaded by 1, 2 and 4 ranks on this machine.

    python -m benchmarks.zero3_memory [--layers 12] [--width 1024]

`weights` is what a rank holds of them; `private` what its process grew by while loading, without the pages
that it shares with others (the weight file, which all ranks read through one page cache).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

RANKS = (1, 2, 4)
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--load", help=argparse.SUPPRESS)  # what each rank is started with
    arguments = parser.parse_args()
    if arguments.load:
        _load(Path(arguments.load))
        return
    with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
        total = _write_model(Path(scratch), arguments.layers, arguments.width)
        shape = f"{arguments.layers} layers of width {arguments.width}"
        print(f"Llama shape, {shape}: {total / MIB:.0f} MiB float32")
        print(f"{'ranks':>5}  {'weights, MiB per rank':>22}  {'of all':>7}  {'private, MiB per rank':>22}")
        for ranks in RANKS:
            held, grown = _measured(Path(scratch), ranks)
            weights, private = max(held), max(grown)
            print(f"{ranks:>5}  {weights / MIB:>22.0f}  {weights / total:>7.3f}  {private / MIB:>22.0f}")


def _write_model(folder: Path, layers: int, width: int) -> int:
    """Bytes of its weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=layers, hidden_size=width, intermediate_size=8 * width // 3, vocab_size=16000,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")  # a model's files include one; it is not read here
    return sum(parameter.numel() * 4 for parameter in model.parameters())


def _measured(folder: Path, ranks: int) -> tuple[list[int], list[int]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command += ["-m", "benchmarks.zero3_memory", "--load", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    said = next(json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    return said["held"], said["grown"]


def _load(folder: Path) -> None:
    """One rank."""
    from trainers.distributed import Ranks, held_bytes
    from trainers.model import ModelSpec, load
    from trainers.resources import Resources

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    resources = Resources(ranks=world)
    ranks = Ranks.join(rank, world, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), resources)
    before = _private()
    loaded = load(ModelSpec(path=str(folder)), ranks, zero_stage=3)
    held = ranks.gather(held_bytes(loaded.model))
    grown = ranks.gather(_private() - before)
    if ranks.is_first:
        print(json.dumps({"held": list(map(int, held)), "grown": list(map(int, grown))}), flush=True)
    ranks.leave()


def _private() -> int:
    return psutil.Process().memory_full_info().uss


if __name__ == "__main__":
    main()
