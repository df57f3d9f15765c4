"""The atlas: its size and what is said of it, and in a browser every switch and the rings to click."""

import re

import numpy as np
import pytest
import xarray as xr
from page_cases import Held, changed, panels_of, without_data
from view_cases import BRANCHES, QUERY, body, field, gates, near

from bsaviz._checks import BsavizError
from bsaviz.view import atlas_size, export_atlas
from bsaviz.view.branches import COLOURS, QUERY_COLOUR
from bsaviz.view.reading import read_field

SIDE = 5 * 24 + 14  # on the left like the first query, farther to the front
RIGHT = 20 * 24  # in the middle of the right side, hidden from where the left is seen
NAMES = ["wing", "front", "right door"]


def atlas_field(**options):
    """Three queries with names; kinds structural, mass and gradient."""
    rf = field(queries=(QUERY, SIDE, RIGHT), **options).assign_coords(region=("query", NAMES))
    return rf.assign(gradient=(rf["mass"] ** 0.5).astype(np.float32))


def large_field(queries=7, layers=6, heads=4, points=3586):
    """A dataset as large as that of a real car and model, of numbers that hardly compress."""
    numbers = np.random.default_rng(0)
    dims = ("query", "layer", "head", "branch", "point")
    shape = (queries, layers, heads, 3, points)
    positions, faces = body(around=32, along=points // 32)
    positions = np.resize(positions, (points, 3))
    reads = numbers.random(shape) < 0.9
    amount = np.float32(10) ** (4 * numbers.random(shape, np.float32)) * reads
    coords = {dim: range(n) for dim, n in zip(dims, shape) if dim != "point"} | {"branch": BRANCHES, "xyz": list("xyz")}
    variables = {"structural": (dims, reads), "mass": (dims, amount), "gradient": (dims, amount[::-1])}
    surface = {"position": (("point", "xyz"), positions), "faces": (("face", "corner"), faces[faces.max(1) < points])}
    return xr.Dataset(variables | surface, coords=coords)


def test_the_file_holds_every_query_by_name_and_its_size_is_told_first(tmp_path, capsys):
    rf = atlas_field()
    path = rf.bsa.export_atlas(tmp_path / "atlas.html", query=SIDE, kind="mass")
    text = path.read_text()
    held = Held(text)
    assert held.meta["rings"]
    assert held.meta["choices"]["query"] == NAMES
    assert held.meta["choices"]["kind"] == ["structural", "mass", "gradient"]
    assert held.meta["start"]["query"] == 1
    assert {kind: len(levels) for kind, levels in held.levels.items()} == dict.fromkeys(held.levels, 3 * 2 * 3)
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(|fetch\(|import\(", without_data(text))
    told = capsys.readouterr().out
    assert told.endswith("MB (3 queries, 2 layers, 2 heads, 3 kinds, 866 points)\n")
    assert told.startswith(f"atlas.html: {path.stat().st_size / 1e6:.3f}")


def test_it_opens_with_a_query_by_name(tmp_path):
    rf = atlas_field()
    path = rf.bsa.export_atlas(tmp_path / "atlas.html", query="right door", progress=False)
    assert Held(path.read_text()).meta["start"]["query"] == 2
    with pytest.raises(BsavizError, match=rf"query 'roof' is not in this dataset; it holds wing \({QUERY}\), front \("):
        rf.bsa.export_atlas(tmp_path / "other.html", query="roof")


def test_the_size_is_known_without_a_file(tmp_path, capsys):
    rf = atlas_field()
    size = atlas_size(rf)
    path = export_atlas(rf, tmp_path / "atlas.html", progress=False)
    assert size.total == sum(size.parts.values()) == path.stat().st_size
    assert set(size.parts) == {"structural", "mass", "gradient", "words", "car"}
    assert size.counts == {"query": 3, "layer": 2, "head": 2, "kind": 3}
    assert size.parts["structural"] < 0.5 * size.parts["mass"], "yes or no is kept in bits"
    assert capsys.readouterr().out == ""


def test_a_page_without_rings_is_the_small_sister(tmp_path):
    held = Held(atlas_field().bsa.export_html(tmp_path / "page.html").read_text())
    assert not held.meta["rings"]


def test_a_car_seven_places_six_layers_four_heads_and_three_kinds_fit(tmp_path):
    """Even where nothing repeats; levels of real models compress far better."""
    path = large_field().bsa.export_atlas(tmp_path / "atlas.html")
    assert 5e6 < path.stat().st_size <= 15e6


@pytest.fixture(scope="module")
def refused():
    """A dataset, and what is said when it does not fit into half of its size."""
    rf = large_field(queries=6, layers=5, heads=3, points=900)
    size = atlas_size(rf)
    limit = size.total / 2e6
    with pytest.raises(BsavizError) as error:
        rf.bsa.export_atlas("never.html", max_mb=limit)
    return rf, size, limit, str(error.value)


def test_too_large_says_how_large_and_by_how_much(refused):
    _, size, limit, says = refused
    mb = lambda count: f"{count / 1e6:.1f} MB"
    assert f"the atlas would take {mb(size.total)}, {mb(size.total / 2)} more than max_mb={limit:g}" in says
    assert f"gradient {mb(size.parts['gradient'])}" in says
    assert "or allow more by max_mb" in says


@pytest.mark.parametrize("dim", ["query", "layer", "head"])
def test_what_it_says_to_keep_fits(dim, refused, tmp_path):
    rf, _, limit, says = refused
    keep = int(re.search(rf"keep (\d) of \d \w+, as by .isel\({dim}=", says)[1])
    assert export_atlas(rf.isel({dim: slice(keep)}), tmp_path / "atlas.html", max_mb=limit, progress=False).exists()
    with pytest.raises(BsavizError):
        export_atlas(rf.isel({dim: slice(keep + 1)}), tmp_path / "more.html", max_mb=0.9 * limit)


def test_a_kind_to_drop_is_named_where_that_is_enough(tmp_path):
    rf = atlas_field()
    size = atlas_size(rf)
    limit = (size.total - size.parts["structural"] - 1) / 1e6
    with pytest.raises(BsavizError, match=r"drop the kind 'mass', as by .drop_vars\('mass'\)") as error:
        export_atlas(rf, tmp_path / "atlas.html", max_mb=limit)
    assert "drop the kind 'structural'" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_car_that_is_too_large_by_itself_says_so(tmp_path):
    with pytest.raises(BsavizError, match="the car alone is too large: take fewer points"):
        export_atlas(atlas_field(), tmp_path / "atlas.html", max_mb=0.01)


def test_nothing_is_written_or_told_when_refused(tmp_path, capsys):
    with pytest.raises(BsavizError):
        export_atlas(atlas_field(), tmp_path / "atlas.html", max_mb=0.05)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


def test_a_full_disk_leaves_nothing_half_written(tmp_path, full_disk):
    with full_disk(), pytest.raises(BsavizError, match="cannot write"):
        export_atlas(atlas_field(), tmp_path / "atlas.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("max_mb", [0, -1, float("nan"), "15", True, None])
def test_a_bad_limit_is_refused(max_mb, tmp_path):
    with pytest.raises(BsavizError, match="max_mb must be a positive number of megabytes, got"):
        export_atlas(atlas_field(), tmp_path / "atlas.html", max_mb=max_mb)


def test_other_names_and_datasets_are_refused(tmp_path):
    with pytest.raises(BsavizError, match="expected a file name ending in .html or .htm"):
        export_atlas(atlas_field(), tmp_path / "atlas.png")
    with pytest.raises(BsavizError, match="an atlas is of receptive fields; gates have no queries"):
        gates().bsa.export_atlas(tmp_path / "atlas.html")
    with pytest.raises(BsavizError, match="gates have no queries"):
        atlas_size(gates())


@pytest.fixture
def atlas(opened):
    return lambda ds=None, **options: opened(atlas_field() if ds is None else ds, export="export_atlas", **options)


def orange_spots(panel):
    """Middles (x, y) of the places that have the query's colour."""
    wanted = np.array([int(QUERY_COLOUR[i : i + 2], 16) for i in (1, 3, 5)])
    rows, columns = np.nonzero(np.abs(panel.astype(int) - wanted).sum(-1) < 40)
    spots = []
    for at in zip(columns, rows):
        near_one = next((spot for spot in spots if np.hypot(*(np.mean(spot, 0) - at)) < 14), None)
        spots.append([at]) if near_one is None else near_one.append(at)
    return [np.mean(spot, 0) for spot in spots if len(spot) > 8]


def click_ring(tab, panel=0, click=None, rings=1):
    """Click on the foremost of the rings in sight, which are hollow, and take the pointer away again."""
    pixels = panels_of(tab)[panel]
    spots = orange_spots(pixels)
    full = [near(pixels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2], QUERY_COLOUR) > 6 for x, y in spots]
    assert sorted(full) == [False] * rings + [True]
    box = tab.query_selector_all(".view")[panel].bounding_box()
    x, y = min(spot for spot, filled in zip(map(tuple, spots), full) if not filled)
    (click or tab.mouse.click)(box["x"] + x, box["y"] + y)
    if click is None:
        tab.mouse.move(2, 2)


def shown(tab):
    return tab.eval_on_selector("select[name=query]", "list => list.selectedOptions[0].text")


@pytest.mark.browser
def test_each_switch_changes_the_picture_and_back(atlas):
    tab = atlas()
    first = panels_of(tab)
    for name, other in {"query": "front", "layer": "0", "head": "1", "kind": "gradient", "camera": "top"}.items():
        before = tab.eval_on_selector(f"select[name={name}]", "list => list.selectedOptions[0].text")
        tab.select_option(f"select[name={name}]", label=other)
        assert max(changed(a, b) for a, b in zip(first, panels_of(tab))) > 0.003, name
        tab.select_option(f"select[name={name}]", label=before)
        assert max(changed(a, b) for a, b in zip(first, panels_of(tab))) < 0.001, name


@pytest.mark.browser
def test_every_kind_shows_its_own_words_and_bar(atlas):
    tab, rf = atlas(), atlas_field()
    for kind in ("mass", "gradient", "structural"):
        tab.select_option("select[name=kind]", label=kind)
        reading = read_field(rf, kind=kind)
        assert [p.inner_text() for p in tab.query_selector_all(".panel p")] == list(reading.captions)
        assert tab.inner_text("#footer") == reading.footer
        assert (reading.bar.label if reading.bar else "") in tab.inner_text("#bar")
        assert bool(tab.inner_text("#bar")) == bool(reading.bar)


@pytest.mark.browser
def test_a_click_on_a_ring_goes_to_its_query_and_the_camera_stays(atlas):
    tab = atlas()
    first = panels_of(tab)
    click_ring(tab, panel=1)
    assert shown(tab) == "front"
    assert tab.inner_text("#footer") == read_field(atlas_field(), query=SIDE).footer
    after = panels_of(tab)
    assert changed(after[0], first[0]) > 0.003
    assert (((after[0].min(-1) < 245) != (first[0].min(-1) < 245)).mean()) < 0.01, "the car is where it was"
    click_ring(tab)
    assert shown(tab) == "wing"
    assert max(changed(a, b) for a, b in zip(first, panels_of(tab))) < 0.001


@pytest.mark.browser
def test_a_click_elsewhere_on_the_car_goes_to_the_nearest_query_and_beside_it_to_none(atlas):
    tab = atlas(camera="side")
    box = tab.query_selector(".view").bounding_box()
    outline = np.nonzero(panels_of(tab)[0].min(-1) < 245)
    row, left = int(np.mean(outline[0])), int(outline[1].min())
    tab.mouse.click(box["x"] + left + 10, box["y"] + row)
    assert shown(tab) == "front"
    tab.mouse.click(box["x"] + left + 10, box["y"] + 4)
    assert shown(tab) == "front"
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + row)
    assert shown(tab) == "wing"


@pytest.mark.browser
def test_a_drag_is_no_click(atlas):
    tab = atlas()
    box = tab.query_selector(".view").bounding_box()
    tab.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=3)
    tab.mouse.up()
    assert shown(tab) == "wing"


@pytest.mark.browser
def test_the_car_hides_rings_behind_it(atlas):
    tab = atlas(camera="side")
    assert len(orange_spots(panels_of(tab)[0])) == 2
    tab.select_option("select[name=camera]", label="right")
    assert len(orange_spots(panels_of(tab)[0])) == 2, "the query itself, which nothing hides, and the ring on this side"


@pytest.mark.browser
def test_a_ring_under_the_pointer_says_its_name(atlas):
    tab = atlas()
    assert tab.is_hidden("#name")
    click_ring(tab, click=tab.mouse.move)
    assert tab.inner_text("#name") == "front"
    tab.mouse.move(5, 5)
    assert tab.is_hidden("#name")


@pytest.mark.browser
def test_switches_are_reached_and_used_by_keyboard(atlas):
    tab = atlas()
    reached = []
    for _ in range(9):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate("document.activeElement.name || document.activeElement.id || document.activeElement.innerText")
        )
    assert reached == ["query", "layer", "head", "kind", "camera", "canvas", "ball", "selection", "compression"]
    tab.focus("select[name=query]")
    tab.keyboard.press("ArrowDown")
    assert tab.inner_text("#footer") == read_field(atlas_field(), query=SIDE).footer
    tab.get_by_role("button", name="compression").focus()
    tab.keyboard.press("Space")
    assert near(panels_of(tab)[2], COLOURS["compression"]) < 10


@pytest.mark.browser
def test_a_phone_shows_all_and_a_tap_is_a_click(atlas):
    tab = atlas(width=400, height=1500, touch=True, kind="mass")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    click_ring(tab, click=tab.touchscreen.tap)
    assert shown(tab) == "front"
    ticks = [tick.bounding_box() for tick in tab.query_selector_all("#bar div span")]
    assert len(ticks) > 2
    assert all(a["x"] + a["width"] < b["x"] for a, b in zip(ticks, ticks[1:]))
    assert ticks[0]["x"] >= 0
    assert ticks[-1]["x"] + ticks[-1]["width"] <= 400


@pytest.mark.browser
def test_a_finger_scrolls_past_the_panels_of_a_phone(atlas):
    tab = atlas(width=400, height=700, touch=True)
    wire = tab.context.new_cdp_session(tab)
    touch = lambda kind, *points: wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch("touchStart", {"x": 200, "y": 500})
    for y in range(480, 200, -20):
        touch("touchMove", {"x": 200, "y": y})
    touch("touchEnd")
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.scrollY") > 150


@pytest.mark.browser
def test_a_cloud_has_rings_too(atlas):
    tab = atlas(atlas_field(faces=False))
    click_ring(tab, rings=2)  # between dots, one sees through to the other side
    assert shown(tab) == "front"


@pytest.mark.browser
def test_a_region_is_marked_with_all_its_points(atlas):
    rf = atlas_field()
    inside = np.zeros((3, rf.sizes["point"]), bool)
    inside[[0, 1, 2], [QUERY, SIDE, RIGHT]] = True
    alone = near(panels_of(atlas(rf.assign(in_region=(("query", "point"), inside))))[0], QUERY_COLOUR, 90)
    inside[0, QUERY : QUERY + 5] = True
    assert near(panels_of(atlas(rf.assign(in_region=(("query", "point"), inside))))[0], QUERY_COLOUR, 90) > alone + 40


@pytest.mark.browser
def test_a_kind_without_layers_and_heads_has_one_panel_and_no_use_for_their_switches(atlas):
    rf = atlas_field()
    far = np.linalg.norm(rf["position"].values - rf["position"].values[QUERY], axis=-1)
    rf["model_gradient"] = (("query", "point"), np.stack([np.exp(-far)] * 3).astype(np.float32))
    tab = atlas(rf)
    before = panels_of(tab)
    tab.select_option("select[name=kind]", label="model_gradient")
    assert len(panels_of(tab)) == 1
    assert tab.is_disabled("select[name=layer]")
    assert tab.is_disabled("select[name=head]")
    assert tab.is_enabled("select[name=query]")
    tab.select_option("select[name=kind]", label="structural")
    assert tab.is_enabled("select[name=layer]")
    assert max(changed(a, b) for a, b in zip(before, panels_of(tab))) < 0.001
