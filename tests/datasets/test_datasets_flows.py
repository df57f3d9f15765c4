"""Side wind, ride height and tandem flows, against symmetries and limits that are known."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import Car, generate_car, tandem, with_flow, with_influence

trimesh = pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def ball():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    return Car("ball", np.asarray(mesh.vertices), np.asarray(mesh.faces), units={"positions": "m"})


@pytest.fixture(scope="module")
def alone(ball):
    return with_flow(ball, ground=False).pressure


def test_side_wind_turns_the_pressure_round_a_ball(ball):
    turned = with_flow(ball, yaw=30.0, ground=False).pressure
    dynamic = 0.5 * 1.184 * 20.0**2
    wind = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6), 0])
    cosine = ball.positions @ wind
    assert np.abs(turned / dynamic - (1 - 9 / 4 * (1 - cosine**2))).max() < 0.05


def test_a_ground_that_is_far_away_does_nothing(ball, alone):
    far = with_flow(ball, ride_height=50.0).pressure
    near = with_flow(ball, ride_height=0.2)
    assert np.abs(far - alone).max() < 0.01 * np.abs(alone).max()
    below = near.positions[:, 2] < 0.5
    assert near.pressure[below].mean() < alone[below].mean() - 10  # air is faster in the gap
    assert near.positions[:, 2].min() == pytest.approx(0.2, abs=1e-5)
    assert near.attrs["ride_height"] == 0.2


def test_two_balls_mirror_each_other_and_feel_each_other_only_when_near(ball, alone):
    pair = with_flow(tandem(ball, ball, gap=0.5), ground=False)
    first, second = (pair.fields["which"] == which for which in (0, 1))
    mirror = np.linalg.norm(pair.positions[first] * [-1, 1, 1] - pair.positions[second][:, None], axis=-1).argmin(1)
    span = np.abs(alone).max()
    assert np.abs(pair.pressure[second] - pair.pressure[first][mirror]).max() < 0.03 * span
    assert np.abs(pair.pressure[first] - alone).max() > 0.05 * span
    apart = with_flow(tandem(ball, ball, gap=40.0), ground=False)
    assert np.abs(apart.pressure[: len(alone)] - alone).max() < 0.01 * span


def equator(ball):
    return np.abs(ball.positions[:, 0]) < 0.2


def test_the_second_ball_stands_in_the_dipole_flow_of_the_first(ball):
    """Far apart each is a dipole: the wind at the other is slower by (a / r)^3, and Cp = 1 - 9/4 (1 - (a / r)^3)^2."""
    apart = 5.0
    pair = with_influence(tandem(ball, ball, gap=apart - 2), ground=False)
    slower = 1 / apart**3
    expected = 9 / 4 * (1 - (1 - slower) ** 2) * 0.5 * 1.184 * 20.0**2
    for half in np.split(pair.fields["influence"], 2):
        assert half[equator(ball)].mean() == pytest.approx(expected, rel=0.15)


def test_influence_is_what_the_other_adds(ball, alone):
    pair = with_influence(tandem(ball, ball, gap=0.5), ground=False)
    first = pair.fields["which"] == 0
    np.testing.assert_allclose(pair.fields["influence"][first], pair.pressure[first] - alone, atol=0.05)


def test_a_ball_over_the_ground_feels_the_dipole_of_its_image(ball, alone):
    """The image, a dipole at 2 h beside it, speeds the wind up by (a / 2h)^3 / 2."""
    height = 2.5
    over = with_flow(ball, ride_height=height - 1).pressure
    faster = 1 / (2 * height) ** 3 / 2
    expected = 9 / 4 * (1 - (1 + faster) ** 2) * 0.5 * 1.184 * 20.0**2
    ring = equator(ball)
    assert (over - alone)[ring].mean() == pytest.approx(expected, rel=0.15)


def test_a_car_in_side_wind_is_no_longer_symmetric():
    car = generate_car(0, num_points=1500)
    x, y, _ = car.positions.T
    left, right = ((x < x.min() + 0.4) & (side * y > 0.3) for side in (-1, 1))  # corners of the front
    straight, yawed = with_flow(car).pressure, with_flow(car, yaw=15.0).pressure
    assert abs(straight[left].mean() - straight[right].mean()) < 5
    assert yawed[left].mean() - yawed[right].mean() > 30  # the wind stands on the corner that it comes from


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda ball: with_flow(Car("dots", ball.positions)), "'dots' is a cloud; a flow needs a closed surface"),
        (lambda ball: with_flow(ball, yaw=80), "yaw must be from -60 to 60 degrees, got 80"),
        (lambda ball: with_flow(ball, speed=0), "speed must be a finite number above 0, got 0"),
        (lambda ball: with_flow(ball, ride_height=-1), "ride_height must be a finite number above 0"),
        (lambda ball: with_flow(ball), "must stay above the ground"),
        (lambda ball: with_influence(ball), "'ball' is no pair: it has no field 'which'"),
        (lambda ball: tandem(ball, ball, 0), "gap must be a finite number of metres above 0, got 0"),
        (lambda ball: tandem(ball, Car("dots", ball.positions), 1), "'dots' is a cloud"),
    ],
)
def test_errors_say_what_was_expected(ball, call, words):
    with pytest.raises(BsavizError, match=words):
        call(ball)
