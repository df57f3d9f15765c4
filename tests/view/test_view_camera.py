"""Fixed cameras: what is named, what fits, what is seen."""

import numpy as np
import pytest
from view_cases import QUERY, body

from bsaviz._checks import BsavizError
from bsaviz.view.camera import CAMERAS, VIEW_ANGLE, axes, direction, fit, sees


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.5])
def test_every_point_is_just_inside_the_panel(name, aspect):
    points, _ = body()
    top, margin = 0.2, 0.04
    eye = direction(name, points)
    camera = fit(points, eye, aspect, top=top, margin=margin)
    right, up, forward = axes(eye)
    offset = points - camera.position
    depth, half = offset @ forward, np.tan(np.radians(VIEW_ANGLE / 2))
    x, y = offset @ right / (depth * half * aspect), offset @ up / (depth * half)
    assert (depth > 0).all()
    assert np.abs(x).max() <= 1 - 2 * margin + 1e-6
    assert y.min() >= -(1 - 2 * margin) - 1e-6
    assert y.max() <= 1 - 2 * margin - 2 * top + 1e-6
    across, upright = np.abs(x).max() / (1 - 2 * margin), np.ptp(y) / (2 - 4 * margin - 2 * top)
    assert max(across, upright) == pytest.approx(1, abs=0.01)


def test_the_nose_points_left_seen_from_the_left():
    points, _ = body()
    right, up, _ = axes(direction("front-left", points))
    nose = points[points[:, 0].argmin()] - points.mean(0)
    assert nose @ right < 0
    assert up[2] > 0
    assert axes(direction("top", points))[1] @ [0, 1, 0] == pytest.approx(1)


def test_auto_looks_from_a_side_that_sees_the_query():
    points, triangles = body()
    assert np.allclose(direction("auto", points, triangles, QUERY), direction("front-left", points))
    for side, query in ((1, points[:, 1].argmax()), (-1, points[:, 1].argmin())):
        assert np.sign(direction("auto", points, triangles, query)[1]) == side
    assert direction("auto", points, triangles, points[:, 2].argmin())[2] < 0


def test_what_hides_a_point():
    square = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [0, 0, 0], [2, 0, 0]], float)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    up = np.array([0, 0, 1.0])
    assert not sees(square, triangles, 4, up)
    assert sees(square, triangles, 5, up)
    assert sees(square, triangles, 4, -up)
    assert sees(square, triangles, 0, up), "a point's own triangles do not hide it"


def test_flat_clouds_are_seen_from_above():
    flat = np.pad(np.random.default_rng(0).normal(size=(50, 2)), ((0, 0), (0, 1)))
    assert direction("auto", flat)[2] == 1


def test_one_point_has_a_camera():
    camera = fit(np.zeros((1, 3)), direction("front", np.zeros((1, 3))), 1.5)
    assert np.isfinite(camera.position).all()
    assert np.linalg.norm(camera.position) > 0


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        ("under the car", "camera must be 'auto', 'front-left', .* or a direction"),
        ((0, 0, 0), "three finite numbers, not all zero"),
        ((1, 2), "three finite numbers"),
        ((1, 2, np.nan), "three finite numbers"),
    ],
)
def test_bad_cameras(camera, says):
    with pytest.raises(BsavizError, match=says):
        direction(camera, np.zeros((1, 3)))
