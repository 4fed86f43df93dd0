"""Takes the pictures of docs/mlflow.md from a running MLflow that mirrors sweeps/quickstart.yaml:

circuit-sweep run sweeps/quickstart.yaml --runs runs
mlflow ui --backend-store-uri sqlite:///$PWD/runs/mlflow.db --host 127.0.0.1 &
python docs/mlflow_screenshots.py http://127.0.0.1:5000 docs
"""

import json
import sys
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from playwright.sync_api import Page, sync_playwright

TASK = "params.`model.builtin` = 'tracr-xproportion'"  # circuits of different models share no axis
HIDE_PATH = """() => {
  const all = [...document.querySelectorAll("*")];
  const places = all.filter((one) => one.textContent.startsWith("Path: file:"));
  if (places.length) places.at(-1).style.visibility = "hidden";
}"""  # of the machine the pictures are taken on
WAIT = 4000  # ms that a page takes to draw


def main(address: str, out: Path) -> None:
    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("circuit-sweep")
    assert experiment is not None, "no sweep has been mirrored there"
    number = experiment.experiment_id
    trials = [run.info.run_id for run in client.search_runs([number], f"tags.kind = 'trial' and {TASK}")]
    (sweep, *_) = client.search_runs([number], "tags.kind = 'sweep'")
    home = f"{address}/#/experiments/{number}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport={"width": 1280, "height": 760})
        visit(page, f"{address}/#/compare-runs?runs={json.dumps(trials)}&experiments={json.dumps([number])}")
        parallel_coordinates(page, out / "mlflow-parallel.png")
        scatter(page, out / "mlflow-scatter.png")
        query = quote(f"tags.kind = 'trial' and {TASK}")
        visit(page, f"{home}/runs?compareRunsMode=CHART&searchFilter={query}")
        curve(page, out / "mlflow-curve.png")
        visit(page, f"{home}/runs/{sweep.info.run_id}/artifacts/front.json")
        front(page, out / "mlflow-front.png")
        browser.close()


def visit(page: Page, address: str) -> None:
    page.goto(address)
    page.reload()  # a change after # alone loads nothing
    page.wait_for_timeout(2 * WAIT)
    assistant = page.get_by_role("button", name="Close", exact=True)
    if assistant.count():
        assistant.first.click()
        page.wait_for_timeout(WAIT // 2)


def parallel_coordinates(page: Page, file: Path) -> None:
    page.get_by_role("button", name="Clear All").click()
    choose(page, "Parameters:", "method.name", "method.target_sparsity")
    choose(page, "Metrics:", "num_edges", "test_squared_error")
    page.wait_for_timeout(WAIT)
    page.screenshot(path=file)


def scatter(page: Page, file: Path) -> None:
    page.get_by_role("tab", name="Scatter Plot").click()
    for axis, metric in (("x", "num_edges"), ("y", "test_squared_error")):
        page.locator(f"#{axis}-axis-selector").click()
        page.get_by_role("option", name=metric, exact=True).click()
    page.wait_for_timeout(WAIT)
    page.screenshot(path=file)


def curve(page: Page, file: Path) -> None:
    page.locator(".ag-cell-value button").first.click()  # the sweep's + shows its trials
    page.wait_for_timeout(WAIT)
    page.get_by_placeholder("Search metric charts").fill("points/test_squared_error")
    page.wait_for_timeout(WAIT)
    page.locator('button[data-component-id="fullscreen_button_chartcard"]').click()
    page.wait_for_timeout(WAIT)
    page.screenshot(path=file)


def front(page: Page, file: Path) -> None:
    page.evaluate(HIDE_PATH)
    page.screenshot(path=file)


def choose(page: Page, label: str, *names: str) -> None:
    page.locator(f"div:text-is('{label}') + div").click()
    for name in names:
        page.keyboard.type(name)
        page.keyboard.press("Enter")
    page.keyboard.press("Escape")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
