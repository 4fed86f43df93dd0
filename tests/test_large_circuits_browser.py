"""Circuits of thousands of edges in a real browser: filters, the canvas, the pointer, paper, no room."""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from model_patches.circuit import Circuit
from tests import test_report_browser as report_browser
from tests.circuit_runs import BIG, OTHER_GROUP, Given, kept, stored, top, write
from tests.run_folders import Runs
from tests.test_circuits_browser import arrows, visiting, written

browser = report_browser.browser


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Path]:
    """A front with a small circuit, one of 1,200 and one of 3,000 edges."""
    runs = Runs(tmp_path_factory.mktemp("large"))
    for seed in (0, 1):
        given = [Given(top(BIG, seed, n), 1.0 / n + seed) for n in (60, 1200, 3000)]
        write(runs, f"big{seed}", seed, given, group=OTHER_GROUP)
    return runs, written(runs, tmp_path_factory.mktemp("large-report"))


LIMIT = "Edges shown, the highest scores first"


def among(listed: Sequence[str], circuit: Circuit, edges: Sequence[tuple[str, str]], number: int) -> bool:
    """Whether these are the `number` edges with the highest scores; the page knows scores to 1 %."""
    scores = {f"{w} → {r}": float(circuit.scores[circuit.graph.locate(w, r)]) for w, r in edges}
    least = sorted(scores.values(), reverse=True)[number - 1]
    certain = {edge for edge, score in scores.items() if score > 1.02 * least}
    return (
        len(set(listed)) == number
        and certain <= set(listed)
        and min(scores[edge] for edge in listed) > 0.98 * least
    )


def test_a_large_circuit_is_explored_from_its_highest_scores(
    browser: BrowserContext, large: tuple[Runs, Path]
) -> None:
    runs, html = large
    with visiting(browser, html) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        assert visit.drawn() == arrows(stored(runs, "big0", 0).connected().edges)
        visit.page.keyboard.press("ArrowRight")
        circuit = stored(runs, "big0", 1)
        assert visit.text(".listed h3") == "300 of 1,200 edges"
        assert among(visit.listed(), circuit, circuit.edges, 300)
        assert visit.drawn() == set(visit.listed()) & arrows(circuit.connected().edges)
        assert "1,140 edges appear" in visit.text(".circuits .change")
        visit.page.locator(".circuits").get_by_label(LIMIT).select_option(label="the highest 100")
        assert among(visit.listed(), circuit, circuit.edges, 100)
        visit.page.locator(".circuits").get_by_role("checkbox", name="query").uncheck()
        others = [edge for edge in circuit.edges if not edge[1].endswith(".q")]
        assert among(visit.listed(), circuit, others, 100), "the highest of those that pass the other filters"


def test_thousands_of_edges_are_painted_filtered_and_pointed_at(
    browser: BrowserContext, large: tuple[Runs, Path]
) -> None:
    runs, html = large
    with visiting(browser, html) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("End")
        visit.page.locator(".circuits").get_by_label(LIMIT).select_option(label="all")
        circuit = stored(runs, "big0", 2)
        edges = circuit.connected().edges
        painted = visit.page.locator("canvas.dense")
        assert painted.get_attribute("data-edges") == str(len(edges)) and visit.drawn() == set()
        visit.page.wait_for_function(INK, arg=1)
        assert "The first 500" in visit.text(".circuits .listed > p")
        stage = visit.page.locator(".circuits .stage")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        assert box
        told = set()
        for place in range(40):
            x, y = box["x"] + box["width"] * (0.2 + 0.015 * place), box["y"] + box["height"] * 0.55 + place
            visit.page.mouse.move(x, y)
            words = visit.page.locator(".circuits .tip").inner_text() if visit.tip_is_shown() else ""
            name = words.partition("\n")[0]
            if " → " in name:
                writer, reader = name.split(" → ")
                assert (writer, reader) in edges
                score = float(circuit.scores[circuit.graph.locate(writer, reader)])
                found = re.search(r"score (-?[\d.e-]+)", words)
                assert found and float(found[1].rstrip(".")) == pytest.approx(score, rel=0.06)
                assert "of 2 seeds" in words and visit.page.locator(".lit .line").count() == 1
                told.add(name)
        assert len(told) > 5
        visit.pick("From layer", "4")
        left = [e for e in edges if e[0][0] in "am" and int(e[0][1]) >= 4]
        assert 0 < len(left) < 800 and visit.drawn() == arrows(left), "few edges are lines of their own again"
        assert painted.get_attribute("data-edges") == "0"
    with visiting(browser, html, 390) as visit:
        visit.page.locator(".circuits summary").click()
        visit.page.locator(".circuits").get_by_label(LIMIT).select_option(label="all")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"


INSIDE = """() => {
  const stage = document.querySelector(".circuits .stage").getBoundingClientRect();
  return [...document.querySelectorAll(".circuit-picture .node")].map((node) => node.getBoundingClientRect())
    .filter((box) => box.left < stage.left - 1 || box.right > stage.right + 1 || box.top < stage.top - 1 ||
      box.bottom > stage.bottom + 1).length;
}"""


@pytest.mark.parametrize("dense", [False, True])
def test_paper_holds_the_whole_circuit(
    browser: BrowserContext, large: tuple[Runs, Path], dense: bool
) -> None:
    with visiting(browser, large[1], scheme="dark") as visit:
        visit.slider.focus()
        visit.page.keyboard.press("End")
        if dense:
            visit.page.locator(".circuits").get_by_label(LIMIT).select_option(label="all")
        visit.page.get_by_role("button", name="Zoom in").click()
        visit.page.wait_for_timeout(300)
        before = visit.transform()
        assert not visit.page.locator(".circuits .printed").is_visible()
        visit.page.emulate_media(media="print", color_scheme="dark")
        visit.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert visit.page.evaluate(INSIDE) == 0
        box = visit.page.locator(".circuits .stage").bounding_box()
        assert box and box["width"] <= 690 and box["height"] <= 930
        if dense:
            assert visit.page.evaluate(INK, 1), "painted at once, for a printer does not wait"
        told = visit.text(".circuits .printed")
        assert "EAP" in told and "circuit 3 of 3" in told and "shown" in told
        visit.page.emulate_media(media="screen", color_scheme="dark")
        visit.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert visit.transform() == before, "as it was"


INK = """least => {
  const canvas = document.querySelector("canvas.dense");
  const seen = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return seen.filter((value, at) => at % 4 === 3 && value > 0).length >= least;
}"""


def test_a_circuit_without_room_is_summarised(
    browser: BrowserContext, large: tuple[Runs, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("orchestrator.report.room"), "BUDGET", 1_000)
    monkeypatch.setattr(import_module("orchestrator.report.page"), "used", lambda *_: 0)
    monkeypatch.setattr(import_module("orchestrator.report.room"), "PER_SUMMARY", 200)
    runs, _ = large
    html = written(runs, tmp_path / "out")
    with visiting(browser, html) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("End")
        assert "3,000 edges" in visit.words()
        assert not visit.page.locator(".circuits .stage").is_visible()
        assert not visit.page.locator(".circuits .filters").is_visible(), "no filter that does nothing"
        assert "circuit-sweep circuit show big0 --point 2" in visit.text(".large-tables")
        edges = kept(runs, "big0", 2)
        grids = visit.page.locator(".large-tables table")
        kinds = grids.nth(0)
        queries = sum(r.endswith(".q") and w.startswith("a") for w, r in edges)
        cell = kinds.locator("tbody tr", has_text="heads").locator("td").first
        assert cell.get_attribute("title") == f"heads → query: {queries:,} edges"
        between = sum(w[:2] in ("a1", "m1") and r[:2] in ("a3", "m3") for w, r in edges)
        titles = grids.nth(1).locator("td").evaluate_all("all => all.map((one) => one.title)")
        assert f"1 → 3: {between:,} edges" in titles
        total = sum(int(title.rpartition(": ")[2].split()[0].replace(",", "")) for title in titles)
        assert total == 3000
        visit.page.keyboard.press("Home")
        assert visit.drawn() == arrows(stored(runs, "big0", 0).connected().edges)
