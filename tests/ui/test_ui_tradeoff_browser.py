"""The trade-off explorer in a real JupyterLab: a dot is clicked, its model appears on the car; a page without a net."""

import numpy as np
import pytest
from tradeoff_cases import make_study

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]

BSA, BALL, FULL = range(3)


@pytest.fixture(scope="module")
def opened(lab, browser, tmp_path_factory):
    """Notebook with the explorer of a small study, run and drawn; the plot, and the view of the car."""
    cells = [
        "import bsaviz, bsaviz.ui\ncar = bsaviz.load_car('generated:48').subsample(800)",
        f"explorer = bsaviz.ui.TradeoffExplorer({str(make_study(tmp_path_factory.mktemp('study')))!r}, car)\nexplorer",
    ]
    with lab.open(browser, cells) as notebook:
        notebook.run_all()
        plot = notebook.page.locator(".bsaviz-plot")
        notebook.page.locator(".bsaviz-plot[data-drawn]").wait_for(timeout=60_000)
        notebook.page.locator(".bsaviz-live[data-drawn]").wait_for(timeout=60_000)
        yield notebook, plot


def click_dot(notebook, plot, series):
    """Click the only dot of a series, as a mouse does: it comes near, then presses."""
    drawn = int(plot.get_attribute("data-drawn"))
    box = plot.locator(".scatterlayer .trace").nth(series).locator(".point").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    notebook.page.mouse.move(x + 3, y + 3)
    notebook.page.mouse.move(x, y)
    notebook.page.wait_for_timeout(300)
    notebook.page.mouse.click(x, y)
    notebook.until("explorer.setting", series)
    notebook.until("not explorer.working and explorer._latest.shown == explorer._wanted()", True, 60)
    notebook.wait(lambda: int(plot.get_attribute("data-drawn")) > drawn)
    notebook.page.mouse.move(5, 5)


def look(notebook):
    """Pixels of the panels, without the text above and below them."""
    notebook.page.locator(".bsaviz-live:not([data-rough])").first.wait_for(timeout=30_000)
    pixels = notebook.look(notebook.page.locator(".bsaviz-live").first, 600)
    return pixels[len(pixels) // 10 : 7 * len(pixels) // 10]


def differs(before, after):
    """Share of the pixels that changed visibly; all of them where the size changed."""
    return 1.0 if before.shape != after.shape else float((np.abs(before.astype(int) - after).max(2) > 24).mean())


def test_a_click_on_a_dot_shows_its_model(opened):
    notebook, plot = opened
    first = look(notebook)
    click_dot(notebook, plot, BSA)
    assert differs(first, look(notebook)) > 0.02, "another model is on the car"
    assert "bsa, seed 0" in notebook.page.locator(".jp-OutputArea").last.inner_text()
    click_dot(notebook, plot, BALL)
    note = notebook.page.locator(".bsaviz-note", has_text="were not kept")
    note.wait_for()
    assert "keep_models: true" in note.inner_text()
    click_dot(notebook, plot, FULL)
    note.wait_for(state="detached")
    assert differs(first, look(notebook)) < 0.002, "the picture comes back"
    notebook.page.get_by_label("Cost", exact=True).select_option("time of a forward (ms)")
    notebook.page.locator(".bsaviz-plot .xtitle", has_text="time of a forward (ms)").wait_for()
    assert notebook.page.locator(".bsaviz-plot .y2title").count() == 0, "the papers tell no times"
    assert notebook.problems == []


def test_the_exported_plot_opens_without_a_network(opened, browser, tmp_path):
    notebook, _ = opened
    notebook.do(f"explorer.cost.value = 'gflops'\nexplorer.export_html({str(tmp_path / 'plot.html')!r})")
    asked, errors = [], []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "plot.html").as_uri())
    page.locator(".y2title").wait_for()
    assert page.locator(".scatterlayer .point").count() == 5, "three dots and the two published points"
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []
    page.close()
