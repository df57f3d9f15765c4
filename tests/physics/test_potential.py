"""Potentials on surfaces against their closed form on a sphere, and what it refuses."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.physics import surface_potential

RADIUS = 1.5


@pytest.fixture(scope="module")
def sphere():
    """Points spread evenly over a sphere (Fibonacci), with equal areas."""
    n = 3000
    i = np.arange(n) + 0.5
    z, angle = 1 - 2 * i / n, np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - z**2)
    points = RADIUS * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1)
    return points, np.full(n, 4 * np.pi * RADIUS**2 / n)


@pytest.mark.parametrize(
    ("knob", "decay"),
    [
        ({}, 1e-6),
        ({"screening_length": 3.0}, 1 / 3),
        ({"screening_length": 0.3}, 1 / 0.3),
        ({"wavelength": 2.0}, -1j * np.pi),
        ({"wavelength": 0.7}, -2j * np.pi / 0.7),
    ],
)
def test_constant_charge_on_a_sphere(sphere, knob, decay):
    points, areas = sphere
    exact = ((1 - np.exp(-2 * decay * RADIUS)) / (2 * decay)).real
    ours = surface_potential(points, areas, np.ones(len(points)), **knob)
    spacing = np.sqrt(areas[0])
    assert np.abs(ours - exact).max() < 0.06 * spacing  # of first order in the spacing; the potential itself is near 1


def test_screening_makes_it_local(sphere):
    points, areas = sphere
    density = np.zeros(len(points))
    density[:20] = 1  # at the north pole
    far = {length: surface_potential(points, areas, density, screening_length=length) for length in (0.1, 1.0, 10.0)}
    reach = [np.abs(u[-1]) / np.abs(u[0]) for u in far.values()]  # south over north
    assert reach[0] < 1e-8 < reach[1] < reach[2]


def test_it_is_linear_and_symmetric(sphere):
    points, areas = (x[::10] for x in sphere)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, len(points)))
    potential = lambda density: surface_potential(points, areas, density, screening_length=0.5)
    np.testing.assert_allclose(potential(a + 2 * b), potential(a) + 2 * potential(b), atol=1e-12)
    assert np.isclose((areas * a) @ potential(b), (areas * b) @ potential(a))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(positions=np.zeros((0, 3))), r"positions must have shape \(P, 3\) with P > 0"),
        (dict(areas=np.ones(4)), r"areas must have one value a point, shape \(5,\), got \(4,\)"),
        (dict(density=np.full(5, np.nan)), "density must be finite"),
        (dict(areas=np.zeros(5)), "areas must be above 0, but 5 are not"),
        (dict(screening_length=0.0), "screening_length must be a finite length above 0, or None, got 0.0"),
        (dict(wavelength=-1.0), "wavelength must be a finite length above 0"),
        (dict(screening_length=1.0, wavelength=1.0), "a screening_length or a wavelength, not both"),
    ],
)
def test_errors_say_what_was_expected(change, words):
    given = dict(positions=np.random.default_rng(0).normal(size=(5, 3)), areas=np.ones(5), density=np.ones(5)) | change
    with pytest.raises(BsavizError, match=words):
        surface_potential(**given)
