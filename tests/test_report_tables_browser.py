"""Tables of a report with real names and all intervals: whole at 1280 px, on paper with what heads them."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.page import broken, page
from tests import test_report_browser as report_browser
from tests.run_folders import EDGES, GROUP, Runs, point, store_test_values, trial
from trainers.record import TEST_VALUES

browser = report_browser.browser

CUT = """[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.getAttribute('aria-label'))"""


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = Runs(tmp_path_factory.mktemp("tables"))
    for number, method in enumerate(("EAP-IG (inputs)", "edge pruning (from scratch)", "random")):
        named = {"model": "smollm2-135m", "task": "gendered_pronoun", "method": method}
        group = GROUP.model_copy(update=named)
        for seed in range(3):
            sizes = {833: 1.812 - 0.2 * number, 1979: 1.4123 - 0.013 * seed, 23303: 0.0212 + 0.01 * number}
            points = [
                point(at, size, value, num_edges_total=70_651)
                for at, (size, value) in enumerate(sizes.items())
            ]
            name = f"t{number}{seed}"
            values = [[value * share for share in (0.9, 0.9, 1.0, 1.2)] for value in sizes.values()]
            rows = [[0.0] * 4, [2.0] * 4, *values]
            store_test_values(runs, name, {"kl": rows})
            others = {"test_values": TEST_VALUES, "steps": 3000, "examples": 96_000}
            edges = {at: EDGES[: at + 2] for at in range(3)}
            runs.trial(trial(name, seed, points, group=group, **others), edges=edges)
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page(Findings.of(Results.load([runs.path]))), encoding="utf-8")
    return file


def test_no_table_is_cut_at_1280_px(browser: BrowserContext, html: Path) -> None:
    visit = report_browser.Visit(browser, html, 1280)
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    visit.page.wait_for_timeout(300)
    assert visit.page.locator("#comparison table, #fronts table").count() > 3
    assert visit.page.evaluate(CUT) == []
    visit.page.close()


def test_what_heads_a_table_stands_with_it_on_paper(browser: BrowserContext, html: Path) -> None:
    """As the browser sees it: headings, remarks and heads of tables ask not to end a page."""
    visit = report_browser.Visit(browser, html, 1280)
    visit.page.emulate_media(media="print")
    for what in ("h2", "h3", "summary", ".lead", "thead", ".caption", "p:has(+ .scroll)"):
        found = visit.page.eval_on_selector_all(
            f"main {what}", "(all) => all.map((one) => getComputedStyle(one).breakAfter)"
        )
        assert found and set(found) == {"avoid"}, what
    assert not re.search(r"break-after: *always", html.read_text("utf-8"))
    visit.page.close()


def test_a_unit_stays_with_its_number_and_a_name_breaks_after_underscores() -> None:
    assert broken("2 h 54 min") == "2\u00a0h 54\u00a0min" and broken("12 seeds, 3 s") == "12 seeds, 3\u00a0s"
    assert broken("gendered_pronoun <b>") == "gendered_<wbr>pronoun &lt;b&gt;"
