"""The page on a phone: what is secondary starts folded, what is shown is not cut. And the bar of sections."""

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from tests import test_report_browser as report_browser
from tests.circuit_runs import GRAPH, Given, top, write
from tests.run_folders import GROUP, Runs

browser = report_browser.browser
METHODS = 6
ROWS = "one => [...one.querySelectorAll('tbody tr')].filter(row => row.getClientRects().length).length"


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    for number in range(METHODS):
        group = GROUP.model_copy(update={"method": f"a method with a long name, number {number}"})
        for seed in (0, 1, 2):
            given = [Given(top(GRAPH, 10 * number + seed, size), 1.0 / size) for size in (5, 20, 60)]
            write(runs, f"t{number}{seed}", seed, given, group=group)
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page(Findings.of(Results.load(runs.folder))), encoding="utf-8")
    return file


def rows(visit: Page) -> int:
    return visit.locator("#fronts .scroll").first.evaluate(ROWS)


def test_long_tables_and_remarks_start_short_and_stay_as_they_were_left(
    browser: BrowserContext, html: Path
) -> None:
    visit = report_browser.Visit(browser, html, 390)
    phone = visit.page
    assert rows(phone) == 3 and not phone.locator("#fronts details[open]").count()
    button = phone.locator("#fronts .scroll + .more").first
    assert (
        button.inner_text() == f"Show all {METHODS} rows" and button.get_attribute("aria-expanded") == "false"
    )
    before = phone.evaluate("document.documentElement.scrollHeight")
    button.click()
    assert rows(phone) == METHODS and button.get_attribute("aria-expanded") == "true"
    assert phone.evaluate("document.documentElement.scrollHeight") > before
    lead = phone.locator("#fronts .lead")
    short = lead.bounding_box()
    phone.locator("#fronts .lead + .more").click()
    whole = lead.bounding_box()
    assert short is not None and whole is not None and whole["height"] > 1.5 * short["height"]
    phone.reload()
    assert rows(phone) == METHODS, "over a reload"
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert visit.messages == []
    phone.emulate_media(media="print")
    assert phone.locator("#fronts .scroll").nth(1).evaluate(ROWS) == METHODS, "paper shows all"
    phone.close()


def test_a_wide_screen_shows_all_and_no_buttons(browser: BrowserContext, html: Path) -> None:
    visit = report_browser.Visit(browser, html, 1280)
    assert rows(visit.page) == METHODS
    assert not visit.page.locator(".more:visible").count()
    assert visit.page.locator("#fronts details[open]").count() == METHODS
    visit.page.close()


def test_a_matrix_shows_values_beside_its_names_and_its_whole_caption(
    browser: BrowserContext, html: Path
) -> None:
    visit = report_browser.Visit(browser, html, 390)
    place = visit.page.locator("#consensus .scroll:has(> .matrix)").first
    visit.page.locator("#consensus .caption").first.scroll_into_view_if_needed()
    caption = visit.page.locator("#consensus .caption").first
    assert caption.evaluate(
        "one => one.scrollWidth <= one.clientWidth && one.getBoundingClientRect().right <= 390"
    )
    assert caption.inner_text() == place.locator("caption").text_content()
    values = place.locator("tbody tr").first.locator("td")
    ends = [box["x"] + box["width"] for cell in values.all()[:2] if (box := cell.bounding_box())]
    assert len(ends) == 2 and max(ends) <= 390 - 12, "two of the values are in view"
    visit.page.close()


def test_no_section_is_cut_from_the_bar_at_1280_px(browser: BrowserContext, html: Path) -> None:
    visit = report_browser.Visit(browser, html, 1280)
    bar = visit.page.locator("nav")
    assert bar.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert bar.locator("a").count() > 6
    ends = bar.locator("a").evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert max(ends) <= 1280
    visit.page.locator("nav a[href='#fronts']").click()
    visit.page.wait_for_timeout(700)
    low = visit.page.locator("nav").evaluate("one => one.getBoundingClientRect().bottom")
    title = visit.page.locator("#fronts-title").bounding_box()
    assert title is not None and title["y"] >= low, "the bar covers no title"
    visit.page.close()
