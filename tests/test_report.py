"""The report: what the page says, that it says it twice with the same bytes, and that a real browser
shows it without a network."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, sync_playwright

from orchestrator.findings import Findings
from orchestrator.panels import PANELS
from orchestrator.pareto_table import pareto_table
from orchestrator.report import page, plain, write_report
from orchestrator.results import Results
from orchestrator.wording import duration, percent, significant, spread
from tests.run_folders import EDGES, GROUP, TOTAL, TRUTH, Runs, point, training, trial
from trainers.spec import SpecError

HOSTILE = '<script>alert("x")</script>\n</script><img src=http://evil.example/x onerror=alert(1)> $\\frac & ${7*7}'


def small_sweep(path: Path) -> Runs:
    """Three methods on one program, two seeds each, a failed and an unfinished trial, two warnings."""
    runs = Runs(path)
    exact = {0: TRUTH, 1: EDGES}
    for seed in (0, 1):
        points = [
            point(0, 3, 0.0, truth_precision=1.0, truth_recall=1.0, target_sparsity=0.95, step=900),
            point(1, 6, 1e-12, truth_precision=0.5, truth_recall=1.0, kind="path"),
        ]
        spec = {"method": {"name": "edge_pruning", "target_sparsity": 0.95}, "seed": seed}
        result = trial(f"ep{seed}", seed, points, spec=spec, ground_truth=TRUTH, in_sample=True)
        runs.trial(result, training(1000, 0.95), exact)
        group = GROUP.model_copy(update={"method": "random"})
        points = [point(n, edges, 2.0 - edges / TOTAL * 2) for n, edges in enumerate((1, 10, 50, TOTAL))]
        runs.trial(trial(f"random{seed}", seed, points, group=group, steps=1, ground_truth=TRUTH))
    other = {"python": "3.11.4", "torch": "2.14.0"}
    code = {"execution": {"ranks": 2, "code": "0.1.0+def", "attempt": 2}, "versions": other}
    runs.trial(trial("bad", 2, [], status="failed", error="RuntimeError: loss is NaN\n  at step 4", **code))
    runs.sweep("small", ["ep0", "ep1", "random0", "random1", "bad", "waiting"])
    return runs


def section(html: str, key: str) -> str:
    """The text of a section of the page, tags left out."""
    match = re.search(rf'<section id="{key}".*?</section>', html, re.DOTALL)
    assert match, f"no section {key}"
    return " ".join(re.sub(r"<[^>]*>", " ", match.group()).split())


def html_of(runs: Runs) -> str:
    return page(Findings.of(Results.load([runs.folder])))


def sections_of(html: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', html)


def test_the_files_and_what_the_page_says(tmp_path: Path) -> None:
    files = write_report([small_sweep(tmp_path / "runs").folder], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "pareto.csv",
        "pareto.pdf",
        "pareto.png",
        "points.parquet",
        "report.html",
        "trials.parquet",
    ]
    html = files.html.read_text("utf-8")
    assert len(html) < 6_000_000
    assert sections_of(html) == [panel.key for panel in PANELS], "every panel applies here"
    assert "What does small show?" in html
    assert "4 of 6" in html
    assert "edge pruning 2 of 3 3 3 edges 1.00 1.00 2 of 3 2 of 3" in section(html, "recovery")
    assert "3 edges on seeds 0, 1: the known circuit." in section(html, "recovery")
    assert "random 2 of 2 94 3 edges – – 2 of 2 0 of 2" in section(html, "recovery")
    assert "RuntimeError: loss is NaN at step 4" in section(html, "failures")
    assert "0.1.0+abc (4 trials), 0.1.0+def (1 trial)" in section(html, "warnings")
    assert "The test examples are the training examples" in section(html, "warnings")
    assert "2.13.0 (4 trials); 2.14.0 (1 trial)" in section(html, "versions")
    assert "0.95 2 96.8 % 96.8 % 0.018 2" in section(html, "targets")
    assert files.png.read_bytes()[:4] == b"\x89PNG" and files.pdf.read_bytes()[:4] == b"%PDF"


def test_the_front_is_written_as_csv(tmp_path: Path) -> None:
    files = write_report([small_sweep(tmp_path / "runs").folder], tmp_path / "out")
    with files.csv.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    pruned = [row for row in rows if row["method"] == "edge pruning"]
    assert [(row["num_edges"], row["trial_id"], row["divergence_test"]) for row in pruned] == [("3", "ep0", "0.0")]
    assert [row["num_edges"] for row in rows if row["method"] == "random"] == ["1", "10", "50", str(TOTAL)]
    # One exact circuit of 3 of 94 edges dominates everything to its right.
    assert float(pruned[0]["hypervolume"]) == pytest.approx(1 - 0.4771213 / 1.9731279)


def test_the_same_folders_give_the_same_bytes(tmp_path: Path) -> None:
    runs = small_sweep(tmp_path / "runs")
    first = write_report([runs.folder], tmp_path / "first")
    second = write_report([runs.folder], tmp_path / "second")
    for name, path in vars(first).items():
        assert path.read_bytes() == getattr(second, name).read_bytes(), name


def test_an_out_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="the report cannot be written"):
        write_report([small_sweep(tmp_path / "runs").folder], tmp_path / "file" / "out")


def test_an_empty_sweep_says_so(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    runs.sweep("empty", [])
    html = write_report([runs.folder], tmp_path / "out").html.read_text("utf-8")
    assert sections_of(html) == ["asked", "versions"]
    assert "No trial has been planned or run yet." in html
    assert pareto_table(Results.load([runs.folder])) == "No circuits yet."


def test_all_failed(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    for number in range(300):
        runs.trial(trial(f"t{number:03d}", number, [], status="failed", error=f"no {number}", group=None))
    html = html_of(runs)
    assert sections_of(html) == ["asked", "failures", "versions"]
    assert "The first 200 of 300" in section(html, "failures")


def test_metrics_that_are_not_finite_are_told_not_drawn(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    nan = float("nan")
    runs.trial(trial("aa", 0, [point(0, 5, nan), point(1, 6, 0.1, float("inf")), point(2, 9, 0.2)]))
    runs.trial(trial("bb", 1, [point(0, 5, nan)], empty={}))
    files = write_report([runs.folder], tmp_path / "out")
    html = files.html.read_text("utf-8")
    assert "edge pruning: 3 circuits without a finite test divergence not drawn." in section(html, "curves")
    assert "3 circuits without a finite divergence." in section(html, "warnings")
    assert "NaN" not in re.findall(r'<script type="application/json".*?</script>', html, re.DOTALL)[0]


def test_chart_data_is_json_whatever_was_measured() -> None:
    data = plain({"a": [float("nan"), 1 / 3, (2, None)], "b": {"c": float("inf")}})
    assert data == {"a": [None, 0.333333, [2, None]], "b": {"c": None}}


class Tags(HTMLParser):
    """Collects what a browser would take for tags and addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]


def hostile_sweep(path: Path) -> Runs:
    runs = Runs(path)
    names = {name: HOSTILE for name in type(GROUP).model_fields}
    for seed in (0, 1):
        metrics = {split: {HOSTILE: 0.1, "same_output": 1.0} for split in ("validation", "test")}
        result = trial(
            f"hostile{seed}",
            seed,
            [point(0, 5, 0.1, metrics=metrics, target_sparsity=0.9)],
            group=GROUP.model_copy(update=names),
            divergence=HOSTILE,
            empty={"test": {HOSTILE: 2.0}},
            spec={"method": {HOSTILE: f"{HOSTILE}{seed}"}, "seed": seed},
            warnings=[HOSTILE],
            versions={HOSTILE: HOSTILE},
            execution={HOSTILE: HOSTILE, "code": HOSTILE},
            ground_truth=[(HOSTILE, HOSTILE)],
        )
        runs.trial(result, training(100, 0.9), {0: [(HOSTILE, "m0")]})
    runs.trial(trial("failed", 2, [], status="failed", error=HOSTILE))
    runs.sweep("hostile", ["hostile0", "hostile1", "failed"], question=HOSTILE)
    return runs


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    files = write_report([hostile_sweep(tmp_path / "runs").folder], tmp_path / "out")
    tags = Tags(files.html.read_text("utf-8"))
    clean = Tags(html_of(small_sweep(tmp_path / "small")))
    assert "img" not in tags.tags
    assert tags.tags["script"] == clean.tags["script"]
    assert all(address.startswith(("#", "data:")) for address in tags.addresses)
    lines = pareto_table(Results.load([Runs(tmp_path / "runs").folder])).splitlines()
    assert lines and all(line.isprintable() and len(line) <= 100 for line in lines)


def test_the_table_for_the_terminal(tmp_path: Path) -> None:
    text = pareto_table(Results.load([small_sweep(tmp_path).folder]))
    assert all(len(line) <= 100 for line in text.splitlines())
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert rows[1] == ["method", "edges ≤", "sparsity", "test kl: median [quartiles]", "seeds"]
    assert rows[2] == ["edge pruning", "3", "96.8 %", "0 [0, 0]", "2 of 2"]
    assert rows[3] == ["random", "1", "98.9 %", "1.98 [1.98, 1.98]", "2 of 2"]
    assert rows[-1] == [str(TOTAL), "0.0 %", "0 [0, 0]", "2 of 2"]


def test_numbers_are_written_for_people() -> None:
    assert [significant(v) for v in (0.0, 1.0, 0.01234, 4.1e-7, 1234.5, 94, None)] == [
        *("0", "1.00", "0.0123", "4.10e-07", "1,234", "94", "–"),
    ]
    assert [percent(v) for v in (0.0, 1.0, 0.875, 0.9681, 0.99951)] == [
        *("0.0 %", "100.0 %", "87.5 %", "96.8 %", "99.95 %"),
    ]
    assert [duration(v) for v in (0.25, 45, 200, 18120)] == ["0.2 s", "45 s", "3 min 20 s", "5 h 2 min"]
    assert [spread(v) for v in ([], [7, 7], [7, 9, 5])] == ["–", "7", "7 (5 – 9)"]


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
        self.page.on("dialog", lambda dialog: (self.messages.append("dialog"), dialog.dismiss()))
        self.page.route("**/*", self._ask)
        self.page.goto(html.as_uri())
        self.page.wait_for_selector("section:last-of-type")

    def _ask(self, route: Route) -> None:
        self.requests.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

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

    assert "edges kept" in chart.locator(".xtitle").text_content()
    assert "≤ 10" in chart.locator(".ytitle").text_content(), "the axis says where exact circuits are drawn"
    chart.get_by_role("radio", name="edges kept").focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_timeout(200)
    assert "sparsity" in chart.locator(".xtitle").text_content()
    chart.get_by_role("radiogroup", name="y axis").get_by_text("linear").click()
    visit.page.wait_for_timeout(200)
    assert "≤" not in chart.locator(".ytitle").text_content()

    point = chart.locator(".scatterlayer .point").last
    point.hover(force=True)
    visit.page.wait_for_selector("#chart-curves-0 .hovertext")
    assert "edges" in chart.locator(".hovertext").text_content()
    visit.page.get_by_role("button", name="Dark theme").click()
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"
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
    assert "<script>alert" in visit.page.locator("#chart-curves-0 .hovertext").text_content()
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
    assert "500 of 5,000 circuits drawn, all counted" in section(html.read_text("utf-8"), "curves")
    visit = Visit(browser, html, 390)
    visit.page.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visit.messages == []
    visit.page.close()


def test_the_data_in_the_page_is_what_was_measured(report: Path) -> None:
    match = re.search(r'<script type="application/json" id="charts">(.*?)</script>', report.read_text("utf-8"))
    assert match
    curves = json.loads(match.group(1))["chart-curves-0"]["data"]
    pruned, random = curves["methods"]
    assert (curves["total"], curves["known"], curves["empty"], curves["epsilon"]) == (TOTAL, 3, 2.0, 1e-3)
    assert pruned["points"]["edges"] == [3, 6, 3, 6] and pruned["points"]["test"] == [0, 1e-12, 0, 1e-12]
    assert pruned["points"]["front"] == [0]
    assert pruned["band"]["median"][0] == 0 and pruned["band"]["seeds"][0] == 2
    assert random["seeds"] == 2 and random["band"]["edges"][-1] == TOTAL
