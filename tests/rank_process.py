"""A worker that says at a trial's end what its process has loaded, and with how many threads it computes."""

import json
import os
import sys
from pathlib import Path

import torch

from trainers.progress import Progress
from trainers.worker import Worker

WORK = "tests.rank_process:TellingWorker"
TOLD = "process.json"


class TellingWorker(Worker):
    def begin(self, spec: dict, folder: str, attempt: int) -> None:
        self.folder = folder
        super().begin(spec, folder, attempt)

    def advance(self, steps: int = 1) -> Progress | None:
        progress = super().advance(steps)
        if progress is None:
            told = {
                "mlflow": sorted(name for name in sys.modules if name.partition(".")[0] == "mlflow"),
                "torch threads": torch.get_num_threads(),
                "variables": [os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "MKL")],
            }
            Path(self.folder, TOLD).write_text(json.dumps(told))
        return progress
