"""What every live scene does in a real JupyterLab: it draws, redraws, turns, is picked, comes back and goes away."""

import io

import numpy as np
import pytest
from PIL import Image
from view_cases import body, near

from bsaviz.view.camera import VIEW_ANGLE
from bsaviz.view.live import BACKENDS
from bsaviz.view.live.state import check_surface
from bsaviz.view.live.view_point import check_view_point

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

POINTS, FACES = body()
SURFACE = check_surface(POINTS, FACES, None)
START = """
import numpy as np, ipywidgets
from bsaviz.view import live_scene
stage, picks = ipywidgets.VBox(), []
points, faces = np.array({points}, np.float32), np.array({faces})
def show(panels=1, cloud=False, **options):
    scene = live_scene(panels, height=300, width=900, **options)
    scene.set_surface(points, None if cloud else faces)
    scene.on_pick(lambda point, panel: picks.append((point, panel)))
    stage.children = [scene.widget]
    return scene
stage
"""


@pytest.fixture(scope="module")
def notebook(lab, browser):
    start = START.format(points=POINTS.round(4).tolist(), faces=FACES.tolist())
    with lab.open(browser, [start], name="live") as opened:
        opened.run_all()
        yield opened


@pytest.fixture(params=BACKENDS)
def tab(request, notebook):
    """The notebook with one scene `s` on show; it must end without an error in the page or a request elsewhere."""
    notebook.backend = request.param
    notebook.do("picks.clear()")
    yield notebook
    notebook.leave("stage.children = ()\ns.close()")


def show(tab, arguments="", then=""):
    """Make scene `s`, show it, and wait for its first picture; gives its element."""
    tab.do(f"s = show({arguments})\n{then}")
    view = tab.page.locator(".bsaviz-live").first
    view.locator("canvas").first.wait_for()
    tab.page.wait_for_selector(".bsaviz-live[data-drawn]")
    return view


def changed(before, after):
    """Share of pixels that differ."""
    return (np.abs(before.astype(int) - after).sum(-1) > 40).mean()


def place(view, point, camera="front-left", panel=0):
    """Where a point of the surface is drawn, in pixels from the view's upper left corner."""
    whole = view.bounding_box()
    panel = view.locator(".bsaviz-view").nth(panel)
    panel.wait_for()
    box = panel.bounding_box()
    camera = check_view_point(camera, SURFACE).camera(SURFACE, box["width"] / box["height"])
    forward = camera.focus - camera.position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, camera.up)
    right /= np.linalg.norm(right)
    up, ray = np.cross(right, forward), POINTS[point] - camera.position
    half = np.tan(np.radians(VIEW_ANGLE / 2)) * (ray @ forward)
    x = 0.5 + 0.5 * (ray @ right) / (half * box["width"] / box["height"])
    y = 0.5 - 0.5 * (ray @ up) / half
    return {"x": box["x"] - whole["x"] + x * box["width"], "y": box["y"] - whole["y"] + y * box["height"]}


def drag(tab, view, dx, dy):
    box = view.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x + dx, y + dy, steps=6)
    tab.page.mouse.up()
    tab.page.mouse.move(5, 5)


def test_pixels_change_with_the_scalars_and_come_back(tab):
    view = show(tab, then="s.set_scalars(points[:, 0], label='length', clim=(-2, 2))")
    first = tab.look(view)
    assert near(first, "#440154", 120) > 100, "viridis's low end is at the nose"
    tab.do("s.set_scalars(-points[:, 0], label='length', clim=(-2, 2))")
    second = tab.look(view)
    assert changed(first, second) > 0.05
    tab.do("s.set_scalars(points[:, 0], label='length', clim=(-2, 2))")
    assert changed(first, tab.look(view)) < 0.001


def test_every_panel_has_its_own_title_bar_and_legend(tab):
    view = show(
        tab, "3, titles=['one', 'two', 'three']",
        "speed = np.where(points[:, 0] > 1, np.nan, 7 * points[:, 0])\n"
        "s.set_scalars(speed, label='speed', clim=(-14, 6), cmap='gray', nan_colour='#FF00FF')\n"
        "orange = np.tile(np.array([230, 159, 0], np.uint8), (len(points), 1))\n"
        "s.set_colours(orange, panel=1, legend={'ball': '#E69F00'})\n"
        "s.highlight([204])\ns.highlight(range(400), colour='#009E73', on_top=False, panel=2)\n",
    )  # fmt: skip
    assert view.locator(".bsaviz-title").all_inner_texts() == ["one", "two", "three"]
    keys = [key.inner_text() for key in view.locator(".bsaviz-key").all()]
    assert keys[0].split() == ["speed", "-14.0", "-9.0", "-4.0", "1.0", "6.0", "no", "value"]
    assert (keys[1], keys[2]) == ("ball", "")
    panels = [tab.look(view)[:, 300 * i : 300 * i + 300] for i in range(3)]
    seen = [[near(p, c, 60) > 40 for c in ("#FF00FF", "#E69F00", "#009E73", "#D55E00")] for p in panels]
    assert [row[:3] for row in seen] == [[True, False, False], [False, True, False], [False, False, True]]
    assert all(near(panel, "#D55E00", 60) > 25 for panel in panels)
    tab.do("s.set_title('new', panel=1)\ns.highlight([], colour='#009E73')")
    titles = view.locator(".bsaviz-title")
    tab.wait(lambda: titles.all_inner_texts() == ["one", "new", "three"], what=titles.all_inner_texts)
    assert near(tab.look(view), "#009E73", 60) == 0


@pytest.mark.parametrize("panels", [1, 4])
def test_the_numbers_below_a_bar_do_not_touch(tab, panels):
    view = show(tab, f"{panels}", "s.set_scalars(0.02 * points[:, 0], clim=(-0.0467, 0.0467))")
    bar = view.locator(".ticks").first
    shown = [span.bounding_box() for span in bar.locator("span:visible").all()]
    assert len(shown) == (5 if panels == 1 else 3)
    assert all(left["x"] + left["width"] + 4 < right["x"] for left, right in zip(shown, shown[1:]))


@pytest.mark.parametrize(
    ("paint", "cloud"),
    [("set_scalars(points[:, 0])", False), ("set_classes(points[:, 0] > 0, ['#D9D9D9', '#0072B2'])", True)],
)
def test_a_quick_picture_is_the_smooth_one_but_for_its_edges(tab, paint, cloud):
    view = show(tab, f"2, cloud={cloud}, titles=['a', 'a']", f"s.{paint}\ns.highlight([204], on_top=False)")
    smooth = tab.look(view)
    keep = "window.later = setTimeout; setTimeout = (f, ...and) => /smooth/.test(f) || later(f, ...and);"
    view.evaluate("() => {" + keep + "}")  # the picture stays as it comes first
    tab.do("s.set_title('b')")
    tab.catch_up()
    rough = view.get_attribute("data-rough")
    box = view.bounding_box()
    quick = np.asarray(Image.open(io.BytesIO(tab.page.screenshot(clip=box))).convert("RGB"))
    view.evaluate("() => { setTimeout = later; }")
    assert rough == ""
    assert changed(smooth[60:240], quick[60:240]) < 0.03
    assert changed(smooth[60:240], 0 * quick[60:240] + 255) > 0.1


@pytest.mark.parametrize("cloud", [False, True])
def test_a_click_picks_the_point_under_it_and_none_behind(tab, cloud):
    view = show(tab, f"2, cloud={cloud}")
    left, right = 204, int(np.argmax(POINTS[:, 1]))  # on the side that is seen, and behind the body
    view.click(position=place(view, left))
    tab.until("picks", [(left, 0)])
    view.click(position=place(view, left, panel=1))
    tab.until("picks", [(left, 0), (left, 1)])
    if cloud:
        tab.do("s.set_surface(points, point_size=0.3)")  # dots without gaps between them
        tab.catch_up()
    view.click(position=place(view, right))
    tab.until("len(picks)", 3)
    point, panel = tab.value("picks[-1]")
    assert panel == 0
    assert POINTS[point, 1] < POINTS[right, 1] - 0.5
    view.click(position={"x": 20, "y": 40})
    drag(tab, view, 40, 0)
    tab.catch_up()
    assert tab.value("len(picks)") == 3, "neither the background nor a drag picks"


def test_hovering_names_the_point_and_its_value(tab):
    view = show(tab, then="s.set_scalars(np.arange(len(points)))")
    view.hover(position=place(view, 204))
    hint = view.locator(".bsaviz-hint")
    tab.wait(lambda: hint.inner_text() == "point 204: 204", what=hint.inner_text)


def test_turning_moves_every_panel_and_tells_python(tab):
    view = show(tab, "2", "s.set_scalars(points[:, 0])\ns.set_scalars(points[:, 0], panel=1)")
    before, camera = tab.look(view), tab.value("s.camera")
    drag(tab, view, 90, 10)
    after = tab.look(view)
    halves = [(before[:200, i : i + 440], after[:200, i : i + 440]) for i in (0, 460)]
    assert all(changed(*half) > 0.05 for half in halves)
    tab.until("s.camera != " + repr(camera), True)
    assert tab.value("s.camera")["target"] is None
    view.locator("canvas").first.focus()
    view.hover(position={"x": 20, "y": 60})
    tab.page.mouse.wheel(0, -300)
    tab.page.keyboard.press("ArrowLeft")
    tab.until("s.camera['target'] is not None", True)
    tab.page.keyboard.press("Home")
    tab.until(f"s.camera['target'] is None and np.allclose(s.camera['direction'], {camera['direction']})", True)
    view.locator("canvas").first.blur()  # its outline
    assert changed(before, tab.look(view)) < 0.001
    tab.do("s.camera = 'rear-right'")
    assert changed(before, tab.look(view)) > 0.05
    assert tab.page.locator(".jp-Cell").count() == 1, "keys meant for the view do nothing to the notebook"


def test_linked_scenes_turn_together_and_part_again(tab):
    view = show(tab, then="t = live_scene(height=300, width=900)\nt.set_surface(points, faces)")
    tab.do("unlink = s.link(t)\nstage.children = [s.widget, t.widget]")
    other = tab.page.locator(".bsaviz-live").nth(1)
    other.locator("canvas").first.wait_for()
    still = tab.look(other)
    drag(tab, view, 120, 0)
    assert changed(still, tab.look(other)) > 0.03
    tab.until("s.camera == t.camera", True)
    tab.do("unlink()")
    apart = tab.look(other)
    drag(tab, view, 120, 0)
    assert changed(apart, tab.look(other)) < 0.001
    tab.do("t.close()")


def test_one_scene_shown_twice_is_one_state(tab):
    show(tab, then="stage.children = [s.widget, s.widget]")
    tab.page.locator(".bsaviz-live").nth(1).wait_for()
    tab.do("s.set_scalars(points[:, 2])")
    first, second = (tab.page.locator(".bsaviz-live").nth(i) for i in range(2))
    drag(tab, first, 100, 30)
    one, two = tab.look(first), tab.look(second)
    assert near(one, "#FDE725", 120) > 20
    assert changed(one, two) < 0.005


def test_a_reloaded_page_shows_the_present_state(tab):
    view = show(tab, then="s.set_scalars(points[:, 0], label='length')\ns.camera = 'side'")
    before = tab.look(view)
    tab.reload()
    tab.do("s.highlight([204])\ns.highlight([])")
    view = tab.page.locator(".bsaviz-live").first
    view.wait_for(timeout=30_000)
    tab.page.wait_for_selector(".bsaviz-live[data-drawn]")
    assert changed(before, tab.look(view)) < 0.02


def test_a_burst_of_states_ends_on_the_last_and_draws_few(tab):
    view = show(tab, then="a, b = points[:, 0], -points[:, 0]\ns.set_scalars(b)")
    last = tab.look(view)
    before = int(view.get_attribute("data-drawn"))
    tab.do("for i in range(40): s.set_scalars(a if i % 2 == 0 else b)")
    assert changed(last, tab.look(view)) < 0.001
    assert int(view.get_attribute("data-drawn")) - before <= 40


def test_twenty_fast_drags_of_a_slider_end_on_its_last_value(tab):
    show(
        tab, then="slider = ipywidgets.IntSlider(0, 0, 100)\nseen = []\n"
        "def moved(change):\n    seen.append(change['new'])\n"
        "    s.set_scalars(np.full(len(points), change['new'] / 1), clim=(0, 100), label=str(change['new']))\n"
        "slider.observe(moved, 'value')\nstage.children = [slider, s.widget]",
    )  # fmt: skip
    handle = tab.page.locator(".noUi-handle")
    handle.focus()
    for _ in range(20):
        tab.page.keyboard.press("ArrowRight")
    tab.until("slider.value", 20)
    first = tab.page.locator(".bsaviz-bar > span").first
    tab.wait(lambda: first.inner_text() == "20", what=first.inner_text)
    tab.page.wait_for_timeout(400)
    assert first.inner_text() == "20", "it stays"
    assert tab.value("seen == sorted(seen) and seen[-1]") == 20, "nothing stale comes after something newer"


def test_a_view_follows_its_size_and_the_screens_pixels(tab):
    view = show(tab)
    canvas = view.locator("canvas").first
    pixels = lambda: canvas.evaluate("e => [e.width, e.height]")
    tab.wait(lambda: pixels() == [900, 300])
    view.evaluate("e => { e.style.width = '500px'; }")
    tab.wait(lambda: pixels() == [500, 300])
    devtools = tab.page.context.new_cdp_session(tab.page)
    for pixels_each, wanted in ((2, [1000, 600]), (1, [500, 300])):
        metrics = {"width": 1400, "height": 1000, "mobile": False, "deviceScaleFactor": pixels_each}
        devtools.send("Emulation.setDeviceMetricsOverride", metrics)
        tab.do(f"s.set_title('{pixels_each}')")  # an emulated screen tells the page nothing of its change
        tab.wait(lambda wanted=wanted: pixels() == wanted)


def test_a_view_that_lost_its_graphics_can_be_drawn_again(tab):
    view = show(tab, then="s.set_scalars(points[:, 0])")
    before = tab.look(view)
    view.locator("canvas").first.evaluate(
        "e => e.getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    )
    view.get_by_role("button", name="Draw it again").click()
    tab.page.mouse.move(5, 5)
    assert changed(before, tab.look(view)) < 0.001


def test_a_closed_scene_leaves_the_page_and_frees_its_graphics(tab):
    show(tab)
    canvas = tab.page.locator(".bsaviz-live canvas").first.element_handle()
    tab.do("s.close()")
    tab.page.locator(".bsaviz-live").wait_for(state="detached")
    assert canvas.evaluate("e => e.getContext('webgl2').isContextLost()")
