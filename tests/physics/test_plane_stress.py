"""Plane stress against Kirsch's plate with a hole, and against itself."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.physics.plane_stress import PlaneStress, plane_stress, plate_with_hole

RADIUS, YOUNG, POISSON = 0.1, 2.0, 0.3
outer = lambda x: np.abs(x - 0.5).max(axis=0) > 0.5 - 1e-9


def polar(x):
    return np.hypot(*(x - 0.5)), np.arctan2(x[1] - 0.5, x[0] - 0.5)


def kirsch_displacement(x):
    """Of an infinite plate pulled by 1 along x (plane stress)."""
    r, angle = polar(x)
    shear, k, a = YOUNG / 2 / (1 + POISSON), (3 - POISSON) / (1 + POISSON), RADIUS
    scale = a / 8 / shear
    radial = scale * (r / a * (k - 1 + 2 * np.cos(2 * angle))
                      + 2 * a / r * (1 + (1 + k - (a / r) ** 2) * np.cos(2 * angle)))  # fmt: skip
    around = -2 * scale * (r / a + a / r * (k - 1) + (a / r) ** 3) * np.sin(2 * angle)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([radial * c - around * s, radial * s + around * c])


def kirsch_stress(x):
    """(n, 3): xx, yy, xy."""
    r, angle = polar(x)
    q = (RADIUS / r) ** 2
    c, s = np.cos(angle), np.sin(angle)
    rr = (1 - q) / 2 + (1 - 4 * q + 3 * q**2) / 2 * np.cos(2 * angle)
    tt = (1 + q) / 2 - (1 + 3 * q**2) / 2 * np.cos(2 * angle)
    rt = -(1 + 2 * q - 3 * q**2) / 2 * np.sin(2 * angle)
    xx, yy = rr * c**2 + tt * s**2 - 2 * rt * s * c, rr * s**2 + tt * c**2 + 2 * rt * s * c
    return np.stack([xx, yy, (rr - tt) * s * c + rt * (c**2 - s**2)], axis=1)


@pytest.fixture(scope="module")
def kirsch():
    points, quads = plate_with_hole(lambda theta: np.full_like(theta, RADIUS), grading=6)
    solution = plane_stress(points, quads, held=outer, values=kirsch_displacement, young=YOUNG, poisson=POISSON)
    return points, solution


def test_stress_triples_at_a_circular_hole(kirsch):
    points, solution = kirsch
    assert solution.stress[:, 0].max() == pytest.approx(3, rel=0.01)


def test_the_whole_field_is_kirschs(kirsch):
    points, solution = kirsch
    exact = kirsch_stress(points.T)
    assert np.abs(solution.stress - exact).max() < 0.02
    assert np.sqrt(np.mean((solution.stress - exact) ** 2)) < 0.005
    np.testing.assert_allclose(solution.displacement, kirsch_displacement(points.T).T, atol=3e-4)


def test_the_error_falls_with_the_mesh():
    def error(angular, radial):
        points, quads = plate_with_hole(lambda theta: np.full_like(theta, RADIUS), angular, radial, grading=6)
        solution = plane_stress(points, quads, held=outer, values=kirsch_displacement, young=YOUNG, poisson=POISSON)
        return np.abs(solution.stress - kirsch_stress(points.T)).max()

    assert error(60, 8) < 0.5 * error(28, 4)


def test_a_plate_pulled_on_top_carries_the_load_whatever_its_stiffness():
    points, quads = plate_with_hole(lambda theta: 0.2 + 0.03 * np.cos(3 * theta), 60, 6)
    pull = dict(held=lambda x: x[1] < 1e-9, pulled=lambda x: x[1] > 1 - 1e-9, traction=(0, 100.0), poisson=0.5)
    soft, hard = plane_stress(points, quads, **pull), plane_stress(points, quads, young=1e6, **pull)
    np.testing.assert_allclose(soft.stress, hard.stress, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(soft.displacement, 1e6 * hard.displacement, rtol=1e-6, atol=1e-4)
    assert (soft.displacement[points[:, 1] == points[:, 1].min()] == 0).all()
    for side in (0.05, 0.95):  # the force through a cut is the traction times the width
        near = np.argsort(np.abs(points[:, 1] - side))[:20]
        assert soft.stress[near, 1].mean() == pytest.approx(100, rel=0.35)
    top = np.abs(points[:, 1] - 1) < 1e-9
    along = np.argsort(points[top, 0])
    assert np.trapezoid(soft.stress[top, 1][along], points[top, 0][along]) == pytest.approx(100, rel=0.03)


def test_von_mises_of_pure_states():
    stress = np.array([[2.0, 0, 0], [0, 0, 1.0], [3.0, 3.0, 0]])
    np.testing.assert_allclose(PlaneStress(None, stress).von_mises, [2, np.sqrt(3), 3])


def test_the_mesh_has_a_ray_in_every_corner_and_its_hole():
    points, quads = plate_with_hole(lambda theta: np.full_like(theta, 0.3), 108, 16)
    assert len(points) == 108 * 17
    assert len(quads) == 108 * 16
    for corner in ([0, 0], [0, 1], [1, 0], [1, 1]):
        assert np.abs(points - corner).max(axis=1).min() < 1e-12
    assert np.hypot(*(points[::17] - 0.5).T) == pytest.approx(0.3)


SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"points": np.zeros((4, 3))}, r"points must be finite numbers of shape \(V, 2\), got \(4, 3\)"),
        ({"quads": np.zeros((1, 3), int)}, r"quads must be integers of shape \(Q, 4\), got int64 \(1, 3\)"),
        ({"quads": np.array([[0, 3, 2, 1]])}, r"1 quads have no area or run clockwise \(first: 0\); turn them round"),
        ({"poisson": 0.6}, r"young must be positive and poisson in \(-1, 0.5\], got 1.0 and 0.6"),
        ({"held": lambda x: x[0] > 9}, "held must be true for some edges of the rim"),
    ],
)
def test_bad_plates_are_refused(changed, message):
    arguments = {"points": SQUARE, "quads": np.array([[0, 1, 2, 3]]), "held": lambda x: x[1] < 1e-9} | changed
    with pytest.raises(BsavizError, match=message):
        plane_stress(arguments.pop("points"), arguments.pop("quads"), **arguments)


@pytest.mark.parametrize(
    ("angular", "radius", "message"),
    [(104, 0.3, "angular must be 4 more than a multiple of 8"), (108, 0.6, "108 numbers between 0 and 0.5")],
)
def test_bad_holes_are_refused(angular, radius, message):
    with pytest.raises(BsavizError, match=message):
        plate_with_hole(lambda theta: np.full_like(theta, radius), angular)
