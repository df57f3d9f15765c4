"""The exported page: one file with everything in it; in a browser the still's content, with switches that work."""

import base64
import gzip
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from view_cases import QUERY, field, gates, near

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, QUERY_COLOUR
from bsaviz.view.page import page
from bsaviz.view.reading import read_field, read_gates


def embedded(text):
    meta = json.loads(re.search(r'<script type="application/json" id="meta">(.*?)</script>', text, re.S)[1])
    packed = re.search(r'<script type="text/plain" id="data">(.*?)</script>', text, re.S)[1]
    data = gzip.decompress(base64.b64decode(packed))
    points, corners = 3 * meta["points"], 3 * meta["faces"]
    positions = np.frombuffer(data, "<f4", points).reshape(-1, 3)
    faces = np.frombuffer(data, "<u4", corners, 4 * points).reshape(-1, 3)
    levels = np.frombuffer(data, np.uint8, -1, 4 * (points + corners))
    return meta, positions, faces, levels.reshape(len(meta["views"]), len(meta["branches"]), meta["points"])


@pytest.mark.parametrize("dataset", [field, gates])
def test_the_page_refers_to_nothing_outside(dataset):
    text = page(dataset())
    outside = r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(|fetch\(|XMLHttp|WebSocket|import\("
    assert not re.search(outside, strip_data(text))
    assert "default-src 'none'" in text
    assert text.count("<script") == 3
    assert "@@" not in strip_data(text)


def strip_data(text):
    without = re.sub(r'(<script type="text/plain" id="data">).*?(</script>)', r"\1\2", text, flags=re.S)
    return re.sub(r"^\s*//.*$|\s// .*$", "", without, flags=re.M)


def test_the_page_holds_the_dataset():
    rf = field(queries=(QUERY, 40))
    meta, positions, faces, levels = embedded(page(rf))
    np.testing.assert_array_equal(positions, rf["position"])
    np.testing.assert_array_equal(faces, rf["faces"])
    assert meta["choices"] == {
        "query": [QUERY, 40],
        "layer": [0, 1],
        "head": ["all heads", "0", "1"],
        "kind": ["structural", "mass"],
    }
    assert len(levels) == 2 * 2 * 3
    for index, view in enumerate(meta["views"]):
        query, layer, head = QUERY if index < 6 else 40, index // 3 % 2, (None, 0, 1)[index % 3]
        for kind in ("structural", "mass"):
            reading = read_field(rf, query=query, layer=layer, head=head, kind=kind)
            assert (view[kind]["captions"], view[kind]["footer"]) == (list(reading.captions), reading.footer)
        np.testing.assert_array_equal(levels[index], reading.levels)
        np.testing.assert_array_equal(levels[index] > 0, read_field(rf, query=query, layer=layer, head=head).levels > 0)


def test_gates_fill_the_page_too():
    ds = gates()
    meta, _, _, levels = embedded(page(ds, head=1, clim=(0, 1)))
    assert meta["start"] == {"layer": 0, "head": 2}
    reading = read_gates(ds, head=1, clim=(0, 1))
    np.testing.assert_array_equal(levels[2], reading.levels)
    assert meta["views"][2]["gate"]["bar"]["label"] == reading.bar.label


def test_the_page_opens_with_the_choice_made():
    meta = embedded(page(field(queries=(QUERY, 40)), query=40, layer=0, head=1, kind="mass", camera="top"))[0]
    assert meta["start"] == {"query": 1, "layer": 0, "head": 2, "kind": 1}
    assert meta["eyes"] == [[0, 0, 1]] * 2


def test_one_head_has_no_switch_and_the_structural_kind_alone_no_ramp():
    meta = embedded(page(field(heads=1, kinds=("structural",))))[0]
    assert meta["choices"]["head"] == ["0"]
    assert meta["ramps"] == []


def test_labels_cannot_break_out_of_the_page():
    bad = "</script><img src=x onerror=alert(1)>&'\"@@DATA@@"
    rf = field()
    rf.attrs["car"] = bad
    text = page(rf)
    assert text.count("</script>") == 3
    assert "<img" not in text
    assert embedded(text)[0]["views"][0]["mass"]["footer"].startswith(bad)


@pytest.mark.parametrize(
    "choice", [{"layer": 9}, {"head": 9}, {"query": 9}, {"kind": "x"}, {"camera": "x"}, {"clim": (0, 1)}]
)
def test_bad_choices_are_refused(choice, tmp_path):
    with pytest.raises(BsavizError):
        field().bsa.export_html(tmp_path / "x.html", **choice)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def opened(browser, tmp_path):
    """Open a dataset's page; the page's requests and errors are collected."""
    pages = []

    def open_page(ds, width=1200, height=620, **choice):
        path = ds.bsa.export_html(tmp_path / "page.html", **choice)
        tab = browser.new_page(viewport={"width": width, "height": height})
        pages.append(tab)
        tab.asked, tab.failed = [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("pageerror", lambda error: tab.failed.append(str(error)))
        tab.on("console", lambda message: message.type == "error" and tab.failed.append(message.text))
        tab.goto(path.as_uri())
        # By selector: waiting for a script's value would evaluate strings, which the page's own policy forbids.
        tab.wait_for_selector('body[data-drawn]:not([data-drawn="0"])', state="attached", timeout=60_000)
        return tab

    yield open_page
    for tab in pages:
        assert tab.failed == []
        assert [url for url in tab.asked if not url.startswith("file:")] == []
        tab.close()


def panels_of(tab):
    """Pixels of each panel's view."""
    tab.wait_for_timeout(150)
    image = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
    boxes = [view.bounding_box() for view in tab.query_selector_all(".view")]
    cut = lambda box: image[int(box["y"]) : int(box["y"] + box["height"]), int(box["x"]) : int(box["x"] + box["width"])]
    return [cut(box) for box in boxes]


@pytest.mark.browser
def test_the_page_draws_what_the_still_draws(opened):
    tab = opened(field(), layer=0, head=1)
    reading = read_field(field(), layer=0, head=1)
    assert [h.inner_text() for h in tab.query_selector_all(".panel h2")] == list(reading.headings)
    assert [p.inner_text() for p in tab.query_selector_all(".panel p")] == list(reading.captions)
    assert tab.inner_text("#footer") == reading.footer
    blue, green, orange = (COLOURS[b] for b in ("ball", "selection", "compression"))
    seen = [[near(panel, c) for c in (blue, green, orange, QUERY_COLOUR)] for panel in panels_of(tab)]
    for i, counts in enumerate(seen):
        assert counts[0] > 50
        assert counts[3] > 20
        assert (counts[1] > 10) == (i >= 1)
        assert (counts[2] > 100) == (i >= 2)


@pytest.mark.browser
def test_dragging_turns_all_panels_together(opened):
    tab = opened(field())
    before = panels_of(tab)
    tab.mouse.move(600, 300)
    tab.mouse.down()
    tab.mouse.move(760, 330, steps=4)
    tab.mouse.up()
    after = panels_of(tab)
    for a, b in zip(before, after):
        assert (np.abs(a.astype(int) - b).sum(-1) > 60).mean() > 0.05
    outlines = [panel.min(-1) < 245 for panel in after]
    for outline in outlines[1:]:
        assert (outline != outlines[0]).mean() < 0.05
    tab.dblclick("#canvas", position={"x": 600, "y": 150})
    assert (np.abs(panels_of(tab)[0].astype(int) - before[0]).sum(-1) > 60).mean() < 0.001


@pytest.mark.browser
def test_the_car_hides_dots_behind_it_but_never_the_query(opened):
    panel = panels_of(opened(field(), camera="right"))[0]
    assert near(panel, COLOURS["ball"]) < 5
    assert near(panel, QUERY_COLOUR) > 20


@pytest.mark.browser
def test_switches_change_words_and_picture(opened):
    rf = field(queries=(QUERY, 40))
    tab = opened(rf)
    first = panels_of(tab)
    tab.select_option("select[name=layer]", label="0")
    tab.select_option("select[name=head]", label="1")
    tab.select_option("select[name=query]", label="40")
    tab.select_option("select[name=kind]", label="mass")
    reading = read_field(rf, query=40, layer=0, head=1, kind="mass")
    assert [p.inner_text() for p in tab.query_selector_all(".panel p")] == list(reading.captions)
    assert tab.inner_text("#footer") == reading.footer
    assert reading.bar.label in tab.inner_text("#bar")
    ticks = [span.inner_text() for span in tab.query_selector_all("#bar div span")]
    assert ticks == [text for _, text in reading.bar.ticks]
    assert (np.abs(panels_of(tab)[0].astype(int) - first[0]).sum(-1) > 60).mean() > 0.005


@pytest.mark.browser
def test_another_query_is_looked_at_unless_someone_has_turned_the_car(opened):
    right = 20 * 24  # in the middle of the right side, hidden from where the first query is seen
    tab = opened(field(queries=(QUERY, right)))
    left = panels_of(tab)[0]
    tab.select_option("select[name=query]", label=str(right))
    assert near(panels_of(tab)[0], COLOURS["ball"]) > 50
    tab.select_option("select[name=query]", label=str(QUERY))
    assert (np.abs(panels_of(tab)[0].astype(int) - left).sum(-1) > 60).mean() < 0.001
    tab.focus("#canvas")
    tab.keyboard.press("ArrowLeft")
    tab.select_option("select[name=query]", label=str(right))
    assert near(panels_of(tab)[0], COLOURS["ball"]) < 5


@pytest.mark.browser
def test_a_branch_can_be_hidden(opened):
    tab = opened(field())
    orange = COLOURS["compression"]
    assert near(panels_of(tab)[2], orange) > 100
    button = tab.get_by_role("button", name="compression")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert near(panels_of(tab)[2], orange) < 10
    button.click()
    assert near(panels_of(tab)[2], orange) > 100


@pytest.mark.browser
def test_dots_are_round(opened):
    ds = field(kinds=("structural",), heads=1).isel(branch=[0])
    side = 20 * 24 + 12  # a point in the middle of the left side, far from the query
    ds["structural"][:] = False
    ds["structural"][..., side] = True
    panel = panels_of(opened(ds, width=1400, height=1200, camera="side"))[0].astype(int)
    rows, columns = np.nonzero(panel[..., 2] > panel[..., 0] + 40)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert tall > 10
    assert abs(tall - wide) <= 2
    assert len(rows) / (tall * wide) == pytest.approx(np.pi / 4, abs=0.08), "a square fills its box, a disc does not"


@pytest.mark.browser
def test_gates_and_clouds_are_drawn_too(opened):
    for ds in (gates(), gates(faces=False), field(faces=False)):
        tab = opened(ds)
        for panel in panels_of(tab):
            assert 0.03 < (panel.min(-1) < 240).mean() < 0.9


@pytest.mark.browser
def test_a_narrow_screen_stacks_the_panels(opened):
    tab = opened(field(), width=400, height=1400)
    boxes = [panel.bounding_box() for panel in tab.query_selector_all(".panel")]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] + 1
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    for panel in panels_of(tab):
        assert near(panel, COLOURS["ball"]) > 30
