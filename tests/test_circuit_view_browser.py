"""The drawing of a large circuit: names to be read, changes marked, a view that outlives a reload."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests import test_circuits_browser as circuits_browser
from tests.circuit_runs import BIG, OTHER_GROUP, Given, stored, top, write
from tests.run_folders import Runs
from tests.test_circuits_browser import visiting, written

browser = circuits_browser.browser
LIMIT = "Edges shown, the highest scores first"
NAMES = """() => [...document.querySelectorAll(".circuits .node text")]
    .map((one) => ({ high: one.getBoundingClientRect().height, wide: one.getBoundingClientRect().width,
      room: one.parentNode.querySelector("rect").getBoundingClientRect().width }))"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runs, Path]]:
    runs = Runs(tmp_path_factory.mktemp("large"))
    for seed in (0, 1):
        given = [Given(top(BIG, seed, n), 1.0 / n + seed) for n in (60, 1200, 3000)]
        write(runs, f"big{seed}", seed, given, group=OTHER_GROUP)
    yield runs, written(runs, tmp_path_factory.mktemp("large-report"))


def test_what_changes_is_marked_among_thousands_of_lines(
    browser: BrowserContext, large: tuple[Runs, Path]
) -> None:
    runs, html = large
    with visiting(browser, html) as visit:
        painted = visit.page.locator("canvas.dense")

        def marked() -> list[int]:
            return [int(painted.get_attribute(f"data-{name}") or -1) for name in ("edges", "halos", "ghosts")]

        visit.slider.focus()
        visit.page.keyboard.press("End")
        visit.page.locator(".circuits").get_by_label(LIMIT).select_option(label="all")
        circuits = [stored(runs, "big0", n) for n in (1, 2)]
        middle, whole = (set(circuit.connected().edges) for circuit in circuits)
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        visit.page.keyboard.press("ArrowRight")
        visit.page.keyboard.press("ArrowRight")
        edges, halos, ghosts = marked()
        assert edges == len(whole) and ghosts == 0
        assert halos == len(whole - set(circuits[0].edges)) > 1000, "those that appear"
        visit.page.keyboard.press("ArrowLeft")
        edges, halos, ghosts = marked()
        assert (edges, halos) == (len(middle), 0) and ghosts > 1000, "those that vanished"
        visit.page.locator(".circuits").get_by_label("Mark").select_option(label="nothing")
        assert marked() == [len(middle), 0, 0]


def test_names_in_a_large_drawing_can_be_read(browser: BrowserContext, large: tuple[Runs, Path]) -> None:
    with visiting(browser, large[1]) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        visit.page.keyboard.press("ArrowRight")
        names = visit.page.evaluate(NAMES)
        assert len(names) > 20
        assert min(name["high"] for name in names) >= 9, "pixels on the screen"
        assert all(name["wide"] <= name["room"] + 1 for name in names), "inside their boxes"
        stage = visit.page.locator(".circuits .stage").bounding_box()
        rows = [row.bounding_box() for row in visit.page.locator(".circuits .row").all()]
        assert stage and rows and all(row and row["x"] >= stage["x"] for row in rows), "rows keep their names"


def test_pan_and_zoom_outlive_a_reload(browser: BrowserContext, large: tuple[Runs, Path]) -> None:
    with visiting(browser, large[1]) as visit:
        world = visit.page.locator(".circuits .camera")
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        untouched = world.get_attribute("transform")
        visit.page.locator(".circuits .stage").focus()
        for key in ("+", "+", "ArrowLeft", "ArrowUp"):
            visit.page.keyboard.press(key)
        moved = world.get_attribute("transform")
        assert moved != untouched
        visit.page.reload()
        visit.page.wait_for_selector(".circuits .camera .node")
        assert world.get_attribute("transform") == moved
        visit.page.locator(".circuits .stage").focus()
        visit.page.keyboard.press("0")
        whole = world.get_attribute("transform")
        visit.page.reload()
        visit.page.wait_for_selector(".circuits .camera .node")
        assert world.get_attribute("transform") == whole, "that all of it is shown, too"
        visit.slider.focus()
        visit.page.keyboard.press("End")
        assert world.get_attribute("transform") != whole, "another circuit has a view of its own"
        assert set(visit.requests) == {large[1].as_uri()}
        del visit.requests[1:]
