"""The report in a real browser: what it shows, that it needs no network, that it obeys."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Dialog, Page, Route, sync_playwright

from orchestrator.report.publish import write_report
from tests.run_folders import TOTAL, Runs, hostile_sweep, point, small_sweep, trial

CHROMIUM = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A real Chromium; a machine without one fails the tests, it does not skip them."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=chromium, args=[*CHROMIUM, *QUIET]
        )
        yield context
        context.close()


class Visit:
    """A page of the report, open in the browser, with all it said and asked for."""

    def __init__(self, browser: BrowserContext, html: Path, width: int, scheme: str = "light") -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page()
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.route("**/*", self._ask)
        self.page.goto(html.as_uri())
        self.page.wait_for_selector("section:last-of-type")

    def _ask(self, route: Route) -> None:
        self.requests.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    def _refuse(self, dialog: Dialog) -> None:
        self.messages.append("a dialog opened")
        dialog.dismiss()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).text_content() or ""

    def markers(self, chart: str) -> int:
        return self.page.locator(f"{chart} .scatterlayer .point").count()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report([small_sweep(folder / "runs").folder], folder / "out").html


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_the_page_without_a_network(
    browser: BrowserContext, report: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, report, width, scheme)
    visit.page.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    # 4 pruned circuits and 8 random ones; the medians' hover points are markers, too.
    medians = visit.page.evaluate(
        "JSON.parse(document.getElementById('charts').textContent)['chart-curves-0'].data.methods"
        ".map((method) => method.band.edges.length).reduce((a, b) => a + b)"
    )
    assert visit.markers("#chart-curves-0") == 12 + medians
    assert visit.page.locator("#chart-training-0 .scatterlayer .trace").count() == 6
    assert visit.markers("#chart-targets") == 2
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    box = visit.page.locator("#chart-curves-0 .plot").bounding_box()
    assert box and box["height"] > 300 and box["width"] > 0.75 * width
    assert visit.page.evaluate("document.documentElement.dataset.theme") == scheme
    assert visit.messages == []
    assert visit.requests == [report.as_uri()]
    visit.page.close()


def test_the_figure_obeys_mouse_and_keyboard(browser: BrowserContext, report: Path) -> None:
    visit = Visit(browser, report, 1280)
    chart = visit.page.locator("#chart-curves-0")
    chart.locator(".scatterlayer .point").first.wait_for()
    everything = visit.markers("#chart-curves-0")
    box = chart.get_by_role("checkbox", name="random")
    box.focus()
    visit.page.keyboard.press("Space")
    visit.page.wait_for_timeout(200)
    assert 0 < visit.markers("#chart-curves-0") < everything
    visit.page.keyboard.press("Space")
    visit.page.wait_for_timeout(200)
    assert visit.markers("#chart-curves-0") == everything

    assert "edges kept" in visit.text("#chart-curves-0 .xtitle")
    assert "≤ 10" in visit.text("#chart-curves-0 .ytitle"), "the axis says where exact circuits are drawn"
    chart.get_by_role("radio", name="edges kept").focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_timeout(200)
    assert "sparsity" in visit.text("#chart-curves-0 .xtitle")
    chart.get_by_role("radiogroup", name="y axis").get_by_text("linear").click()
    visit.page.wait_for_timeout(200)
    assert "≤" not in visit.text("#chart-curves-0 .ytitle")

    point = chart.locator(".scatterlayer .point").last
    point.hover(force=True)
    visit.page.wait_for_selector("#chart-curves-0 .hovertext")
    assert "edges" in visit.text("#chart-curves-0 .hovertext")
    visit.page.get_by_role("button", name="Dark theme").click()
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert visit.messages == []
    visit.page.close()


def test_ticks_of_tiny_divergences_are_no_zeros(browser: BrowserContext, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    empty = {"test": {"kl": 9e-6}}
    runs.trial(trial("t", 0, [point(0, 5, 4e-6), point(1, 9, 2e-6, kind="path")], empty=empty))
    visit = Visit(browser, write_report([runs.folder], tmp_path / "out").html, 1280)
    visit.page.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    radios = visit.page.locator("#chart-curves-0").get_by_role("radiogroup", name="y axis")
    for scale in ("log", "linear"):
        radios.get_by_text(scale).click()
        visit.page.wait_for_timeout(200)
        ticks = [tick for tick in visit.page.locator("#chart-curves-0 .ytick").all_text_contents() if tick]
        zeros = [tick for tick in ticks if tick.strip() == "0"]
        assert len(zeros) == (0 if scale == "log" else 1), f"{scale}: {ticks}"
        assert sum("10−6" in tick.replace("\u200b", "") for tick in ticks) >= 2, f"{scale}: {ticks}"
    assert visit.messages == []
    visit.page.close()


def test_a_browser_runs_nothing_that_a_name_says(browser: BrowserContext, tmp_path: Path) -> None:
    html = write_report([hostile_sweep(tmp_path / "runs").folder], tmp_path / "out").html
    visit = Visit(browser, html, 1280)
    visit.page.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    for summary in visit.page.locator("summary").all():
        summary.click()
    visit.page.locator("#chart-curves-0 .scatterlayer .point").last.hover(force=True)
    visit.page.wait_for_selector("#chart-curves-0 .hovertext")
    assert "<script>alert" in visit.text("#chart-curves-0 .hovertext")
    assert visit.messages == []
    assert visit.requests == [html.as_uri()]
    visit.page.close()


def test_500_trials_stay_usable(browser: BrowserContext, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    for number in range(500):
        spec = {"method": {"name": "edge_pruning", "target_sparsity": number % 50 / 50}, "seed": number % 10}
        points = [point(k, 1 + (number * 7 + 13 * k) % TOTAL, 1 / (1 + number + k)) for k in range(10)]
        runs.trial(trial(f"t{number:03d}", number % 10, points, spec=spec))
    html = write_report([runs.folder], tmp_path / "out").html
    assert html.stat().st_size < 6_000_000
    assert "500 of 5,000 circuits drawn (and the front), all counted" in html.read_text("utf-8")
    visit = Visit(browser, html, 390)
    visit.page.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visit.messages == []
    visit.page.close()
