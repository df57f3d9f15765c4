"""Heat on a sphere against spherical harmonics, heat that is kept, and what it refuses."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.physics import heat_flow

trimesh = pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def sphere():
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=2.0)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


@pytest.mark.parametrize(("degree", "tolerance"), [(1, 0.01), (2, 0.01), (3, 0.02)])
def test_spherical_harmonics_decay_as_they_should(sphere, degree, tolerance):
    points, faces = sphere
    x, _, z = points.T / 2.0
    harmonic = {1: z, 2: 3 * z**2 - 1, 3: x * (5 * z**2 - 1)}[degree]
    time, diffusivity = 0.4, 0.5
    exact = harmonic * np.exp(-degree * (degree + 1) * diffusivity * time / 2.0**2)
    ours = heat_flow(points, faces, harmonic, time, diffusivity=diffusivity)
    assert np.linalg.norm(ours - exact) < tolerance * np.linalg.norm(exact)


def test_heat_is_kept_and_evens_out(sphere):
    points, faces = sphere
    start = np.zeros(len(points))
    start[0] = 1
    late = heat_flow(points, faces, start, 100.0, steps=50)
    areas = trimesh.Trimesh(points, faces, process=False).area
    assert np.ptp(late) < 1e-3 * late.max()
    assert late.mean() == pytest.approx(start.sum() * _share(points, faces) / areas, rel=1e-3)


def _share(points, faces):
    """Surface that point 0 stands for."""
    from bsaviz.physics.heat import lumped_mass

    return lumped_mass(points, faces).diagonal()[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(start=np.zeros(3)), r"start must be finite with shape \(\d+,\), got \(3,\)"),
        (dict(time=0.0), "time must be a finite number above 0, got 0.0"),
        (dict(diffusivity=-1.0), "diffusivity must be a finite number above 0"),
        (dict(steps=0), "steps must be a whole number of at least 1, got 0"),
    ],
)
def test_errors_say_what_was_expected(sphere, change, words):
    points, faces = sphere
    given = dict(points=points, faces=faces, start=np.zeros(len(points)), time=1.0) | change
    with pytest.raises(BsavizError, match=words):
        heat_flow(**given)
