"""The circuits of the report in a real browser, held against the circuit files of the run folder."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator

from model_patches.circuit import Circuit
from orchestrator.records.results import Results
from orchestrator.report.findings import Findings
from orchestrator.report.page import page as report_page
from tests import test_report_browser as report_browser
from tests.circuit_runs import (
    GRAPH,
    GROUPED,
    Given,
    kept,
    known,
    ranking_runs,
    stored,
    top,
    write,
)
from tests.run_folders import Runs, point, trial
from tests.test_report_browser import Visit

browser = report_browser.browser
FRONT = [(seed, n) for seed, n in ((0, 0), (0, 1), (0, 2), (0, 3))]  # of ranking_runs: seed 0 dominates


class Circuits(Visit):
    """A visit to the circuits of a report."""

    def __init__(self, browser: BrowserContext, html: Path, width: int = 1280, scheme: str = "light") -> None:
        super().__init__(browser, html, width, scheme)
        self.page.set_default_timeout(10_000)
        self.page.locator("#circuits").scroll_into_view_if_needed()
        self.page.wait_for_selector(".circuits .words:not(:empty)")

    @property
    def slider(self) -> Locator:
        return self.page.get_by_role("slider")

    def pick(self, label: str, option: str) -> None:
        self.page.locator(".circuits").get_by_label(label, exact=True).select_option(label=option)

    def names(self, selector: str) -> list[str]:
        return self.page.eval_on_selector_all(selector, "all => all.map((one) => one.dataset.name)")

    def drawn(self) -> set[str]:
        return set(self.names(".circuit-picture .kept .edge"))

    def listed(self, kind: str = "kept-edge") -> list[str]:
        return self.page.locator(f".edge-list li.{kind} .name").all_text_contents()

    def words(self) -> str:
        return self.text(".circuits .words")

    def tip_is_shown(self) -> bool:
        return self.page.locator(".circuits .tip").is_visible()

    def transform(self) -> str:
        return self.page.locator(".circuit-picture .camera").get_attribute("transform") or ""

    def quiet(self, html: Path) -> None:
        assert self.messages == []
        assert self.requests == [html.as_uri()]
        self.page.close()


@contextmanager
def visiting(
    browser: BrowserContext, html: Path, width: int = 1280, scheme: str = "light"
) -> Iterator[Circuits]:
    visit = Circuits(browser, html, width, scheme)
    yield visit
    visit.quiet(html)


def written(runs: Runs, out: Path) -> Path:
    """The report's page alone, without the files beside it."""
    out.mkdir(exist_ok=True)
    file = out / "report.html"
    file.write_text(report_page(Findings.of(Results.load([runs.folder]))), encoding="utf-8")
    return file


def arrows(edges: Sequence[tuple[str, str]]) -> set[str]:
    return {f"{writer} → {reader}" for writer, reader in edges}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    truth = known(top(GRAPH, 0, 14))
    return ranking_runs(tmp_path_factory.mktemp("runs"), ground_truth=truth)


@pytest.fixture(scope="module")
def html(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(runs, tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_slider_moves_along_the_front(
    browser: BrowserContext, runs: Runs, html: Path, width: int, scheme: str
) -> None:
    with visiting(browser, html, width, scheme) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        before: set[str] = set()
        for place, (seed, number) in enumerate(FRONT):
            everything = arrows(kept(runs, f"seed{seed}", number))
            assert visit.drawn() == arrows(stored(runs, f"seed{seed}", number).connected().edges)
            assert set(visit.listed()) == everything, "the list holds what lies on no path, too"
            assert f"{len(everything)} edges of {GRAPH.num_edges}" in visit.words()
            assert visit.slider.get_attribute("aria-valuetext") == visit.words()
            assert f"circuit {place + 1} of {len(FRONT)}" in visit.text(".circuits .count")
            if before:
                new, gone = everything - before, before - everything
                told = visit.text(".circuits .change")
                assert f"{len(new)} edge{'' if len(new) == 1 else 's'} appear" in told
                assert f"{len(gone)} vanish" in told
                assert set(visit.listed("added")) == new
                assert set(visit.listed("vanished")) == gone
            before = everything
            visit.page.keyboard.press("ArrowRight")
        visit.page.get_by_role("button", name="Sparser circuit").click()
        assert set(visit.listed("vanished")) == before - arrows(kept(runs, "seed0", 2))
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"


def test_each_seed_has_its_own_front(browser: BrowserContext, runs: Runs, html: Path) -> None:
    with visiting(browser, html) as visit:
        visit.pick("Front", "of seed 2")
        assert "seed 2" in visit.words()
        visit.slider.focus()
        visit.page.keyboard.press("End")
        assert visit.drawn() == arrows(stored(runs, "seed2", 3).connected().edges)
        assert "circuit 4 of 4" in visit.text(".circuits .count"), "the dominated circuit is on no front"


def test_filters_hide_edges(browser: BrowserContext, runs: Runs, html: Path) -> None:
    with visiting(browser, html) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("End")
        edges = stored(runs, "seed0", 3).connected().edges
        circuits = visit.page.locator(".circuits")
        for name in ("query", "key", "value"):
            circuits.get_by_role("checkbox", name=name).uncheck()
        left = [edge for edge in edges if edge[1][-2:] not in (".q", ".k", ".v")]
        assert 0 < len(left) < len(edges) and visit.drawn() == arrows(left)
        circuits.get_by_role("checkbox", name="embeddings").uncheck()
        left = [edge for edge in left if edge[0] != "tok_embeds"]
        assert visit.drawn() == arrows(left)
        for name in ("query", "key", "value", "embeddings"):
            circuits.get_by_role("checkbox", name=name).check()
        visit.pick("From layer", "1")
        visit.pick("To layer", "2")
        layers = [(int(w[1]), int(r[1])) for w, r in edges if w[0] in "am" and r != "resid_post"]
        shown = [e for e in edges if e[0][0] in "am" and e[1] != "resid_post" and int(e[0][1]) >= 1]
        assert 0 < len(shown) < len(layers) and visit.drawn() == arrows(shown)
        hidden = len(kept(runs, "seed0", 3)) - len(visit.listed())
        assert f"{hidden} edges hidden by the filters" in visit.text(".circuits .listed > p")
        visit.slider.focus()
        visit.page.keyboard.press("ArrowLeft")
        assert all(int(name[1]) >= 1 for name in visit.drawn()), "filters stay while the slider moves"


def stability(runs: Runs, edge: tuple[str, str], budget: int) -> int:
    """Seeds whose best circuit by validation with at most `budget` edges keeps the edge."""
    count = 0
    for seed in range(3):
        fits = [n for n, size in enumerate((8, 14, 20, 33)) if size <= budget]
        count += edge in kept(runs, f"seed{seed}", fits[-1])
    return count


def test_pointing_at_an_edge_tells_its_score_and_stability(
    browser: BrowserContext, runs: Runs, html: Path
) -> None:
    with visiting(browser, html) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        visit.page.keyboard.press("ArrowRight")
        circuit = stored(runs, "seed0", 1)
        told = set()
        for edge in circuit.connected().edges:
            writer, reader = edge
            line = visit.page.locator(f'.kept .edge[data-name="{writer} → {reader}"] .hit')
            line.dispatch_event("pointermove", {"bubbles": True, "clientX": 500, "clientY": 500})
            tip = visit.text(".circuits .tip")
            assert tip.startswith(f"{writer} → {reader}")
            score = float(circuit.scores[circuit.graph.locate(writer, reader)])
            found = re.search(r"score (-?[\d.e-]+)", tip)
            assert found and float(found[1].rstrip(".")) == pytest.approx(score, rel=0.06)
            assert f"kept on {stability(runs, edge, 14)} of 3 seeds" in tip
            assert visit.page.locator(".circuit-picture .lit .line").count() == 1
            told.add(stability(runs, edge, 14))
        assert len(told) > 1, "a test of one stability alone would show little"
        node = visit.page.locator(".node[data-node]").last
        node.focus()
        assert "resid_post" in visit.text(".circuits .tip")
        into = [edge for edge in circuit.edges if edge[1] == "resid_post"]
        assert f"{len(into)} edge" in visit.text(".circuits .tip")


def test_the_mouse_really_reaches_a_node(browser: BrowserContext, html: Path) -> None:
    with visiting(browser, html) as visit:
        visit.page.locator(".node").first.hover()
        assert visit.page.locator(".circuits .tip").is_visible()
        name = visit.page.locator(".node").first.get_attribute("aria-label") or ""
        assert visit.text(".circuits .tip strong") == name.partition(":")[0]


def test_the_known_circuit_is_marked(browser: BrowserContext, runs: Runs, html: Path) -> None:
    truth = set(known(top(GRAPH, 0, 14)))
    with visiting(browser, html) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        visit.page.keyboard.press("ArrowRight")
        visit.pick("Mark in the drawing", "the known circuit")
        edges = set(kept(runs, "seed0", 1))
        assert set(visit.listed("kept-edge.known")) == arrows(list(edges & truth))
        assert set(visit.listed("other")) == arrows(list(edges - truth))
        assert set(visit.listed("missing")) == arrows(list(truth - edges))
        assert set(visit.names(".ghosts .edge.missing")) == arrows(list(truth - edges))
        signs = visit.page.locator(".edge-list li.known.kept-edge .sign").all_text_contents()
        assert set(signs) == {"✓"}, "not by colour alone"
        dashes = "one => getComputedStyle(one).strokeDasharray"
        styles = {
            visit.page.eval_on_selector(s, dashes)
            for s in (".edge.other .line", ".kept .known .line", ".missing .line")
        }
        assert len(styles) == 3


def test_the_drawing_moves_and_zooms(browser: BrowserContext, html: Path) -> None:
    with visiting(browser, html) as visit:
        stage, start = visit.page.locator(".circuits .stage"), visit.transform()
        box = stage.bounding_box()
        assert box
        middle = (box["x"] + 30, box["y"] + box["height"] - 30)
        visit.page.mouse.move(*middle)
        visit.page.mouse.wheel(0, -200)
        visit.page.wait_for_timeout(100)
        assert visit.transform() == start, "the page scrolls under a drawing that was not clicked"
        stage.scroll_into_view_if_needed()
        seen = {start}
        for key in ("+", "ArrowLeft", "ArrowUp", "-"):
            stage.focus()
            visit.page.keyboard.press(key)
            assert visit.transform() not in seen, key
            seen.add(visit.transform())
        visit.page.keyboard.press("0")
        fitted = visit.transform()
        for name in ("Zoom in", "Zoom out"):
            visit.page.get_by_role("button", name=name).click()
            assert visit.transform() != fitted or name == "Zoom out"
        visit.page.get_by_role("button", name="Show the whole drawing").click()
        assert visit.transform() == fitted
        box = stage.bounding_box()
        assert box
        middle = (box["x"] + 30, box["y"] + box["height"] - 30)
        visit.page.mouse.move(*middle)
        visit.page.mouse.down()
        visit.page.mouse.move(middle[0] + 50, middle[1] - 20, steps=4)
        visit.page.mouse.up()
        x, y = (float(n) for n in re.findall(r"translate\(([-\d.]+) ([-\d.]+)\)", visit.transform())[0])
        x0, y0 = (float(n) for n in re.findall(r"translate\(([-\d.]+) ([-\d.]+)\)", fitted)[0])
        assert (x - x0, y - y0) == pytest.approx((50, -20), abs=0.1)
        stage.focus()
        scale = visit.transform().rpartition("scale")[2]
        visit.page.mouse.wheel(0, -200)
        visit.page.wait_for_timeout(100)
        assert visit.transform().rpartition("scale")[2] != scale


def test_the_keyboard_reaches_edges_and_nodes(browser: BrowserContext, html: Path) -> None:
    with visiting(browser, html) as visit:
        box = visit.page.get_by_role("listbox", name="Edges", exact=True)
        box.focus()
        visit.page.keyboard.press("ArrowDown")
        visit.page.keyboard.press("ArrowDown")
        active = box.get_attribute("aria-activedescendant")
        option = visit.page.locator(f"#{active}")
        assert option.get_attribute("aria-selected") == "true"
        assert option.locator(".name").text_content() == visit.listed()[1]
        assert "score" in (option.get_attribute("aria-label") or "")
        visit.page.locator(".circuits .stage").focus()
        visit.page.keyboard.press("Enter")
        focused = "document.activeElement.getAttribute('aria-label')"
        assert visit.page.evaluate(focused).startswith("tok_embeds: ")
        visit.page.keyboard.press("ArrowUp")
        above = visit.page.evaluate(focused)
        assert above.startswith(("a", "m")) and re.search(r"\d+ edges? in", above)
        held = "document.querySelectorAll('.circuits .lit .line').length"
        for key, kept in (("Enter", True), ("Space", False)):
            visit.page.keyboard.press(key)
            visit.page.evaluate("document.querySelector('.circuits .edge-list').focus()")
            assert (visit.page.evaluate(held) > 0) == kept, "what a click holds, the keyboard does, too"
            visit.page.evaluate(
                "document.querySelector('.node[aria-label^=\"" + above.split(":")[0] + ":\"]').focus()"
            )
        visit.page.keyboard.press("Escape")
        assert visit.page.evaluate("document.activeElement.className").startswith("stage")


def test_shared_key_and_value_heads_are_nodes_of_their_own(browser: BrowserContext, tmp_path: Path) -> None:
    runs = ranking_runs(tmp_path / "runs", GROUPED, seeds=1)
    html = written(runs, tmp_path / "out")
    with visiting(browser, html) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("End")
        edges = stored(runs, "seed0", 3).connected().edges
        assert visit.drawn() == arrows(edges), "the same paths as the model has"
        shared = {r.replace(".h", ".kv")[:-2] for _, r in edges if r[-2:] in (".k", ".v")}
        labels = visit.page.locator(".node").evaluate_all(
            "all => all.map((one) => one.getAttribute('aria-label'))"
        )
        names = {label.partition(":")[0] for label in labels}
        assert shared and shared <= names
        assert visit.page.locator(".circuit-picture .inside").count() > 0


def test_the_slider_goes_along_a_front_of_twelve(browser: BrowserContext, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    sizes = [5 + 6 * n for n in range(12)]
    write(runs, "long", 0, [Given(top(GRAPH, 0, n), 1.0 / n) for n in sizes])
    with visiting(browser, written(runs, tmp_path / "out"), 390) as visit:
        visit.slider.focus()
        visit.page.keyboard.press("Home")
        for place, size in enumerate(sizes):
            assert f"circuit {place + 1} of 12" in visit.text(".circuits .count")
            assert len(visit.listed()) == size
            assert visit.drawn() == arrows(stored(runs, "long", place).connected().edges)
            assert f"{size} edges of" in (visit.slider.get_attribute("aria-valuetext") or "")
            visit.page.get_by_role("button", name="Denser circuit").click() if place < 11 else None
        assert visit.page.get_by_role("button", name="Denser circuit").is_disabled()


HOSTILE = '"><img src=http://evil.example onerror=alert(1)>'


def test_names_stay_text(browser: BrowserContext, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    edges = [(HOSTILE, "m0"), ("m0", "resid_post"), ("m0", f"{HOSTILE}.q"), (f"{HOSTILE}.k", f"{HOSTILE}.k")]
    runs.trial(trial("evil", 0, [point(0, 4, 0.5)]), edges={0: edges})
    html = written(runs, tmp_path / "out")
    with visiting(browser, html) as visit:
        assert set(visit.listed()) == arrows(edges)
        assert visit.drawn() == arrows(edges[:2])
        visit.page.locator(".node").first.hover()
        assert visit.text(".circuits .tip strong") == HOSTILE
        assert visit.page.locator("#circuits img").count() == 0
        assert "1 circuit without scores" in visit.text("#circuits")


def test_circuits_without_edges_and_missing_lists_are_told(browser: BrowserContext, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    nothing = Circuit.from_edges(GRAPH, [])
    write(runs, "empty", 0, [Given(nothing, 2.0)])
    html = written(runs, tmp_path / "out")
    with visiting(browser, html) as visit:
        assert "This circuit keeps no edge." in visit.text(".circuits .nothing")
        assert visit.slider.is_disabled() and visit.listed() == []
        assert "0 edges of" in visit.words()
    loose = Runs(tmp_path / "loose")
    write(loose, "loose", 0, [Given(Circuit.from_edges(GRAPH, [("m0", "m1")]), 2.0)])
    html = written(loose, tmp_path / "out2")
    with visiting(browser, html) as visit:
        assert "No kept edge lies on a path" in visit.text(".circuits .nothing")
        assert visit.listed() == ["m0 → m1"] and visit.drawn() == set()
