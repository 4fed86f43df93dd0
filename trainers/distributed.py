"""Ranks and the DeepSpeed engine: the only module that imports deepspeed.

The model's weights are frozen; ZeRO stage 3 partitions them over the ranks. The few trainable
parameters (gates, multipliers) go through the same engine. All state that a trial must remember
is read and written here in full, so a checkpoint does not know how many ranks wrote it.
"""

import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model_patches.circuit_model import CircuitModel
from trainers.resources import Resources

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Ranks:
    """The process group of one gang, seen from one of its ranks."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def join(cls, rank: int, world_size: int, address: str, port: int, resources: Resources) -> Self:
        """Joins the process group that listens on `address:port`, once per process."""
        gpu = resources.gpus_per_rank > 0
        if gpu and not torch.cuda.is_available():
            raise RuntimeError(f"gpus_per_rank is {resources.gpus_per_rank}, but this rank sees no GPU")
        if not gpu:
            os.environ["DS_ACCELERATOR"] = "cpu"
            # Unset, DeepSpeed counts CPU devices by starting `numactl` at every step.
            os.environ.setdefault("LOCAL_SIZE", "1")
        torch.set_num_threads(resources.threads)
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_RANK": os.environ.get("LOCAL_RANK", "0" if gpu else str(rank)),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
        }
        deepspeed = _deepspeed()
        backend = "nccl" if gpu else "gloo"
        if not dist.is_initialized() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            store = _store(rank, world_size, address, port)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
        deepspeed.init_distributed(backend, verbose=False)
        return cls(rank, world_size, torch.device("cuda" if gpu else "cpu"))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def gpus(self) -> tuple[str, ...]:
        """The id of the GPU that this rank computes on; empty on a CPU."""
        if self.device.type != "cuda":
            return ()
        return (f"GPU-{torch.cuda.get_device_properties(self.device).uuid}",)

    def share(self, content: bytes | None) -> bytes:
        """Rank 0's bytes, on every rank (no pickle: a length and a byte tensor)."""
        if self.world_size == 1:
            return content or b""
        size = torch.tensor([len(content or b"")], device=self.device)
        dist.broadcast(size, 0)
        data = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if self.is_first and content:
            data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        if int(size):
            dist.broadcast(data, 0)
        return data.cpu().numpy().tobytes()

    def agree(self, flag: bool) -> bool:
        """Rank 0's decision, on every rank."""
        if self.world_size == 1:
            return flag
        decision = torch.tensor([int(flag)], device=self.device)
        dist.broadcast(decision, 0)
        return bool(decision.item())

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, value: float) -> list[float]:
        """Every rank's value, by rank."""
        values = torch.zeros(self.world_size, dtype=torch.float64, device=self.device)
        values[self.rank] = value
        return self.total(values).tolist()

    def slice(self, count: int) -> slice:
        """This rank's contiguous share of `count` examples; shares differ by at most one."""
        each, more = divmod(count, self.world_size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


def _store(rank: int, world_size: int, address: str, port: int) -> Any:
    """Where ranks find each other. It listens on `address` alone; torch by itself listens on all."""
    from torch.distributed import TCPStore  # type: ignore[reportPrivateImportUsage]  # public, not in __all__

    if rank != 0:
        return TCPStore(address, port, world_size, False)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.create_server((address, port), family=family, backlog=max(128, world_size))
    return TCPStore(
        address, port, world_size, True, master_listen_fd=listening.detach(), wait_for_workers=False
    )


class _Root(nn.Module):
    """What DeepSpeed wraps. Weights are gathered while its forward runs, so whatever needs them is
    handed in as a function."""

    def __init__(self, model: CircuitModel, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.model = model
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)  # the owner must be the module that runs

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class Engine:
    """A DeepSpeed engine for one trial.

    groups: optimiser groups of torch.optim.AdamW as mappings with "names" of `parameters` and
    AdamW's options ("lr", "weight_decay", "maximize" ...).
    """

    def __init__(
        self,
        model: CircuitModel,
        parameters: Mapping[str, nn.Parameter],
        groups: list[dict[str, Any]],
        ranks: Ranks,
        zero_stage: int,
        max_gradient_norm: float | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`state` is what `Engine.state` gave earlier, on any number of ranks; training goes on there."""
        if state is not None:
            # Before DeepSpeed makes its own copies of the parameters.
            for name, parameter in parameters.items():
                parameter.data.copy_(state[f"parameter.{name}"])
        self.parameters, self.ranks, self.zero_stage = dict(parameters), ranks, zero_stage
        # Under ZeRO-3 a partitioned parameter says it is empty.
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.root = _Root(model, self.parameters).to(ranks.device)
        self.optimizer: torch.optim.AdamW | None = None
        if groups:
            named = [
                {
                    **{k: v for k, v in group.items() if k != "names"},
                    "params": [parameters[n] for n in group["names"]],
                }
                for group in groups
            ]
            self.optimizer = torch.optim.AdamW(named, lr=0.0)
        self._call: Callable[..., Any] = self.root
        self._engine: Any = None
        if self.optimizer is not None or zero_stage == 3:
            self._engine = _initialize(self.root, model, self.optimizer, zero_stage, max_gradient_norm)
            self._call = self._engine
        if self.optimizer is not None:
            self._set_moments(state or {})

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)` with the model's weights at hand."""
        return self._call(function, *arguments)

    def step(self, loss: Tensor, learning_rates: list[float]) -> bool:
        """One optimiser step. `loss` is this rank's; gradients are averaged over the ranks.

        False, on all ranks alike, when ZeRO skipped the step because a gradient is not finite.
        """
        assert self.optimizer is not None, "an engine without groups does not train"
        for group, rate in zip(self.optimizer.param_groups, learning_rates, strict=True):
            group["lr"] = rate
        self._engine.backward(loss)
        self._engine.step()
        return self._engine.was_step_applied()

    def value(self, name: str) -> Tensor:
        """A trained parameter in full, on every rank."""
        from deepspeed.utils import safe_get_full_fp32_param

        if self.zero_stage == 0:
            return self.parameters[name].detach().clone()
        value = safe_get_full_fp32_param(self.parameters[name])
        assert value is not None, f"{name} is a trained parameter"
        return value.detach().clone().view(self.shapes[name])

    def state(self) -> dict[str, Tensor]:
        """Trained parameters, their Adam moments and the step count, in full, on every rank."""
        from deepspeed.utils import safe_get_full_optimizer_state

        state = {f"parameter.{name}": self.value(name) for name in self.parameters}
        for name, parameter in self.parameters.items():
            for moment in MOMENTS:
                if self.zero_stage == 0:
                    full = self._base_optimizer().state[parameter][moment]
                else:
                    full = safe_get_full_optimizer_state(parameter, moment)
                assert full is not None, f"{name} is a trained parameter"
                state[f"{moment}.{name}"] = full.detach().clone().view(self.shapes[name])
        state["adam_steps"] = torch.tensor(float(self._adam_steps()))
        return state

    def _set_moments(self, state: Mapping[str, Tensor]) -> None:
        """Adam's moments and step count; zero where absent.

        Also without a state: some stages' set-up counts as Adam's first step.
        """
        steps = state.get("adam_steps", torch.tensor(0.0)).float().cpu()
        for flat in self._optimised():
            zeros = {moment: torch.zeros_like(flat) for moment in MOMENTS}
            self._base_optimizer().state[flat] = {"step": steps.clone(), **zeros}
        if self.zero_stage in (1, 2):
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()
        for name, parameter in self.parameters.items():
            for moment in MOMENTS:
                if (value := state.get(f"{moment}.{name}")) is not None:
                    self._set_moment(parameter, value, moment)

    def _set_moment(self, parameter: nn.Parameter, value: Tensor, moment: str) -> None:
        from deepspeed import utils

        match self.zero_stage:
            case 0:
                self._base_optimizer().state[parameter][moment].copy_(value)
            case 3:
                # The whole-value setter of DeepSpeed 0.19 fails for sizes that ranks do not divide.
                utils.safe_set_local_optimizer_state(parameter, self._part(parameter, value), moment)
            case _:
                utils.safe_set_full_optimizer_state(parameter, value, moment)

    def _part(self, parameter: Any, value: Tensor) -> Tensor:
        """This rank's part of a full value under ZeRO-3, zeros where the last part is filled up."""
        size = parameter.ds_tensor.ds_numel
        padded = torch.zeros(size * self.ranks.world_size, dtype=value.dtype, device=value.device)
        padded[: value.numel()] = value.flatten()
        return padded[self.ranks.rank * size : (self.ranks.rank + 1) * size]

    def close(self) -> None:
        """Frees the engine; the model can serve the next trial."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None

    def _base_optimizer(self) -> torch.optim.Optimizer:
        assert self.optimizer is not None, "an engine without groups has no optimiser"
        return self.optimizer

    def _optimised(self) -> list[Tensor]:
        """The tensors AdamW really updates: this rank's flat parts, or the parameters at stage 0."""
        match self.zero_stage:
            case 0:
                return list(self.parameters.values())
            case 3:
                return list(self._engine.optimizer.fp32_partitioned_groups_flat)
            case _:
                return list(self._engine.optimizer.single_partition_of_fp32_groups)

    def _adam_steps(self) -> float:
        return max((float(entry["step"]) for entry in self._base_optimizer().state.values()), default=0.0)


@contextmanager
def loading(ranks: Ranks, zero_stage: int, dtype: torch.dtype) -> Iterator[None]:
    """While this is open, `from_pretrained` under ZeRO-3 gives each rank its part of the weights only.

    DeepSpeed loads in the dtype of its config, which knows no float64: such a model is loaded whole on
    every rank, and partitioned when the engine starts.
    """
    if zero_stage != 3 or dtype == torch.float64:
        yield
        return
    _deepspeed()
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    # transformers holds it by a weak reference: it must stay alive while the model loads.
    alive = HfDeepSpeedConfig(_config(zero_stage) | {"bf16": {"enabled": dtype == torch.bfloat16}})
    yield
    del alive


def held_bytes(model: nn.Module) -> int:
    """Bytes of the model's weights that this rank holds: all of them, or its part under ZeRO-3."""
    parts = [getattr(parameter, "ds_tensor", parameter) for parameter in model.parameters()]
    return sum(part.numel() * part.element_size() for part in parts)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes: what a checkpoint is verified by."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(f"{name}:{tuple(state[name].shape)}:{state[name].dtype};".encode())
        total.update(state[name].contiguous().cpu().numpy().tobytes())
    return total.hexdigest()


def _config(zero_stage: int, max_gradient_norm: float | None = None) -> dict[str, Any]:
    return {
        "gradient_clipping": max_gradient_norm or 0.0,  # DeepSpeed's own default clips at 1
        "train_micro_batch_size_per_gpu": 1,  # batches are ours; DeepSpeed only wants a number
        "zero_optimization": {"stage": zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


def _initialize(
    root: nn.Module,
    model: CircuitModel,
    optimizer: torch.optim.Optimizer | None,
    stage: int,
    norm: float | None,
) -> Any:
    deepspeed = _deepspeed()
    if stage == 3:
        # One gather per layer instead of one per leaf module.
        deepspeed.utils.set_z3_leaf_modules(model, sorted({type(block) for block in model.blocks}, key=str))
    engine, *_ = deepspeed.initialize(model=root, optimizer=optimizer, config=_config(stage, norm))
    return engine


def _deepspeed() -> Any:
    """deepspeed, without the shared-memory op that it would compile for a minute, and without MLflow, which
    its autotuner loads for itself if it can: seconds and 100 MB for nothing on every rank."""
    with _not_found("mlflow"):
        import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # type: ignore[attr-defined]
    return deepspeed


@contextmanager
def _not_found(package: str) -> Iterator[None]:
    """Meanwhile imports of a package fail, unless it was loaded before."""
    hidden = package not in sys.modules
    if hidden:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[package]
