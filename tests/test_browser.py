"""Every notebook in a real browser: JupyterLab under Chromium runs it, and its sliders redraw.

Left out unless asked for by its marker, since it takes a browser: `./run_tests.sh -m browser -n 0`
after `pip install -e .[browser]`, with Debian's chromium or playwright's own.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import smoke_study

from vitstudy import files, notebooks

pytestmark = pytest.mark.browser

WITH_SLIDERS = {"01", "02", "03", "04", "05", "06", "07", "09", "11"}
"""The notebooks that have some, by number."""
PATIENCE = 900_000
"""Milliseconds that one notebook may take to run, or one slider to redraw, on a busy machine."""

RUN_ALL = """async () => {
    const panel = jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    // Every cell is drawn, those out of sight as well.
    panel.content.notebookConfig = {...panel.content.notebookConfig, windowingMode: "none"};
    await jupyterapp.commands.execute("notebook:run-all-cells");
    return panel.content.model.toJSON().cells.filter(cell => cell.cell_type === "code");
}"""
CHANGED = """([box, before]) =>
    box.querySelector(".jp-OutputArea-output") && box.innerHTML !== before"""


@pytest.fixture(scope="module")
def lab(smoke_home, tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab in whose folder every notebook shows the smoke study."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    shutil.copytree(smoke_home, home, dirs_exist_ok=True)
    for name in notebooks.names():
        smoke_study.notebook(name, folder)
    settings = {"VITSTUDY_HOME": home, "PYTHONPATH": files.REPOSITORY, "JUPYTER_CONFIG_DIR": home}
    settings |= {"JUPYTER_RUNTIME_DIR": home / "runtime", "JUPYTERLAB_SETTINGS_DIR": home / "lab"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=", "--port=18888"]
    command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.password="]
    with open(home / "lab.log", "w", encoding="utf-8") as log:
        environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        address = "http://localhost:18888"
        try:
            _wait_for(f"{address}/api", server, home / "lab.log")
            yield address
        finally:
            server.terminate()
            server.wait(60)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(1200):
        assert server.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not answer: {log.read_text(encoding='utf-8')}")


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """Debian's Chromium where it is installed, else playwright's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("name", notebooks.names())
def test_notebook_runs_from_top_to_bottom_and_each_slider_changes_what_it_shows(
    lab, chromium, name, tmp_path
):
    page = chromium.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{lab}/lab/tree/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    cells = page.evaluate(RUN_ALL)
    errors = [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    assert not errors
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    sliders = page.locator(".jp-Notebook .noUi-handle")
    assert (sliders.count() > 0) == (name[:2] in WITH_SLIDERS)
    for place in range(sliders.count()):
        move(page, sliders.nth(place), tmp_path / f"{name}-{place}.png")
    page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")
    page.close()


def move(page, handle, screenshot: Path) -> None:
    """Move a slider one step; raises where what is shown below it stays as it is."""
    # The box of a slider and the output that it draws, one below the other.
    box = handle.locator("xpath=ancestor::*[contains(@class, 'widget-vbox')]").first
    shown = box.locator(".jp-OutputArea").first
    handle.scroll_into_view_if_needed()
    shown.locator("img, table").first.wait_for()
    before = shown.inner_html()
    at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    handle.focus()
    page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
    page.wait_for_function(CHANGED, arg=[shown.element_handle(), before], timeout=PATIENCE)
    shown.locator("img, table").first.wait_for()
    assert not shown.locator(".jp-RenderedText[data-mime-type*=stderr]").count()
    page.screenshot(path=screenshot)
