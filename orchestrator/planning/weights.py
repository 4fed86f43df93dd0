"""How large a model and its edge graph are, read from its config and the headers of its weight files; no
tensor is loaded."""

from orchestrator.circuits.source import shape_in
from trainers.model import ModelSpec
from trainers.sources.gguf_file import read_header
from trainers.sources.weight_header import read_weight_header
from trainers.spec import SpecError


def parameter_count(model: ModelSpec) -> int | None:
    """None for a hub model that is not in the cache. Raises SpecError when a weight file is missing, cut
    short or no weight file at all."""
    counts = [
        read_header(file).parameters if file.suffix == ".gguf" else read_weight_header(file).parameters
        for file in model.files()
        if file.suffix in (".gguf", ".safetensors")
    ]
    return sum(counts) if counts else None


def graph_size(model: ModelSpec) -> int | None:
    """Pairs of a writer and a reader, half of which or more are edges. None for what has no config.json
    here: a hub model that is not in the cache, a GGUF file, a compiled program."""
    config = next((file for file in model.files() if file.name == "config.json"), None)
    if config is None:
        return None
    try:
        writers, readers = shape_in(config.parent).size
    except SpecError:
        return None  # the loader says what is wrong with it
    return writers * readers
