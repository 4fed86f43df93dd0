"""What changes along a front is seen in large circuits, too, and how seeds differ is not taken for it."""

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests import test_report_browser as report_browser
from tests.circuit_runs import BIG, OTHER_GROUP, Given, stored, top, write
from tests.run_folders import Runs
from tests.test_circuits_browser import arrows, visiting, written

browser = report_browser.browser


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Path]:
    """Seed 0 has circuits of 1,200 and 1,210 edges, the ten new ones its weakest; seed 1 a better one."""
    runs = Runs(tmp_path_factory.mktemp("changes"))
    write(runs, "big0", 0, [Given(top(BIG, 0, n), 1000.0 / n) for n in (1200, 1210)], group=OTHER_GROUP)
    write(runs, "big1", 1, [Given(top(BIG, 1, 1215), 0.1)], group=OTHER_GROUP)
    return runs, written(runs, tmp_path_factory.mktemp("changes-report"))


def test_the_edges_that_appear_are_drawn_and_listed_though_they_are_the_weakest(
    browser: BrowserContext, large: tuple[Runs, Path]
) -> None:
    runs, html = large
    before, after = (stored(runs, "big0", number) for number in (0, 1))
    new = arrows(after.edges) - arrows(before.edges)
    drawn = arrows(after.connected().edges) & new
    assert len(new) == 10 and drawn
    with visiting(browser, html) as visit:
        view = visit.page.locator(".circuits")
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        visit.page.keyboard.press("ArrowRight")
        assert "10 edges appear" in visit.text(".circuits .change") and "seed" not in visit.text(
            ".circuits .change"
        )
        assert visit.text(".listed h3") == "300 of 1,210 edges"
        assert drawn <= visit.drawn() and new <= set(visit.listed())
        view.get_by_label("Order of the edges").select_option(label="changes first")
        assert set(visit.listed()[:10]) == new
        view.get_by_label("Edges listed").select_option(label="that appear")
        assert set(visit.listed()) == new
        view.get_by_label("Edges listed").select_option(label="that vanish")
        assert visit.listed() == [] and "No such edge." in visit.text(".circuits .listed > p")
        view.get_by_label("Edges listed").select_option(label="all edges")
        view.get_by_label("Mark in the drawing").select_option(label="nothing")
        assert not new & set(visit.listed()), "by their scores alone they are not among the first 300"


def test_a_front_of_several_seeds_says_where_it_passes_from_one_to_another(
    browser: BrowserContext, large: tuple[Runs, Path]
) -> None:
    _, html = large
    with visiting(browser, html) as visit:
        visit.slider.focus()
        for key in ("Home", "ArrowRight", "End"):
            visit.page.keyboard.press(key)
        assert "They are of different seeds (0 and 1)" in visit.text(".circuits .change")
        assert visit.text(".circuits .count") == "circuit 3 of 3"
