"""Several ranks that serve trials in turn, as a lane's gang does.

`torchrun --nproc-per-node 2 -m tests.gang RESOURCES OUT FOLDER...`: RESOURCES as JSON; each folder
holds spec.json, attempt.json and, when the gang shall leave the trial midway, stop.json with the number
of reports after which it does. OUT is a file for what `engines` says, or empty.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests import one_rank
from trainers.distributed import Engine, Ranks
from trainers.resources import Resources
from trainers.worker import Worker

ROOT = Path(__file__).parent.parent


def torchrun(
    ranks: int, module: str, *arguments: str, seconds: int = 240
) -> subprocess.CompletedProcess[str]:
    """Runs `torchrun -m module` on this machine; its processes end with it, at the latest after `seconds`."""
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}",
        "--master-addr=127.0.0.1", f"--master-port={one_rank.free_port()}", "-m", module, *arguments,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, error = process.communicate()
        raise AssertionError(f"no end after {seconds} s:\n{out[-2000:]}\n{error[-4000:]}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def serve(worker: Worker, folders: Iterable[Path]) -> None:
    for folder in folders:
        spec = json.loads((folder / "spec.json").read_bytes())
        attempt = json.loads((folder / "attempt.json").read_bytes())["attempt"]
        stop = folder / "stop.json"
        worker.begin(spec, str(folder), attempt)
        one_rank.advance(worker, json.loads(stop.read_bytes()) if stop.exists() else None)


def engines(ranks: Ranks) -> dict[str, Any]:
    """By ZeRO stage: the state after some steps in which the ranks' losses differ, and whether it is the
    same after going on from half way; and what ranks tell each other."""
    said: dict[str, Any] = {}
    for stage in (0, 1, 2, 3):
        whole = _trained(ranks, stage, None, range(6))
        parts = _trained(ranks, stage, _trained(ranks, stage, None, range(3)), range(3, 6))
        said[f"stage {stage} goes on"] = all(torch.equal(whole[name], parts[name]) for name in whole)
        said[f"stage {stage}"] = {name: value.tolist() for name, value in whole.items()}
    said["shared"] = ranks.share(b"\x00from the first" if ranks.is_first else b"ignored").decode()
    said["nothing"] = ranks.share(b"" if ranks.is_first else b"ignored").decode()
    said["agreed"] = [ranks.agree(ranks.is_first), ranks.agree(not ranks.is_first)]
    mine = torch.tensor([1.0, ranks.rank])
    said["total"] = [ranks.total(mine).tolist(), mine.tolist() == [1.0, ranks.rank]]
    return said


SIZES = {"edges": 41, "writers": 7, "pair": 2}  # that two ranks do not share evenly


def _trained(
    ranks: Ranks, stage: int, state: dict[str, torch.Tensor] | None, steps: range
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    trained = {name: nn.Parameter(torch.randn(size, generator=generator)) for name, size in SIZES.items()}
    groups = [{"names": ["edges", "writers"], "weight_decay": 0.01}, {"names": ["pair"], "maximize": True}]
    engine = Engine(one_rank.loaded("gpt2", "float32").model, trained, groups, ranks, stage, state=state)
    # 0 and 2 for two ranks: their mean is 1, exactly.
    share = 2.0 * ranks.rank if ranks.world_size == 2 else 1.0

    def loss(step: int) -> torch.Tensor:
        data = trained["edges"].square().sum() + trained["writers"].square().sum()
        return share * (data + trained["pair"].sum() * (step - 2))

    for step in steps:
        assert engine.step(engine.run(loss, step), [0.05, 0.1])
    found = engine.state()
    engine.close()
    return found


def main(resources: str, out: str, *folders: str) -> None:
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    given = Resources.parse(json.loads(resources), "resources")
    worker = Worker(rank, world_size, "127.0.0.1", int(os.environ["MASTER_PORT"]), given)
    serve(worker, map(Path, folders))
    if out:
        said = engines(worker.ranks)
        if worker.ranks.is_first:
            Path(out).write_text(json.dumps(said))
    worker.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
