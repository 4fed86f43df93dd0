"""How metrics are called on axes and in tables."""

from trainers.metrics import METRICS


def words(metric: str) -> str:
    """`squared error`; KL keeps its capitals."""
    return "KL" if metric == "kl" else metric.replace("_", " ")


def measured_in(metric: str) -> str:
    """With the unit, where it has one: `KL (nats)`."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return f"{words(metric)} ({unit})" if unit else words(metric)
