"""Pictures: compared with stored ones, and held to what they must show."""

import numpy as np
import pytest
from view_cases import QUERY, field, gates, near

import bsaviz.view
from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, QUERY_COLOUR
from bsaviz.view.drawing import build
from bsaviz.view.panels import picture

SMALL = (600, 200)
PICTURES = {
    "field": lambda: field().bsa.scene(window_size=SMALL),
    "field_mass": lambda: field().bsa.scene(kind="mass", head=1, layer=0, camera="side", window_size=SMALL),
    "field_cloud": lambda: field(faces=False).bsa.scene(window_size=SMALL),
    "gates": lambda: gates().bsa.scene(window_size=SMALL),
    "gates_cloud": lambda: gates(faces=False).bsa.scene(head=0, clim=(0, 1), camera="top", window_size=SMALL),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(name, verify_image_cache):
    verify_image_cache.test_name = name
    # Moving the camera by half a degree gives 190, another layer 570, another kind 2200: renderers may differ a little.
    verify_image_cache.error_value = verify_image_cache.warning_value = 300
    plotter = PICTURES[name]()
    plotter.render()
    verify_image_cache(plotter)
    plotter.close()


def pixels(drawn, **options):
    plotter, _ = build(drawn, **options)
    image = plotter.screenshot(return_img=True)
    plotter.close()
    return image


def panels_of(image, count=3):
    height = int(image.shape[0] * 0.79)
    return [part[:height] for part in np.array_split(image, count, axis=1)]


def test_each_panel_adds_its_branch_and_shows_the_query():
    image = pixels(picture(field(), layer=0, head=1), window_size=(1500, 500))
    ball, selection, compression = panels_of(image)
    blue, green, orange = (COLOURS[b] for b in ("ball", "selection", "compression"))
    assert near(ball, blue) > 100
    assert near(ball, green) == near(ball, orange) == 0
    assert near(selection, blue) > 100
    assert near(selection, green) > 30
    assert near(selection, orange) == 0
    assert near(compression, blue) > 100
    assert near(compression, green) > 30
    assert near(compression, orange) > 300
    for panel in (ball, selection, compression):
        assert near(panel, QUERY_COLOUR) > 30
        assert 0.2 < (panel.min(-1) < 240).mean() < 0.8, "neither an empty panel nor a dark one"


def test_the_query_is_marked_even_where_the_car_hides_it():
    for panel in panels_of(pixels(picture(field()), window_size=(1500, 500), camera="right")):
        assert near(panel, QUERY_COLOUR) > 30
        assert near(panel, COLOURS["ball"]) < 5


def test_a_point_read_by_several_branches_is_drawn_once():
    drawn = picture(field())
    for panel in drawn.panels:
        points = np.concatenate([d.points for d in panel.dots])
        assert len(points) == len(set(points))
    last = {d.name: d for d in drawn.panels[-1].dots}
    assert QUERY in last["ball"].points
    assert len(last["ball"].points) == 40
    assert sum(len(d.points) for d in last.values()) == 866
    assert last["compression"].radii.max() < last["ball"].radii.min()


def test_mass_shows_in_colour_and_size():
    ball = picture(field(), kind="mass").panels[0].dots[0]
    mass = field()["mass"].isel(query=0, layer=-1).mean("head").sel(branch="ball").values[ball.points]
    strong, weak = mass.argmax(), mass.argmin()
    assert ball.radii[strong] > ball.radii[weak]
    assert ball.colours[strong].sum() < ball.colours[weak].sum()


@pytest.mark.parametrize("size", [(600, 200), (1860, 560), (400, 600), (2400, 400), (100, 100)])
@pytest.mark.parametrize("kind", ["structural", "mass", "gates"])
def test_no_label_is_cut_and_none_overlaps_another(size, kind):
    drawn = picture(gates()) if kind == "gates" else picture(field(), kind=kind)
    plotter, overlays = build(drawn, window_size=size)
    said = []
    for overlay in overlays:
        for text, x0, y0, x1, y1 in overlay.boxes:
            said.append(text)
            if min(size) > 100:
                assert x0 >= 0, text
                assert x1 <= overlay.width, text
                assert y0 >= 0, text
                assert y1 <= overlay.height, text
        if min(size) > 100:
            assert not list(overlapping(overlay.boxes))
    plotter.close()
    for panel in drawn.panels:
        assert {panel.heading, panel.caption} <= set(said)
    assert drawn.footer in said
    assert {name for name, _ in drawn.legend} <= set(said)
    if drawn.bar:
        assert {drawn.bar.label, *(text for _, text in drawn.bar.ticks)} <= set(said)


def overlapping(boxes):
    for i, (a, ax0, ay0, ax1, ay1) in enumerate(boxes):
        for b, bx0, by0, bx1, by1 in boxes[i + 1 :]:
            if min(ax1, bx1) - max(ax0, bx0) > 1 and min(ay1, by1) - max(ay0, by0) > 1:
                yield a, b


def test_text_grows_with_the_window():
    plotter, overlays = build(picture(field()), window_size=(600, 200))
    small = [box[3] - box[1] for box in overlays[0].boxes]
    plotter.window_size = (1800, 600)
    plotter.render()
    large = [box[3] - box[1] for box in overlays[0].boxes]
    assert large[0] / small[0] == pytest.approx(3, rel=0.15)
    plotter.close()


def test_panels_share_one_camera():
    plotter = field().bsa.scene(window_size=SMALL)
    cameras = {id(plotter.renderers[i].camera) for i in range(3)}
    assert len(cameras) == 1
    assert plotter.off_screen
    plotter.close()


@pytest.mark.parametrize("branch", ["ball", "full"])
def test_a_model_with_one_branch_has_one_panel(branch):
    ds = field().isel(branch=[0]).assign_coords(branch=[branch])
    drawn = picture(ds)
    assert [panel.heading for panel in drawn.panels] == [branch]
    assert near(pixels(drawn), COLOURS[branch]) > 100


def test_clouds_without_faces_show_grey_points():
    first = panels_of(pixels(picture(field(faces=False)), window_size=(1500, 500)))[0]
    grey = (np.ptp(first.astype(int), axis=-1) < 4) & (first[..., 0] < 235) & (first[..., 0] > 120)
    assert grey.sum() > 500
    assert near(first, COLOURS["ball"]) > 100


@pytest.mark.parametrize("points", [1, 2])
def test_degenerate_clouds_can_be_drawn(points):
    ds = field(faces=False).isel(point=slice(points)).assign_coords(query=[0])
    assert (pixels(picture(ds), window_size=(600, 200)).min(-1) < 200).any()


def test_flat_clouds_can_be_drawn():
    ds = field(faces=False).isel(xyz=[0, 1])
    assert near(pixels(picture(ds), window_size=(900, 300)), COLOURS["ball"]) > 30


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda ds: ds.drop_vars("position"), "no variable 'position'"),
        (lambda ds: ds.drop_vars(["structural", "mass", "gate"]), "expected a dataset of bsaviz.receptive_field"),
        (lambda ds: ds.assign_coords(branch=["ball", "wide", "selection"]), "unknown branch 'wide'"),
        (lambda ds: ds.assign_coords(query=[5000]), "query 5000 is out of range: the dataset has 866 points"),
        (lambda ds: ds.assign(position=ds["position"] * np.nan), "finite positions"),
        (lambda ds: ds.assign(faces=ds["faces"] + 800), "point indices below 866"),
        (
            lambda ds: ds.drop_vars("structural").assign(mass=ds["mass"].isel(point=0)),
            "'mass' has dimensions .*, expected .*point",
        ),
    ],
)
def test_what_cannot_be_drawn_says_why(broken, says):
    with pytest.raises(BsavizError, match=says):
        bsaviz.view.picture(broken(field()))


def test_choices_that_do_not_apply():
    with pytest.raises(BsavizError, match="'query' chooses nothing in a picture of gates, .* layer, head, clim"):
        gates().bsa.scene(query=3)
    with pytest.raises(BsavizError, match="'clim' chooses nothing in a picture of receptive fields"):
        field().bsa.scene(clim=(0, 1))


@pytest.mark.parametrize("size", [(10, 10), (300,), (300.5, 200), "large", (20000, 300)])
def test_bad_window_sizes(size):
    with pytest.raises(BsavizError, match="window_size must be two integers"):
        field().bsa.scene(window_size=size)
