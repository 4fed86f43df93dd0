"""The page's own layout of circuits (layers.js) against the one that `circuit draw` uses."""

import random
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from orchestrator.circuits.layout import layered
from tests import test_report_browser as report_browser

ASSETS = Path(__file__).parent.parent / "orchestrator" / "report" / "assets"
browser = report_browser.browser


def test_the_page_lays_out_like_circuit_draw(browser: BrowserContext) -> None:
    chooser = random.Random(3)
    for layers, wide in ((4, 3), (9, 6)):
        nodes = {f"n{row}_{n}": row for row in range(layers) for n in range(wide)}
        names = list(nodes)
        links = [
            (low, high)
            for low, high in (chooser.sample(names, 2) for _ in range(8 * layers))
            if nodes[low] < nodes[high]
        ]
        expected = layered(nodes, links)
        script = (
            (ASSETS / "layers.js").read_text("utf-8")
            + """
            const made = layered(new Map(nodes), links);
            return made.rows.map((row) => row.map((item) => [item.name, item.row, made.x.get(item)]));"""
        )
        page = browser.new_page()
        rows = page.evaluate(f"([nodes, links]) => {{ {script} }}", [list(nodes.items()), links])
        page.close()
        assert [[(name, row) for name, row, _ in line] for line in rows] == expected.rows
        for name, row, x in (item for line in rows for item in line):
            assert x == pytest.approx(expected.x[name, row], abs=1e-9)
