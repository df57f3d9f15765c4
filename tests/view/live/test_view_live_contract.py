"""What every live scene holds to, with no browser: state, batches, cameras, links, picks, stills and errors."""

import io

import numpy as np
import pytest
from PIL import Image
from view_cases import QUERY, body, near

from bsaviz._checks import BsavizError
from bsaviz.view import COLOURS, LiveScene, live_scene
from bsaviz.view.branches import QUERY_COLOUR
from bsaviz.view.camera import CAMERAS
from bsaviz.view.live import BACKENDS

POINTS, FACES = body()
COUNT = len(POINTS)
RED = np.tile(np.array([220, 20, 20], np.uint8), (COUNT, 1))


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def make(backend):
    scenes = []

    def one(panels=1, surface=True, **options):
        scene = live_scene(panels, backend=backend, **options)
        scenes.append(scene)
        if surface:
            scene.set_surface(POINTS, FACES)
        return scene

    yield one
    for scene in scenes:
        scene.close()


def sent(scene):
    """Names of what a scene sends while the returned list lives."""
    names = []
    inner = scene._update
    scene._update = lambda changed: (names.append(changed), inner(changed))
    return names


def picture(scene, size=(480, 400)):
    return np.asarray(Image.open(io.BytesIO(scene.snapshot(size=size))).convert("RGB"))


def test_a_scene_is_made_by_one_call(make):
    scene = make(3, surface=False, titles=["a", "b", "c"], height=300)
    assert isinstance(scene, LiveScene)
    assert hasattr(scene.widget, "model_id"), "an ipywidgets widget, to put in a layout"


def test_a_batch_is_one_message(make):
    scene = make(2)
    names = sent(scene)
    with scene.batch():
        scene.set_scalars(POINTS[:, 0])
        with scene.batch():
            scene.set_colours(RED, panel=1)
        scene.highlight([3])
        scene.set_title("new", panel=1)
        assert names == []
    assert names == [{("paint", 0), ("paint", 1), ("marks", 0), ("marks", 1), ("title", 1)}]


def test_a_batch_that_fails_half_way_shows_what_was_set(make):
    scene = make()
    names = sent(scene)

    def half():
        with scene.batch():
            scene.set_title("half")
            scene.set_scalars(POINTS)

    with pytest.raises(BsavizError, match="values must be"):
        half()
    assert names == [{("title", 0)}]


def test_a_new_surface_takes_paint_and_marks_away(make):
    scene = make(2)
    scene.set_scalars(POINTS[:, 0], panel=1)
    scene.highlight([5])
    scene.set_surface(POINTS[:100])
    assert [(panel.paint, panel.marks) for panel in scene._panels] == [(None, {})] * 2
    scene.set_scalars(np.zeros(100))


def test_marks_of_one_colour_replace_each_other(make):
    scene = make(2)
    scene.highlight([1, 2])
    scene.highlight([3], colour="#0072b2", panel=1)
    scene.highlight([7])
    assert [m.points.tolist() for m in scene._panels[0].marks.values()] == [[7]]
    assert [m.points.tolist() for m in scene._panels[1].marks.values()] == [[3], [7]]
    scene.highlight([], colour="#0072B2")
    scene.highlight(np.array([]))
    assert [panel.marks for panel in scene._panels] == [{}, {}]


def test_the_bar_spans_the_values_unless_told(make):
    scene = make()
    values = np.linspace(-2, 6, COUNT)
    values[[0, 4]] = np.nan
    scene.set_scalars(values)
    paint = scene._panels[0].paint
    assert (paint.bar.low, paint.bar.high) == (pytest.approx(np.nanmin(values)), 6)
    assert paint.levels[[0, 4, 1, -1]].tolist() == [0, 0, 1, 255]
    scene.set_scalars(values, clim=(0, 2))
    paint = scene._panels[0].paint
    assert (paint.bar.low, paint.bar.high) == (0, 2)
    assert paint.levels[[1, -1]].tolist() == [1, 255], "values beyond the range take the colour of its ends"
    assert paint.colours[0].tolist() == [0xD9] * 3


def test_classes_are_sent_as_bits_or_bytes_and_mean_the_same_colours(make):
    scene = make(2)
    right = POINTS[:, 0] > 0
    scene.set_classes(right, ["#112233", "#445566"], legend={"right": "#445566"})
    scene.set_classes(np.arange(COUNT) % 3, ["#000000", "#0000FF", "#00FF00"], panel=1)
    two, three = (scene._panels[i].paint for i in range(2))
    np.testing.assert_array_equal(two.colours[:, 0], np.where(right, 0x44, 0x11))
    np.testing.assert_array_equal(three.colours[:3], [[0, 0, 0], [0, 0, 255], [0, 255, 0]])
    assert two.legend == (("right", "#445566"),)
    bits, bytes_ = (getattr(scene.widget, f"paint_{i}") for i in range(2))
    assert len(bits["bits"]) == -(-COUNT // 8)
    assert len(bytes_["classes"]) == COUNT


@pytest.mark.parametrize(
    "values", [np.zeros(COUNT), np.full(COUNT, np.nan), np.full(COUNT, np.inf), np.ones(COUNT) > 0]
)
def test_odd_values_still_have_a_bar(make, values):
    scene = make()
    scene.set_scalars(values)
    bar = scene._panels[0].paint.bar
    assert bar.low < bar.high
    assert len(bar.ticks) == 5


def test_the_camera_takes_names_directions_and_what_it_gave(make):
    scene = make()
    scene.camera = "side"
    expected = np.array(CAMERAS["side"]) / np.linalg.norm(CAMERAS["side"])
    assert scene.camera["direction"] == pytest.approx(expected)
    assert (scene.camera["target"], scene.camera["distance"]) == (None, None)
    scene.camera = (2, 0, 0)
    assert scene.camera["direction"] == [1, 0, 0]
    near_by = {"direction": [0, 0, 1], "target": [0.5, 0, 0], "distance": 3.0}
    scene.camera = near_by
    assert scene.camera == near_by
    scene.camera = scene.camera
    assert scene.camera == near_by


def test_linked_scenes_share_a_camera(make):
    first, second, third = make(), make(), make()
    second.camera = "top"
    unlink = first.link(second)
    second.link(third)
    assert second.camera == first.camera == third.camera
    third.camera = "rear"
    assert first.camera == second.camera == third.camera
    unlink()
    first.camera = "top"
    assert second.camera == third.camera != first.camera
    second.close()
    third.camera = "front"
    unlink()


def test_picks_reach_every_callback_until_it_is_removed(make):
    scene, got = make(2), []

    def broken(point, panel):
        raise RuntimeError("a callback's own error")

    scene.on_pick(broken)
    remove = scene.on_pick(lambda point, panel: got.append((point, panel)))
    scene._pick(7, 1)
    scene._pick(COUNT, 0)
    scene._pick(7, 2)
    assert got == [(7, 1)], "an error in one callback stops no other; points that are gone are dropped"
    remove()
    scene._pick(8, 0)
    assert got == [(7, 1)]


def test_a_still_shows_colours_marks_title_and_bar(make, tmp_path):
    scene = make(2, titles=["left", "right"])
    scene.set_colours(RED, panel=1, legend={"all": "#00AA00"})
    blank = picture(scene)
    assert near(blank[:, 240:], "#DC1414", 90) > 2000
    assert near(blank[330:, 240:], "#00AA00") > 10, "the legend"
    assert near(blank[:, :240], "#DC1414", 90) == 0
    scene.highlight([QUERY])
    assert near(picture(scene), QUERY_COLOUR) > 40
    png = scene.snapshot(tmp_path / "still.png", size=(480, 400))
    assert (tmp_path / "still.png").read_bytes() == png


def test_a_still_hides_marks_behind_the_surface_and_shows_those_on_top(make):
    scene = make()
    hidden = int(np.argmax(POINTS[:, 1]))  # on the right; seen from the left it lies behind the body
    scene.camera = "side"
    blue = COLOURS["ball"]
    scene.highlight([hidden], colour=blue, on_top=False)
    assert near(picture(scene), blue) == 0
    scene.highlight([hidden], colour=blue)
    assert near(picture(scene), blue) > 20


def test_a_still_follows_the_camera_and_draws_clouds(make):
    scene = make()
    scene.set_surface(POINTS, point_size=0.12)
    values = POINTS[:, 0].copy()
    values[:300] = np.nan
    scene.set_scalars(values, label="x", nan_colour="#FF00FF")
    front = picture(scene)
    assert near(front, "#FF00FF", 120) > 200
    scene.camera = {"direction": [0, -1, 0], "target": [0, 0, 0], "distance": 30.0}
    far = picture(scene)
    ink = [(image[:330].min(-1) < 240).mean() for image in (front, far)]
    assert ink[1] < 0.8 * ink[0]


def test_closing_ends_everything(make):
    scene = make()
    with scene:
        pass
    scene.close()
    attempts = [
        lambda: scene.widget, lambda: scene.set_surface(POINTS), lambda: scene.set_scalars(POINTS[:, 0]),
        lambda: scene.set_colours(RED), lambda: scene.highlight([0]), lambda: scene.set_title("x"),
        lambda: scene.snapshot(), lambda: scene.on_pick(print), lambda: scene.link(make()),
        lambda: setattr(scene, "camera", "top"), lambda: scene.batch().__enter__(), lambda: make().link(scene),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(BsavizError, match="scene is closed; make another one with bsaviz.view.live_scene"):
            attempt()


BAD = np.array(POINTS)
BAD[4], BAD[9] = np.nan, np.inf

REFUSED = [
    (lambda s: s.set_surface(POINTS[:, :2]), r"positions must have shape \(P, 3\) .* got .*, 2\)"),
    (lambda s: s.set_surface(np.empty((0, 3))), "at least one point"),
    (lambda s: s.set_surface([["a", "b", "c"]]), "positions must be real numbers"),
    (lambda s: s.set_surface(BAD), "2 are NaN or infinite, the first is point 4"),
    (lambda s: s.set_surface(POINTS, FACES.astype(float)), r"faces must be whole numbers of shape \(F, 3\)"),
    (lambda s: s.set_surface(POINTS, FACES[:, :2]), r"faces must be whole numbers of shape \(F, 3\)"),
    (lambda s: s.set_surface(POINTS, FACES + 1), f"faces must hold points 0 to {COUNT - 1}, got 1 to {COUNT}"),
    (lambda s: s.set_surface(POINTS, point_size=0), "point_size must be a positive number"),
    (lambda s: s.set_scalars(POINTS[:5, 0]), rf"values must be one number a point, shape \({COUNT},\), got \(5,\)"),
    (lambda s: s.set_scalars(["x"] * COUNT), "values must be real numbers"),
    (lambda s: s.set_scalars(POINTS[:, 0], panel=2), "panel must be a whole number from 0 to 1, .* got 2"),
    (lambda s: s.set_scalars(POINTS[:, 0], panel="0"), "panel must be a whole number from 0 to 1, .* got '0'"),
    (lambda s: s.set_scalars(POINTS[:, 0], cmap="mud"), "cmap must be the name of a .* colour map .* got 'mud'"),
    (lambda s: s.set_scalars(POINTS[:, 0], clim=(2, 2)), r"clim must be two finite numbers \(low, high\)"),
    (lambda s: s.set_scalars(POINTS[:, 0], clim=3), "clim must be two finite numbers"),
    (lambda s: s.set_scalars(POINTS[:, 0], nan_colour="grey"), "nan_colour must be a colour '#rrggbb', got 'grey'"),
    (lambda s: s.set_colours(RED / 255), rf"rgb must be uint8 of shape \({COUNT}, 3\), .* got float64"),
    (lambda s: s.set_colours(RED[:3]), rf"rgb must be uint8 of shape \({COUNT}, 3\)"),
    (lambda s: s.set_classes(RED, ["#000000"]), rf"classes must be bool or whole numbers of shape \({COUNT},\)"),
    (lambda s: s.set_classes(POINTS[:, 0], ["#000000"]), "classes must be bool or whole numbers .* got float"),
    (lambda s: s.set_classes(np.arange(COUNT), ["#000000"]), "classes must be rows 0 to 0 of the palette, got 0 to"),
    (lambda s: s.set_classes(RED[:, 0] > 0, "#000000"), "palette must be a list of 1 to 256 colours"),
    (lambda s: s.set_classes(RED[:, 0] > 0, ["red", "#000000"]), r"palette\[0\] must be a colour '#rrggbb', got 'red'"),
    (lambda s: s.set_colours(RED, legend=["a"]), "legend must be a dict of names and colours"),
    (lambda s: s.set_colours(RED, legend={"a": "red"}), r"legend\['a'\] must be a colour '#rrggbb', got 'red'"),
    (lambda s: s.highlight([COUNT]), f"point {COUNT} is out of range: the surface has {COUNT} points"),
    (lambda s: s.highlight([-1]), "point -1 is out of range"),
    (lambda s: s.highlight([0.5]), r"points must be whole numbers of shape \(k,\)"),
    (lambda s: s.highlight(np.ones(COUNT, bool)), r"points must be whole numbers of shape \(k,\), got bool"),
    (lambda s: s.highlight([0], colour="red"), "colour must be a colour '#rrggbb', got 'red'"),
    (lambda s: s.highlight([0], scale=-1), "scale must be a positive number"),
    (lambda s: s.highlight([0], panel=5), "panel must be a whole number from 0 to 1"),
    (lambda s: s.set_title("x", panel=-1), "panel must be a whole number from 0 to 1"),
    (lambda s: setattr(s, "camera", "behind"), "camera must be 'auto', 'front-left'"),
    (lambda s: setattr(s, "camera", (0, 0, 0)), "three finite numbers, not all zero"),
    (lambda s: setattr(s, "camera", {"eye": 1}), "a camera dict has the keys direction, target and distance"),
    (lambda s: setattr(s, "camera", {"direction": [1, 0, 0], "distance": 2}), "target must be three finite numbers"),
    (lambda s: s.link(s), "a scene is linked to another live scene"),
    (lambda s: s.link("other"), "a scene is linked to another live scene, got 'other'"),
    (lambda s: s.snapshot(size=(10, 10)), "size must be two integers"),
    (lambda s: s.snapshot("still.txt"), "expected a file name ending in .png, got 'still.txt'"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "says"), REFUSED)
def test_bad_input_is_refused_and_changes_nothing(make, act, says):
    scene = make(2)
    scene.set_scalars(POINTS[:, 2])
    before = [(panel.paint, dict(panel.marks), panel.title) for panel in scene._panels]
    names = sent(scene)
    with pytest.raises(BsavizError, match=says):
        act(scene)
    assert [(panel.paint, panel.marks, panel.title) for panel in scene._panels] == before
    assert names == []


@pytest.mark.parametrize(
    "act", [lambda s: s.set_scalars([1]), lambda s: s.set_colours(RED), lambda s: s.highlight([0])]
)
def test_without_a_surface_one_is_asked_for(make, act):
    with pytest.raises(BsavizError, match=r"no surface yet; call set_surface\(positions, faces\) first"):
        act(make(surface=False))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"panels": 0}, "panels must be a whole number from 1 to 12, got 0"),
        ({"panels": True}, "panels must be a whole number from 1 to 12, got True"),
        ({"panels": 2, "titles": ["a"]}, "titles must be a list of 2 texts"),
        ({"titles": "a"}, "titles must be a list of 1 texts"),
        ({"width": 5}, "width must be whole pixels from 100 to 10000, got 5"),
        ({"height": None}, "height must be whole pixels from 100 to 10000, got None"),
        ({"backend": "opengl"}, "backend must be 'auto' or one of 'anywidget', got 'opengl'"),
    ],
)
def test_scenes_that_cannot_be(options, says):
    with pytest.raises(BsavizError, match=says):
        live_scene(**options)
