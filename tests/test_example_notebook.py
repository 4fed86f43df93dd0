"""docs/example.ipynb: its cells run, in order, on a runs folder."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest

from tests.run_folders import EDGES, TRUTH, point, small_sweep, trial

NOTEBOOK = Path(__file__).parent.parent / "docs" / "example.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


def shown_by(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell like a notebook does; the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
    return None


def test_every_cell_runs_and_shows_what_it_is_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = small_sweep(tmp_path / "runs")
    points = [point(0, 3, 0.0, truth_precision=1.0, truth_recall=1.0), point(1, 6, 0.0)]
    runs.trial(trial("ep1", 1, points), edges={0: TRUTH, 1: EDGES})
    for seed in (0, 1):  # a random circuit of up to a quarter of the 94 edges has 10
        runs.folder.write(f"trials/random{seed}/edges-001.json", json.dumps(EDGES[3:]).encode())
    (tmp_path / "docs").mkdir()
    shutil.copy(NOTEBOOK, tmp_path / "docs")
    monkeypatch.chdir(tmp_path / "docs")
    matplotlib.use("Agg")
    names: dict[str, Any] = {}
    shown = [shown_by("".join(cell["source"]), names) for cell in cells("code")]
    sweeps, trials, told, front, _, sparsest, consensus = shown
    assert sweeps == [("small", "What does small show?")]
    assert trials.loc[("tracr-reverse", "edge pruning"), "num_points"] == 4
    assert told["num_edges"] == ("edges", "edges the circuit keeps; never null")
    assert front["num_edges"].tolist() == [3, 1, 10, 50, 94]
    assert len(names["figure"].axes) == 1
    assert sparsest.loc[("tracr reverse · in-sample · zero ablation", "edge pruning", 0), "num_edges"] == 3
    edge = ("tracr reverse · in-sample · zero ablation", "tok_embeds → m0")
    assert consensus.loc[edge, "edge pruning"] == 1.0 and consensus.loc[edge, "random"] == 0.0
    plt.close("all")


def test_it_is_kept_with_its_outputs_and_without_traces_of_a_machine() -> None:
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < 200_000
    assert all(cell["outputs"] for cell in cells("code"))
    assert [cell["execution_count"] for cell in cells("code")] == list(range(1, 1 + len(cells("code"))))
    assert not any(f'"/{place}/' in text or f" /{place}/" in text for place in ("home", "root", "tmp", "usr"))
