"""What `circuit-sweep circuit eval` asks of the evaluator, and what it gets back: plain data."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from trainers.resources import Resources
from trainers.result import Record
from trainers.spec import Spec
from trainers.tasks.base import Split
from trainers.trial import TrialSpec

Interval = tuple[float, float]


class Asked(Spec):
    """One circuit: its file in the request's folder, its name in tables."""

    file: str
    name: str


class Request(Spec):
    """What to evaluate. `trial` says model, task, ablation and embeddings; its method says nothing.

    budgets: numbers of edges; each circuit is then evaluated as the top of its own scores at each of
    them (`mib`: MIB's grid), else as it is kept. necessity: also the model without each circuit.
    completeness: how many subsets K to knock out of the model and of each circuit. values: also every
    example's values, in values.safetensors.
    """

    trial: TrialSpec
    circuits: tuple[Asked, ...] = Field(min_length=1)
    split: Split = "test"
    budgets: tuple[NonNegativeInt, ...] | Literal["mib"] | None = None
    necessity: bool = False
    completeness: NonNegativeInt = 0
    values: bool = False
    resources: Resources = Resources(zero_stage=0)


def labelled(name: str, kind: str, top: int | None) -> str:
    """The name, or of the top of a circuit's scores `top 10 by the scores of NAME`."""
    if top is None:
        return name
    without, of = ("without the ", name.removeprefix("without ")) if kind == "without" else ("", name)
    return f"{without}top {top:,} by the scores of {of}"


class Row(Record):
    """A line of the table, by metric: mean over examples, its 95 % bootstrap interval, normalised
    faithfulness and its interval (None where undefined). `source` is the circuit's place in the
    request; None for the full model and the empty circuit. `top`: how many of the circuit's highest
    scores are kept, where a budget was asked; None for the circuit as it is."""

    kind: Literal["full", "circuit", "without", "empty"]
    name: str
    source: int | None = None
    top: int | None = None
    num_edges: int
    sparsity: float
    num_edges_connected: int
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    faithfulness: dict[str, float | None]
    faithfulness_intervals: dict[str, Interval | None]
    mistakes_reproduced: float | None = None

    @property
    def label(self) -> str:
        """What people read in front of the row."""
        return labelled(self.name, self.kind, self.top)


class Area(Record):
    """CPR, CMD and their log variants of one circuit's ranking, in one metric."""

    value: dict[str, float]
    intervals: dict[str, Interval]


class Gap(Record):
    """The largest |m(M∖K) − m(C∖K)| over the subsets, where it is, and over how many."""

    gap: float
    num_edges: int
    model: float
    circuit: float
    subsets: int


class Answer(Record):
    """Everything measured, as plain data. `areas` by source, then metric; `completeness` by row of the
    table, then metric. `mistakes` counts examples that the full model gets wrong; None where the task
    does not measure it. examples_per_second counts each example once, however many circuits."""

    model: str
    task: str
    test_set: str
    split: Split
    ablation: str
    edge_convention: str
    num_edges_total: int
    num_examples: int
    in_sample: bool
    metrics: tuple[str, ...]
    rows: list[Row]
    areas: dict[int, dict[str, Area | None]] = {}
    completeness: dict[int, dict[str, Gap]] = {}
    mistakes: int | None = None
    ranks: int
    seconds: float
    examples_per_second: float
    warnings: list[str] = []
