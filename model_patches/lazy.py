"""torch, loaded when something of it is first used: who only reads specs and shapes does without it.

`from model_patches.lazy import torch` is for modules that `plan` and `--help` load. They import types under
TYPE_CHECKING; a decorator such as `torch.no_grad()` or a base class would load torch at once.
"""

import importlib
from typing import TYPE_CHECKING, Any


class Lazy:
    """A module that is imported at the first look into it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch = Lazy("torch")
    F = Lazy("torch.nn.functional")
