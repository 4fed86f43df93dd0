"""What `circuit show` and `circuit compare` print: counts, tables, plain data for scripts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from model_patches.circuit import Circuit
from model_patches.graph import Node
from orchestrator.circuits.comparison import Comparison
from orchestrator.circuits.placement import described
from orchestrator.circuits.source import Source
from orchestrator.cli.terminal import table
from orchestrator.wording import count, percent, significant
from trainers.result import IN_SAMPLE

INPUTS = ("q", "k", "v", "mlp", "output")
KINDS = {"tok_embeds": "embeddings", "pos_embeds": "embeddings", "head": "heads", "mlp": "MLPs"}


def input_of(reader: Node) -> str:
    """`q`, `k`, `v`, `mlp` or `output`: the five kinds of edges."""
    return reader.part or ("mlp" if reader.kind == "mlp" else "output")


def summary(source: Source) -> dict[str, Any]:
    """Plain data: counts by kind and by the reader's layer, and the trial's numbers if it is one."""
    circuit = source.circuit
    connected, graph = circuit.connected(), circuit.graph
    kinds: Counter[tuple[str, str]] = Counter()
    layers: Counter[tuple[int, str]] = Counter()
    for row, column in circuit.kept.nonzero().tolist():
        writer, reader = graph.writers[row], graph.readers[column]
        kinds[KINDS[writer.kind], input_of(reader)] += 1
        layers[reader.layer if reader.layer >= 0 else graph.shape.layers, input_of(reader)] += 1
    found = {
        "name": source.name,
        "graph": {"shape": vars(graph.shape), "embeddings": graph.embeddings, "num_edges": graph.num_edges},
        "num_edges": circuit.num_edges,
        "num_edges_connected": connected.num_edges,
        "sparsity": circuit.sparsity,
        "num_nodes": len(circuit.nodes),
        "num_nodes_total": len(graph.writers),
        "by_kind": [{"from": one, "to": other, "edges": n} for (one, other), n in sorted(kinds.items())],
        "by_layer": [{"layer": one, "to": other, "edges": n} for (one, other), n in sorted(layers.items())],
    }
    if source.trial is not None and source.point is not None:
        plain = source.trial.model_dump(mode="json")
        found["trial"] = {
            "trial_id": source.trial.trial_id,
            "group": plain["group"],
            "seed": source.trial.seed,
            "point": source.point.model_dump(mode="json"),
            "full": plain["full"],
            "empty": plain["empty"],
        }
    return found


def scored_edges(circuit: Circuit) -> list[dict[str, Any]]:
    """The kept edges in the graph's order, each with its score and whether it lies on a path."""
    graph, on_path = circuit.graph, circuit.connected().kept
    return [
        {
            "writer": graph.writers[w].name,
            "reader": graph.readers[r].name,
            "score": float(circuit.scores[w, r]),
            "connected": bool(on_path[w, r]),
        }
        for w, r in circuit.kept.nonzero().tolist()
    ]


def show_text(source: Source, edges: bool) -> str:
    circuit, told = source.circuit, summary(source)
    loose = told["num_edges"] - told["num_edges_connected"]
    kept = count(told["num_edges"], "edge")
    lines = [
        source.name,
        *_trial_lines(source),
        f"graph      {described(circuit.graph)}",
        f"kept       {kept}, {told['num_edges_connected']:,} of them on a path from an "
        f"embedding to the output" + (f" ({loose:,} cannot change it under interchange)" if loose else ""),
        f"sparsity   {percent(circuit.sparsity)}",
        f"nodes      {told['num_nodes']:,} of {told['num_nodes_total']:,} writers are on a path",
        "",
    ]
    kinds = {(row["from"], row["to"]): row["edges"] for row in told["by_kind"]}
    rows = [[kind, *_counts(kinds, kind)] for kind in dict.fromkeys(KINDS.values())]
    lines += [*table(("edges from", *INPUTS, "all"), rows), ""]
    layers = {(row["layer"], row["to"]): row["edges"] for row in told["by_layer"]}
    numbers = sorted({layer for layer, _ in layers})
    named = [
        (number, "output" if number == circuit.graph.shape.layers else str(number)) for number in numbers
    ]
    lines += table(("into layer", *INPUTS, "all"), [[name, *_counts(layers, n)] for n, name in named])
    lines += _metric_lines(source)
    if edges:
        lines += ["", *_edge_lines(circuit)]
    return "\n".join(lines)


def comparison_text(sources: Sequence[Source], reference: str, result: Comparison) -> str:
    numbers = [str(number) for number in range(1, len(sources) + 1)]
    kept = [
        [
            n,
            s.name,
            f"{s.circuit.num_edges:,}",
            f"{s.circuit.connected().num_edges:,}",
            str(len(s.circuit.nodes)),
        ]
        for n, s in zip(numbers, sources, strict=True)
    ]
    lines = [described(sources[0].circuit.graph), ""]
    lines += [*table(("", "circuit", "edges", "on a path", "nodes"), kept), ""]
    for title, matrix in (("edge IoU", result.edge_iou), ("node IoU", result.node_iou)):
        rows = [[n, *(f"{value:.3f}" for value in row)] for n, row in zip(numbers, matrix, strict=True)]
        lines += [*table((title, *numbers), rows), ""]
    rows = []
    for number, one in zip(numbers, result.against, strict=True):
        shares = (one.precision, one.recall, one.node_precision, one.node_recall)
        ranks = (one.ranking.auc, one.ranking.average_precision) if one.ranking else (None, None)
        rows.append([number, *("–" if value is None else f"{value:.3f}" for value in (*shares, *ranks))])
    head = (
        f"against {reference}",
        "precision",
        "recall",
        "node prec.",
        "node recall",
        "ROC AUC",
        "av. prec.",
    )
    return "\n".join([*lines, *table(head, rows)])


def comparison_json(sources: Sequence[Source], reference: Source, result: Comparison) -> dict[str, Any]:
    return {
        "circuits": [
            {"name": s.name, "num_edges": s.circuit.num_edges, "nodes": sorted(s.circuit.nodes)}
            for s in sources
        ],
        "reference": {"name": reference.name, "num_edges": reference.circuit.num_edges},
        **asdict(result),
    }


def _counts(counts: dict[tuple[Any, str], int], key: Any) -> list[str]:
    row = [counts.get((key, one), 0) for one in INPUTS]
    return [f"{number:,}" if number else "·" for number in [*row, sum(row)]]


def _trial_lines(source: Source) -> list[str]:
    trial, point = source.trial, source.point
    if trial is None or point is None:
        return []
    group = trial.group
    what = f"{group.model}, {group.task}, {group.method}, {group.ablation} ablation, " if group else ""
    others = f", one of {len(trial.points)}" if len(trial.points) > 1 else ""
    return [f"trial      {what}seed {trial.seed}", f"point      {point.point} ({point.kind}{others})"]


def _metric_lines(source: Source) -> list[str]:
    trial, point = source.trial, source.point
    if trial is None or point is None:
        return []
    seen = IN_SAMPLE if trial.tested_in_sample else ""
    rows = [
        [
            split + seen * (split == "test"),
            name,
            *(significant(of.get(split, {}).get(name)) for of in (point.metrics, trial.full, trial.empty)),
        ]
        for split, named in point.metrics.items()
        for name in named
    ]
    if point.truth_precision is not None or point.truth_recall is not None:
        shares = f"precision {significant(point.truth_precision)}, recall {significant(point.truth_recall)}"
        return ["", *table(("", "metric", "circuit", "full model", "empty"), rows), f"ground truth: {shares}"]
    return ["", *table(("", "metric", "circuit", "full model", "empty"), rows)]


def _edge_lines(circuit: Circuit) -> list[str]:
    rows = [
        (
            f"{edge['writer']} -> {edge['reader']}",
            f"{edge['score']:.6g}",
            "" if edge["connected"] else "on no path",
        )
        for edge in scored_edges(circuit)
    ]
    return table(("edge", "score", ""), rows)
