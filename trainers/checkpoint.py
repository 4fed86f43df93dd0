"""Checkpoints: one small safetensors file a write, verified by its own checksum.

A checkpoint holds what the method must remember (gates, multipliers, their Adam moments, the path)
and the step. Noise and batches are functions of (seed, step), so there is no further state, and no
trace of how many ranks wrote it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from trainers.distributed import Ranks, digest
from trainers.folder import Folder
from trainers.outside import parse_json

KEPT = 2  # the latest and one predecessor
# What reading bytes that are no checkpoint of ours ends in.
DAMAGED = (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError)


@dataclass
class Checkpoints:
    """The checkpoints of one trial, in `<trial>/checkpoint/`. Every rank calls every method."""

    folder: Folder
    ranks: Ranks
    every_seconds: float
    check_attempt: Callable[[], None]  # raises when a newer attempt writes here
    warnings: list[str] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Rank 0's clock decides for all."""
        return self.ranks.agree(time.monotonic() - self.last >= self.every_seconds)

    def save(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Writes `step-<step>.safetensors` atomically, then drops all but it and its predecessor."""
        self.last = time.monotonic()
        if not self.ranks.is_first:
            return
        self.check_attempt()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        metadata = {"step": str(step), "sha256": digest(tensors)}
        self.folder.write(_name(step), safetensors.torch.save(tensors, metadata=metadata))
        for old in self._names()[:-KEPT]:
            self.folder.delete(old)

    def latest(self) -> tuple[int, dict[str, Tensor]] | None:
        """The newest checkpoint that is whole: (step, state), or None.

        A damaged one is moved aside, told in `warnings`, and its predecessor is taken.
        """
        content = self.ranks.share(self._newest() if self.ranks.is_first else None)
        if not content:
            return None
        step, state = _parse(content)
        return step, {name: tensor.to(self.ranks.device) for name, tensor in state.items()}

    def clear(self) -> None:
        """Frees the disk once the trial is over; what was damaged stays to be looked at."""
        if self.ranks.is_first:
            for name in self._names():
                self.folder.delete(name)
            if not self.folder.names():
                self.folder.delete("")

    def _newest(self) -> bytes | None:
        for name in reversed(self._names()):
            content = self.folder.read(name) or b""
            try:
                _parse(content)
                return content
            except DAMAGED as error:
                self.folder.rename(name, f"{name}.corrupt")
                self.warnings.append(
                    f"checkpoint {name} was damaged ({error}) and moved aside; the trial went on from an "
                    "older one, or from its start"
                )
        return None

    def _names(self) -> list[str]:
        return [name for name in self.folder.names() if name.endswith(".safetensors")]


def _name(step: int) -> str:
    return f"step-{step:09d}.safetensors"


def _parse(content: bytes) -> tuple[int, dict[str, Tensor]]:
    """Raises one of DAMAGED when the content is not a whole checkpoint."""
    state = safetensors.torch.load(content)
    header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    if header["sha256"] != digest(state):
        raise ValueError("its checksum does not match")
    return int(header["step"]), state
