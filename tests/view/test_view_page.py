"""The exported page: one file with everything in it; in a browser the still's content, with switches that work."""

import re

import numpy as np
import pytest
from page_cases import Held, changed, panels_of, without_data
from view_cases import QUERY, field, gates, near

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, QUERY_COLOUR
from bsaviz.view.page import page
from bsaviz.view.reading import read_field, read_gates


@pytest.mark.parametrize("dataset", [field, gates])
def test_the_page_refers_to_nothing_outside(dataset):
    text = page(dataset())
    outside = r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(|fetch\(|XMLHttp|WebSocket|import\("
    assert not re.search(outside, without_data(text))
    assert "default-src 'none'" in text
    assert text.count("<script") == 3
    assert "@@" not in without_data(text)


def test_the_page_holds_the_dataset():
    rf = field(queries=(QUERY, 40))
    held = Held(page(rf))
    np.testing.assert_array_equal(held.positions, rf["position"])
    np.testing.assert_array_equal(held.faces, rf["faces"])
    assert held.meta["choices"] == {
        "query": [str(QUERY), "40"],
        "layer": ["0", "1"],
        "head": ["all heads", "0", "1"],
        "kind": ["structural", "mass"],
    }
    assert held.meta["anchors"] == [QUERY, 40]
    assert {name: kind["bits"] for name, kind in held.kinds.items()} == {"structural": True, "mass": False}
    for kind in ("structural", "mass"):
        assert len(held.levels[kind]) == len(held.words[kind]) == 2 * 2 * 3
        for index, (levels, words) in enumerate(zip(held.levels[kind], held.words[kind])):
            query, layer, head = QUERY if index < 6 else 40, index // 3 % 2, (None, 0, 1)[index % 3]
            reading = read_field(rf, query=query, layer=layer, head=head, kind=kind)
            assert (words["captions"], words["footer"]) == (list(reading.captions), reading.footer)
            np.testing.assert_array_equal(levels, reading.levels)


def test_a_kind_has_its_own_levels_bar_and_switches():
    rf = with_other_kinds(field(queries=(QUERY, 40)))
    held = Held(page(rf))
    assert held.meta["choices"]["kind"] == ["structural", "mass", "gradient", "reach", "model_gradient"]
    views = {"structural": 12, "mass": 12, "gradient": 12, "reach": 4, "model_gradient": 2}
    for kind, count in views.items():
        assert len(held.levels[kind]) == len(held.words[kind]) == count
        assert held.kinds[kind]["varies"] == [dim for dim in ("query", "layer", "head") if dim in rf[kind].dims]
        reading = read_field(rf, query=40, kind=kind, layer=1)
        last = -3 if count == 12 else -1  # all heads together come first
        np.testing.assert_array_equal(held.levels[kind][last], reading.levels)
        assert held.kinds[kind]["headings"] == list(reading.headings)
        assert (held.words[kind][last]["bar"] or {}).get("label") == (reading.bar and reading.bar.label)


def with_other_kinds(rf):
    """The kinds that have fewer dimensions, and amounts of their own."""
    far = np.linalg.norm(rf["position"].values[None] - rf["position"].values[rf["query"].values][:, None], axis=-1)
    return rf.assign(
        gradient=(2 * rf["mass"] ** 0.5).astype(np.float32),
        reach=rf["structural"].any("head"),
        model_gradient=(("query", "point"), np.exp(-far).astype(np.float32)),
    )


def test_a_head_that_a_layer_lacks_is_said_to_be_missing():
    rf = field()
    for name in ("mass", "gate"):
        rf[name].loc[{"layer": 0, "head": 1}] = np.nan
    held = Held(page(rf))
    lacking, there = held.words["mass"][2], held.words["mass"][5]
    assert set(lacking["captions"]) == {"this layer has no head 1"}
    assert lacking["bar"] is None
    assert there["captions"][0].startswith("ball: mass")
    assert not held.levels["mass"][2].any()


def test_queries_are_listed_by_name_where_they_have_one():
    rf = field(queries=(QUERY, QUERY)).assign_coords(region=("query", ["wing", "side"]))
    rf["in_region"] = (("query", "point"), np.zeros((2, rf.sizes["point"]), bool))
    rf["in_region"][0, QUERY] = True
    rf["in_region"][1, [QUERY, 40, 41]] = True
    rf["structural"][1] = False
    held = Held(page(rf))
    assert held.meta["choices"]["query"] == ["wing", "side"]
    members = np.unpackbits(np.frombuffer(held.regions, np.uint8).reshape(2, -1), axis=-1, count=rf.sizes["point"])
    np.testing.assert_array_equal(members, rf["in_region"])
    assert held.levels["structural"][:6].any()
    assert not held.levels["structural"][6:].any(), "two queries in the middle of one point are kept apart"


def test_gates_fill_the_page_too():
    ds = gates()
    held = Held(page(ds, head=1, clim=(0, 1)))
    assert held.meta["start"] == {"layer": 0, "head": 2}
    assert held.kinds["gate"]["painted"]
    reading = read_gates(ds, head=1, clim=(0, 1))
    np.testing.assert_array_equal(held.levels["gate"][2], reading.levels)
    assert held.words["gate"][2]["bar"]["label"] == reading.bar.label


def test_the_page_opens_with_the_choice_made():
    meta = Held(page(field(queries=(QUERY, 40)), query=40, layer=0, head=1, kind="mass", camera="top")).meta
    assert meta["start"] == {"query": 1, "layer": 0, "head": 2, "kind": 1}
    assert meta["eyes"] == [[0, 0, 1]] * 2


def test_one_head_has_no_switch_and_the_structural_kind_alone_no_ramp():
    held = Held(page(field(heads=1, kinds=("structural",))))
    assert held.meta["choices"]["head"] == ["0"]
    assert held.kinds["structural"]["ramps"] == []


def test_a_selected_dataset_has_the_views_that_are_left():
    rf = field(queries=(QUERY, 40)).sel(query=40, layer=1)
    held = Held(page(rf))
    assert held.kinds["mass"]["varies"] == ["head"]
    assert held.words["mass"][0]["footer"] == read_field(rf, kind="mass").footer


def test_labels_cannot_break_out_of_the_page():
    bad = "</script><img src=x onerror=alert(1)>&'\"@@DATA@@"
    rf = field().assign_coords(region=("query", [bad]))
    rf.attrs["car"] = bad
    text = page(rf)
    assert text.count("</script>") == 3
    assert "<img" not in text
    held = Held(text)
    assert held.words["mass"][0]["footer"].startswith(bad)
    assert held.meta["choices"]["query"] == [bad]


@pytest.mark.parametrize(
    "choice", [{"layer": 9}, {"head": 9}, {"query": 9}, {"kind": "x"}, {"camera": "x"}, {"clim": (0, 1)}]
)
def test_bad_choices_are_refused(choice, tmp_path):
    with pytest.raises(BsavizError):
        field().bsa.export_html(tmp_path / "x.html", **choice)
    assert not list(tmp_path.iterdir())


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
        assert changed(a, b) > 0.05
    outlines = [panel.min(-1) < 245 for panel in after]
    for outline in outlines[1:]:
        assert (outline != outlines[0]).mean() < 0.05
    tab.dblclick("#canvas", position={"x": 600, "y": 150})
    assert changed(panels_of(tab)[0], before[0]) < 0.001


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
    assert changed(panels_of(tab)[0], first[0]) > 0.005


@pytest.mark.browser
def test_another_query_is_looked_at_unless_someone_has_turned_the_car(opened):
    right = 20 * 24  # in the middle of the right side, hidden from where the first query is seen
    tab = opened(field(queries=(QUERY, right)))
    left = panels_of(tab)[0]
    tab.select_option("select[name=query]", label=str(right))
    assert near(panels_of(tab)[0], COLOURS["ball"]) > 50
    tab.select_option("select[name=query]", label=str(QUERY))
    assert changed(panels_of(tab)[0], left) < 0.001
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
