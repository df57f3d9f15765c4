r"""Heat that spreads on a triangle surface.

.. math:: \partial_t u = D \, \Delta_S u

with the cotangent Laplacian of the mesh (Pinkall and Polthier, "Computing discrete minimal surfaces and their
conjugates", Experimental Mathematics 2, 1993) and Alexander's two-stage implicit steps (SIAM J. Numer. Anal.
14, 1977), of second order and damping whatever is rough. On a sphere of radius R a spherical harmonic of degree
l decays as :math:`e^{-l (l + 1) D t / R^2}`: what the tests hold it against.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from bsaviz._checks import BsavizError
from bsaviz.physics.surfaces import check_surface, triangle_areas

_GAMMA = 1 - 0.5**0.5  # where the two stages share a matrix and the method damps all that is stiff


def heat_flow(points, faces, start, time, *, diffusivity=1.0, steps=20):
    """Temperature after a time.

    Parameters
    ----------
    points : (P, 3) array
        Corners of a closed surface.
    faces : (F, 3) int array
        Triangles, counter-clockwise seen from outside.
    start : (P,) array
        Temperature at time 0.
    time : float
        In the unit of length squared over diffusivity.
    diffusivity : float
    steps : int

    Returns
    -------
    (P,) float64
        The heat, that is its integral over the surface, is that of the start.

    Raises
    ------
    BsavizError
        For what `check_surface` refuses, a start of another shape or with NaN, and numbers that are not above 0.
    """
    points, faces = check_surface(points, faces)
    start = np.asarray(start, float)
    if start.shape != (len(points),) or not np.isfinite(start).all():
        raise BsavizError(f"start must be finite with shape ({len(points)},), got {start.shape}")
    for name, value in (("time", time), ("diffusivity", diffusivity)):
        if not (np.isfinite(value) and value > 0):
            raise BsavizError(f"{name} must be a finite number above 0, got {value!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BsavizError(f"steps must be a whole number of at least 1, got {steps!r}")
    mass, stiffness = lumped_mass(points, faces), cotangent_stiffness(points, faces)
    implicit = splu((mass + _GAMMA * diffusivity * time / steps * stiffness).tocsc())
    u = start
    for _ in range(steps):
        before = mass @ u
        middle = mass @ implicit.solve(before)
        u = implicit.solve(before + (1 - _GAMMA) / _GAMMA * (middle - before))
    return u


def lumped_mass(points, faces):
    """Diagonal matrix (P, P) of the surface each point stands for: a third of the triangles round it."""
    shares = np.repeat(triangle_areas(points, faces) / 3, 3)
    return sparse.diags(np.bincount(faces.ravel(), shares, minlength=len(points)))


def cotangent_stiffness(points, faces):
    """Minus the integrated Laplacian, sparse (P, P): half the cotangents of the two angles opposite each edge."""
    rows, columns, values = [], [], []
    for corner in range(3):
        a, b, c = (faces[:, (corner + i) % 3] for i in range(3))
        to_b, to_c = points[b] - points[a], points[c] - points[a]
        cotangent = (to_b * to_c).sum(1) / np.linalg.norm(np.cross(to_b, to_c), axis=1) / 2
        rows += [b, c, b, c]
        columns += [c, b, b, c]
        values += [-cotangent, -cotangent, cotangent, cotangent]
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix(entries, shape=(len(points), len(points)))
