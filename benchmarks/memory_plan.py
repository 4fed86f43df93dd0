"""The memory plan against what trials take: real shapes of random weights, one process a trial.

    python -m benchmarks.memory_plan [--case NAME ...]

`predicted` is what `circuit-sweep plan` counts for a trial above the loaded model, `measured` the trial's
`peak_memory_bytes` (peak resident set; on a GPU, peak allocated). Ends with 1 when one is more than 15 % off.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 0.15
LLAMA = {"num_hidden_layers": 8, "hidden_size": 1024, "intermediate_size": 2752, "num_attention_heads": 16}
SMOLLM2 = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A shape (Hugging Face's config), its prompts' length, and a step: examples × samples of gates."""

    family: str
    config: dict[str, Any]
    seq: int
    batch: int
    samples: int
    resources: dict[str, Any]


CASES = {
    "gpt2": Case("gpt2", {}, 32, 8, 1, {}),
    "gpt2 recompute": Case("gpt2", {}, 32, 8, 2, {"recompute_blocks": True, "zero_stage": 0}),
    "smollm2-135m": Case("llama", SMOLLM2, 24, 4, 2, {"zero_stage": 0}),
    "smollm2-135m long": Case("llama", SMOLLM2, 48, 8, 1, {}),
    "llama 8 x 1024": Case("llama", LLAMA, 16, 16, 1, {"zero_stage": 1}),
    "llama recompute": Case("llama", LLAMA, 40, 8, 1, {"recompute_blocks": True}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--trial", help=argparse.SUPPRESS)  # what each trial is started with
    parser.add_argument("--gpu", action="store_true", help="on a GPU instead of the CPU")
    asked = parser.parse_args()
    if asked.trial:
        _run(Path(asked.trial))
        return
    print(f"{'':20}{'seq':>5}{'batch':>7}{'samples':>9}{'predicted, MB':>15}{'measured, MB':>14}{'ratio':>7}")
    worst = 0.0
    for name in asked.case:
        case = CASES[name]
        predicted, measured = _compared(case, asked.gpu)
        ratio = predicted / measured
        worst = max(worst, abs(ratio - 1))
        told = f"{name:20}{case.seq:>5}{case.batch:>7}{case.samples:>9}"
        print(f"{told}{predicted / 1e6:>15.0f}{measured / 1e6:>14.0f}{ratio:>7.2f}", flush=True)
    print(f"at most {worst:.0%} off; target: {LIMIT:.0%}")
    sys.exit(worst > LIMIT)


def _compared(case: Case, gpu: bool) -> tuple[int, int]:
    """Predicted and measured bytes above the loaded model."""
    from orchestrator.planning.memory import predict
    from orchestrator.planning.weights import parameter_count, sizes
    from trainers.resources import Resources
    from trainers.trial import TrialSpec

    with tempfile.TemporaryDirectory(prefix="circuit-sweep-") as scratch:
        folder = Path(scratch)
        _save(case, folder / "model")
        few = {"train": case.batch, "validation": case.batch, "test": case.batch}
        spec = TrialSpec.parse(
            {
                "model": {"path": str(folder / "model")},
                "task": {"name": "induction", "period": case.seq - 4, "shown": 4, **few},
                "method": {"name": "edge_pruning", "target_sparsity": 0.5, "steps": 3, "path_points": 1,
                           "gate_samples": case.samples},
            }, "memory plan",
        )  # fmt: skip
        resources = Resources.parse(case.resources | {"gpus_per_rank": int(gpu)}, "memory plan")
        known, parameters = sizes(spec.model), parameter_count(spec.model)
        assert known is not None and parameters is not None, "a model that was just written"
        memory = predict(spec, resources, known, parameters)
        assert memory is not None, "its prompts have one length"
        asked = {"spec": spec.plain(), "resources": resources.plain()}
        (folder / "asked.json").write_text(json.dumps(asked))
        command = [sys.executable, "-m", "benchmarks.memory_plan", "--trial", scratch]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(ran.stderr[-2000:])
        result = json.loads((folder / "trial" / "result.json").read_text())
        return memory.trial, result["peak_memory_bytes"]


def _save(case: Case, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    AutoModelForCausalLM.from_config(AutoConfig.for_model(case.family, **case.config)).save_pretrained(folder)


def _run(scratch: Path) -> None:
    """One trial, as a lane runs it."""
    from trainers.resources import Resources
    from trainers.worker import Worker, free_port

    asked, folder = json.loads((scratch / "asked.json").read_text()), scratch / "trial"
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(asked["spec"]))
    (folder / "attempt.json").write_text(json.dumps({"attempt": 1}))
    worker = Worker(0, 1, "127.0.0.1", free_port(), Resources.parse(asked["resources"], "memory plan"))
    worker.begin(asked["spec"], str(folder), 1)
    while worker.advance() is not None:
        pass
    worker.close()


if __name__ == "__main__":
    main()
