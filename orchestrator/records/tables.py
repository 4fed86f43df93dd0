"""The two tables a report is made from: every column with its type, unit and meaning.

The documentation below travels with the files: as field metadata in `trials.parquet` and
`points.parquet`, so that a notebook can show it without this code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# Raise when a column changes its name, type or meaning. A new column leaves it as it is.
TABLES_SCHEMA = 1


@dataclass(frozen=True)
class Column:
    """A column, or with a name such as `test_*` one column per metric that the trials measured.

    Every column may hold nulls (not known, not measured) unless its meaning says otherwise. NaN
    is a measured NaN.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str

    @property
    def is_family(self) -> bool:
        return self.name.endswith("*")

    def field(self, name: str) -> pa.Field:
        return pa.field(name, self.type, metadata={"unit": self.unit, "meaning": self.meaning})


GROUP_COLUMNS = (
    Column("model", pa.string(), "", "name of the model"),
    Column("task", pa.string(), "", "name of the task"),
    Column("test_set", pa.string(), "", "which examples the test metrics are means over"),
    Column(
        "ablation", pa.string(), "", "what a cut edge carries: interchange, zero, mean or mean_positional"
    ),
    Column("edge_convention", pa.string(), "", "which edges are counted, e.g. whether embeddings are"),
    Column("method", pa.string(), "", "the discovery method; `(ranking)`: at sizes it was not run for"),
)

TRIAL_COLUMNS = (
    Column("trial_id", pa.string(), "", "content hash of the trial; never null"),
    Column("status", pa.string(), "", "complete, failed, unreadable or unfinished; never null"),
    Column("error", pa.string(), "", "why the trial failed, or why its result cannot be read"),
    Column("sweeps", pa.list_(pa.string()), "", "the sweeps among those read that ask for this trial"),
    *GROUP_COLUMNS,
    Column("seed", pa.int64(), "", "seed of the trial"),
    Column("divergence", pa.string(), "", "metric that the trial minimised, e.g. kl; 0 is faithful"),
    Column("num_points", pa.int64(), "circuits", "circuits in the points table; never null"),
    Column("num_edges_total", pa.int64(), "edges", "edges of the model that a circuit may cut"),
    Column("num_edges_truth", pa.int64(), "edges", "edges of the task's ground-truth circuit, if known"),
    Column("in_sample", pa.bool_(), "", "the test examples were trained on"),
    Column("steps", pa.int64(), "steps", "optimiser or attribution steps"),
    Column(
        "examples", pa.int64(), "examples", "that went forward in the discovery, over all samples of gates"
    ),
    Column("backward_examples", pa.int64(), "examples", "those of them that a backward pass followed"),
    Column("test_values", pa.string(), "", "the trial's file of per-example test values; null: not written"),
    Column("seconds", pa.float64(), "s", "wall time of the attempt that ended the trial"),
    Column("cpu_seconds", pa.float64(), "s", "CPU time of all ranks"),
    Column("peak_memory_bytes", pa.int64(), "bytes", "peak memory above the loaded model"),
    Column("started", pa.string(), "UTC, ISO 8601", "when the trial started"),
    Column("finished", pa.string(), "UTC, ISO 8601", "when the trial ended"),
    Column("code", pa.string(), "", "version of circuit-sweep that ran the trial"),
    Column("warnings", pa.list_(pa.string()), "", "warnings of the trial"),
    Column("result_schema", pa.int64(), "", "version of result.json"),
    Column("spec", pa.string(), "JSON", "the whole trial spec"),
    Column("full", pa.string(), "JSON", "metrics of the full model, by split and name"),
    Column("empty", pa.string(), "JSON", "metrics of the empty circuit, by split and name"),
    Column("areas", pa.string(), "JSON", "cpr, cmd, cpr_log, cmd_log by split and metric (MIB's grid)"),
    Column("gate_histogram", pa.string(), "JSON", "edges by final E[gate]: 20 equal parts of [0, 1]"),
    Column("ground_truth", pa.string(), "JSON", "[[writer, reader], ...] of the known circuit"),
    Column("num_examples", pa.string(), "JSON", "examples per split"),
    Column(
        "execution",
        pa.string(),
        "JSON",
        "how and on what it ran: ranks, threads, zero_stage, recompute_blocks, reference_cache_gib, "
        "reference_cache_on, reference_hits (rank 0's share), weight_bytes by rank, device, host, processor, "
        "cores, memory_bytes, gpu, attempt, code, model_commit or model_digest, method_version, task_version",
    ),
    Column("versions", pa.string(), "JSON", "versions of Python and of the libraries"),
)

POINT_COLUMNS = (
    Column("trial_id", pa.string(), "", "the trial that found the circuit; never null"),
    Column("sweeps", pa.list_(pa.string()), "", "the sweeps among those read that ask for its trial"),
    *GROUP_COLUMNS,
    Column("seed", pa.int64(), "", "seed of the trial"),
    Column("point", pa.int64(), "", "number of the circuit within its trial; never null"),
    Column(
        "kind",
        pa.string(),
        "",
        "final, path (passed on the way), refined, threshold, budget (top-k) or ranking: see trainers/result",
    ),
    Column("num_edges", pa.int64(), "edges", "edges the circuit keeps; never null"),
    Column("num_edges_total", pa.int64(), "edges", "edges a circuit may cut; never null"),
    Column("num_edges_connected", pa.int64(), "edges", "kept edges on a path from input to output"),
    Column("sparsity", pa.float64(), "share of edges", "edges cut / num_edges_total; never null"),
    Column("target_sparsity", pa.float64(), "share of edges", "what the method aimed at; may exceed 1"),
    Column("threshold", pa.float64(), "the metric's", "below which a greedy search cut edges"),
    Column("step", pa.int64(), "steps", "optimiser step at which the circuit was taken"),
    Column("divergence", pa.string(), "", "metric of the divergence_* columns: the trial's or its sweep's"),
    Column("divergence_validation", pa.float64(), "see divergence", "choose circuits by this one"),
    Column("divergence_test", pa.float64(), "see divergence", "report this one"),
    Column("divergence_empty", pa.float64(), "see divergence", "the empty circuit on the test split"),
    Column("truth_precision", pa.float64(), "share of edges", "kept edges that the ground truth has"),
    Column("truth_recall", pa.float64(), "share of edges", "ground-truth edges that are kept"),
    Column("circuit", pa.string(), "", "the circuit's file inside the trial folder"),
    Column("validation_*", pa.float64(), "the metric's", "mean over the validation examples"),
    Column("test_*", pa.float64(), "the metric's", "mean over the test examples"),
    Column("train_*", pa.float64(), "the metric's", "mean over the training examples"),
    Column("low_*", pa.float64(), "the metric's", "lower end of the mean's 95 % bootstrap interval"),
    Column("high_*", pa.float64(), "the metric's", "upper end of the mean's 95 % bootstrap interval"),
    Column("faithfulness_*", pa.float64(), "share", "test: (circuit − empty) / (full − empty); null: 0 / 0"),
)


def column_of(name: str, columns: Sequence[Column]) -> Column | None:
    """The documentation of a column by name; None for a column that nobody documented."""
    named = next((column for column in columns if column.name == name), None)
    if named is not None:
        return named
    families = (column for column in columns if column.is_family)
    return next((column for column in families if name.startswith(column.name[:-1])), None)


def table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], families: Sequence[str], title: str
) -> pa.Table:
    """A table with all plain columns in their documented order, then `families` (metric columns).

    A key that a row lacks becomes null. Raises ValueError for a metric column nobody documented.
    """
    names = [column.name for column in columns if not column.is_family] + list(families)
    fields = []
    for name in names:
        column = column_of(name, columns)
        if column is None:
            raise ValueError(f"column {name} of {title} has no documentation in tables.py")
        fields.append(column.field(name))
    documented = {column.name: [str(column.type), column.unit, column.meaning] for column in columns}
    metadata = {"format": f"circuit-sweep/{title}/{TABLES_SCHEMA}", "columns": json.dumps(documented)}
    arrays = [pa.array([row.get(f.name) for row in rows], type=f.type) for f in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def markdown() -> str:
    """Both tables' columns as Markdown: what docs/report.md holds between its two markers."""
    parts = []
    for title, columns in (("trials.parquet", TRIAL_COLUMNS), ("points.parquet", POINT_COLUMNS)):
        parts += [f"### {title}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        for column in columns:
            kind = str(column.type).replace("element: ", "").replace("item: ", "")
            cells = (f"`{column.name}`", kind, column.unit, column.meaning.replace("|", r"\|"))
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown())
