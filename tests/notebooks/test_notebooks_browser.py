"""The first notebook, run in a real JupyterLab in a real browser (and not again in test_notebooks_run)."""

import os
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(800)]


@pytest.fixture
def fast_notebook(tmp_path):
    notebook = nbformat.read(FOLDER / "01_first_receptive_field.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("FAST = False", "FAST = True")
    path = tmp_path / "first.ipynb"
    nbformat.write(notebook, path)
    return path


def test_first_notebook_in_the_browser(lab, browser, fast_notebook):
    with lab.open(browser, fast_notebook) as notebook:
        notebook.run_all(seconds=480)
        output = notebook.page.locator(".jp-OutputArea")
        shown = output.locator("iframe, img, .bsaviz-live").count()
        if "BSAVIZ_SCREENSHOTS" in os.environ:
            _screenshots(notebook.page, Path(os.environ["BSAVIZ_SCREENSHOTS"]))
        assert shown >= 3, "the car, the field and the gates are shown"
        assert notebook.outside == [], "a notebook asks nothing of the network"


def _screenshots(page, folder):
    """For whoever wants to look: the whole notebook, a screen at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = page.locator(".jp-Cell")
    for number in range(cells.count()):
        cells.nth(number).scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"cell-{number:02}.png")
