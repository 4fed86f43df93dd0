"""Edge attribution patching (Syed et al. 2023)."""

from typing import ClassVar, Literal

from trainers.methods.base import Method


class EdgeAttributionPatching(Method):
    version: ClassVar[int] = 1
    label: ClassVar[str] = "EAP"
    uses_seed: ClassVar[bool] = False
    name: Literal["eap"] = "eap"
