"""The explorers in a real JupyterLab: opened, dragged, picked; the picture changes and comes back."""

import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

CELLS = [
    "import ipywidgets, bsaviz, bsaviz.ui\ncar = bsaviz.load_car('generated:48').subsample(800)",
    "stage = ipywidgets.VBox()\nstage",
]


@pytest.fixture(scope="module")
def notebook(lab, browser):
    """A notebook with an empty stage."""
    with lab.open(browser, CELLS) as notebook:
        notebook.run_all()
        yield notebook


@pytest.fixture
def opened(notebook):
    """Puts the explorer of a line of code on the stage; gives the notebook, and the place of the explorer's picture."""

    def open_one(call):
        notebook.do(f"explorer = bsaviz.ui.{call}\nstage.children = [explorer.widget]")
        view = notebook.page.locator(".bsaviz-live").first
        view.wait_for(timeout=30_000)
        notebook.until("explorer.working", False, 90)
        return notebook, view

    yield open_one
    notebook.leave("stage.children = ()\nexplorer.close()")


def drag(notebook, label, steps):
    """Move a slider by so many steps with the arrow keys, as fast as keys are pressed."""
    handle = notebook.page.locator(".widget-slider", has_text=label).locator(".noUi-handle")
    handle.focus()
    for _ in range(abs(steps)):
        notebook.page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")


def look(notebook, view, settle=0):
    """Pixels of the panels, without the text above and below, which a scrolled page places half a pixel elsewhere."""
    pixels = notebook.look(view, settle)
    height = len(pixels)
    return pixels[height // 10 : 4 * height // 5]


def differs(before, after):
    """Share of the pixels that changed visibly."""
    return float((np.abs(before.astype(int) - after).max(2) > 24).mean())


def settled(notebook, control, value):
    """Wait until a control has a value and the picture is that of all controls."""
    notebook.until(f"explorer.{control}.value", value)
    notebook.until("not explorer.working and explorer._latest.shown == explorer._wanted()", True, 90)


def click_on_car(notebook, view, panel, panels):
    box = view.bounding_box()
    notebook.page.mouse.click(box["x"] + box["width"] * (panel + 0.45) / panels, box["y"] + box["height"] * 0.5)


def test_ball_tree_explorer(opened):
    notebook, view = opened("BallTreeExplorer(car)")
    first = look(notebook, view, settle=1500)
    drag(notebook, "Ball size", -2)
    settled(notebook, "ball_size", 32)
    smaller = look(notebook, view)
    assert differs(first, smaller) > 0.05
    drag(notebook, "Ball size", 2)
    settled(notebook, "ball_size", 128)
    assert differs(first, look(notebook, view)) < 0.002, "the picture comes back"
    click_on_car(notebook, view, panel=0, panels=2)
    notebook.until("explorer.point is not None", True)
    settled(notebook, "ball_size", 128)
    assert differs(first, look(notebook, view)) > 0.005, "the picked point's node is marked"
    drag(notebook, "Ball size", 3)
    alert = notebook.page.locator('[role="alert"].bsaviz-problem')
    alert.wait_for()
    assert "larger than this cloud of 800" in alert.inner_text()
    drag(notebook, "Ball size", -3)
    alert.wait_for(state="detached")


def test_receptive_field_explorer(opened):
    notebook, view = opened("ReceptiveFieldExplorer(car=car)")
    first = look(notebook, view, settle=1500)
    query = notebook.value("explorer.query.value")
    drag(notebook, "Query", 20)
    settled(notebook, "query", query + 20)
    assert differs(first, look(notebook, view)) > 0.005
    table = notebook.page.locator(".bsaviz-table")
    points = str(notebook.value("explorer.readings['ball'].points"))
    notebook.wait(lambda: points in table.inner_text(), what=table.inner_text)  # the numbers end on the last value
    drag(notebook, "Query", -20)
    settled(notebook, "query", query)
    assert differs(first, look(notebook, view)) < 0.002, "the picture comes back"
    drag(notebook, "Top-k", 6)
    settled(notebook, "sizes['top_k']", 10)
    assert differs(first, look(notebook, view)) > 0.002, "more blocks are selected"
    drag(notebook, "Top-k", -6)
    settled(notebook, "sizes['top_k']", 4)
    click_on_car(notebook, view, panel=1, panels=3)
    notebook.until(f"explorer.query.value != {query}", True)
    notebook.page.get_by_label("Branch").select_option("selection")
    titles = notebook.page.locator(".bsaviz-title")
    notebook.wait(lambda: titles.all_inner_texts() == ["Selection, layer 0"], what=titles.all_inner_texts)


def test_gate_explorer(opened):
    notebook, view = opened("GateExplorer(car=car)")
    first = look(notebook, view, settle=1500)
    drag(notebook, "Layer", 5)
    settled(notebook, "layer", 5)
    assert differs(first, look(notebook, view)) > 0.02
    assert "Layer 5" in notebook.page.locator("svg[role=img]").first.text_content()
    drag(notebook, "Layer", -5)
    settled(notebook, "layer", 0)
    assert differs(first, look(notebook, view)) < 0.002, "the picture comes back"
    click_on_car(notebook, view, panel=0, panels=3)
    notebook.until("explorer.point is not None", True)


def test_compare_explorer(opened):
    notebook, view = opened("CompareExplorer(car=car)")
    start = notebook.value("explorer.point.value")
    first = look(notebook, view, settle=1500)
    click_on_car(notebook, view, panel=1, panels=4)
    notebook.until(f"explorer.point.value != {start}", True)
    picked = notebook.value("explorer.point.value")
    settled(notebook, "point", picked)
    table = notebook.page.locator(".bsaviz-table").last
    share = f"{notebook.value('float(explorer.readings[1].surface[0])'):.1f} %"
    notebook.wait(lambda: share in table.inner_text(), what=table.inner_text)
    width = first.shape[1] // 2
    assert differs(first[:, width:], look(notebook, view)[:, width:]) > 0.02, "what is read there is painted"
    notebook.do(f"explorer.point.value = {start}")
    settled(notebook, "point", start)
    assert differs(first, look(notebook, view)) < 0.002, "the picture comes back"
    notebook.page.get_by_label("Show", exact=True).select_option("what is never read")
    settled(notebook, "show", "never read")
    notebook.page.locator(".bsaviz-title", has_text="Read point by point by").wait_for()
    view = notebook.page.locator(".bsaviz-live").first
    never = look(notebook, view, settle=1000)
    drag(notebook, "B: ball size", 3)
    settled(notebook, "sizes['ball_size']", 256)
    assert differs(never, look(notebook, view)) > 0.02
    drag(notebook, "B: ball size", 2)
    alert = notebook.page.locator('[role="alert"].bsaviz-problem')
    alert.wait_for()
    assert "larger than this cloud of 800" in alert.inner_text()
    drag(notebook, "B: ball size", -5)
    alert.wait_for(state="detached")
    settled(notebook, "sizes['ball_size']", 32)
    assert differs(never, look(notebook, view)) < 0.002, "the picture comes back"
