"""Sweeps of circuit discovery: which trials, where, and what did they show?

`from orchestrator import Results` reads run folders into tables and frames. Nothing else is imported
here, and `Results` only when it is asked for: `import orchestrator` stays cheap.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.records.results import Results

__all__ = ["Results"]


def __getattr__(name: str) -> Any:
    if name == "Results":
        from orchestrator.records.results import Results

        return Results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
