"""The first notebook, run in a real JupyterLab in a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(800)]


@pytest.fixture
def fast_notebook(tmp_path):
    notebook = nbformat.read(FOLDER / "01_first_receptive_field.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("FAST = False", "FAST = True")
    path = tmp_path / "first.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def lab(fast_notebook):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=", "--LabApp.news_url=None"]
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(fast_notebook.parent / "config")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], cwd=fast_notebook.parent, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api/status", timeout=1)
            break
        except OSError:
            time.sleep(0.5)
    else:
        server.kill()
        pytest.fail("JupyterLab did not start within a minute")
    yield address
    server.terminate()
    server.wait(timeout=30)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_first_notebook_in_the_browser(lab, fast_notebook):
    from playwright.sync_api import sync_playwright

    outside, shown = [], os.environ.get("BSAVIZ_SCREENSHOTS")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("request", lambda request: _local(request.url, lab) or outside.append(request.url))
        page.goto(f"{lab}/lab/tree/{fast_notebook.name}?reset", timeout=60_000)
        page.locator(".jp-Notebook").wait_for(timeout=60_000)
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for(timeout=60_000)
        page.wait_for_timeout(1500)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        last = page.locator(".jp-CodeCell").last
        _wait_until_executed(page, last)
        frames = page.locator(".jp-OutputArea iframe").count()
        pictures = page.locator(".jp-OutputArea img").count()
        if shown:
            _screenshots(page, Path(shown))
        browser.close()
    assert pictures + frames >= 3, "the car, the field and the gates are shown"
    assert outside == [], "a notebook asks nothing of the network"


def _local(url, lab):
    return url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:", "about:"))


def _wait_until_executed(page, cell, seconds=480):
    """Wait for the cell's number; a traceback anywhere ends the wait, since the cells after it never run."""
    for _ in range(seconds):
        if cell.locator(".jp-InputPrompt").inner_text().strip("[]: ").isdigit():
            return
        broken = page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]')
        assert broken.count() == 0, broken.first.inner_text()
        page.wait_for_timeout(1000)
    prompts = page.locator(".jp-InputPrompt").all_inner_texts()
    raise AssertionError(f"the last cell did not finish within {seconds} s; the cells are at {prompts}")


def _screenshots(page, folder):
    """For whoever wants to look: the whole notebook, a screen at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = page.locator(".jp-Cell")
    for number in range(cells.count()):
        cells.nth(number).scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"cell-{number:02}.png")
