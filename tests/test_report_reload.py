"""What a reader has chosen on the page outlives its reloads; a page that cannot keep it works as well."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.page import page
from tests.run_folders import EDGES, TRUTH, Runs, point, small_sweep, trial

TOP = "(one) => one.getBoundingClientRect().top"
NO_STORAGE = (
    "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('denied'); } })"
)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


def written(runs: Runs, file: Path) -> None:
    file.write_text(page(Findings.of(Results.load([runs.path]))), encoding="utf-8")


def opened(context: BrowserContext, file: Path, problems: list[str]) -> Page:
    visit = context.new_page()
    visit.on("console", lambda message: problems.append(message.text))
    visit.on("pageerror", lambda error: problems.append(str(error)))
    visit.goto(file.as_uri())
    visit.wait_for_selector("#chart-curves-0 .scatterlayer .point")
    return visit


def scrolled_to(visit: Page, section: str) -> float:
    """Where the section's top is, once the page has been scrolled into it and stands still."""
    place = visit.locator(f"#{section}")
    place.evaluate("(one) => one.scrollIntoView({ behavior: 'instant' })")
    visit.wait_for_timeout(500)
    visit.evaluate("window.scrollBy({ top: 150, behavior: 'instant' })")
    top = place.evaluate(TOP)
    assert -400 < top < 0
    return top


def with_more(runs: Runs) -> Runs:
    """The sweep some time later: a sparser circuit is on the front of edge pruning."""
    others = {
        "ground_truth": TRUTH,
        "spec": {"method": {"name": "edge_pruning", "target_sparsity": 0.5}, "seed": 0},
    }
    points = [point(0, 1, 0.9), point(1, 3, 0.0)]
    runs.trial(trial("more", 0, points, **others), edges={0: EDGES[:1], 1: EDGES[:3]})
    runs.sweep("small", ["ep0", "ep1", "ep2", "random0", "random1", "more"])
    return runs


def test_a_reload_loses_nothing_that_the_reader_has_chosen(tmp_path: Path, context: BrowserContext) -> None:
    runs, file, problems = small_sweep(tmp_path / "runs"), tmp_path / "report.html", list[str]()
    runs.trial(
        trial("ep2", 0, [point(0, 2, 0.5), point(1, 4, 0.001)], ground_truth=TRUTH),
        edges={0: EDGES[:2], 1: EDGES[:4]},
    )
    runs.sweep("small", ["ep0", "ep1", "ep2", "random0", "random1"])
    written(runs, file)
    visit = opened(context, file, problems)
    visit.get_by_role("button", name="Dark theme").click()
    curves = visit.locator("#chart-curves-0")
    curves.get_by_label("Metric").select_option(label="same output (share)")
    curves.get_by_role("checkbox", name="random").uncheck()
    fold = visit.locator("#fronts details").filter(has_text="edge pruning")
    was_open = fold.evaluate("(one) => one.open")
    fold.locator("summary").click()
    visit.locator("#circuits").scroll_into_view_if_needed()
    slider = visit.get_by_role("slider", name="Circuit on the front")
    slider.focus()
    visit.keyboard.press("Home")
    visit.locator(".circuits").get_by_label("Order of the edges").select_option("score")
    told = visit.locator(".circuits .words").text_content()
    assert told and told.startswith("2 edges")
    top = scrolled_to(visit, "comparison")
    written(with_more(runs), file)
    visit.reload()
    visit.wait_for_selector("#chart-curves-0 .scatterlayer .point", state="attached")
    assert visit.evaluate("document.documentElement.dataset.theme") == "dark"
    assert curves.get_by_label("Metric").locator("option:checked").text_content() == "same output (share)"
    assert not curves.get_by_role("checkbox", name="random").is_checked()
    assert fold.evaluate("(one) => one.open") is not was_open
    assert visit.locator("#comparison").evaluate(TOP) == pytest.approx(top, abs=2)
    assert visit.locator(".circuits .words").text_content() == told, "the same circuit of a longer front"
    assert visit.locator(".circuits").get_by_label("Order of the edges").input_value() == "score"
    assert problems == []


def test_the_section_that_is_read_stays_where_it_is(tmp_path: Path, context: BrowserContext) -> None:
    """Above the section he reads, the page grows."""
    runs, file, problems = small_sweep(tmp_path / "runs"), tmp_path / "report.html", list[str]()
    written(runs, file)
    visit = opened(context, file, problems)
    was = scrolled_to(visit, "consensus")
    for number in range(4):
        runs.trial(
            trial(f"again{number}", 7 + number, [point(0, 2 + number, 0.1)], warnings=[f"odd {number}"])
        )
    runs.sweep("small", ["ep0", "ep1", "random0", "random1", *(f"again{number}" for number in range(4))])
    written(runs, file)
    visit.reload()
    visit.wait_for_selector("#chart-curves-0 .scatterlayer .point", state="attached")
    assert visit.locator("#consensus").evaluate(TOP) == pytest.approx(was, abs=2) and problems == []


def test_another_page_in_the_same_tab_starts_afresh(tmp_path: Path, context: BrowserContext) -> None:
    runs, problems = small_sweep(tmp_path / "runs"), list[str]()
    for name in ("one.html", "two.html"):
        written(runs, tmp_path / name)
    visit = opened(context, tmp_path / "one.html", problems)
    visit.get_by_role("button", name="Dark theme").click()
    visit.goto((tmp_path / "two.html").as_uri())
    assert visit.evaluate("document.documentElement.dataset.theme") == "light" and problems == []


def test_a_browser_without_storage_shows_the_page_all_the_same(
    tmp_path: Path, context: BrowserContext
) -> None:
    context.add_init_script(NO_STORAGE)
    problems: list[str] = []
    written(small_sweep(tmp_path / "runs"), tmp_path / "report.html")
    visit = opened(context, tmp_path / "report.html", problems)
    visit.reload()
    visit.wait_for_selector("#chart-curves-0 .scatterlayer .point", state="attached")
    assert problems == []


def test_what_somebody_else_stored_under_the_name_does_no_harm(
    tmp_path: Path, context: BrowserContext
) -> None:
    problems: list[str] = []
    written(small_sweep(tmp_path / "runs"), tmp_path / "report.html")
    visit = opened(context, tmp_path / "report.html", problems)
    views = '{"circuits-view": {"scene": 4}}'
    hostile = f'{{"theme": "x", "folds": 3, "controls": {{"a": null}}, "circuits": {views}, "scroll": {{}}}}'
    visit.add_init_script(f"sessionStorage.setItem(`circuit-sweep ${{location.pathname}}`, {hostile!r})")
    visit.reload()
    visit.wait_for_selector("#chart-curves-0 .scatterlayer .point", state="attached")
    visit.wait_for_selector(".circuit-picture .node", state="attached")
    assert visit.evaluate("document.documentElement.dataset.theme") == "light" and problems == []
