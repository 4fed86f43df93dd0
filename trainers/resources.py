"""Resources: what a trial runs on. Nothing here may change which circuit is found."""

from typing import Literal

from pydantic import Field

from trainers.spec import Spec


class Resources(Spec):
    """How many ranks share a trial, what each gets, and when to give up on them."""

    ranks: int = Field(default=1, ge=1, description="processes that share one trial's batches and weights")
    cpus_per_rank: int = Field(default=1, ge=1, description="also the number of threads a rank computes with")
    gpus_per_rank: float = Field(default=0, ge=0)
    lanes: int | None = Field(default=None, ge=1, description="trials side by side; default: as many as fit")
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=3, description="DeepSpeed ZeRO stage; 3 partitions the weights"
    )
    batch_examples: int = Field(
        default=64, ge=1, description="examples per rank and forward pass in evaluation"
    )
    checkpoint_seconds: float = Field(default=120, ge=0)
    stall_seconds: float | None = Field(
        default=None,
        gt=0,
        description="a rank silent for this long is lost; default max(120, 20 median reports)",
    )
    max_retries: int = Field(default=1, ge=0, description="further attempts after a crash")
