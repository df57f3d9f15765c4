"""The remesher on a sphere: exact number of points, on the surface, even, symmetric; denser where asked."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import generated_mesh
from bsaviz.datasets.generated_body import Grid
from bsaviz.datasets.generated_flips import flip_edges, roundness
from bsaviz.datasets.generated_mesh import even_half_mesh, mirrored
from bsaviz.physics.surfaces import check_surface


def half_ball(radius=1.0, spacing=0.05):
    x = np.arange(-1.2, 1.2, spacing)
    y = np.arange(0, 1.2, spacing)
    grids = np.meshgrid(x, y, x, indexing="ij")
    distance = np.sqrt(sum(np.square(grid) for grid in grids)) - radius
    return Grid(distance.astype(np.float32), np.array([x[0], 0.0, x[0]]), spacing)


def even(points, curvature):
    return np.ones(len(points))


@pytest.mark.parametrize("num_points", [300, 642])
def test_sphere_gets_exactly_the_points_asked_for(num_points):
    points, faces = mirrored(*even_half_mesh(half_ball(), num_points, even))
    assert points.shape == (num_points, 3)
    assert faces.shape == (2 * num_points - 4, 3)
    check_surface(points, faces)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=2e-3)


def test_points_are_even():
    points, faces, _ = even_half_mesh(half_ball(), 642, even)
    edges = np.linalg.norm(points[faces] - points[np.roll(faces, 1, axis=1)], axis=2)
    assert edges.std() < 0.25 * edges.mean()
    assert np.median(roundness(*(points[faces[:, corner]] for corner in range(3)))) > 0.9


def test_rim_lies_on_the_plane_and_the_rest_beside_it():
    points, _, rim = even_half_mesh(half_ball(), 642, even)
    assert (points[-rim:, 1] == 0).all()
    assert (points[:-rim, 1] > 0.02).all()


def test_spacing_is_followed():
    def dense_on_top(points, curvature):
        return np.where(points[:, 2] > 0.4, 0.5, 1.0)

    points, faces, _ = even_half_mesh(half_ball(spacing=0.03), 642, dense_on_top)
    edges = np.linalg.norm(points[faces] - points[np.roll(faces, 1, axis=1)], axis=2).mean(axis=1)
    height = points[faces].mean(axis=1)[:, 2]
    ratio = edges[height > 0.6].mean() / edges[height < 0.2].mean()
    assert 0.4 < ratio < 0.65


def test_curvature_reaches_the_spacing():
    seen = []

    def look(points, curvature):
        seen.append(np.median(curvature))
        return np.ones(len(points))

    for radius in (0.5, 1.0):
        even_half_mesh(half_ball(radius, spacing=0.03), 300, look)
    assert seen[0] / seen[1] == pytest.approx(2, rel=0.15)


def test_flip_takes_the_diagonal_along_a_crease():
    # A roof with its ridge along x, its two slopes joined by a quad cut the wrong way.
    points = np.array([[0, -1, 0], [1, 0, 1], [0, 1, 0], [-1, 0, 1]], dtype=float)
    wrong = np.array([[0, 1, 2], [0, 2, 3]])

    class Roof:
        def __call__(self, where):
            return (where[:, 2] - 1 + np.abs(where[:, 1])) / np.sqrt(2)

        def gradient(self, where):
            return np.stack([0 * where[:, 0], np.sign(where[:, 1]), 1 + 0 * where[:, 0]], axis=1) / np.sqrt(2)

    flipped = flip_edges(points, wrong, Roof())
    assert all({1, 3} <= set(face) for face in flipped.tolist())
    np.testing.assert_array_equal(flip_edges(points, flipped, Roof()), flipped)


def test_odd_number_of_points_is_refused():
    with pytest.raises(BsavizError, match="num_points must be even, for a symmetric body, got 301"):
        even_half_mesh(half_ball(), 301, even)


def test_giving_up_says_why_and_what_to_do(monkeypatch):
    def fail(*_):
        raise BsavizError("a seed lost its patch")

    monkeypatch.setattr(generated_mesh, "_attempt", fail)
    with pytest.raises(BsavizError, match="no clean mesh of 300 points in 8 attempts .a seed lost.*ask for more"):
        even_half_mesh(half_ball(), 300, even)


def test_outline_of_two_curves_is_refused():
    ball = half_ball()
    with pytest.raises(BsavizError, match="outline on its plane of symmetry is not one closed curve"):
        even_half_mesh(Grid(np.maximum(ball.values, -_tunnel(ball)), ball.origin, ball.spacing), 300, even)


def _tunnel(ball):
    """Signed distance to a rod along y, which makes the ball a ring."""
    x = np.arange(-1.2, 1.2, ball.spacing)
    return (np.hypot(x[:, None, None], x[None, None, :]) - 0.4).astype(np.float32) + 0 * ball.values
