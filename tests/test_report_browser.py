"""The report in a real browser: what it shows, that it needs no network, that it obeys."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Dialog, Page, Route, sync_playwright

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from tests.run_folders import GROUP, Runs, hostile_sweep, point, small_sweep, trial

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


def page_of(runs: Runs, html: Path) -> Path:
    """The page alone, without the report's other files."""
    html.write_text(page(Findings.of(Results.load([runs.folder]))), encoding="utf-8", newline="\n")
    return html


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

    def drawn(self, chart: str) -> None:
        """Waits until a chart is there."""
        self.page.wait_for_selector(
            f"{chart} .scatterlayer .point, {chart} .scatterlayer path", state="attached"
        )

    def choose(self, chart: str, label: str, option: str) -> None:
        self.page.locator(chart).get_by_label(label, exact=True).select_option(label=option)
        self.page.wait_for_timeout(200)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return page_of(small_sweep(folder / "runs"), folder / "report.html")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_the_page_without_a_network(
    browser: BrowserContext, report: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, report, width, scheme)
    visit.page.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    visit.drawn("#chart-training-0")
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
    visit = Visit(browser, page_of(runs, tmp_path / "report.html"), 1280)
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
    html = page_of(hostile_sweep(tmp_path / "runs"), tmp_path / "report.html")
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


MEASURED = ("kl", "logit_difference", "accuracy", "exact_match", "same_output")
FULL = {"kl": 0.0, "logit_difference": 3.3, "accuracy": 0.75, "exact_match": 1.0, "same_output": 1.0}
EMPTY = {"kl": 4.2, "logit_difference": -0.3, "accuracy": 0.0, "exact_match": 0.0, "same_output": 0.0}
GPT2 = GROUP.model_copy(
    update={
        "model": "gpt2",
        "task": "ioi",
        "ablation": "interchange",
        "test_set": "200 examples, data seed 0",
    }
)
METHODS = ("edge pruning", "EAP", "EAP-IG (inputs)", "random")


def gpt2_runs(path: Path, trials: int, points: int) -> Runs:
    """Methods of GPT-2 small on IOI, five seeds, five metrics with intervals."""
    runs = Runs(path)
    for number in range(trials):
        method, seed = METHODS[number % 4], number // 4 % 5
        circuits = []
        for k in range(points):
            edges = 10 + (number * 997 + k * 31_337) % 20_000
            share = edges / 32_936 * (0.8 + 0.02 * seed)
            means = {name: EMPTY[name] + share * (FULL[name] - EMPTY[name]) for name in MEASURED}
            ends = {name: (mean - 0.02, mean + 0.02) for name, mean in means.items()}
            metrics = {"validation": means, "test": means}
            given = {"metrics": metrics, "intervals": {"test": ends}, "num_edges_total": 32_936}
            circuits.append(point(k, edges, means["kl"], kind="path", **given))
        spec = {
            "model": {"hub": "gpt2"},
            "task": {"name": "ioi"},
            "method": {"target_sparsity": number / 1e4},
        }
        result = trial(
            f"t{number:04d}",
            seed,
            circuits,
            group=GPT2.model_copy(update={"method": method}),
            spec=spec | {"seed": seed},
            full={"validation": FULL, "test": FULL},
            empty={"validation": EMPTY, "test": EMPTY},
            gate_histogram=[30_000, *[10] * 18, 2_756] if method == "edge pruning" else None,
        )
        runs.trial(result)
    return runs


@pytest.fixture(scope="module")
def gpt2_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    return page_of(gpt2_runs(folder / "runs", 20, 6), folder / "report.html")


def test_every_metric_can_be_shown(browser: BrowserContext, gpt2_page: Path) -> None:
    visit, chart = Visit(browser, gpt2_page, 1280), "#chart-curves-0"
    visit.drawn(chart)
    assert "lower is more faithful" in visit.text(f"{chart} .ytitle")
    log = visit.page.locator(chart).get_by_role("radiogroup", name="y axis").get_by_role("radio", name="log")
    assert log.is_enabled()
    visit.choose(chart, "Metric", "logit difference (logits)")
    assert visit.text(f"{chart} .ytitle") == "test logit difference (logits), higher is better"
    assert not log.is_enabled(), "a difference of logits has no logarithm"
    assert "The y axis is linear" in visit.text(f"{chart} .note")
    marks = visit.page.locator(f"{chart} .annotation-text").all_text_contents()
    assert {"full model", "empty circuit"} <= set(marks)
    visit.choose(chart, "Metric", "f of KL")
    assert visit.text(f"{chart} .ytitle") == "f of test KL (0 empty circuit, 1 full model)"
    assert "|1 − f| ≤ 0.1" in visit.page.locator(f"{chart} .annotation-text").all_text_contents()
    value = "document.querySelector('#chart-curves-0 .plot')"
    top = visit.page.evaluate(
        f"Math.max(...{value}.data.flatMap((trace) => trace.y).filter((y) => y !== null))"
    )
    data = "JSON.parse(document.getElementById('charts').textContent)['chart-curves-0'].data"
    least = visit.page.evaluate(f"Math.min(...{data}.methods.flatMap((method) => method.points.values[0]))")
    assert top == pytest.approx(1 - least / 4.2, rel=1e-3), "f = (m - empty) / (full - empty)"
    visit.choose(chart, "Metric", "KL (nats)")
    assert log.is_enabled()
    assert visit.messages == []
    visit.page.close()


def test_bands_and_the_staircase_can_be_chosen(browser: BrowserContext, gpt2_page: Path) -> None:
    visit, chart = Visit(browser, gpt2_page, 1280), "#chart-curves-0"
    visit.drawn(chart)
    fills = f"{chart} .scatterlayer .js-fill"
    assert visit.page.locator(fills).count() == 4, "a band per method"
    assert "quartile" in visit.text(f"{chart} .note")
    visit.choose(chart, "Band", "95 % bootstrap over seeds")
    assert visit.page.locator(fills).count() == 4
    assert "of the median over seeds" in visit.text(f"{chart} .note")
    visit.choose(chart, "Band", "95 % bootstrap over examples")
    assert visit.page.locator(f"{chart} .errorbar").count() > 4
    assert "says nothing about other seeds" in visit.text(f"{chart} .note")
    visit.choose(chart, "Band", "range")
    assert "lowest to highest seed" in visit.text(f"{chart} .note")
    visit.choose(chart, "Band", "none")
    assert visit.page.locator(fills).count() == 0 and visit.text(f"{chart} .note") == ""
    lines = visit.page.locator(f"{chart} .scatterlayer .js-line").count()
    visit.page.locator(chart).get_by_label("staircase front").check()
    visit.page.wait_for_timeout(200)
    assert visit.page.locator(f"{chart} .scatterlayer .js-line").count() == lines + 4
    assert visit.messages == []
    visit.page.close()


def test_published_points_can_be_switched_off(browser: BrowserContext, gpt2_page: Path) -> None:
    visit, chart = Visit(browser, gpt2_page, 1280), "#chart-curves-0"
    visit.drawn(chart)
    traces = f"document.querySelector('{chart} .plot').data"
    hollow = f"{traces}.filter((trace) => trace.marker?.symbol?.endsWith('-open'))"
    count = (
        f"{hollow}.flatMap((trace) => trace.x.filter((x, at) => x !== null && trace.y[at] !== null)).length"
    )
    assert visit.page.evaluate(count) == 17 + 4, "edge pruning, and ACDC's of which the edges are known"
    places = visit.page.evaluate(f"{hollow}.flatMap((trace) => trace.x).filter((x) => x !== null)")
    assert max(places) == pytest.approx((1 - 0.9512) * 32_936)
    boxes = visit.page.locator(chart).get_by_role("checkbox", name="published")
    assert boxes.count() == 2, "a group that this view cannot place is not in the legend"
    visit.page.locator(chart).get_by_role("radio", name="sparsity").focus()
    visit.page.keyboard.press("Space")
    visit.page.wait_for_timeout(200)
    assert visit.page.evaluate(count) == 17 + 4 + 2, "against sparsity also ACDC and EAP of the paper's table"
    visit.choose(chart, "Metric", "f of KL")
    assert visit.page.evaluate(count) == 0, "nobody published the ends of f"
    assert boxes.count() == 0
    visit.choose(chart, "Metric", "KL (nats)")
    assert boxes.count() == 4
    for box in boxes.all():
        box.uncheck()
    visit.page.wait_for_timeout(200)
    assert visit.page.evaluate(count) == 0
    assert "of 32,046 edges, here 32,936" in visit.text(f"{chart} .legend")
    assert visit.messages == []
    visit.page.close()


def test_the_page_obeys_the_keyboard(browser: BrowserContext, report: Path) -> None:
    visit = Visit(browser, report, 1280)
    visit.drawn("#chart-curves-0")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the sections"
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.id") == "main"
    unnamed = """[...document.querySelectorAll('button, input, select, summary, a')].filter((control) =>
        control.tabIndex >= 0 && !control.closest('.circuits, .modebar') &&
        !(control.textContent.trim() || control.getAttribute('aria-label') ||
          control.labels?.[0]?.textContent.trim())).length"""
    assert visit.page.evaluate(unnamed) == 0, "every control has a name"
    select = visit.page.locator("#chart-curves-0").get_by_label("Metric")
    select.focus()
    visit.page.keyboard.press("ArrowDown")
    visit.page.wait_for_timeout(200)
    assert "same output" in visit.text("#chart-curves-0 .ytitle")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert visit.page.evaluate(outline) == "solid", "the focus is seen"
    visit.page.close()


def test_paper_is_light_unfolded_and_without_controls(browser: BrowserContext, report: Path) -> None:
    visit = Visit(browser, report, 1280, "dark")
    visit.drawn("#chart-curves-0")
    folded = "document.querySelectorAll('details:not([open])').length"
    before = visit.page.evaluate(folded)
    assert before > 0
    visit.page.emulate_media(media="print", color_scheme="dark")
    visit.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert visit.page.evaluate(folded) == 0
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "light"
    for hidden in ("nav", "#theme", ".controls"):
        assert not visit.page.locator(hidden).first.is_visible()
    for figure in visit.page.locator("figure.chart").all():
        assert figure.locator(".main-svg").first.is_visible()
        box = figure.locator(".main-svg").first.bounding_box()
        assert box and box["width"] <= 690
    visit.page.emulate_media(media="screen", color_scheme="dark")
    visit.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert visit.page.evaluate(folded) == before
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"
    box = visit.page.locator("#chart-curves-0 .main-svg").first.bounding_box()
    assert box and box["width"] > 1000, "as wide as before"
    assert visit.messages == []
    visit.page.close()


@pytest.mark.parametrize(("trials", "points"), [(500, 10), (200, 50)])
def test_500_trials_and_10000_points_stay_usable(
    browser: BrowserContext, tmp_path: Path, trials: int, points: int
) -> None:
    html = page_of(gpt2_runs(tmp_path / "runs", trials, points), tmp_path / "report.html")
    assert html.stat().st_size < 6_000_000
    assert f"300 of {trials * points // 4:,} circuits drawn (and the front), all counted" in html.read_text(
        "utf-8"
    )
    visit = Visit(browser, html, 390)
    visit.page.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visit.messages == []
    assert visit.requests == [html.as_uri()]
    visit.page.close()
