"""Plane-stress elasticity by finite elements: a plate of quadrilaterals, held on part of its rim, pulled on another."""

from dataclasses import dataclass

import numpy as np

from bsaviz._checks import BsavizError, require


@dataclass(frozen=True)
class PlaneStress:
    """Solution at the vertices of the mesh.

    Attributes
    ----------
    displacement : (V, 2) float64
    stress : (V, 3) float64
        ``xx, yy, xy``, in the unit of the traction: the elements' stress projected on continuous bilinear functions.
    """

    displacement: np.ndarray
    stress: np.ndarray

    @property
    def von_mises(self):
        r""":math:`\sqrt{s_{xx}^2 - s_{xx} s_{yy} + s_{yy}^2 + 3 s_{xy}^2}`, (V,)."""
        xx, yy, xy = self.stress.T
        return np.sqrt(xx**2 - xx * yy + yy**2 + 3 * xy**2)


def plane_stress(points, quads, *, held, values=None, pulled=None, traction=(0.0, 0.0), young=1.0, poisson=0.3):
    r"""Solve linear plane-stress elasticity with biquadratic elements (scikit-fem).

    .. math:: \nabla\cdot s = 0,\quad s = \frac{E}{1-\nu^2}\,[(1-\nu)\,e + \nu\,\mathrm{tr}(e)\,I],\quad
              e = \tfrac12(\nabla u + \nabla u^T)

    with given displacements on a part of the rim, given tractions on another, and none on the rest. In plane stress a
    Poisson ratio of 1/2 (an incompressible material) is allowed: the plate thins as it stretches.

    Parameters
    ----------
    points : (V, 2) array
    quads : (Q, 4) int array
        Corners of each element, counter-clockwise.
    held : callable
        ``held(x (2, n)) -> (n,) bool``: which edges of the rim, by their midpoints, have a given displacement.
    values : callable, optional
        ``values(x (2, n)) -> (2, n)``: that displacement. None: clamped.
    pulled : callable, optional
        As `held`: where `traction` acts.
    traction : (2,) array
        Force by length.
    young, poisson : float

    Returns
    -------
    PlaneStress

    Raises
    ------
    BsavizError
        For arrays of a wrong shape, elements that are inside out, a material that is none, and a plate that is not
        held at all.
    """
    skfem = require("skfem", "sets")
    points, quads = _checked(points, quads, young, poisson)
    mesh = skfem.MeshQuad(points.T.copy(), quads.T.copy())
    basis = skfem.Basis(mesh, skfem.ElementVector(skfem.ElementQuad2()))
    held_edges = mesh.facets_satisfying(held, boundaries_only=True)
    if not len(held_edges):
        raise BsavizError("held must be true for some edges of the rim, or the plate floats away; it was for none")

    stress_of = lambda u: _stress(u.grad, young, poisson)

    @skfem.BilinearForm
    def stiffness(u, v, w):
        xx, yy, xy = stress_of(u)
        return xx * v.grad[0, 0] + yy * v.grad[1, 1] + xy * (v.grad[0, 1] + v.grad[1, 0])

    @skfem.LinearForm
    def load(v, w):
        return traction[0] * v[0] + traction[1] * v[1]

    force = np.zeros(basis.N)
    if pulled is not None:
        edges = mesh.facets_satisfying(pulled, boundaries_only=True)
        force = load.assemble(skfem.FacetBasis(mesh, basis.elem, facets=edges))
    fixed = basis.get_dofs(held_edges).all()
    given = np.zeros(basis.N)
    if values is not None:
        given = np.where(_component(basis) == 0, *values(basis.doflocs))
    solver = skfem.utils.solver_direct_scipy(permc_spec="MMD_AT_PLUS_A")  # a fifth of the time of scipy's default
    u = skfem.solve(*skfem.condense(stiffness.assemble(basis), force, x=given, D=fixed), solver=solver)
    return PlaneStress(u[basis.nodal_dofs].T.copy(), _at_vertices(skfem, basis, u, stress_of))


def _stress(gradient, young, poisson):
    factor = young / (1 - poisson**2)
    xx, yy = gradient[0, 0], gradient[1, 1]
    shear = young / (2 * (1 + poisson)) * (gradient[0, 1] + gradient[1, 0])
    return factor * (xx + poisson * yy), factor * (yy + poisson * xx), shear


def _component(basis):
    """0 for the dofs of the first component of the displacement, 1 for those of the second."""
    component = np.zeros(basis.N, int)
    for dofs in (basis.nodal_dofs, basis.facet_dofs, basis.interior_dofs):
        component[dofs[1]] = 1
    return component


def _at_vertices(skfem, basis, u, stress_of):
    """Stress (V, 3) at the vertices, by L2 projection onto continuous bilinear functions."""
    vertices = basis.with_element(skfem.ElementQuad1())
    parts = [vertices.project(part) for part in stress_of(basis.interpolate(u))]
    return np.stack([part[vertices.nodal_dofs[0]] for part in parts], axis=1)


def _checked(points, quads, young, poisson):
    points, quads = np.asarray(points, np.float64), np.asarray(quads)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise BsavizError(f"points must be finite numbers of shape (V, 2), got {points.shape}")
    if quads.ndim != 2 or quads.shape[1] != 4 or quads.dtype.kind not in "iu":
        raise BsavizError(f"quads must be integers of shape (Q, 4), got {quads.dtype} {quads.shape}")
    x, y = points[quads].transpose(2, 0, 1)
    area = ((x[:, 2] - x[:, 0]) * (y[:, 3] - y[:, 1]) - (x[:, 3] - x[:, 1]) * (y[:, 2] - y[:, 0])) / 2
    if (area <= 0).any():
        raise BsavizError(
            f"{(area <= 0).sum()} quads have no area or run clockwise (first: {(area <= 0).argmax()}); turn them round"
        )
    if not young > 0 or not -1 < poisson <= 0.5:
        raise BsavizError(f"young must be positive and poisson in (-1, 0.5], got {young!r} and {poisson!r}")
    return points, quads


def plate_with_hole(radius, angular=108, radial=16, grading=2.5):
    """Mesh of the unit square round a hole: rays from the middle, closer rings near the hole.

    Parameters
    ----------
    radius : callable
        ``radius(theta (n,)) -> (n,)``: the hole's rim, seen from (1/2, 1/2); between 0 and 1/2.
    angular : int
        Rays; 4 more than a multiple of 8, so that a ray ends in every corner of the square.
    radial : int
        Rings of elements.
    grading : float
        How many times wider the outermost ring is than the innermost.

    Returns
    -------
    points : (angular * (radial + 1), 2) array
        Ray by ray, from the hole outwards.
    quads : (angular * radial, 4) int array
    """
    if angular % 8 != 4:
        raise BsavizError(f"angular must be 4 more than a multiple of 8 (a ray into every corner), got {angular}")
    theta = 2 * np.pi * (np.arange(angular) + 0.5) / angular
    direction = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    inner = np.asarray(radius(theta), np.float64)
    if inner.shape != theta.shape or not (inner > 0).all() or not (inner < 0.5).all():
        raise BsavizError(f"radius must give {angular} numbers between 0 and 0.5, the half width of the plate")
    outer = 0.5 / np.abs(direction).max(axis=1)
    widths = np.linspace(1, grading, radial)
    along = np.concatenate([[0], np.cumsum(widths) / widths.sum()])
    distance = inner[:, None] + (outer - inner)[:, None] * along
    points = 0.5 + distance[..., None] * direction[:, None]
    node = lambda ray, ring: (ray % angular) * (radial + 1) + ring
    ray, ring = np.meshgrid(np.arange(angular), np.arange(radial), indexing="ij")
    quads = np.stack([node(ray, ring), node(ray, ring + 1), node(ray + 1, ring + 1), node(ray + 1, ring)], axis=-1)
    return points.reshape(-1, 2), quads.reshape(-1, 4)
