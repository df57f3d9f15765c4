import itertools

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import Car
from bsaviz.datasets._frame import canonical

AXES = ("x", "y", "z")


def turned_away(toy, rear, up, pressure=True):
    """The toy in the axes of some file: `rear` and `up` are the file's axes of the canonical x and z."""
    rows = np.zeros((3, 3))
    for row, name in ((0, rear), (2, up)):
        rows[row, AXES.index(name[-1])] = -1 if name[0] == "-" else 1
    rows[1] = np.cross(rows[2], rows[0])
    fields = {"U": toy.points @ rows, **({"pressure": toy.pressure} if pressure else {})}
    return Car("toy", toy.points @ rows, toy.faces, fields)


ALL = [(r + a, u + b) for a, b in itertools.permutations(AXES, 2) for r in ("", "-") for u in ("", "-")]


@pytest.mark.parametrize(("rear", "up"), [pair for pair in ALL if not pair[1].startswith("-")])
@pytest.mark.parametrize("pressure", [True, False])
def test_a_car_is_recognised_from_any_axes(toy, rear, up, pressure):
    car = canonical(turned_away(toy, rear, up, pressure))
    assert car.positions == pytest.approx(toy.points, abs=1e-6)
    assert car.fields["U"] == pytest.approx(toy.points, abs=1e-6)
    assert car.attrs["frame"].startswith(f"canonical: x = {rear if rear[0] == '-' else '+' + rear}, y = ")
    assert ("nose by the pressure" if pressure else "nose by the lower end") in car.attrs["frame"]


@pytest.mark.parametrize(("rear", "up"), ALL)
def test_stated_axes_win(toy, rear, up):
    forward = rear[1:] if rear.startswith("-") else "-" + rear
    car = canonical(turned_away(toy, rear, up), up=up, forward=forward)
    assert car.positions == pytest.approx(toy.points, abs=1e-6)
    assert "forward as stated, up as stated" in car.attrs["frame"]


def test_one_stated_axis_is_enough(toy):
    assert canonical(turned_away(toy, "z", "-y"), up="-y").positions == pytest.approx(toy.points, abs=1e-6)
    assert canonical(turned_away(toy, "y", "z"), forward="-y").positions == pytest.approx(toy.points, abs=1e-6)


def test_the_frame_of_the_file_can_be_kept(toy):
    raw = turned_away(toy, "z", "y")
    car = canonical(raw, frame="file")
    assert (car.positions == raw.positions).all()
    assert car.attrs["frame"] == "file"


def test_turning_keeps_every_number(toy):
    raw = turned_away(toy, "-y", "x")
    car = canonical(raw)
    assert sorted(np.abs(car.positions).ravel().tolist()) == sorted(np.abs(raw.positions).ravel().tolist())
    assert not (np.signbit(car.positions) & (car.positions == 0)).any()


def test_a_shape_without_a_length_keeps_its_axes():
    points = np.random.default_rng(0).normal(size=(500, 3))
    ball = Car("ball", points / np.linalg.norm(points, axis=1, keepdims=True))
    car = canonical(ball)
    assert (car.positions == ball.positions).all()
    assert car.attrs["frame"] == "file (no side of it is clearly the longest; give up= and forward=)"


def test_a_box_that_mirrors_both_ways_has_its_shorter_side_up():
    corners = np.array(list(itertools.product((-1, 1), repeat=3)), float)
    car = canonical(Car("box", corners * [1, 3, 1.5]))
    assert np.ptp(car.positions, axis=0).tolist() == [6, 3, 2]
    assert car.attrs["frame"].endswith("up by the shorter side, nose at the negative end, unknown)")


def test_a_van_taller_than_wide_still_stands(toy):
    tall = Car("van", toy.points * [1, 0.6, 1.6])
    assert np.ptp(tall.positions, axis=0)[2] > np.ptp(tall.positions, axis=0)[1]
    assert canonical(tall).positions == pytest.approx(tall.positions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": "world"}, "frame must be 'canonical' or 'file', got 'world'"),
        ({"up": "w"}, "up must be an axis of the file, one of x, y, z, -x, -y, -z; got 'w'"),
        ({"forward": 2}, "forward must be an axis of the file, .* got 2"),
        ({"up": "z", "forward": "-z"}, "up and forward must be different axes, both are z"),
        ({"frame": "file", "up": "z"}, "frame='file' keeps the file's axes; leave up and forward out"),
    ],
)
def test_wrong_options_say_what_is_expected(toy, options, message):
    with pytest.raises(BsavizError, match=message):
        canonical(Car("toy", toy.points), **options)


@pytest.mark.parametrize("points", [np.ones((5, 3)), np.zeros((1, 3)), np.arange(4)[:, None] * [[0, 0, 1.0]]])
@pytest.mark.parametrize("options", [{}, {"up": "y"}, {"forward": "x"}])
def test_points_in_one_place_or_line_are_no_trouble(points, options, recwarn):
    car = canonical(Car("few", points, fields={"pressure": np.zeros(len(points))}), **options)
    assert np.linalg.norm(car.positions, axis=1) == pytest.approx(np.linalg.norm(points, axis=1))
    assert not recwarn
