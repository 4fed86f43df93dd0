"""Resources: what a trial runs on. Nothing here may change which circuit is found."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from trainers.spec import Spec

# Of an evaluation's writer states: how many circuits share a forward pass, and how many examples share a
# batch, at most `batch_examples`. Larger batches are no faster on CPUs.
SIDE_BY_SIDE_BYTES = 2**27
REFERENCE_BYTES = {"cpu": 2**28, "cuda": 2**31}
Placement = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


class Resources(Spec):
    """How many ranks share a trial, what each gets, and where they may be placed."""

    ranks: int = Field(default=1, ge=1, description="processes that share one trial's batches and weights")
    cpus_per_rank: float = Field(
        default=1, gt=0, description="rounded down, the threads a rank computes with"
    )
    gpus_per_rank: float = Field(
        default=0, ge=0, description="a fraction lets ranks of several trials share one"
    )
    memory_gib_per_rank: float | None = Field(
        default=None,
        gt=0,
        description="reserved on the rank's node; Ray places by it and does not enforce it",
    )
    custom_per_rank: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="what nodes were started with: `ray start --resources`"
    )
    accelerator: str | None = Field(default=None, description="Ray's name of the GPU, such as H100 or A100")
    placement: Placement = Field(
        default="PACK", description="of a trial's ranks on nodes; the STRICT ones wait rather than give way"
    )
    lanes: int | None = Field(default=None, ge=1, description="trials side by side; default: as many as fit")
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=3, description="DeepSpeed ZeRO stage; 3 partitions the weights"
    )
    recompute_blocks: bool = Field(
        default=False,
        description="a backward computes every block's forward again instead of keeping what it left: the "
        "memory of one layer's activations instead of all layers', about a quarter more time, the same bits",
    )
    batch_examples: int = Field(
        default=64, ge=1, description="examples per rank and forward pass in evaluation"
    )
    reference_cache_gib: float = Field(
        default=0,
        ge=0,
        description="memory of a rank for references of training examples (the full model's logits, the "
        "corrupted run's writes). Above 0 each example's are made alone, so that having them changes no bit; "
        "0: made by batch, the last batch's kept",
    )
    reference_cache_on: Literal["host", "device"] = Field(
        default="host",
        description="where this memory is: device is the rank's GPU, which spares a copy at every step",
    )
    checkpoint_seconds: float = Field(default=120, ge=0)

    @model_validator(mode="after")
    def _cache_somewhere(self) -> "Resources":
        if self.reference_cache_on == "device" and not (self.reference_cache_gib and self.gpus_per_rank):
            raise ValueError(
                "reference_cache_on: found device; allowed: with reference_cache_gib and gpus_per_rank, "
                "both above 0"
            )
        return self

    @field_validator("custom_per_rank")
    @classmethod
    def _is_custom(cls, custom: dict[str, float]) -> dict[str, float]:
        for name in custom.keys() & {"CPU", "GPU", "memory"}:
            raise ValueError(
                f"found {name}; allowed: cpus_per_rank, gpus_per_rank or memory_gib_per_rank for it"
            )
        return custom

    @property
    def threads(self) -> int:
        """That a rank computes with."""
        return max(1, int(self.cpus_per_rank))

    @property
    def rank_bundle(self) -> dict[str, float]:
        """What Ray must have free for one rank: CPUs, GPUs, bytes of memory, custom resources."""
        bundle = {"CPU": self.cpus_per_rank, "GPU": self.gpus_per_rank}
        if self.memory_gib_per_rank is not None:
            bundle["memory"] = int(self.memory_gib_per_rank * 2**30)
        if self.accelerator is not None:
            bundle[f"accelerator_type:{self.accelerator}"] = 0.001
        return {name: amount for name, amount in (bundle | self.custom_per_rank).items() if amount}
