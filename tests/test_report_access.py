"""The report for every reader: contrast, screen readers, the keyboard, narrow screens, signs in print."""

from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from orchestrator.report.figures.style import marker
from tests import test_report_browser as report_browser
from tests.circuit_runs import ranking_runs
from tests.run_folders import GROUP, Runs, point, trial
from tests.test_report_browser import Visit, page_of

browser = report_browser.browser
gpt2_page = report_browser.gpt2_page

CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = text;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, base) => base.map((value, at) => value + (top[at] - value) * top[3] / 255);
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.unshift(rgba(getComputedStyle(one).backgroundColor));
    }
    return layers.reduce((base, layer) => over(layer, base), [255, 255, 255]);
  };
  const light = (colour) => colour.map((value) => value / 255)
    .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const pale = [];
  for (const element of document.querySelectorAll("body *")) {
    const told = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const left = element.closest("script, style, .js-plotly-plot, :disabled") || !element.checkVisibility();
    if (!told || left) continue;
    const back = behind(element instanceof SVGElement ? element.closest(".stage") : element);
    const style = getComputedStyle(element);
    const front = over(rgba(element instanceof SVGElement ? style.fill : style.color), back);
    const [low, high] = [light(front), light(back)].sort((one, other) => one - other);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) pale.push(`${element.className}: ${element.textContent.slice(0, 40)}`);
  }
  return pale;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(browser: BrowserContext, circuits_page: Path, scheme: str) -> None:
    """WCAG AA: 4.5 to 1, also in the list of edges and where all is unfolded."""
    visit = Visit(browser, circuits_page, 1280, scheme)
    visit.page.locator("#circuits").scroll_into_view_if_needed()
    visit.page.wait_for_selector(".circuits .words:not(:empty)")
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert visit.page.evaluate(CONTRAST) == []
    visit.page.evaluate("document.querySelector('.lead').style.color = '#777'")
    assert len(visit.page.evaluate(CONTRAST)) == 1, "what is measured can fail"
    visit.page.close()


@pytest.fixture(scope="module")
def circuits_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with circuits of real files, so that every part of the view is there."""
    folder = tmp_path_factory.mktemp("circuits")
    return page_of(ranking_runs(folder / "runs"), folder / "report.html")


def test_figures_have_names_and_numbers_for_screen_readers(browser: BrowserContext, gpt2_page: Path) -> None:
    visit = Visit(browser, gpt2_page, 1280)
    visit.drawn("#chart-curves-0")
    for figure in visit.page.locator("figure.chart").all():
        assert len(figure.get_attribute("aria-label") or "") > 20
        section = figure.locator("xpath=ancestor::section")
        assert section.locator("table").count() > 0, "its numbers are in a table"
    told = visit.page.locator("#curves").aria_snapshot()
    assert 'toolbar "Tools of the figure"' in told and "1,000 10,000" not in told, "no loose ticks"
    landmarks = visit.page.locator("[role=region]").count() + visit.page.locator("main > section").count()
    assert landmarks == visit.page.locator("main > section").count(), "sections alone are landmarks"
    visit.page.close()


def test_every_stop_of_the_keyboard_is_seen_and_named(browser: BrowserContext, circuits_page: Path) -> None:
    visit = Visit(browser, circuits_page, 1280)
    visit.page.locator("#circuits").scroll_into_view_if_needed()
    visit.page.wait_for_selector(".circuits .words:not(:empty)")
    visit.page.evaluate("window.scrollTo(0, 0)")
    stop = """() => {
      const one = document.activeElement, seen = one.matches(".choice input") ? one.nextElementSibling : one;
      const name = one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent ?? one.textContent;
      return one === document.body ? null : [one.outerHTML.slice(0, 80), name.trim(),
        getComputedStyle(seen).outlineStyle, one.matches(".scroll") && one.scrollWidth <= one.clientWidth];
    }"""
    stops = []
    visit.page.keyboard.press("Tab")
    while (found := visit.page.evaluate(stop)) and len(stops) < 300:
        stops.append(found)
        visit.page.keyboard.press("Tab")
    assert 20 < len(stops) < 300
    assert [one for one in stops if not one[1]] == []
    assert [one for one in stops if one[2] == "none"] == []
    assert [one for one in stops if one[3]] == [], "tables that need no scrolling are no stops"
    visit.page.close()


def test_where_a_reader_is_can_be_heard(browser: BrowserContext, circuits_page: Path) -> None:
    """The section in the navigation, and headings that leave no level out."""
    visit = Visit(browser, circuits_page, 1280)
    visit.page.locator("#circuits").scroll_into_view_if_needed()
    visit.page.wait_for_selector(".circuits .words:not(:empty)")
    visit.page.evaluate("document.querySelector('#circuits').scrollIntoView({ behavior: 'instant' })")
    visit.page.wait_for_selector('nav a[href="#circuits"][aria-current]')
    current = (
        "[...document.querySelectorAll('nav [aria-current]')].map((one) => one.getAttribute('aria-current'))"
    )
    assert visit.page.evaluate(current) == ["location"], "an empty one counts as none"
    levels = visit.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((one) => +one.tagName[1])"
    )
    assert levels[0] == 1 and all(below <= above + 1 for above, below in pairwise(levels))
    visit.page.close()


def test_rows_of_tables_have_names(browser: BrowserContext, circuits_page: Path) -> None:
    """In every table whose first column holds words; they look like the other cells."""
    visit = Visit(browser, circuits_page, 1280)
    tables = visit.page.locator("main table:not(.matrix)")
    told = tables.evaluate_all("""all => all.map((table) => [table.querySelector("thead th").className,
        [...table.tBodies[0].rows].every((row) => row.cells[0].scope === "row")])""")
    assert len(told) > 5 and all(named == ("numeric" not in first) for first, named in told)
    volumes = visit.page.get_by_role("table", name="Hypervolume per method").first
    names = volumes.get_by_role("rowheader").all_text_contents()
    assert names == ["tracr reverse · zero ablation", "edge pruning"], "its scene and its method"
    header = volumes.get_by_role("rowheader").first
    assert header.evaluate("one => getComputedStyle(one).fontWeight") == "400"
    visit.page.close()


def test_narrow_screens_stack_or_announce_wide_tables(browser: BrowserContext, gpt2_page: Path) -> None:
    visit = Visit(browser, gpt2_page, 390)
    stacked = visit.page.locator("table.stacked").first
    assert stacked.evaluate("one => one.parentElement.scrollWidth <= one.parentElement.clientWidth")
    cell = stacked.locator("td").first
    label = cell.evaluate("one => getComputedStyle(one, '::before').content")
    assert (cell.get_attribute("data-label") or "-") in label
    visit.page.wait_for_selector("#curves .scroll.cut")
    hint = "one => getComputedStyle(one, '::before').content"
    assert "Scroll sideways" in visit.page.locator("#curves .scroll").first.evaluate(hint)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    visit.page.close()


def test_marks_are_those_of_the_print_figures(browser: BrowserContext, tmp_path: Path) -> None:
    """The ninth method has the first one's colour, but neither its marker nor its dash."""
    runs = Runs(tmp_path / "runs")
    for number in range(10):
        method = GROUP.model_copy(update={"method": f"method {number}"})
        runs.trial(trial(f"t{number}", 0, [point(0, 5, 0.5), point(1, 9, 0.1 + number)], group=method))
    visit = Visit(browser, page_of(runs, tmp_path / "report.html"), 1280)
    visit.drawn("#chart-curves-0")
    drawn = visit.page.evaluate(
        """document.querySelector("#chart-curves-0 .plot").data.filter((one) => one.marker?.symbol)
          .map((one) => one.marker.color + one.marker.symbol)"""
    )
    assert len(set(drawn)) == 10, "ten methods, ten signs"
    swatches = visit.page.locator("#chart-curves-0 .swatch").evaluate_all(
        "all => all.map((one) => [...one.querySelectorAll('path')].at(-1).getAttribute('d'))"
    )
    in_print = {marker(slot): swatches[slot] for slot in range(8)}
    assert len(set(in_print.values())) == 8
    assert swatches == [in_print[marker(slot)] for slot in range(10)]
    visit.page.close()
