"""What a trial leaves behind: points, result.json. Plain data, no torch."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RESULT_SCHEMA = 1
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # what a column of a table can hold


class Record(BaseModel):
    """Frozen plain data of a result file; unknown keys are refused, NaN and infinity are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Point(Record):
    """One circuit of a trial, evaluated.

    `kind` says how it came about: the method's own `final` circuit, a circuit passed on the way
    (`path`), the sparsest faithful one without the edges it can spare (`refined`), what a greedy
    search left at its `threshold`, the top of a ranking at an asked edge budget (`budget`), or the top
    of a ranking at a size that the method was not run for (`ranking`).
    `metrics` maps split ("validation", "test") to metric name to mean over examples; `intervals`
    maps them to the ends of the mean's 95 % bootstrap confidence interval (trainers/intervals.py),
    and is empty in results written before there were intervals.
    """

    point: Whole
    kind: Literal["final", "path", "refined", "threshold", "budget", "ranking"]
    num_edges: Whole
    num_edges_total: Whole
    num_edges_connected: Whole
    sparsity: float
    target_sparsity: float | None = None
    step: Whole | None = None
    threshold: float | None = None
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    circuit: str  # file name inside the trial folder
    truth_precision: float | None = None  # against the task's ground-truth circuit, if it has one
    truth_recall: float | None = None


IN_SAMPLE = ", in-sample"  # the end of a test set's name


class Group(Record):
    """What may be compared with what: points of different groups share no axis."""

    model: str
    task: str
    test_set: str
    ablation: str
    edge_convention: str
    method: str

    @property
    def scene(self) -> tuple[str, str, str, str, str]:
        """The group without the method: methods of one scene are compared on one plot."""
        return (self.model, self.task, self.test_set, self.ablation, self.edge_convention)


class TrialResult(Record):
    """result.json: written last and atomically; its existence means the trial is over.

    `full` and `empty` hold the metrics (by split, then name) of the full model and of the empty
    circuit (everything corrupted): the ends of every faithfulness curve. `areas` holds, by split and
    metric, MIB's cpr, cmd, cpr_log and cmd_log (trainers/curves.py) of a trial whose ranking was
    evaluated at every budget of MIB's grid; None where the full model and the empty circuit agree.
    `divergence` names the metric that training minimises and fronts use, e.g. "kl".
    `examples` went forward in the discovery, over all ranks and samples of gates, reference passes
    included; a backward pass followed on `backward_examples` of them. The evaluation is not in it.
    Times in seconds; cpu_seconds is the sum over ranks. Memory in bytes above the loaded model, of
    the rank that needed most.
    """

    result_schema: Whole = RESULT_SCHEMA
    trial_id: str
    status: Literal["complete", "failed"]
    error: str | None = None
    spec: dict[str, Any]
    group: Group | None = None
    seed: Whole
    divergence: str | None = None
    points: list[Point] = []
    full: dict[str, dict[str, float]] = {}
    empty: dict[str, dict[str, float]] = {}
    areas: dict[str, dict[str, dict[str, float] | None]] = {}
    ground_truth: list[tuple[str, str]] | None = None
    num_edges_total: Whole | None = None
    num_examples: dict[str, int] = {}
    dropped_examples: dict[str, int] = {}  # by reason
    in_sample: bool = False  # the test examples were trained on
    steps: Whole = 0
    examples: Whole | None = None  # None in results written before they were counted
    backward_examples: Whole | None = None
    test_values: str | None = None  # the file of per-example test values; None in results written before it
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: Whole = 0
    # Edges by final E[gate], in equal parts of [0, 1]; None: no gates, or written before it.
    gate_histogram: list[int] | None = None
    warnings: list[str] = []
    execution: dict[str, Any] = {}  # ranks, threads, ZeRO stage, host, processor, attempt, code
    versions: dict[str, str] = {}
    started: str = ""  # UTC, ISO 8601
    finished: str = ""

    @property
    def tested_in_sample(self) -> bool:
        """Some test examples were trained on. The name of a test set need not say so: that of a compiled
        program's whole domain, and of older results, does not."""
        return self.in_sample or (self.group is not None and self.group.test_set.endswith(IN_SAMPLE))
